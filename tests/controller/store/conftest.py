"""A store in memory and in a file."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller.store.database import Database, database_at
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
def shared_database(tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Give connections to one database, as several processes have them."""
    path = tmp_path / "shared.db"
    path.touch()
    with ExitStack() as stack:

        def connect() -> Database:
            database = database_at(path)
            stack.callback(database.close)
            return database

        yield connect


@pytest.fixture
def records(store: Store) -> SqlRecords:
    return store.records
