"""A store of each kind: in memory, in a file, and on servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller.store import opening
from controller.store.database import Database, database_at, database_on
from controller.store.location import Location, location_from_url
from controller.store.opening import Store
from controller.store.sql import SqlRecords
from tests.databases import empty_database
from tests.stores import copy_schema


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/store.db"


ON_SERVERS = [
    pytest.param("postgresql", marks=pytest.mark.starts_servers),
    pytest.param("mysql", marks=[pytest.mark.starts_servers, pytest.mark.thorough]),
]


@pytest.fixture(params=["file", *ON_SERVERS])
def kept_url(request: pytest.FixtureRequest, tmp_path: Path, worker_id: str) -> str:
    """Name an empty database that outlives the store."""
    if request.param == "file":
        return f"sqlite:///{tmp_path}/state/store.db"
    return empty_database(request.param, worker_id)


class ServerDatabases:
    """The connections of all tests of a worker, which keep what they have compiled."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._open: dict[str, Database] = {}

    def empty(self, kind: str) -> Database:
        """Give an empty database of one kind."""
        location = location_from_url(empty_database(kind, self._worker)).server
        if location is None:
            raise AssertionError(f"{kind} is on a server")
        if kind not in self._open:
            self._open[kind] = database_on(location)
        return self._open[kind]

    def close(self) -> None:
        for database in self._open.values():
            database.close()


@pytest.fixture(scope="session")
def server_databases(worker_id: str) -> Iterator[ServerDatabases]:
    databases = ServerDatabases(worker_id)
    yield databases
    databases.close()


@pytest.fixture(params=[pytest.param("memory", marks=pytest.mark.long), "file", *ON_SERVERS])
async def database(
    request: pytest.FixtureRequest, url: str, server_databases: ServerDatabases
) -> AsyncIterator[Database]:
    if request.param in {"memory", "file"}:
        chosen = "sqlite://" if request.param == "memory" else url
        location = await asyncio.to_thread(location_from_url, chosen)
        async with opening.open_database(location, run_id="run-1") as opened:
            await asyncio.to_thread(opened.migrate, copy_schema)
            yield opened
    else:
        yield await asyncio.to_thread(server_databases.empty, request.param)


@pytest.fixture
async def store(database: Database) -> Store:
    return await opening.open_store(database, journal_key=Fernet.generate_key())


@pytest.fixture(params=["file", *ON_SERVERS])
def shared_database(
    request: pytest.FixtureRequest, tmp_path: Path, worker_id: str
) -> Iterator[Callable[[], Database]]:
    """Give connections to one database, as several processes have them."""
    path = tmp_path / "shared.db"
    path.touch()
    location = Location(path)
    if request.param != "file":
        location = location_from_url(empty_database(request.param, worker_id))
    with ExitStack() as stack:

        def connect() -> Database:
            database = database_at(path) if location.server is None else database_on(location.server)
            stack.callback(database.close)
            return database

        yield connect


@pytest.fixture
def records(store: Store) -> SqlRecords:
    return store.records
