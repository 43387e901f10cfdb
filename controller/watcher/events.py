"""Turns each event of the BBS into a staging task to handle or an LRP to look at."""

import asyncio
from collections.abc import AsyncIterator

import structlog

from controller.watcher.dependencies import WatcherDependencies
from controller.watcher.staging_tasks import StagingTasks
from controller.workqueue import Priority
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
from reconcile.lrps import ActualLrp, DesiredLrp, ProcessGuid, SchedulingInfo

log = structlog.get_logger(scope="watcher")


class EventHandler:
    """Reads event streams.

    Args:
        needs_sweep: Is set when an event could not be read: only a listing can find what it was about.
    """

    def __init__(
        self, dependencies: WatcherDependencies, *, tasks: StagingTasks, needs_sweep: asyncio.Event
    ) -> None:
        self._dependencies = dependencies
        self._tasks = tasks
        self._needs_sweep = needs_sweep
        self._queue, self._index = dependencies.queue, dependencies.index
        self._event_cache = dependencies.event_cache
        self._metrics = dependencies.process.metrics

    async def read(self, events: AsyncIterator[Event], *, stream: str) -> None:
        """Handle the events of one stream until it ends, which raises."""
        counter = self._metrics.events.labels(stream=stream)
        async for event in events:
            counter.inc()
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case TaskCreated(task) | TaskRemoved(task) | TaskChanged(after=task):
                self._tasks.add(task)
            case DesiredLrpCreated(lrp) | DesiredLrpChanged(after=lrp):
                self._handle_desired_lrp(lrp)
            case DesiredLrpRemoved(lrp):
                self._event_cache.record(lrp)
                self._look_at(lrp.process_guid)
            case ActualLrpCreated(row) | ActualLrpRemoved(row) | ActualLrpChanged(after=row):
                self._handle_actual_lrp(row)
            case ActualLrpCrashed():
                self._look_at(event.process_guid)
            case UnknownEvent(name):
                self._metrics.unknown_events.inc()
                log.debug("skipped-unknown-event", event_name=name)
            case BrokenEvent(name, reason):
                self._metrics.broken_events.inc()
                log.error("skipped-broken-event", event_name=name, reason=reason)
                self._needs_sweep.set()

    def _look_at(self, process_guid: ProcessGuid) -> None:
        """Look at an LRP that is being migrated or that runs from its source; no other needs a look."""
        if not self._look_at_migrating(process_guid) and process_guid in self._index:
            self._queue.add(process_guid)

    def _look_at_migrating(self, process_guid: ProcessGuid) -> bool:
        """Look at the LRP in migration that has this process GUID or whose bridge has it, if there is one."""
        tracked = self._event_cache.key_of(process_guid)
        if tracked is None:
            return False
        self._queue.add(tracked, Priority.URGENT)
        return True

    def _handle_actual_lrp(self, row: ActualLrp) -> None:
        self._look_at(row.process_guid)
        if row.instance_guid in self._event_cache.stale(row.process_guid):
            self._queue.add(row.process_guid)

    def _handle_desired_lrp(self, lrp: DesiredLrp) -> None:
        self._event_cache.record(lrp)
        self._look_at_migrating(lrp.process_guid)
        if lrp.domain not in self._dependencies.rules.domains or not lrp.rootfs.is_docker:
            return
        if self._dependencies.runs_from_cache(lrp.rootfs.uri):
            self._index.remove(lrp.process_guid)
            return
        self._index.put(
            SchedulingInfo(lrp.process_guid, lrp.domain, lrp.app_guid, lrp.rootfs, lrp.instances, lrp.tag)
        )
        self._queue.add(lrp.process_guid)
