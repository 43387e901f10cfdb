"""Lists the BBS at an interval, to find changes that no event reported."""

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Mapping

import structlog

from controller.backoff import exact_backoff
from controller.metrics.bbs import RunsFrom
from controller.tracing import tracing
from controller.watcher.dependencies import WatcherDependencies, registry_host
from controller.watcher.logins import queue_other_logins
from controller.watcher.staging_tasks import StagingTasks
from controller.workqueue import Priority
from reconcile.bridges import BRIDGE_DOMAIN, is_bridge
from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import AppState, Reason
from reconcile.references import CacheGuid
from reconcile.staging import STAGING_DOMAIN

log = structlog.get_logger(scope="watcher")

FIRST_REQUEST_PAUSE = 1.0  # seconds between a request and its sweep; doubles with each request in a row
RECHECK_INTERVAL = 3600.0  # seconds in which each LRP is queued at least once
_NOT_ON_COPY = frozenset({AppState.PENDING, AppState.SKIPPED, AppState.FAILED})
"""The states whose records cannot be true of an LRP that runs from a copy and needs nothing."""
FORGET_AFTER = 600.0  # seconds; a migration removes its LRP for a short time, and the record must stay


class Sweep:
    """Lists staging tasks, LRPs and bridges, and queues those that need a pass.

    Every sweep queues a share of the LRPs, so that the sweeps of an hour queue each LRP. It also queues those
    that run from their source and have changed. A full sweep queues every LRP that runs from its source. Of
    those that run from a copy, it also queues the ones without a record, since the store may be new, and the
    ones whose record says that they run from their source, since they may have been desired again while no
    event was read.

    Args:
        interval: Seconds between two sweeps.
        requested: Requests a full sweep as soon as possible when it is set.
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
        self._is_full_due = True
        self._missing_since: dict[ProcessGuid, float] = {}
        self.count = 0
        """Number of sweeps that succeeded."""
        self.former_lrps: Mapping[str, int] = {}
        """The number of LRPs that run from copies in former private registries, by address."""
        self._source_hosts: Mapping[str, int] = {}
        self.ended_at = 0.0
        """When the last successful sweep ended, in UTC seconds since 1970; 0 when there was none."""

    async def run(self) -> None:
        """Sweep at once, and then at the interval forever. Only a failure of the first sweep is raised."""
        self._dependencies.process.metrics.bbs.sweep_interval.set(self._interval)
        with tracing():
            await self._sweep()
        while True:
            self._is_full_due = await self._wait() or self._is_full_due
            with tracing():
                await self._sweep_again()

    async def _sweep_again(self) -> None:
        try:
            await self._sweep()
        except DockerCacheError as error:
            self._dependencies.process.metrics.bbs.sweeps.labels(outcome="failed").inc()
            log.exception("failed-to-list-bbs", error=str(error), retry_after_s=self._interval)

    async def _wait(self) -> bool:
        """Wait until the next sweep is due, and return whether it was requested."""
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

    async def _sweep(self) -> None:
        started = time.monotonic()
        dependencies = self._dependencies
        is_restoring = dependencies.mode.is_restoring
        full = self._is_full_due or is_restoring is not self._was_restoring
        for task in await dependencies.bbs.list_tasks(STAGING_DOMAIN):
            self._tasks.add(task)
        from_source, from_cache, is_complete = await self._sweep_lrps(full=full)
        await self._sweep_bridges()
        if full:
            await queue_other_logins(dependencies, from_cache)
        if is_restoring:
            for process_guid in from_cache:
                dependencies.queue.add(process_guid, Priority.ROUTINE)
        if is_complete:
            existing = from_source | from_cache
            for process_guid in self._missing_since.keys() & existing:
                del self._missing_since[process_guid]
            if full or self.count % self._sweeps_per_recheck == 0:
                await self._compare_with_records(existing, from_cache if full else set())
        # Only now: a full sweep that failed is repeated as a full one.
        self._is_full_due, self._was_restoring = False, is_restoring
        self.count += 1
        self.ended_at = dependencies.process.clock()
        duration = time.monotonic() - started
        metrics = dependencies.process.metrics
        metrics.bbs.sweeps.labels(outcome="done").inc()
        metrics.bbs.sweep_duration.observe(duration)
        from_former = sum(self.former_lrps.values())
        metrics.bbs.last_sweep.set(self.ended_at)
        metrics.bbs.show_lrps(
            {
                RunsFrom.SOURCE: len(from_source) - from_former,
                RunsFrom.FORMER_REGISTRY: from_former,
                RunsFrom.CACHE: len(from_cache),
            }
        )
        metrics.bbs.show_sources(self._source_hosts, metrics.registries.names)
        write = log.info if full else log.debug
        write(
            "listed-bbs",
            lrps_from_source=len(from_source) - from_former,
            lrps_from_former_registries=from_former,
            lrps_from_cache=len(from_cache),
            duration_s=round(duration, 3),
        )
        if full:
            for listener in dependencies.of_full_sweeps:
                listener()

    async def _sweep_lrps(self, *, full: bool) -> tuple[set[ProcessGuid], set[ProcessGuid], bool]:
        """List the Docker LRPs, and queue those that need a pass.

        Returns:
            The LRPs that run from their sources or from copies in former private registries; those that run
            from the private registry; and whether every record of the listing could be read.
        """
        from_source: set[ProcessGuid] = set()
        from_cache: set[ProcessGuid] = set()
        from_former, hosts = Counter[str](), Counter[str]()
        index, rules = self._dependencies.index, self._dependencies.rules
        uses, copies = self._dependencies.copy_uses, dict[ProcessGuid, CacheGuid]()
        placements = dict[AppGuid, frozenset[str]]()
        indexed_before, using_before = index.process_guids(), uses.process_guids()
        domain = next(iter(rules.domains)) if len(rules.domains) == 1 else ""
        scan = self._dependencies.bbs.list_scheduling_infos(domain, docker_only=True)
        async for info in scan:
            if info.domain not in rules.domains:
                continue
            placements[info.app_guid] = info.placement_tags
            if self._dependencies.runs_from_cache(info.rootfs.uri):
                from_cache.add(info.process_guid)
                if (cache_guid := self._dependencies.copy_of(info.rootfs)) is not None:
                    copies[info.process_guid] = cache_guid
                if self._is_due(info.process_guid):
                    self._dependencies.queue.add(info.process_guid, Priority.ROUTINE)
                continue
            from_source.add(info.process_guid)
            if (former := self._dependencies.former_registry_of(info.rootfs)) is not None:
                from_former[former] += 1
            else:
                hosts[registry_host(info.rootfs.uri)] += 1
            has_changed = index.put(info)
            if has_changed or full or self._is_due(info.process_guid):
                self._dependencies.queue.add(info.process_guid, Priority.ROUTINE)
        if scan.skipped:  # an indexed LRP that the listing lacks may be one of those that could not be read
            self._dependencies.process.metrics.bbs.broken_events.inc(scan.skipped)
            log.error("skipped-unreadable-lrps", count=scan.skipped)
        else:  # an LRP that an event added to the index during the listing may be missing in it
            for gone in indexed_before - from_source:
                index.remove(gone)
            uses.replace(copies, known_before=using_before)
            self._dependencies.placements.replace(placements)
        self.former_lrps, self._source_hosts = from_former, hosts
        return from_source, from_cache, not scan.skipped

    async def _sweep_bridges(self) -> None:
        """Queue the bridges that belong to no migration in progress."""
        bbs, event_cache = self._dependencies.bbs, self._dependencies.event_cache
        async for info in bbs.list_scheduling_infos(BRIDGE_DOMAIN, docker_only=True):
            if is_bridge(info.process_guid) and event_cache.key_of(info.process_guid) is None:
                self._dependencies.queue.add(info.process_guid, Priority.ROUTINE)

    def _is_due(self, process_guid: ProcessGuid) -> bool:
        """Whether an LRP is in the share that this sweep queues; an hour of sweeps queues each LRP once."""
        shares = self._sweeps_per_recheck
        return zlib.crc32(process_guid.encode()) % shares == self.count % shares

    async def _compare_with_records(self, existing: set[ProcessGuid], from_cache: set[ProcessGuid]) -> None:
        """Queue LRPs without a true record, and delete the records of LRPs that listings have long lacked.

        The record of an LRP that was deleted while no event was read is not true either: droplets of its app
        would wait for the copy that it could not start from. One listing is not enough to delete a record,
        since with it goes what its LRP ran from before its migration.

        Args:
            existing: All LRPs of the listing.
            from_cache: Those that are queued when they have no record that may be true of them.
        """
        dependencies = self._dependencies
        records = await dependencies.records.list_lrps()
        may_be_true = {each.process_guid for each in records if each.reason.state not in _NOT_ON_COPY}
        seems_desired = {each.process_guid for each in records if each.reason is not Reason.NOT_DESIRED}
        for process_guid in (from_cache - may_be_true) | (seems_desired - existing):
            dependencies.queue.add(process_guid, Priority.ROUTINE)
        now = dependencies.process.clock()
        oldest = now - FORGET_AFTER
        missing = {
            record.process_guid: min(self._missing_since.get(record.process_guid, now), now)
            for record in records
            if record.process_guid not in existing and not oldest <= record.updated_at <= now
        }
        self._missing_since = missing
        await dependencies.records.forget_lrps([guid for guid, since in missing.items() if since <= oldest])
