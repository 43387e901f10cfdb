"""A store in memory and in a file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller.store.opening import Store
from controller.store.sql import SqlRecords
from tests.stores import open_store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/store.db"


@pytest.fixture(params=["memory", "file"])
async def store(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Store]:
    chosen = url if request.param == "file" else "sqlite://"
    async with open_store(chosen, journal_key=Fernet.generate_key(), run_id="run-1") as opened:
        yield opened


@pytest.fixture
def records(store: Store) -> SqlRecords:
    return store.records
