"""Puts the loops that reconcile droplets together, and says when which droplet is to be looked at."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import structlog

from controller.droplets.builds import BuildFollower
from controller.droplets.dependencies import DropletDependencies
from controller.droplets.index import State
from controller.droplets.known import KnownDroplets
from controller.droplets.observe import DropletObserver
from controller.droplets.obstacles import CANNOT_START, NOT_FROM_COPY
from controller.droplets.orders import DropletListener
from controller.droplets.reconciler import DropletReconciler
from controller.droplets.standing import ApiStanding
from controller.droplets.sweep import DropletSweep
from controller.droplets.watched_api import WatchedApi
from controller.workqueue import Priority
from reconcile.droplets import DropletGuid, DropletOrder, DropletPhase
from reconcile.lrps import AppGuid, Task
from reconcile.reasons import Reason
from reconcile.references import CacheGuid

log = structlog.get_logger(scope="droplets")

MOST_AT_ONCE = 50
"""Droplets of one copy that are looked at without waiting for the background's share of the requests."""

LOOPS = 4
"""Droplets that are looked at at the same time; at most one of them is of the backlog."""


_UNTIL_MIGRATED = NOT_FROM_COPY | {Reason.RESTORED}
"""Why droplets do not name a copy until an LRP of their app has shown that it can start from it."""


@dataclass(frozen=True, slots=True)
class DropletsStatus:
    """How far the droplets have come.

    Attributes:
        counts: Droplets with a record in each phase, for each reason.
        waiting: Droplets that wait to be looked at.
        listed_at: When the droplets were last listed, in UTC seconds since 1970; 0 for never.
    """

    counts: Mapping[State, int]
    waiting: int = 0
    listed_at: float = 0.0


