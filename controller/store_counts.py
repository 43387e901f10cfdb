"""Counts at an interval what the store holds, so that no scrape has to wait for the database."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Collection, Mapping
from functools import partial
from typing import NoReturn, Protocol

import structlog

from controller.metrics.copies import OPEN_STATES
from controller.process import Process
from reconcile.errors import DockerCacheError
from reconcile.migrations import Phase
from reconcile.records import JobState
from reconcile.references import CacheRepositories
from reconcile.stored_counts import StoredCounts, addresses_of, copies_in

log = structlog.get_logger(scope="store-counts")

INTERVAL = 5.0
"""Seconds between two counts at least."""

SHARE = 50
"""A count that takes long is repeated after so many times as long, so that it is a fiftieth of the time."""


class CountedRecords(Protocol):
    """The store, as far as it is counted."""

    async def count(self) -> StoredCounts:
        """Count at one moment."""

    async def count_shared_bytes(self, registries: Collection[str]) -> int:
        """Count the bytes that copies in some registries share: one registry under all its addresses."""

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
        self._shared_of: Mapping[str, tuple[int, int]] | None = None
        self._next_shared = 0.0
        self.distinct_bytes: int | None = None
        """What the copies occupy in bytes, a layer that several share once; None before that was counted."""
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
            took = 0.0
            try:
                if not has_sources:
                    await self.note_sources()
                    has_sources = True
                took = await _timed(self.count())
                if self._is_shared_due():
                    took_shared = await _timed(self.count_shared())
                    self._next_shared = time.monotonic() + SHARE * took_shared
            except DockerCacheError as error:
                log.debug("failed-to-count", error=str(error))
            except Exception:
                log.exception("failed-to-count")  # no metric is worth the end of the daemon
            await asyncio.sleep(max(INTERVAL, SHARE * took))

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

    async def count_shared(self) -> None:
        """Count what the copies share, after the copies themselves."""
        copies = {} if self._counts is None else self._counts.copies
        shared = await self._records.count_shared_bytes(addresses_of(self._cache, copies))
        _, size = copies_in(self._cache, copies)
        self.distinct_bytes, self._shared_of = max(0, size - shared), copies
        self._process.metrics.copies.stored_distinct_bytes.set(self.distinct_bytes)

    def _is_shared_due(self) -> bool:
        """Whether there are other copies than when it was last counted what they share, long enough ago."""
        is_known = self._counts is not None and self._counts.copies == self._shared_of
        return not is_known and time.monotonic() >= self._next_shared

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


async def _timed(work: Awaitable[None]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began
