"""Locks droplets one by one, so that two passes never write the record of one droplet at the same time.

The record holds the image text that the droplet had before it was patched. A pass would lose that text if it
saved a record that it had read before the other pass began.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconcile.droplets import DropletGuid


class DropletLocks:
    """One lock for each droplet; used in the event loop only."""

    def __init__(self) -> None:
        self._released: dict[DropletGuid, asyncio.Event] = {}

    def is_locked(self, guid: DropletGuid) -> bool:
        """Whether the lock of a droplet is taken."""
        return guid in self._released

    @asynccontextmanager
    async def lock(self, guid: DropletGuid) -> AsyncIterator[None]:
        """Wait for the lock of a droplet, and keep it until the block ends."""
        while (released := self._released.get(guid)) is not None:
            await released.wait()
        released = self._released[guid] = asyncio.Event()
        try:
            yield
        finally:
            del self._released[guid]
            released.set()
