"""Opens a store in one step, as the tests of what uses it need it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from controller.store import opening
from controller.store.location import Location, location_from_url
from controller.store.opening import Store, open_database

T = TypeVar("T")


def at(look: Callable[[Location], T], url: str) -> T:
    """Look at the database that a URL names; blocks."""
    return look(location_from_url(url))


@asynccontextmanager
async def open_store(url: str, *, journal_key: bytes | None, run_id: str) -> AsyncIterator[Store]:
    """Connect to a database and open its store, until the block ends."""
    location = await asyncio.to_thread(location_from_url, url)
    async with open_database(location, run_id=run_id) as database:
        yield await opening.open_store(database, journal_key=journal_key)
