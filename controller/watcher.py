"""Turns BBS events and the sweep into keys and early cache requests.

Both streams are opened first and only then everything is listed, on every connection;
the end of a stream, clean or not, is loss and begins that anew. What an event says is
never applied: it names an LRP to look at or a task to read. Of tasks it is remembered which
were dealt with, since every listing shows them again, an older one perhaps in an older state.
"""

import asyncio
import random
import time
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from controller.coverage import Coverage, LrpIndex
from controller.event_cache import EventCache
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.bridges import BRIDGE_DOMAIN, is_bridge
from reconcile.errors import DockerCacheError
from reconcile.events import (
    ActualLrpChanged,
    ActualLrpCrashed,
    ActualLrpCreated,
    ActualLrpRemoved,
    BrokenEvent,
    DesiredLrpChanged,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskChanged,
    TaskCreated,
    TaskRemoved,
    UnknownEvent,
)
from reconcile.lrps import DesiredLrp, ProcessGuid, SchedulingInfo, Task, TaskGuid, TaskState
from reconcile.observed import Rules
from reconcile.policy import refusal_of
from reconcile.ports import BindingRecords, CacheRequests, LrpRecords, Mode
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, requester_of_task
from reconcile.staging import STAGING_DOMAIN, IgnoredTask, Signal, detect

log = structlog.get_logger(scope="watcher")

FIRST_PAUSE = 0.2  # seconds before the streams are opened again; doubles
LONGEST_PAUSE = 10.0  # seconds
RELIST_PAUSE = 1.0  # seconds between a broken event and the listing it leads to
RECHECK_INTERVAL = 3600.0  # seconds in which every LRP that waits is looked at once without an event
FORGET_AFTER = 600.0  # seconds; an LRP that is being replaced is gone for a moment
REMEMBERED_TASKS = 20_000


class Scan(Protocol):
    """A listing, read one record at a time."""

    skipped: int
    """Records that could not be read."""

    def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        """Read the records."""


