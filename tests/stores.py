"""Opens a store in one step, as the tests of what uses it need it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, text

from controller.store import opening
from controller.store.database import Database, database_at, database_in_memory, database_on
from controller.store.location import Location, location_from_url
from controller.store.opening import Store, open_database
from controller.store.schema_upgrade import migrate

T = TypeVar("T")


def at(look: Callable[[Location], T], url: str) -> T:
    """Look at the database that a URL names; blocks."""
    return look(location_from_url(url))


def connect_beside(url: str) -> Database:
    """Connect to a database that another process may hold, as only a test may."""
    location = location_from_url(url)
    if location.server is not None:
        return database_on(location.server)
    if location.path is None:
        raise AssertionError("a database in memory has one connection")
    return database_at(location.path)


async def change(url: str, sql: str, **values: object) -> None:
    """Change a database behind the store's back."""

    def run() -> None:
        with closing(connect_beside(url)) as database:
            database.transact(lambda connection: connection.execute(text(sql), values).close())

    await asyncio.to_thread(run)


@asynccontextmanager
async def open_store(url: str, *, journal_key: bytes | None, run_id: str) -> AsyncIterator[Store]:
    """Connect to a database and open its store, until the block ends."""
    location = await asyncio.to_thread(location_from_url, url)
    async with open_database(location, run_id=run_id) as database:
        if location.server is None:
            await asyncio.to_thread(database.migrate, copy_schema)
        yield await opening.open_store(database, journal_key=journal_key)


def make_database(path: Path) -> None:
    """Make an empty database of this version, so that a daemon need not migrate one; blocks."""
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in _schema_of_sqlite():
            connection.execute(statement)


@cache
def _schema_of_sqlite() -> tuple[str, ...]:
    """The statements that bring a new database of SQLite to this version's schema."""
    database = database_in_memory()
    try:
        database.migrate(lambda connection: migrate(connection, "a database in memory"))
        return tuple(database.transact(_statements_of))
    finally:
        database.close()


def _statements_of(connection: Connection) -> list[str]:
    made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    return [*made.scalars(), f"INSERT INTO alembic_version VALUES ('{revision}')"]


def copy_schema(connection: Connection) -> None:
    """Give an empty database of SQLite the schema of this version, in a tenth of the time of its migration."""
    if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0:
        for statement in _schema_of_sqlite():
            connection.exec_driver_sql(statement)
