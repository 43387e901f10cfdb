"""Handles the events of the BBS: queues staging tasks, and the LRPs that need a pass.

A routine event does not shorten the wait of an LRP: one that the daemon's own calls have caused, and one of
an instance on its way between two states that decide anything.
"""

import asyncio
from collections.abc import AsyncIterator

import structlog

from controller.metrics.bbs import Stream
from controller.watcher.dependencies import WatcherDependencies
from controller.watcher.staging_tasks import StagingTasks
from controller.workqueue import Priority
from reconcile.bridges import is_bridge
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
from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp, ProcessGuid, SchedulingInfo, Task
from reconcile.start_failures import start_failure

log = structlog.get_logger(scope="watcher")

_ON_THE_WAY = frozenset({ActualLrpState.UNCLAIMED, ActualLrpState.CLAIMED})
"""States of an instance that decide nothing: its crash and its end have events of their own."""


class EventHandler:
    """Reads event streams.

    Args:
        sweep_requested: Is set when an event could not be read, so that a sweep finds what it reported.
    """

    def __init__(
        self, dependencies: WatcherDependencies, *, tasks: StagingTasks, sweep_requested: asyncio.Event
    ) -> None:
        self._dependencies = dependencies
        self._tasks = tasks
        self._sweep_requested = sweep_requested
        self._queue, self._index = dependencies.queue, dependencies.index
        self._copy_uses, self._event_cache = dependencies.copy_uses, dependencies.event_cache
        self._metrics = dependencies.process.metrics

    async def read(self, events: AsyncIterator[Event], *, stream: Stream) -> None:
        """Handle the events of one stream. The end of the stream raises an error."""
        counter = self._metrics.bbs.events.labels(stream=stream)
        connected = self._metrics.bbs.stream_connected.labels(stream=stream)
        connected.set(1)
        try:
            async for event in events:
                counter.inc()
                self._handle(event)
        finally:
            connected.set(0)

    def _handle(self, event: Event) -> None:
        match event:
            case TaskCreated(task) | TaskRemoved(task) | TaskChanged(after=task):
                self._handle_task(task, is_removed=isinstance(event, TaskRemoved))
            case DesiredLrpCreated(lrp) | DesiredLrpChanged(after=lrp):
                self._handle_desired_lrp(lrp, is_new=isinstance(event, DesiredLrpCreated))
            case DesiredLrpRemoved(lrp):
                self._event_cache.record(lrp)
                self._queue_lrp(lrp.process_guid, is_routine=is_bridge(lrp.process_guid))
                if self._copy_uses.copy_of(lrp.process_guid) is not None:
                    self._copy_uses.remove(lrp.process_guid)
                    self._queue.add(lrp.process_guid, Priority.ROUTINE)  # its record still calls it cached
            case ActualLrpCreated(row) | ActualLrpChanged(after=row):
                self._handle_row(row, before=None if isinstance(event, ActualLrpCreated) else event.before)
            case ActualLrpRemoved(row):
                self._dependencies.presence.note_gone_instance(row)
                self._handle_actual_lrp(row, is_routine=self._dependencies.stops.is_announcement(row))
            case ActualLrpCrashed():
                self._handle_crash(event)
            case UnknownEvent(name):
                self._metrics.bbs.unknown_events.inc()
                log.debug("skipped-unknown-event", event_name=name)
            case BrokenEvent(name, reason):
                self._metrics.bbs.broken_events.inc()
                log.error("skipped-broken-event", event_name=name, reason=reason)
                self._sweep_requested.set()

    def _handle_task(self, task: Task, *, is_removed: bool) -> None:
        self._tasks.add(task)
        if is_removed:
            self._dependencies.stagings.note_removed_task(task)

    def _queue_lrp(self, process_guid: ProcessGuid, *, is_routine: bool = False) -> None:
        """Queue an LRP if it is being migrated or runs from its source; others need no pass."""
        if not self._queue_migration(process_guid, is_routine=is_routine) and process_guid in self._index:
            self._queue.add(process_guid, Priority.ROUTINE if is_routine else Priority.FRESH)

    def _queue_migration(self, process_guid: ProcessGuid, *, is_routine: bool) -> bool:
        """Queue the LRP in migration that has this process GUID or whose bridge has it, if there is one."""
        tracked = self._event_cache.key_of(process_guid)
        if tracked is None:
            return False
        self._queue.add(tracked, Priority.ROUTINE if is_routine else Priority.URGENT)
        return True

    def _handle_actual_lrp(self, row: ActualLrp, *, is_routine: bool) -> None:
        self._queue_lrp(row.process_guid, is_routine=is_routine)

    def _handle_row(self, row: ActualLrp, *, before: ActualLrp | None) -> None:
        """Queue the LRP of an instance, urgently if an instance of a removed definition starts to run."""
        self._dependencies.presence.note_instance(row)
        self._handle_actual_lrp(row, is_routine=row.state in _ON_THE_WAY)
        ran = before is not None and before.state is ActualLrpState.RUNNING
        begins = row.state is ActualLrpState.RUNNING and not ran
        if begins and self._event_cache.note_begin(row.process_guid, row.instance_guid):
            self._queue.add(row.process_guid, Priority.URGENT)

    def _handle_crash(self, crash: ActualLrpCrashed) -> None:
        """Queue the LRP of a crash; one that runs from a copy only when a cell could not pull the copy."""
        self._event_cache.record_crash(crash.process_guid, crash.cell_id)
        self._queue_lrp(crash.process_guid)
        self._dependencies.presence.note_crash(crash)
        failure = start_failure(crash.crash_reason)
        if failure is None or not failure.is_pull_failure:
            return
        if crash.domain in self._dependencies.rules.domains:
            self._queue.add(crash.process_guid)

    def _note_copy(self, lrp: DesiredLrp) -> None:
        cache_guid = self._dependencies.copy_of(lrp.rootfs)
        if cache_guid is None:
            self._copy_uses.remove(lrp.process_guid)
        else:
            self._copy_uses.put(lrp.process_guid, cache_guid)

    def _handle_desired_lrp(self, lrp: DesiredLrp, *, is_new: bool) -> None:
        self._event_cache.record(lrp)
        is_migrating = self._queue_migration(lrp.process_guid, is_routine=is_bridge(lrp.process_guid))
        if lrp.domain not in self._dependencies.rules.domains or not lrp.rootfs.is_docker:
            return
        self._dependencies.placements.put(lrp.app_guid, lrp.placement_tags)
        if self._dependencies.runs_from_cache(lrp.rootfs.uri):
            self._index.remove(lrp.process_guid)
            self._note_copy(lrp)
            if is_new and not is_migrating:  # its app's droplet may name the copy
                self._queue.add(lrp.process_guid)
            return
        self._copy_uses.remove(lrp.process_guid)
        self._index.put(
            SchedulingInfo(lrp.process_guid, lrp.domain, lrp.app_guid, lrp.rootfs, lrp.instances, lrp.tag)
        )
        self._queue.add(lrp.process_guid)
