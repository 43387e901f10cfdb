"""What scenarios of the whole process share: the version of the BBS, and how long the protocol waits."""

from collections.abc import Mapping

import pytest

from tests.simulators.bbs import Version

both_versions = pytest.mark.parametrize("version", list(Version))
"""For what depends on the version; everything else meets the older one with --long."""

SHORT = {"unknown": 3.0, "stop": 2.0, "leftover": 8.0}
"""The protocol's own waits, for runs that do not sit them out: no answer of a simulator comes that late."""


@pytest.fixture(autouse=True)
def processes(servers: None) -> None:
    """Start them."""


@pytest.fixture(params=[Version.NEW, pytest.param(Version.OLD, marks=pytest.mark.long)])
def version(request: pytest.FixtureRequest) -> Version:
    """Of the BBS."""
    chosen: Version = request.param
    return chosen


@pytest.fixture
def limits(pytestconfig: pytest.Config) -> Mapping[str, float]:
    """Fields of the daemon's `Limits` that are to be others; with --long none is."""
    return {} if pytestconfig.getoption("--long") else SHORT
