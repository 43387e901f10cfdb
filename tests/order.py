"""In which order tests are begun, and which of them one worker runs together."""

from collections.abc import Mapping, Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

_DOCKER_DAEMON = "docker daemon"
TOGETHER: Mapping[str, str] = {
    "tests/contracts/test_engines.py": _DOCKER_DAEMON,
    "tests/controller/engines/test_docker_real.py": _DOCKER_DAEMON,
    "tests/deploy/test_documented_container.py": _DOCKER_DAEMON,
    "tests/deploy/test_image.py": _DOCKER_DAEMON,
    "tests/deploy/test_image_parts.py": "small image",
}
"""Modules that make something costly, such as a real docker daemon, once for all of their tests; and what it is."""


class Scheduler(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Gives each worker one test after another, and one of them all that share what is costly.

    The groups of xdist 3.8 have no effect with pytest 9.2: it changes an attribute that is not read any more.
    """

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(_module_of(nodeid), nodeid)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Spread tests that mostly wait among those that compute, so that at no time all workers do the same.

    Those that take long by themselves are in the first half, and nothing that waits is among the last, so
    that all workers end at about the same time.
    """
    together: list[pytest.Item] = []
    slow: list[pytest.Item] = []
    waiting: list[pytest.Item] = []
    computing: list[pytest.Item] = []
    for item in items:
        if _module_of(item.nodeid) in TOGETHER:
            together.append(item)
        elif item.get_closest_marker("slow") is not None:
            slow.append(item)
        elif item.nodeid.startswith("tests/daemon/"):
            waiting.append(item)
        else:
            computing.append(item)
    placed = [*_spread(slow, 0.5), *_spread(waiting, 0.9), *_spread(computing, 1.0)]
    return together + [item for _, item in sorted(placed, key=lambda each: each[0])]


def _module_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _spread(items: Sequence[pytest.Item], end: float) -> list[tuple[float, pytest.Item]]:
    """Place items at even distances between the begin of a run, 0, and a later part of it."""
    return [(end * number / len(items), item) for number, item in enumerate(items)]
