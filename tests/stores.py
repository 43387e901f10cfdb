"""Opens a store in one step, as the tests of what uses it need it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import TypeVar

from sqlalchemy import text

from controller.store import opening
from controller.store.database import Database, database_at, database_on
from controller.store.location import Location, location_from_url
from controller.store.opening import Store, open_database

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
        yield await opening.open_store(database, journal_key=journal_key)
