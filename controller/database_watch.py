"""Asks a database on a server at an interval whether it answers, so that operators hear when it does not.

Without it a server that is silent is noticed only by what waits for it, after all that its answer may take.
"""

import asyncio
from typing import NoReturn, Protocol

import structlog

from controller.process import Process
from controller.store.availability import Availability, Outage
from reconcile.errors import DockerCacheError, LeaseLost, Unavailable

log = structlog.get_logger(scope="database")

INTERVAL = 5.0
"""Seconds between two questions: with the times for an answer and for a new connection, 15 at most."""


class WatchedDatabase(Protocol):
    """The database, as far as it is watched."""

    name: str
    is_shared: bool
    availability: Availability

    async def probe(self) -> None:
        """Ask whether it answers."""


class DatabaseWatch:
    """Knows since when the database does not do what it is asked.

    Args:
        database: Only one on a server is asked.
        process: Clock and metrics.
    """

    def __init__(self, database: WatchedDatabase, process: Process) -> None:
        self._database, self._process = database, process
        self._logged: Outage | None = None
        process.metrics.instance.database_unavailable_since.set_function(self._since)

    @property
    def outage(self) -> Outage | None:
        """Since when it does not do what it is asked, and what it says; None while it does."""
        return self._database.availability.outage if self._database.is_shared else None

    async def run(self) -> NoReturn:
        """Ask forever."""
        while True:
            if self._database.is_shared:
                await self._ask()
            await asyncio.sleep(INTERVAL)

    async def _ask(self) -> None:
        try:
            await self._database.probe()
        except LeaseLost:  # the database answers; this process may not write any more
            pass
        except Unavailable:  # which the database keeps
            pass
        except DockerCacheError as error:
            log.info("failed-to-ask-database", database=self._database.name, error=str(error))
        self._log_change()

    def _log_change(self) -> None:
        outage, before = self.outage, self._logged
        if outage is not None and before is None:
            log.error("database-unavailable", database=self._database.name, error=outage.error)
        elif outage is None and before is not None:
            seconds = round(self._process.clock() - before.since, 1)
            log.info("database-available", database=self._database.name, duration_s=seconds)
        self._logged = outage

    def _since(self) -> float:
        outage = self.outage
        return 0.0 if outage is None else outage.since
