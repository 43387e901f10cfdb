"""The BBSes that the contract is held against, as the other half of its test classes.

Against a real one: TEST_BBS_URL, TEST_BBS_CA, TEST_BBS_CERT and TEST_BBS_KEY; TEST_BBS_HAS_CELL=1 where
a cell starts what is desired and stops it within about a second; TEST_BBS_CELL_ROOTFS if it needs
another one than a made-up docker image.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from controller.transport import client_tls
from tests.contracts.bbs_scene import Scene, Target, open_scene
from tests.simulators.bbs import Version, serve_bbs
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.certificates import Certificates, make_certificates

REAL_BBS_VARIABLES = ("TEST_BBS_URL", "TEST_BBS_CA", "TEST_BBS_CERT", "TEST_BBS_KEY")


class OnSomeBbs:
    """Gives each test a scene of its own on the `target` of a subclass."""

    @pytest.fixture
    async def scene(self, target: Target) -> AsyncIterator[Scene]:
        async with open_scene(target) as scene:
            yield scene


class OnSimulator(OnSomeBbs):
    """What the simulators have in common."""

    version: Version

    @pytest.fixture(scope="class")
    @classmethod
    def certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
        return make_certificates(tmp_path_factory.mktemp("certificates"))

    @pytest.fixture
    async def target(
        self, certificates: Certificates, request: pytest.FixtureRequest
    ) -> AsyncIterator[Target]:
        """Serve a simulator, with a cell for the tests that need one."""
        pair = certificates.client
        tls = client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)
        async with AsyncExitStack() as stack:
            bbs = await stack.enter_async_context(serve_bbs(certificates, version=self.version))
            if request.node.get_closest_marker("needs_cell"):
                await stack.enter_async_context(SimulatedCell(bbs, CellSettings(stop_delay=0.5)))
            yield Target(bbs.url, tls)


class OnSimulator2024(OnSimulator):
    """A BBS as it was in October 2024."""

    version = Version.OLD


class OnSimulator2026(OnSimulator):
    """A BBS as it was in June 2026."""

    version = Version.NEW


class OnRealBbs(OnSomeBbs):
    """The BBS that the environment names."""

    @pytest.fixture
    def target(self, request: pytest.FixtureRequest) -> Target:
        if request.node.get_closest_marker("needs_cell") and os.environ.get("TEST_BBS_HAS_CELL") != "1":
            pytest.skip("TEST_BBS_HAS_CELL is not 1")
        url, ca, certificate, key = (os.environ[name] for name in REAL_BBS_VARIABLES)
        return Target(url, client_tls(ca, cert_file=certificate, key_file=key))
