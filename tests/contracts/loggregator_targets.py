"""The agents that the contract is held against, as the other half of its test class.

Against a real one: TEST_LOGGREGATOR_ADDRESS, TEST_LOGGREGATOR_CA, TEST_LOGGREGATOR_CERT and TEST_LOGGREGATOR_KEY.
The tests send a few lines with random source IDs.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.mutual_tls import MutualTls
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.loggregator import serve_agent

REAL_LOGGREGATOR_VARIABLES = (
    "TEST_LOGGREGATOR_ADDRESS",
    "TEST_LOGGREGATOR_CA",
    "TEST_LOGGREGATOR_CERT",
    "TEST_LOGGREGATOR_KEY",
)


@dataclass(frozen=True)
class Target:
    """One agent."""

    address: str
    tls: MutualTls


class OnSimulatedAgent:
    """The simulator."""

    @pytest.fixture(scope="class")
    @classmethod
    def certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
        return make_certificates(tmp_path_factory.mktemp("certificates"))

    @pytest.fixture
    async def target(self, certificates: Certificates) -> AsyncIterator[Target]:
        pair = certificates.client
        async with serve_agent(certificates) as agent:
            yield Target(agent.address, MutualTls(certificates.ca, pair.certificate, pair.key))


class OnRealAgent:
    """The agent that the environment names."""

    @pytest.fixture
    def target(self) -> Target:
        address, *files = (os.environ[name] for name in REAL_LOGGREGATOR_VARIABLES)
        return Target(address, MutualTls(*map(Path, files)))
