"""What scenarios of the whole process share: the version of the BBS, and how long the protocol waits."""

from collections.abc import Mapping

import pytest

from tests.simulators.bbs import Version

both_versions = pytest.mark.parametrize("version", list(Version))
"""Marks a test of what depends on the version of the BBS; others meet the older one only with --long."""

SHORT = {"unknown": 3.0, "stop": 2.0, "leftover": 8.0}
"""Shorter waits of the protocol, for runs without --long: no answer of a simulator comes that late."""


@pytest.fixture(autouse=True)
def processes(servers: None) -> None:
    """Let every test here count as one that starts servers."""


@pytest.fixture(params=[Version.NEW, pytest.param(Version.OLD, marks=pytest.mark.long)])
def version(request: pytest.FixtureRequest) -> Version:
    """The version of the BBS."""
    chosen: Version = request.param
    return chosen


@pytest.fixture
def limits(pytestconfig: pytest.Config) -> Mapping[str, float]:
    """Fields of the daemon's `PhaseLimits` to replace; none with --long."""
    return {} if pytestconfig.getoption("--long") else SHORT