class Bbs(Protocol):
    """The BBS, as far as it is watched."""

    def subscribe_tasks(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of all tasks."""

    def subscribe_lrp_instances(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of desired LRPs and of instances."""

    async def list_tasks(self, domain: str) -> tuple[Task, ...]:
        """List the tasks of one domain."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Scan:
        """List the light views of the desired LRPs of one domain, or all when it is empty."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where what was found goes."""

    queue: WorkQueue[ProcessGuid]
    index: LrpIndex
    coverage: Coverage
    requests: CacheRequests
    bindings: BindingRecords
    records: LrpRecords
    event_cache: EventCache
    mode: Mode


class Watcher:
    """Watches the BBS for ever."""

    def __init__(
        self, bbs: Bbs, *, found: Found, rules: Rules, process: Process, sync_interval: float
    ) -> None:
        self._bbs = bbs
        self._found = found
        self._rules = rules
        self._process = process
        self._sync_interval = sync_interval
        self._cached_prefix = f"docker://{rules.cache.address.lower()}/"
        self._tasks: WorkQueue[TaskGuid] = WorkQueue()
        self._latest: dict[TaskGuid, Task] = {}
        self._done_with: OrderedDict[TaskGuid, bool] = OrderedDict()
        self._relist = asyncio.Event()
        self._relist_pause = RELIST_PAUSE
        self._sweeps = 0
        self._listed_at = 0.0
        self._is_watching = False
        self._was_restoring = False
        self._sweeps_per_recheck = max(1, round(RECHECK_INTERVAL / sync_interval))

    @property
    def listed_at(self) -> float:
        """When the BBS was last listed, UTC seconds since 1970; 0 when it never was."""
        return self._listed_at

    @property
    def is_watching(self) -> bool:
        """Whether both streams are open, and the BBS was listed since."""
        return self._is_watching

    def look_at_all(self) -> None:
        """Let every LRP be looked at soon, since something changed that no event tells of."""
        self._relist.set()

    def close(self) -> None:
        """Stop all timers."""
        self._tasks.close()

    async def run(self) -> None:
        """Keep both streams open and the index true."""
        pause = FIRST_PAUSE
        while True:
            sweeps = self._sweeps
            try:
                await self._watch()
            except* DockerCacheError as group:
                self._is_watching = False
                error = group.exceptions[0]
                log.error("lost-bbs-events", error=str(error), retry_after_s=round(pause, 1))  # noqa: TRY400
            if self._sweeps > sweeps:
                pause = FIRST_PAUSE
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads reconnections
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _watch(self) -> None:
        async with (
            self._bbs.subscribe_tasks() as tasks,
            self._bbs.subscribe_lrp_instances() as lrps,
        ):
            self._found.coverage.restart()
            # What was asked for before is asked for again, and so counts as seen; a failure stays one.
            self._done_with = OrderedDict((guid, True) for guid, failed in self._done_with.items() if failed)
            self._process.metrics.subscriptions.inc()
            log.info("subscribed-to-bbs-events")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._handle_tasks(), name="tasks")
                group.create_task(self._read(tasks, "tasks"), name="tasks-stream")
                group.create_task(self._read(lrps, "lrp_instances"), name="lrp-instances-stream")
                group.create_task(self._sweep_for_ever(), name="sweep")

    async def _read(self, events: AsyncIterator[Event], stream: str) -> None:
        counter = self._process.metrics.events.labels(stream=stream)
        async for event in events:
            counter.inc()
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case TaskCreated(task) | TaskRemoved(task) | TaskChanged(after=task):
                self._note_task(task)
            case DesiredLrpCreated(lrp) | DesiredLrpChanged(after=lrp):
                self._handle_desired(lrp)
            case DesiredLrpRemoved(lrp):
                self._found.event_cache.saw(lrp)
                self._look_at(lrp.process_guid)
            case ActualLrpCreated(row) | ActualLrpRemoved(row) | ActualLrpChanged(after=row):
                self._look_at(row.process_guid)
                if row.instance_guid in self._found.event_cache.stale(row.process_guid):
                    self._found.queue.add(row.process_guid)
            case ActualLrpCrashed():
                self._look_at(event.process_guid)
            case UnknownEvent(name):
                self._process.metrics.unknown_events.inc()
                log.debug("skipped-unknown-event", event_name=name)
            case BrokenEvent(name, reason):
                self._process.metrics.broken_events.inc()
                log.error("skipped-broken-event", event_name=name, reason=reason)
                self._relist.set()

    def _look_at(self, process_guid: ProcessGuid) -> None:
        followed = self._found.event_cache.key_of(process_guid)
        if followed is not None:
            self._found.queue.add_urgent(followed)
        elif process_guid in self._found.index:
            self._found.queue.add(process_guid)

    def _handle_desired(self, lrp: DesiredLrp) -> None:
        self._found.event_cache.saw(lrp)
        followed = self._found.event_cache.key_of(lrp.process_guid)
        if followed is not None:
            self._found.queue.add_urgent(followed)
        if lrp.domain not in self._rules.domains or not lrp.rootfs.is_docker:
            return
        if self._is_cached(lrp.rootfs.uri):
            self._found.index.remove(lrp.process_guid)
            return
        self._found.index.put(
            SchedulingInfo(lrp.process_guid, lrp.domain, lrp.app_guid, lrp.rootfs, lrp.instances, lrp.tag)
        )
        self._found.queue.add(lrp.process_guid)

    def _is_cached(self, rootfs: str) -> bool:
        return rootfs[: len(self._cached_prefix)].lower() == self._cached_prefix

    def _note_task(self, task: Task) -> None:
        """Let a staging task be dealt with: for a copy once, and once more if its staging fails."""
        if task.domain != STAGING_DOMAIN:
            return
        knows_failure = self._done_with.get(task.task_guid)
        if knows_failure or (knows_failure is False and not _has_failed(task)):
            return
        noted = self._latest.get(task.task_guid)
        if noted is None or not _has_failed(noted):
            self._latest[task.task_guid] = task
        self._tasks.add(task.task_guid)

    async def _handle_tasks(self) -> None:
        """Deal with staging tasks for ever; one that fails comes back by itself."""
        while True:
            guid = await self._tasks.take()
            task = self._latest[guid]
            try:
                await (self._drop(task) if _has_failed(task) else self._request_copy(task))
            except DockerCacheError as error:
                seconds = self._tasks.back_off(guid)
                log.exception(
                    "failed-to-note-staging",
                    task_guid=guid,
                    error=str(error),
                    retry_after_s=round(seconds, 1),
                )
                continue
            except BaseException:
                self._tasks.back_off(guid)
                raise
            if self._latest[guid] is task:
                del self._latest[guid]
            self._done_with[guid] = _has_failed(task)
            while len(self._done_with) > REMEMBERED_TASKS:
                self._done_with.popitem(last=False)
            self._tasks.done(guid)

    async def _request_copy(self, task: Task) -> None:
        count = self._process.metrics.staging_tasks
        staged = detect(task)
        if isinstance(staged, IgnoredTask):
            count.labels(outcome=staged.reason).inc()
            log.debug("ignored-task", task_guid=task.task_guid, reason=staged.reason, detail=staged.detail)
            return
        refusal = refusal_of(
            self._rules.policy, image=staged.source, signal=staged.signal, cache=self._rules.cache
        )
        if refusal is not None:
            count.labels(outcome=refusal).inc()
            log.debug("refused-image", task_guid=task.task_guid, reason=refusal, source_image=staged.text)
            return
        request = CacheRequest(
            app_guid=staged.app_guid,
            source=staged.source,
            requester=requester_of_task(staged.task_guid),
            staged_at=staged.staged_at,
            reason=Reason.STAGING_TASK,
            credentials=staged.credentials,
            opted_in=staged.signal is Signal.OPT_IN,
        )
        job = await self._found.requests.request(request)
        count.labels(outcome="requested").inc()
        log.debug("requested-copy", task_guid=task.task_guid, job=job.job_id)

    async def _drop(self, task: Task) -> None:
        dropped = await self._found.bindings.drop_binding(requester_of_task(task.task_guid))
        if dropped is not None:
            log.info("dropped-binding", task_guid=task.task_guid, reason="staging-failed")

    async def _sweep_for_ever(self) -> None:
        await self._sweep(look_at_all=True)
        while True:
            look_at_all = await self._wait_for_sweep()
            try:
                await self._sweep(look_at_all=look_at_all)
            except DockerCacheError as error:
                self._process.metrics.sweeps.labels(outcome="failed").inc()
                log.exception("failed-to-list", error=str(error), retry_after_s=self._sync_interval)

    async def _wait_for_sweep(self) -> bool:
        """Wait for the next listing, and tell whether something unreadable came, so that all is looked at."""
        try:
            async with asyncio.timeout(self._sync_interval):
                await self._relist.wait()
        except TimeoutError:
            self._relist_pause = RELIST_PAUSE
            return False
        await asyncio.sleep(self._relist_pause)
        self._relist_pause = min(self._sync_interval, self._relist_pause * 2)
        self._relist.clear()
        return True

    async def _sweep(self, *, look_at_all: bool) -> None:
        started = time.monotonic()
        is_restoring = self._found.mode.is_restoring
        look_at_all = look_at_all or is_restoring is not self._was_restoring
        self._was_restoring = is_restoring
        for task in await self._bbs.list_tasks(STAGING_DOMAIN):
            self._note_task(task)
        from_source, from_cache = await self._sweep_lrps(look_at_all=look_at_all)
        await self._sweep_bridges()
        if is_restoring:
            for process_guid in from_cache:
                self._found.queue.add_routine(process_guid)
        if look_at_all or self._sweeps % self._sweeps_per_recheck == 0:
            await self._forget_all_but(from_source | from_cache)
        self._sweeps += 1
        self._listed_at, self._is_watching = self._process.clock(), True
        duration = time.monotonic() - started
        metrics = self._process.metrics
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
        """List the Docker LRPs: those that run from their source, which are queued, and the others."""
        from_source: set[ProcessGuid] = set()
        from_cache: set[ProcessGuid] = set()
        known_before = self._found.index.known()
        domain = next(iter(self._rules.domains)) if len(self._rules.domains) == 1 else ""
        scan = self._bbs.list_scheduling_infos(domain, docker_only=True)
        async for info in scan:
            if info.domain not in self._rules.domains:
                continue
            if self._is_cached(info.rootfs.uri):
                from_cache.add(info.process_guid)
                continue
            from_source.add(info.process_guid)
            is_news = self._found.index.put(info)
            if is_news or look_at_all or self._is_due(info.process_guid):
                self._found.queue.add_routine(info.process_guid)
        if scan.skipped:  # an LRP that cannot be read now may be one that is known
            self._process.metrics.broken_events.inc(scan.skipped)
            log.error("skipped-unreadable-lrps", count=scan.skipped)
        else:  # but not those that an event told of while an older listing was read
            for gone in known_before - from_source:
                self._found.index.remove(gone)
        return from_source, from_cache

    async def _sweep_bridges(self) -> None:
        """Let bridges be looked at that no migration knows of."""
        async for info in self._bbs.list_scheduling_infos(BRIDGE_DOMAIN, docker_only=True):
            if is_bridge(info.process_guid) and self._found.event_cache.key_of(info.process_guid) is None:
                self._found.queue.add_routine(info.process_guid)

    def _is_due(self, process_guid: ProcessGuid) -> bool:
        """Spread the hourly look at LRPs that wait over the sweeps of an hour."""
        shares = self._sweeps_per_recheck
        return zlib.crc32(process_guid.encode()) % shares == self._sweeps % shares

    async def _forget_all_but(self, process_guids: set[ProcessGuid]) -> None:
        known = await self._found.records.list_lrps()
        old = self._process.clock() - FORGET_AFTER
        gone = [
            record.process_guid
            for record in known
            if record.process_guid not in process_guids and record.updated_at < old
        ]
        await self._found.records.forget_lrps(gone)


def _has_failed(task: Task) -> bool:
    return task.failed and task.state in {TaskState.COMPLETED, TaskState.RESOLVING}
