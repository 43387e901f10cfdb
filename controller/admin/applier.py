"""Applies a plan: refuses it when it is stale, then places an order for each LRP and follows the passes.

The orders are carried out by the same passes and jobs as the daemon's own work, so nothing here touches an
app. When the caller stops or goes away, orders of migrations that have not begun are withdrawn; those that
have begun run to their end.

An LRP that is being migrated already takes an order like any other. Passes turn it round, or follow the order
once its migration has ended. An order to restore it stands, and its app stays pinned, also when the caller
goes away.

On the way back the droplets of an app go first, see `controller.admin.droplet_changes`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from controller.admin.apply_run import ApplyEvent, ApplyRun, DropletProgress
from controller.admin.cells import AdminCells
from controller.admin.droplet_changes import AppliedDroplets, FollowedDroplets
from controller.admin.plan_comparison import compare
from controller.admin.survey import Survey
from controller.control import OperatorControl, is_over
from controller.workqueue import WorkQueue
from reconcile.errors import Conflict, Invalid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal, Phase
from reconcile.orders import Order
from reconcile.plan import Plan
from reconcile.reasons import Reason
from reconcile.references import Digest, ImageReference

MOST_FAILED_LOOKS = 5
"""Number of failed looks in a row after which an LRP that is not being migrated is given up."""

_CANNOT_START = frozenset(
    {
        Reason.CIRCUIT_BREAKER_OPEN,
        Reason.SIMILAR_MIGRATIONS_FAILED,
        Reason.CACHE_REGISTRY_UNHEALTHY,
    }
)
"""Reasons for which an order leads nowhere for now."""

_NEUTRAL = frozenset({Reason.CANCELLED, Phase.PREPARED.reason})
"""Reasons that are reported between two failed looks and that do not end a row of them."""


class Applier:
    """Applies one plan at a time."""

    def __init__(
        self,
        survey: Survey,
        control: OperatorControl,
        queue: WorkQueue[ProcessGuid],
        cells: AdminCells,
        droplets: FollowedDroplets,
    ) -> None:
        self._survey, self._control, self._queue, self._cells = survey, control, queue, cells
        self._droplets = droplets
        self._is_busy = False

    async def apply(
        self, plan: Plan, *, now: float, max_in_flight: int | None, stop: asyncio.Event | None = None
    ) -> AsyncGenerator[ApplyEvent | DropletProgress, None]:
        """Apply a plan, and yield each change of its LRPs and droplets.

        Args:
            plan: To apply.
            now: UTC seconds since 1970.
            max_in_flight: LRPs that are migrated at a time; None means as many as the config allows.
            stop: Once it is set, no further migration is started, and the events end with those under way.

        Raises:
            Conflict: `plan-is-stale`, `apply-running`: no migration was started.
            Invalid: `plan-incomplete`, `other-cache`, `max-in-flight`.
        """
        self._check(plan, max_in_flight)
        if self._is_busy:
            raise Conflict("admin", "apply-running", "another plan is being applied: wait for its end")
        self._is_busy = True
        run: ApplyRun | None = None
        apps = _apps_of(plan)
        newly_pinned = self._not_pinned(apps) if plan.goal is Goal.SOURCE else frozenset()
        try:
            if plan.goal is Goal.SOURCE:
                await self._control.pin(apps)  # first, so that none of them starts to its copy meanwhile
            found = await compare(plan, self._survey, now=now)
            run = ApplyRun(
                found.migrations,
                set(found.migrations) - found.done,
                newly_pinned - {subject.app_guid for subject in plan.pins},
                found.placement_tags,
                found.in_flight,
            )
            run.begun |= found.done | found.in_flight
            for guid in sorted(found.done):
                reason = Reason.MIGRATED if plan.goal is Goal.CACHE else Reason.RESTORED
                run.follow(guid, reason, "it was before")
            self._control.max_in_flight = max_in_flight
            if plan.goal is Goal.CACHE:
                await self._control.unpin(apps)
            run.droplets = AppliedDroplets(plan.droplets, plan.goal, self._droplets, run.wake)
            run.droplets.place(now=now)
            self._place(plan, run, now)
            async with _waking(run, stop), aclosing(self._watch(run, plan.goal, stop)) as events:
                async for event in events:
                    yield event
        finally:
            if run is not None:
                self._leave(run, plan.goal)
            self._control.max_in_flight = None
            # an app of which nothing was put back is not pinned
            needless = newly_pinned if run is None else run.needlessly_pinned
            try:
                await asyncio.shield(self._control.unpin(needless))
            finally:
                self._is_busy = False

    def _not_pinned(self, apps: Iterable[AppGuid]) -> frozenset[AppGuid]:
        return frozenset(app for app in apps if not self._control.is_pinned(app))

    def _leave(self, run: ApplyRun, goal: Goal) -> None:
        """Withdraw the orders that are not over, but for those to restore LRPs that were in flight before."""
        if run.droplets is not None:
            run.droplets.leave()
        for guid in run.migrations:
            if goal is Goal.SOURCE and guid in run.in_flight:
                self._control.leave_order(guid)
            else:
                self._control.withdraw_order(guid)

    def _check(self, plan: Plan, max_in_flight: int | None) -> None:
        cache, most = self._survey.rules.cache.address, self._survey.rules.max_in_flight
        if plan.problems:
            raise Invalid("admin", "plan-incomplete", f"the plan may miss something: {plan.problems[0]}")
        if plan.cache != cache:
            raise Invalid("admin", "other-cache", f"the plan was made for {plan.cache}, not for {cache}")
        if max_in_flight is not None and not 1 <= max_in_flight <= most:
            raise Invalid("admin", "max-in-flight", f"the daemon migrates 1 to {most} LRPs at a time")

    def _place(self, plan: Plan, run: ApplyRun, now: float) -> None:
        expected: dict[ImageReference, Digest] = {
            copy.source: copy.content.platform_digest for copy in plan.copies if copy.content is not None
        }
        for guid, planned in run.migrations.items():
            if guid not in run.open:
                continue
            order = Order(plan.goal, since=now)
            if not (planned.is_in_flight or guid in run.in_flight):  # otherwise these change on the way
                order = replace(
                    order,
                    strategy=planned.strategy,
                    rootfs=planned.subject.rootfs,
                    to_rootfs=planned.to_rootfs if plan.goal is Goal.CACHE else None,
                    platform_digest=None if planned.copy is None else expected.get(planned.copy),
                )
            app_guid = planned.subject.app_guid
            if plan.goal is Goal.CACHE or guid in run.in_flight or run.droplets_are_over(app_guid):
                self._place_one(run, guid, order)
            else:
                run.orders.setdefault(app_guid, []).append((guid, order))

    def _place_one(self, run: ApplyRun, guid: ProcessGuid, order: Order) -> None:
        if not self._control.place_order(guid, order, run.follow):
            raise AssertionError("one plan at a time gives orders")
        self._queue.add(guid)

    def _place_due(self, run: ApplyRun, apps: Iterable[AppGuid]) -> None:
        """Give the orders of LRPs that have waited for the droplets of their apps."""
        for app_guid in apps:
            if run.droplets_are_over(app_guid):
                for guid, order in run.orders.pop(app_guid, ()):
                    self._place_one(run, guid, order)

    async def _watch(
        self, run: ApplyRun, goal: Goal, stop: asyncio.Event | None
    ) -> AsyncGenerator[ApplyEvent | DropletProgress, None]:
        total, over, awaited = len(run.migrations), set[ProcessGuid](), set(run.migrations)
        while run.has_open_droplets or not over >= awaited:
            if run.droplets is not None and over >= awaited:
                run.droplets.give_up_if_failing()
            change = await run.changes.get()
            if stop is not None and stop.is_set():
                awaited = self._withdraw_not_begun(run)
            for progress in run.take_droplets(len(over)):
                yield progress
                self._place_due(run, [progress.event.planned.subject.app_guid])
            if run.orders and run.droplets is not None and run.droplets.is_released:
                self._place_due(run, tuple(run.orders))
            if change is None or change[0] in over:
                continue
            guid, reason, detail = change
            ends = is_over(reason) or self._gives_up(run, guid, reason)
            if ends:
                over.add(guid)
            yield ApplyEvent(
                migration=run.migrations[guid],
                goal=goal,
                reason=reason,
                detail=detail,
                is_over=ends,
                done=len(over),
                total=total,
            )
            if (
                reason is Reason.CIRCUIT_BREAKER_OPEN
            ):  # nothing more starts: the run ends with what is under way
                for idle in run.open - over - run.begun:
                    run.follow(idle, reason, detail)

    def _withdraw_not_begun(self, run: ApplyRun) -> set[ProcessGuid]:
        """Withdraw the orders of migrations that have not begun, and name the LRPs of those that have."""
        run.orders.clear()
        if run.droplets is not None:
            run.droplets.withdraw_not_begun()
        for guid in run.open - run.begun:
            self._control.withdraw_order(guid)
        return set(run.begun)

    def _gives_up(self, run: ApplyRun, guid: ProcessGuid, reason: Reason) -> bool:
        """Withdraw an order that leads nowhere for now, unless its migration has begun."""
        if reason is Reason.CHECK_FAILED:
            run.failed_looks[guid] += 1
        elif reason not in _NEUTRAL:
            run.failed_looks[guid] = 0
        too_often = run.failed_looks[guid] >= MOST_FAILED_LOOKS
        cannot_start = reason in _CANNOT_START or (
            reason is Reason.CELLS_NOT_PROVEN and self._cells.is_refuted(run.placement_tags[guid])
        )
        if (cannot_start or too_often) and guid not in run.begun:
            self._control.withdraw_order(guid)
            return True
        return False


def _apps_of(plan: Plan) -> frozenset[AppGuid]:
    """Name the apps that a plan is about."""
    subjects = [*(planned.subject for planned in plan.migrations), *plan.pins]
    droplets = [planned.subject for planned in plan.droplets.changes]
    return frozenset({each.app_guid for each in subjects} | {each.app_guid for each in droplets})


@asynccontextmanager
async def _waking(run: ApplyRun, stop: asyncio.Event | None) -> AsyncIterator[None]:
    """Let a stop wake whoever waits for changes, until the block ends."""
    if stop is None:
        yield
        return
    waiting = asyncio.ensure_future(stop.wait())
    waiting.add_done_callback(lambda _: run.wake())
    try:
        yield
    finally:
        waiting.cancel()
