"""Watches whether LRPs run from copies that the store does not know, as after the loss of a database."""

import asyncio
from typing import Protocol

import structlog

from controller.copy_uses import CopyUses
from controller.process import Process
from reconcile.errors import DockerCacheError
from reconcile.records import CachedImage
from reconcile.references import CacheGuid

log = structlog.get_logger(scope="notes")

INTERVAL = 30.0
"""Seconds between two comparisons of the copies in use with the records."""

_MOST_LOGGED = 5  # GUIDs of copies in one log line


class ListedCopies(Protocol):
    """The records of copies."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""


class UnknownCopies:
    """The copies that LRPs run from and the store does not know."""

    def __init__(self, uses: CopyUses, records: ListedCopies, process: Process) -> None:
        self._uses, self._records = uses, records
        self._unknown = frozenset[CacheGuid]()
        process.metrics.copies.unknown.set_function(lambda: len(self._unknown))

    async def run(self) -> None:
        """Compare the copies in use with the records forever."""
        while True:
            try:
                await self.look()
            except DockerCacheError as error:
                log.info("failed-to-look-for-unknown-copies", error=str(error), retry_after_s=INTERVAL)
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Compare the copies in use with the records once, and log what has changed."""
        used = self._uses.copies()
        known = {image.cache_guid for image in await self._records.list_images()} if used else set()
        before, self._unknown = self._unknown, used - known
        if self._unknown - before:
            lrps = sum(len(self._uses.lrps_of(guid)) for guid in self._unknown)
            log.error(
                "lrps-run-from-unknown-copies",
                copies=len(self._unknown),
                lrps=lrps,
                cache_guids=sorted(self._unknown)[:_MOST_LOGGED],
                detail="the database was lost, or replaced by an older one: `rebuild` finds their sources, "
                "`restore-backup` puts a backup in its place",
            )
        elif before and not self._unknown:
            log.info("no-unknown-copies")
