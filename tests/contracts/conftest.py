"""Leaves the real BBS's half of its contract out where no real BBS is named, in one line instead of one a test."""

import os

import pytest

from tests.contracts.bbs_targets import REAL_BBS_VARIABLES, OnRealBbs

IS_NAMED = all(os.environ.get(name) for name in REAL_BBS_VARIABLES)


def pytest_report_header() -> str:
    if IS_NAMED:
        return f"contract of the BBS: simulators and {os.environ['TEST_BBS_URL']}"
    return (
        f"contract of the BBS: simulators only, since {', '.join(REAL_BBS_VARIABLES)} do not name a real one"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if IS_NAMED:
        return
    real = [
        item for item in items if isinstance(item, pytest.Function) and isinstance(item.instance, OnRealBbs)
    ]
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in set(real)]


@pytest.fixture(autouse=True)
def contracts_have_servers(servers: None) -> None:
    """Hold every contract against servers."""
