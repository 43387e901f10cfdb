"""Keeps how far a plan that is being applied has come, and what is told of it."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controller.admin.droplet_changes import AppliedDroplets, DropletEvent
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal
from reconcile.orders import Order
from reconcile.plan import PlannedMigration
from reconcile.reasons import AppState, Reason

_ENDS = frozenset({Reason.MIGRATED, Reason.RESTORED, Reason.NOT_HEALTHY})
"""Ends at which an LRP runs from what it was to run from, perhaps with fewer instances."""


@dataclass(frozen=True, slots=True)
class ApplyEvent:
    """A change of one LRP while a plan is applied.

    Attributes:
        is_over: Its order has ended.
        done: Planned migrations that have ended.
        total: All planned migrations.
    """

    migration: PlannedMigration
    goal: Goal
    reason: Reason
    detail: str
    is_over: bool
    done: int
    total: int

    @property
    def has_failed(self) -> bool:
        """Whether the LRP was not migrated although it was planned."""
        is_there = self.reason.state is AppState.CACHED
        if self.goal is Goal.SOURCE:
            is_there = self.reason is Reason.RESTORED
        return self.is_over and not is_there


@dataclass(frozen=True, slots=True)
class DropletProgress:
    """A change of one droplet while a plan is applied, and how far the plan was applied.

    Attributes:
        done: Planned migrations that have ended.
        total: All planned migrations.
        droplets_done: Planned changes of droplets that have ended.
        droplets_total: All planned changes of droplets.
    """

    event: DropletEvent
    done: int
    total: int
    droplets_done: int
    droplets_total: int


@dataclass(slots=True)
class ApplyRun:
    """Orders that are being carried out.

    Attributes:
        open: LRPs that were not migrated before.
        newly_pinned: Apps that this run has pinned for the sake of its migrations.
        placement_tags: Of each LRP, as it is desired now.
        in_flight: LRPs that were being migrated already when they got their orders.
        begun: LRPs that are being migrated, or were.
        failed_looks: In a row, of each LRP.
        orders: By app, of LRPs that get them once the droplets of their app are put back.
        droplets: What is done about droplets; None before their orders are given.
        changes: Process GUID, reason and detail of each pass; None after a stop, and for changes of droplets.
    """

    migrations: Mapping[ProcessGuid, PlannedMigration]
    open: set[ProcessGuid]
    newly_pinned: frozenset[AppGuid]
    placement_tags: Mapping[ProcessGuid, frozenset[str]]
    in_flight: frozenset[ProcessGuid] = frozenset()
    begun: set[ProcessGuid] = field(default_factory=set)
    failed_looks: Counter[ProcessGuid] = field(default_factory=Counter)
    orders: dict[AppGuid, list[tuple[ProcessGuid, Order]]] = field(default_factory=dict)
    droplets: AppliedDroplets | None = None
    changes: asyncio.Queue[tuple[ProcessGuid, Reason, str] | None] = field(default_factory=asyncio.Queue)

    def follow(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Note the result of a pass."""
        self._note(process_guid, reason)
        self.changes.put_nowait((process_guid, reason, detail))

    def wake(self) -> None:
        """Let whoever waits for changes look at the droplets, or at a stop."""
        self.changes.put_nowait(None)

    def _note(self, process_guid: ProcessGuid, reason: Reason) -> None:
        """Remember which LRPs are being migrated, or were."""
        state = reason.state
        if state is AppState.MIGRATING or reason in _ENDS:
            self.begun.add(process_guid)
        elif state is not AppState.PENDING or reason is Reason.CANCELLED:
            self.begun.discard(process_guid)

    @property
    def needlessly_pinned(self) -> frozenset[AppGuid]:
        """The apps that this run pinned, and of which no LRP was migrated and no droplet put back."""
        apps = {self.migrations[guid].subject.app_guid for guid in self.begun}
        return self.newly_pinned - apps - (self.droplets.pinned_apps if self.droplets else frozenset())

    @property
    def has_open_droplets(self) -> bool:
        """Whether droplets are waited for."""
        return self.droplets is not None and bool(self.droplets.open)

    def droplets_are_over(self, app_guid: AppGuid) -> bool:
        """Whether no droplet of an app is waited for."""
        return self.droplets is None or self.droplets.are_over(app_guid)

    def take_droplets(self, done: int) -> Iterator[DropletProgress]:
        """Take what has happened to droplets since."""
        if self.droplets is not None:
            for event in self.droplets.take():
                yield DropletProgress(
                    event, done, len(self.migrations), self.droplets.done, self.droplets.total
                )
