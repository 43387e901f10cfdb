"""Carries out the part of a plan that is about droplets, and says when the LRPs of their apps may follow.

The orders are carried out by the daemon's own reconciliation of droplets, so nothing here speaks to Cloud
Controller. On the way back an app's droplets go first: while one of them names a copy, Cloud Controller
desires from the copy whatever is missing in the BBS for a moment. But no LRP waits long for Cloud Controller.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplet_plan import DropletChange, DropletPlan, PlannedDroplet
from reconcile.droplets import LATE_EFFECT, DropletGuid, DropletOrder
from reconcile.foreign_text import split_login
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import AppState, Reason

MOST_FAILED_LOOKS = 3
"""Number of failed looks in a row after which one droplet is given up."""

LRPS_WAIT = 30.0
"""Seconds after which LRPs go back to their sources although their droplets have not been put back."""

STALLED_AFTER = 2 * LATE_EFFECT
"""Seconds without any change but failed looks, after which the droplets that are left are given up."""

_NOT_ANSWERED = frozenset({Reason.CHECK_FAILED, Reason.CLOUD_CONTROLLER_UNAVAILABLE})

DropletListener = Callable[[DropletGuid, Reason, str], None]
"""Is called with droplet GUID, reason and detail after each look at a droplet that has an order."""


class OrderedDroplets(Protocol):
    """The reconciliation of droplets, as far as it takes orders."""

    def place_order(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:
        """Order something for a droplet; return False, and do nothing, while another order is waited for."""

    def withdraw_order(self, guid: DropletGuid) -> None:
        """End a droplet's order, if it has one."""


class FollowedDroplets(Protocol):
    """The droplets of Cloud Controller, as far as a plan for them is followed."""

    @property
    def status(self) -> CloudControllerStatus | None:
        """How Cloud Controller has answered; None where none is configured."""

    @property
    def orders(self) -> OrderedDroplets:
        """What takes orders for single droplets."""


@dataclass(frozen=True, slots=True)
class DropletPassResult:
    """What one pass over a droplet with an order came to."""

    guid: DropletGuid
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class DropletEvent:
    """A change of one droplet while a plan is applied.

    Attributes:
        is_over: Its order has ended.
        has_failed: It was not changed although it was planned.
    """

    planned: PlannedDroplet
    reason: Reason
    detail: str
    is_over: bool
    has_failed: bool


