"""Leaves the real half of a contract out where no real server is named, in one line instead of one a test."""

import os

import pytest

from tests.contracts.bbs_targets import REAL_BBS_VARIABLES, OnRealBbs
from tests.contracts.capi_targets import REAL_CAPI_VARIABLES, OnRealCapi
from tests.contracts.locket_targets import REAL_LOCKET_VARIABLES, OnRealLocket
from tests.contracts.loggregator_targets import REAL_LOGGREGATOR_VARIABLES, OnRealAgent

REAL: dict[type, tuple[str, tuple[str, ...]]] = {
    OnRealBbs: ("the BBS", REAL_BBS_VARIABLES),
    OnRealLocket: ("Locket", REAL_LOCKET_VARIABLES),
    OnRealAgent: ("Loggregator", REAL_LOGGREGATOR_VARIABLES),
    OnRealCapi: ("Cloud Controller", REAL_CAPI_VARIABLES),
}
"""What is said to be real: its name, and the variables that name it."""


def is_named(variables: tuple[str, ...]) -> bool:
    return all(os.environ.get(name) for name in variables)


def pytest_report_header() -> list[str]:
    return [
        f"contract of {name}: simulators and {os.environ[variables[0]]}"
        if is_named(variables)
        else f"contract of {name}: simulators only, since {', '.join(variables)} do not name a real one"
        for name, variables in REAL.values()
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unnamed = tuple(kind for kind, (_, variables) in REAL.items() if not is_named(variables))
    real = [
        item for item in items if isinstance(item, pytest.Function) and isinstance(item.instance, unnamed)
    ]
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in set(real)]


@pytest.fixture(autouse=True)
def contracts_have_servers(servers: None) -> None:
    """Hold every contract against servers."""
