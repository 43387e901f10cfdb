"""Forgets at an interval the records that nothing refers to any more."""

import asyncio
from typing import Protocol

import structlog

from controller.process import Process
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="retention")

INTERVAL = 3600.0
"""Seconds between two looks."""


class ForgettingRecords(Protocol):
    """The store, as far as it forgets."""

    async def forget_unused(self, before: float) -> int:
        """Forget the stagings that nothing refers to and that ended before some time; return their number."""


class Retention:
    """Forgets records after a time.

    Args:
        records: The store.
        after: Seconds after which what nothing refers to is forgotten.
        process: Clock of the process.
    """

    def __init__(self, records: ForgettingRecords, *, after: float, process: Process) -> None:
        self._records, self._after, self._process = records, after, process

    async def run(self) -> None:
        """Look at an interval forever, at first when the LRPs have been listed."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                forgotten = await self._records.forget_unused(self._process.clock() - self._after)
            except DockerCacheError as error:
                log.exception("failed-to-delete-old-records", error=str(error))
            else:
                if forgotten:
                    log.info("deleted-old-records", bindings=forgotten)
