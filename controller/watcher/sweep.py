"""Lists the BBS at an interval, and finds what events have missed."""

import asyncio
import time
import zlib

import structlog

from controller.backoff import exact_backoff
from controller.watcher.dependencies import WatcherDependencies
from controller.watcher.staging_tasks import StagingTasks
from controller.workqueue import Priority
from reconcile.bridges import BRIDGE_DOMAIN, is_bridge
from reconcile.errors import DockerCacheError
from reconcile.lrps import ProcessGuid
from reconcile.staging import STAGING_DOMAIN

log = structlog.get_logger(scope="watcher")

FIRST_REQUEST_PAUSE = 1.0  # seconds between a request for a sweep and the sweep; doubles while they go on
RECHECK_INTERVAL = 3600.0  # seconds in which every LRP that waits is looked at once without an event
FORGET_AFTER = 600.0  # seconds; an LRP that is being migrated is not desired for a moment


class Sweep:
    """Lists tasks, LRPs and bridges.

    Args:
        interval: Seconds between two sweeps.
        requested: When it is set, the next sweep is soon, and looks at every LRP.
    """

    def __init__(
        self,
        dependencies: WatcherDependencies,
        *,
        tasks: StagingTasks,
        interval: float,
        requested: asyncio.Event,
    ) -> None:
        self._dependencies = dependencies
        self._tasks = tasks
        self._interval = interval
        self._requested = requested
        self._requests_in_a_row = 0
        self._pause = exact_backoff(FIRST_REQUEST_PAUSE, interval)
        self._sweeps_per_recheck = max(1, round(RECHECK_INTERVAL / interval))
        self._was_restoring = False
        self.count = 0
        """Sweeps that have ended well."""
        self.ended_at = 0.0
        """When the last of them ended, UTC seconds since 1970; 0 when there was none."""

    async def run(self) -> None:
        """Sweep at once, and then forever; only a failure of the first sweep is raised."""
        await self._sweep(look_at_all=True)
        while True:
            look_at_all = await self._wait()
            try:
                await self._sweep(look_at_all=look_at_all)
            except DockerCacheError as error:
                self._dependencies.process.metrics.sweeps.labels(outcome="failed").inc()
                log.exception("failed-to-list-bbs", error=str(error), retry_after_s=self._interval)

    async def _wait(self) -> bool:
        """Wait for the next sweep, and tell whether it was requested."""
        try:
            async with asyncio.timeout(self._interval):
                await self._requested.wait()
        except TimeoutError:
            self._requests_in_a_row = 0
            return False
        self._requests_in_a_row += 1
        await asyncio.sleep(self._pause(self._requests_in_a_row))
        self._requested.clear()
        return True

    async def _sweep(self, *, look_at_all: bool) -> None:
        started = time.monotonic()
        dependencies = self._dependencies
        is_restoring = dependencies.mode.is_restoring
        look_at_all = look_at_all or is_restoring is not self._was_restoring
        self._was_restoring = is_restoring
        for task in await dependencies.bbs.list_tasks(STAGING_DOMAIN):
            self._tasks.add(task)
        from_source, from_cache = await self._sweep_lrps(look_at_all=look_at_all)
        await self._sweep_bridges()
        if is_restoring:
            for process_guid in from_cache:
                dependencies.queue.add(process_guid, Priority.ROUTINE)
        if look_at_all or self.count % self._sweeps_per_recheck == 0:
            await self._forget_records_but(from_source | from_cache)
        self.count += 1
        self.ended_at = dependencies.process.clock()
        duration = time.monotonic() - started
        metrics = dependencies.process.metrics
        metrics.sweeps.labels(outcome="done").inc()
        metrics.sweep_seconds.observe(duration)
        metrics.docker_lrps.labels(runs_from="source").set(len(from_source))
        metrics.docker_lrps.labels(runs_from="cache").set(len(from_cache))
        write = log.info if look_at_all else log.debug
        write(
            "listed-bbs",
            lrps_from_source=len(from_source),
            lrps_from_cache=len(from_cache),
            duration_s=round(duration, 3),
        )

    async def _sweep_lrps(self, *, look_at_all: bool) -> tuple[set[ProcessGuid], set[ProcessGuid]]:
        """List the Docker LRPs that run from their source, of which some are queued, and the others."""
        from_source: set[ProcessGuid] = set()
        from_cache: set[ProcessGuid] = set()
        index, rules = self._dependencies.index, self._dependencies.rules
        indexed_before = index.process_guids()
        domain = next(iter(rules.domains)) if len(rules.domains) == 1 else ""
        scan = self._dependencies.bbs.list_scheduling_infos(domain, docker_only=True)
        async for info in scan:
            if info.domain not in rules.domains:
                continue
            if self._dependencies.runs_from_cache(info.rootfs.uri):
                from_cache.add(info.process_guid)
                continue
            from_source.add(info.process_guid)
            has_changed = index.put(info)
            if has_changed or look_at_all or self._is_due(info.process_guid):
                self._dependencies.queue.add(info.process_guid, Priority.ROUTINE)
        if scan.skipped:  # a record that could not be read may be that of an indexed LRP
            self._dependencies.process.metrics.broken_events.inc(scan.skipped)
            log.error("skipped-unreadable-lrps", count=scan.skipped)
        else:  # an LRP that an event has added during the listing may be missing in it
            for gone in indexed_before - from_source:
                index.remove(gone)
        return from_source, from_cache

    async def _sweep_bridges(self) -> None:
        """Queue the bridges that belong to no migration under way."""
        bbs, event_cache = self._dependencies.bbs, self._dependencies.event_cache
        async for info in bbs.list_scheduling_infos(BRIDGE_DOMAIN, docker_only=True):
            if is_bridge(info.process_guid) and event_cache.key_of(info.process_guid) is None:
                self._dependencies.queue.add(info.process_guid, Priority.ROUTINE)

    def _is_due(self, process_guid: ProcessGuid) -> bool:
        """Spread the hourly look at LRPs that wait over the sweeps of an hour."""
        shares = self._sweeps_per_recheck
        return zlib.crc32(process_guid.encode()) % shares == self.count % shares

    async def _forget_records_but(self, process_guids: set[ProcessGuid]) -> None:
        """Delete the records of LRPs that are gone for long enough; these here are not."""
        records = self._dependencies.records
        oldest = self._dependencies.process.clock() - FORGET_AFTER
        gone = [
            record.process_guid
            for record in await records.list_lrps()
            if record.process_guid not in process_guids and record.updated_at < oldest
        ]
        await records.forget_lrps(gone)
