"""Counts at an interval what the store holds, so that no scrape has to wait for the database."""

import asyncio
import time
from collections import Counter
from functools import partial
from typing import NoReturn, Protocol

import structlog

from controller.metrics.copies import OPEN_STATES
from controller.process import Process
from reconcile.errors import DockerCacheError
from reconcile.migrations import Phase
from reconcile.records import JobState
from reconcile.references import CacheRepositories
from reconcile.stored_counts import StoredCounts, copies_in

log = structlog.get_logger(scope="store-counts")

INTERVAL = 5.0
"""Seconds between two counts at least."""

SHARE = 50
"""A count that takes long is repeated after so many times as long, so that it is a fiftieth of the time."""


class CountedRecords(Protocol):
    """The store, as far as it is counted."""

    async def count(self) -> StoredCounts:
        """Count at one moment."""

    async def list_sources(self) -> tuple[str, ...]:
        """List what the copies were first copied from, once for each."""


class StoreCounts:
    """Shows in metrics what the store holds.

    Args:
        records: The store.
        cache: Names the private registry.
        process: Clock and metrics.
    """

    def __init__(self, records: CountedRecords, cache: CacheRepositories, process: Process) -> None:
        self._records, self._cache, self._process = records, cache, process
        self._counts: StoredCounts | None = None
        metrics = process.metrics
        for phase in Phase:
            metrics.migrations.in_flight.labels(phase).set_function(partial(self._count_in, phase))
            metrics.migrations.oldest_age.labels(phase).set_function(partial(self._migration_age, phase))
        for state in OPEN_STATES:
            metrics.jobs.oldest_age.labels(state).set_function(partial(self._job_age, state))

    async def run(self) -> NoReturn:
        """Count forever."""
        has_sources = False
        while True:
            began = time.monotonic()
            try:
                if not has_sources:
                    await self.note_sources()
                    has_sources = True
                await self.count()
            except DockerCacheError as error:
                log.debug("failed-to-count", error=str(error))
            await asyncio.sleep(max(INTERVAL, SHARE * (time.monotonic() - began)))

    async def count(self) -> None:
        """Count once."""
        counts = self._counts = await self._records.count()
        metrics = self._process.metrics
        metrics.lrps.count(counts.lrps)
        for state in JobState:
            found = counts.jobs.get(state)
            metrics.jobs.by_state.labels(state).set(0 if found is None else found.count)
        copies, size = copies_in(self._cache, counts.copies)
        metrics.copies.stored.set(copies)
        metrics.copies.stored_bytes.set(size)
        metrics.copies.needing_verification.set(counts.needing_verification)

    async def note_sources(self) -> None:
        """Tell those source registries apart that most copies come from."""
        hosts = Counter(source.partition("/")[0] for source in await self._records.list_sources())
        for host, _ in hosts.most_common():
            self._process.metrics.registries.note_served(host)

    def _count_in(self, phase: Phase) -> int:
        found = None if self._counts is None else self._counts.migrations.get(phase)
        return 0 if found is None else found.count

    def _migration_age(self, phase: Phase) -> float:
        found = None if self._counts is None else self._counts.migrations.get(phase)
        return 0.0 if found is None else max(0.0, self._process.clock() - found.since)

    def _job_age(self, state: JobState) -> float:
        found = None if self._counts is None else self._counts.jobs.get(state)
        return 0.0 if found is None else max(0.0, self._process.clock() - found.since)