class ReconciledDroplets(Protocol):
    """The droplets of Cloud Controller, for everything else in the process."""

    def note_task(self, task: Task) -> None:
        """Follow the build of a staging task that has ended."""

    def note_removed_task(self, task: Task) -> None:
        """Follow the build of a staging task whose result Cloud Controller has taken."""

    def events_were_lost(self) -> None:
        """List the droplets, since stagings may have ended unseen."""

    def job_ended(self, app_guid: AppGuid) -> None:
        """Look at those droplets of an app that wait for a copy."""

    def look_at(self, guid: DropletGuid) -> None:
        """Look at a droplet."""

    def look_at_app(self, app_guid: AppGuid) -> None:
        """Look at all droplets of an app."""

    def look_at_copy(self, cache_guid: CacheGuid) -> None:
        """Look at the droplets that name a copy, or are to."""

    def look_at_all(self) -> None:
        """List the droplets and look at each that does not name its copy, or is to name none any more."""

    def look_at_waiting(self) -> None:
        """Look at the droplets that wait until cells are known to pull."""

    def order_of(self, guid: DropletGuid) -> DropletOrder | None:
        """Return the order for a droplet; None when there is none or it has ended."""

    def place_order(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:
        """Order something for a droplet; return False, and order nothing, while another is waited for."""

    def withdraw_order(self, guid: DropletGuid) -> None:
        """End a droplet's order, if it has one."""

    def status(self) -> DropletsStatus:
        """Say how far the droplets have come."""


class Droplets:
    """The droplets of Cloud Controller.

    Args:
        dependencies: What the loops work with.
        known: What is remembered of droplets, which others look at as well.
        interval: Seconds between two listings.
    """

    def __init__(self, dependencies: DropletDependencies, *, known: KnownDroplets, interval: float) -> None:
        process = dependencies.process
        self._dependencies = dependencies
        self._index, self._orders, self._stagings = known.index, known.orders, known.stagings
        self._failing = known.failing
        standing, writing = ApiStanding(process), ApiStanding(process)
        watched = replace(dependencies, api=WatchedApi(dependencies.api, standing, writing))
        observer = DropletObserver(watched, known)
        self._reconciler = DropletReconciler(watched, known=known, observer=observer, writing=writing)
        self.of_changes = self._reconciler.of_changes
        """Are told of each droplet whose image was changed, for the app's developers."""
        self._builds = BuildFollower(watched, stagings=known.stagings, staged=self._staged)
        self._sweep = DropletSweep(
            watched, interval=interval, known=known, observer=observer, reconciler=self._reconciler
        )
        for phase in DropletPhase:
            process.metrics.droplets.by_phase.labels(phase=phase).set_function(
                partial(self._index.count, phase)
            )

    async def recover(self) -> None:
        """Read what earlier runs have recorded, and look at once at the droplets that they were changing."""
        for record in await self._dependencies.records.list_droplets():
            self._index.put_record(record)
            if record.phase in {DropletPhase.PATCHING, DropletPhase.RESTORING}:
                log.info("resuming-droplet", droplet_guid=record.droplet_guid, phase=record.phase)
                self.look_at(record.droplet_guid)

    async def run(self) -> None:
        """Reconcile droplets forever."""
        if not self._dependencies.overrides.is_paused:
            self._dependencies.obstacles.ask_ahead()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._builds.run(), name="builds")
            group.create_task(self._sweep.run(), name="droplet-sweep")
            for number in range(LOOPS):
                group.create_task(self._reconciler.run(), name=f"droplets-{number}")

    def close(self) -> None:
        """Stop all timers."""
        self._builds.close()
        self._reconciler.close()

    def note_task(self, task: Task) -> None:
        """Follow the build of a staging task that has ended."""
        self._builds.note_task(task)

    def note_removed_task(self, task: Task) -> None:
        """Follow the build of a staging task whose result Cloud Controller has taken."""
        self._builds.note_removed_task(task)

    def events_were_lost(self) -> None:
        """List the droplets, since stagings may have ended unseen."""
        self._sweep.request(is_full=False)

    def job_ended(self, app_guid: AppGuid) -> None:
        """Look at those droplets of an app that wait for a copy, at once where somebody waits for it too."""
        for guid in self._index.droplets_of_app(app_guid):
            if self._reconciler.is_looking_at(guid) or not self._index.is_settled(guid):
                self._reconciler.look_at(guid, self._reconciler.priority_of(guid))

    def migration_ended(self, app_guid: AppGuid, reason: Reason) -> None:
        """Look at the droplets of an app of which an LRP could not start from its copy, or does so again."""
        if reason in CANNOT_START:
            self.look_at_app(app_guid)
        elif reason is Reason.MIGRATED:
            self.copy_works_again(app_guid)

    def copy_works_again(self, app_guid: AppGuid) -> None:
        """Look at the droplets of an app that name no copy since an LRP could not start from it."""
        droplets = self._index.droplets_of_app(app_guid)
        self._look_at(guid for guid in droplets if self._index.reason_of(guid) in _UNTIL_MIGRATED)

    def former_copy_failed(self, app_guid: AppGuid, cache_guid: CacheGuid, detail: str) -> None:
        """Look at the droplets of an app of which an LRP leaves a copy in a former registry.

        Cells cannot pull it, and what Cloud Controller desires meanwhile would be desired from there again.
        """
        self._failing.put(app_guid, cache_guid, detail)
        self.look_at_app(app_guid)

    def look_at(self, guid: DropletGuid) -> None:
        """Look at a droplet."""
        self._reconciler.look_at(guid)

    def look_at_app(self, app_guid: AppGuid) -> None:
        """Look at all droplets of an app."""
        self._look_at(self._index.droplets_of_app(app_guid))

    def look_at_copy(self, cache_guid: CacheGuid) -> None:
        """Look at the droplets that name a copy; of many, most wait for the background's share."""
        for number, guid in enumerate(sorted(self._index.droplets_of_copy(cache_guid))):
            priority = Priority.FRESH if number < MOST_AT_ONCE else self._reconciler.priority_of(guid)
            self._reconciler.look_at(guid, priority)

    def look_at_all(self) -> None:
        """List the droplets and look at each that does not name its copy, or is to name none any more."""
        self._sweep.request(is_full=True)

    def look_at_waiting(self) -> None:
        """Look at the droplets that wait until cells are known to pull."""
        self._reconciler.look_at_waiting()

    def order_of(self, guid: DropletGuid) -> DropletOrder | None:
        """Return the order for a droplet; None when there is none or it has ended."""
        return self._orders.order_of(guid)

    def place_order(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:
        """Order something for a droplet; return False, and order nothing, while another is waited for."""
        is_placed = self._orders.place(guid, order, listener)
        if is_placed:  # what was just staged goes before it: an app waits for that
            self._reconciler.look_at(guid, Priority.FRESH)
        return is_placed

    def withdraw_order(self, guid: DropletGuid) -> None:
        """End a droplet's order, if it has one."""
        self._orders.withdraw(guid)

    def status(self) -> DropletsStatus:
        """Say how far the droplets have come."""
        return DropletsStatus(self._index.counts, self._reconciler.waiting, self._sweep.ended_at)

    def _staged(self, guid: DropletGuid, app_guid: AppGuid) -> None:
        self._index.put(guid, app_guid)
        self._stagings.note_new(guid, self._dependencies.process.monotonic())
        self._reconciler.look_at(guid, Priority.URGENT)

    def _look_at(self, guids: Iterable[DropletGuid]) -> None:
        for guid in guids:
            self._reconciler.look_at(guid)


class UnchangedDroplets:
    """Stands for droplets that nobody reconciles: no Cloud Controller is configured, or it is only read."""

    async def recover(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def note_task(self, task: Task) -> None:
        """Do nothing."""

    def note_removed_task(self, task: Task) -> None:
        """Do nothing."""

    def events_were_lost(self) -> None:
        """Do nothing."""

    def job_ended(self, app_guid: AppGuid) -> None:
        """Do nothing."""

    def look_at(self, guid: DropletGuid) -> None:
        """Do nothing."""

    def look_at_app(self, app_guid: AppGuid) -> None:
        """Do nothing."""

    def look_at_copy(self, cache_guid: CacheGuid) -> None:
        """Do nothing."""

    def look_at_all(self) -> None:
        """Do nothing."""

    def look_at_waiting(self) -> None:
        """Do nothing."""

    def order_of(self, _guid: DropletGuid) -> DropletOrder | None:
        """Know of no order."""
        return None

    def place_order(self, _guid: DropletGuid, _order: DropletOrder, _listener: DropletListener) -> bool:
        """Take no order."""
        return False

    def withdraw_order(self, guid: DropletGuid) -> None:
        """Do nothing."""

    def status(self) -> DropletsStatus:
        """Know of no droplets."""
        return DropletsStatus({})
