"""Lets nobody write the record of a droplet while a look at it may be changing the droplet.

The record of a droplet holds what it named before; whoever saved an older one over that would lose it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconcile.droplets import DropletGuid


class HeldDroplets:
    """The droplets whose records are somebody's own for now."""

    def __init__(self) -> None:
        self._held: dict[DropletGuid, asyncio.Event] = {}

    def is_held(self, guid: DropletGuid) -> bool:
        """Whether somebody holds a droplet."""
        return guid in self._held

    @asynccontextmanager
    async def hold(self, guid: DropletGuid) -> AsyncIterator[None]:
        """Wait until nobody holds a droplet, and hold it until the block ends."""
        while (ended := self._held.get(guid)) is not None:
            await ended.wait()
        ended = self._held[guid] = asyncio.Event()
        try:
            yield
        finally:
            del self._held[guid]
            ended.set()
