"""What any agent must do for us. How to run it against a real one is told in loggregator_targets.py."""

import dataclasses
import time
import uuid
from pathlib import Path

import pytest

from controller.loggregator import Component, open_agent
from controller.loggregator.envelopes import MAX_LINE
from reconcile.app_log_lines import AppLogLine, ComponentCounter, SourceType
from reconcile.errors import Unavailable
from reconcile.lrps import AppGuid
from tests.contracts.loggregator_targets import OnRealAgent, OnSimulatedAgent, Target
from tests.simulators.certificates import Authority

COMPONENT = Component("docker_cache", "docker_cache", "vm-1")


def line(text: str = "a line of the contract") -> AppLogLine:
    return AppLogLine(AppGuid(str(uuid.uuid4())), SourceType.STAGING, text, time.time_ns())


class AgentContract:
    """What any agent must do; the other half of a test class says which agent."""

    async def test_a_batch_of_lines_and_counters_is_acknowledged(self, target: Target) -> None:
        counter = ComponentCounter("ImagesCached", 3, time.time_ns())
        async with open_agent(target.address, target.tls, COMPONENT) as agent:
            await agent.send([line(), counter, line()])

    async def test_an_empty_batch_is_acknowledged(self, target: Target) -> None:
        async with open_agent(target.address, target.tls, COMPONENT) as agent:
            await agent.send([])

    async def test_a_full_batch_of_the_longest_lines_is_taken(self, target: Target) -> None:
        async with open_agent(target.address, target.tls, COMPONENT) as agent:
            await agent.send([line("é" * MAX_LINE)] * 100)

    async def test_a_client_of_another_authority_is_refused(self, target: Target, tmp_path: Path) -> None:
        foreign = Authority(tmp_path).client("diego-docker-cache")
        tls = dataclasses.replace(target.tls, cert_file=foreign.certificate, key_file=foreign.key)
        async with open_agent(target.address, tls, COMPONENT) as agent:
            with pytest.raises(Unavailable):
                await agent.send([line()])

    async def test_an_agent_of_another_authority_is_not_believed(
        self, target: Target, tmp_path: Path
    ) -> None:
        tls = dataclasses.replace(target.tls, ca_cert_file=Authority(tmp_path).certificate)
        async with open_agent(target.address, tls, COMPONENT) as agent:
            with pytest.raises(Unavailable):
                await agent.send([line()])


class TestSimulator(OnSimulatedAgent, AgentContract):
    """The contract, held by the simulator."""


class TestReal(OnRealAgent, AgentContract):
    """The contract, held by a real agent."""