@dataclass(slots=True)
class AppliedDroplets:
    """The droplets of one plan.

    Attributes:
        changed: Is called when there is something to `take`.
        open: Those whose orders have not ended.
        total: The number of planned changes.
        is_released: Whether LRPs wait for no droplet any more.
        begun: Those that the daemon has changed, or goes on to change when nobody follows this plan.
    """

    plan: DropletPlan
    goal: Goal
    droplets: FollowedDroplets
    changed: Callable[[], None]
    open: dict[DropletGuid, PlannedDroplet] = field(default_factory=dict)
    begun: set[DropletGuid] = field(default_factory=set)
    _results: deque[DropletPassResult] = field(default_factory=deque)
    _failed_looks: dict[DropletGuid, int] = field(default_factory=dict)
    _copying: set[DropletGuid] = field(default_factory=set)
    _waiting_for: Counter[AppGuid] = field(default_factory=Counter)
    _release: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    total: int = 0
    is_released: bool = False

    @property
    def done(self) -> int:
        """The number of planned changes that have ended."""
        return self.total - len(self.open)

    @property
    def pinned_apps(self) -> frozenset[AppGuid]:
        """The apps that stay pinned: their droplets were put back, will be, or need not be."""
        return frozenset(
            each.subject.app_guid
            for each in self.plan.changes
            if each.change is DropletChange.PIN or each.subject.droplet_guid in self.begun
        )

    def place(self, *, now: float) -> None:
        """Give the orders; in a plan back to the sources, LRPs wait for them from now on."""
        for planned in self.plan.changes:
            if planned.change is DropletChange.PIN:
                continue
            subject = planned.subject
            order = DropletOrder(
                self.goal,
                since=now,
                image=_comparable(subject.image),
                target=None if planned.to_image is None else _comparable(planned.to_image),
            )
            self.open[subject.droplet_guid] = planned
            self._waiting_for[subject.app_guid] += 1
            if not self.droplets.orders.place_order(subject.droplet_guid, order, self._follow):
                self._give_up(subject.droplet_guid, "droplets are not changed, as the config says")
        self.total = len(self.open)
        if self.open:
            loop = asyncio.get_running_loop()
            self._release = loop.call_later(LRPS_WAIT, self._let_lrps_go)
            self._restart_stall()
            if self._failure is not None:
                self._let_lrps_go()

    @property
    def _failure(self) -> str | None:
        """Why Cloud Controller does nothing now; None while nothing is known against it."""
        status = self.droplets.status
        return None if status is None or status.failing_since is None else status.error

    def give_up_if_failing(self) -> None:
        """Wait for no droplet while Cloud Controller fails: nothing else is left to wait for."""
        if self.open and self._failure is not None:
            for guid in [each for each in self.open if each not in self._copying]:
                self._give_up(guid, self._failure)

    def are_over(self, app_guid: AppGuid) -> bool:
        """Whether the LRPs of an app may follow: none of its droplets is waited for."""
        return self.is_released or not self._waiting_for[app_guid]

    def take(self) -> Iterator[DropletEvent]:
        """Take what has happened since, in its order."""
        while self._results:
            result = self._results.popleft()
            planned = self.open.get(result.guid)
            if planned is not None:
                yield self._see(planned, result)

    def _see(self, planned: PlannedDroplet, result: DropletPassResult) -> DropletEvent:
        guid, reason = result.guid, result.reason
        if reason not in _NOT_ANSWERED:
            self._restart_stall()
        if reason is not Reason.PLAN_IS_STALE:
            self.begun.add(guid)
        if reason is Reason.WAITING_FOR_COPY:
            self._copying.add(guid)
        else:
            self._copying.discard(guid)
        is_over = self._gives_up(guid, reason) or reason.state not in {AppState.PENDING, AppState.MIGRATING}
        if is_over:
            self._end(guid)
        return DropletEvent(planned, reason, result.detail, is_over, is_over and not self._is_there(reason))

    def _is_there(self, reason: Reason) -> bool:
        return reason is Reason.RESTORED if self.goal is Goal.SOURCE else reason.state is AppState.CACHED

    def _gives_up(self, guid: DropletGuid, reason: Reason) -> bool:
        """Whether an order leads nowhere for now; the daemon goes on once Cloud Controller answers."""
        if reason not in _NOT_ANSWERED:
            self._failed_looks.pop(guid, None)
            return False
        self._let_lrps_go()
        self._failed_looks[guid] = self._failed_looks.get(guid, 0) + 1
        return self._failed_looks[guid] >= MOST_FAILED_LOOKS

    def _end(self, guid: DropletGuid) -> None:
        self.droplets.orders.withdraw_order(guid)
        self._waiting_for[self.open.pop(guid).subject.app_guid] -= 1
        self._copying.discard(guid)

    def withdraw_not_begun(self) -> None:
        """Withdraw the orders of droplets that nothing was done about."""
        for guid in [each for each in self.open if each not in self.begun or each in self._copying]:
            self._end(guid)

    def leave(self) -> None:
        """Withdraw all orders: nobody waits any more."""
        for guid in tuple(self.open):
            self._end(guid)
        for timer in (self._release, self._stall):
            if timer is not None:
                timer.cancel()

    def _follow(self, guid: DropletGuid, reason: Reason, detail: str) -> None:
        self._results.append(DropletPassResult(guid, reason, detail))
        self.changed()

    def _give_up(self, guid: DropletGuid, detail: str) -> None:
        self._failed_looks[guid] = MOST_FAILED_LOOKS
        self._follow(guid, Reason.CLOUD_CONTROLLER_UNAVAILABLE, detail)

    def _let_lrps_go(self) -> None:
        if not self.is_released:
            self.is_released = True
            self.changed()

    def _restart_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        self._stall = asyncio.get_running_loop().call_later(STALLED_AFTER, self._give_up_stalled)

    def _give_up_stalled(self) -> None:
        detail = f"nothing was heard of Cloud Controller for {STALLED_AFTER:g} s"
        waiting = [each for each in self.open if each not in self._copying]
        for guid in waiting:
            self._give_up(guid, detail)
        if not waiting and self.open:
            self._restart_stall()


def _comparable(image: str) -> str | None:
    """Give a text of a plan as it must be found again; None where a plan does not contain its login."""
    return None if split_login(image)[1] else image
