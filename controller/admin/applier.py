"""Applies a plan: refuses it when it is stale, then places an order for each LRP and follows the passes.

The orders are carried out by the same passes and jobs as the daemon's own work, so nothing here touches an
app. When the caller stops or goes away, orders of migrations that have not begun are withdrawn; those that
have begun run to their end.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from controller.admin.cells import AdminCells
from controller.admin.survey import Survey, SurveyCounts, SurveyedLrp
from controller.control import OperatorControl, is_over
from controller.workqueue import WorkQueue
from reconcile.errors import Conflict, Invalid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.orders import Order
from reconcile.plan import Plan, PlannedMigration, changes_since_plan, plan_lrp
from reconcile.reasons import AppState, Reason
from reconcile.records import Goal, Phase
from reconcile.references import Digest, ImageReference
from reconcile.selection import Selection

MOST_FAILED_LOOKS = 5
"""In a row, after which an LRP that is not being migrated is given up."""

_ENDS = frozenset({Reason.MIGRATED, Reason.RESTORED, Reason.NOT_HEALTHY})
"""Ends at which an LRP runs from what it was to run from, perhaps with fewer instances."""

_NEUTRAL = frozenset({Reason.CANCELLED, Phase.PREPARED.reason})
"""Reasons that are reported between two failed looks and that do not end a row of them."""

NAMED_DIFFERENCES = 10
"""Differences that a refusal names."""


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


@dataclass(slots=True)
class _Run:
    """Orders that are being carried out.

    Attributes:
        open: LRPs that were not migrated before.
        newly_pinned: Apps that were not pinned before this run.
        placement_tags: Of each LRP, as it is desired now.
        begun: LRPs that are being migrated, or were.
        failed_looks: In a row, of each LRP.
        changes: Process GUID, reason and detail of each pass; None after a stop.
    """

    migrations: Mapping[ProcessGuid, PlannedMigration]
    open: set[ProcessGuid]
    newly_pinned: frozenset[AppGuid]
    placement_tags: Mapping[ProcessGuid, frozenset[str]]
    begun: set[ProcessGuid] = field(default_factory=set)
    failed_looks: Counter[ProcessGuid] = field(default_factory=Counter)
    changes: asyncio.Queue[tuple[ProcessGuid, Reason, str] | None] = field(default_factory=asyncio.Queue)

    def follow(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Note the result of a pass."""
        self._note(process_guid, reason)
        self.changes.put_nowait((process_guid, reason, detail))

    def _note(self, process_guid: ProcessGuid, reason: Reason) -> None:
        """Remember which LRPs are being migrated, or were."""
        state = reason.state
        if state is AppState.MIGRATING or reason in _ENDS:
            self.begun.add(process_guid)
        elif state is not AppState.PENDING or reason is Reason.CANCELLED:
            self.begun.discard(process_guid)

    @property
    def needlessly_pinned(self) -> frozenset[AppGuid]:
        """The apps that this run pinned, and of which no LRP was migrated."""
        apps = {self.migrations[guid].subject.app_guid for guid in self.begun}
        return self.newly_pinned - apps


@dataclass(frozen=True, slots=True)
class _Found:
    """The LRPs of a plan as they are now: those that are done already, and the placement tags of each."""

    done: frozenset[ProcessGuid]
    placement_tags: Mapping[ProcessGuid, frozenset[str]]


class Applier:
    """Applies one plan at a time."""

    def __init__(
        self,
        survey: Survey,
        control: OperatorControl,
        queue: WorkQueue[ProcessGuid],
        cells: AdminCells,
    ) -> None:
        self._survey, self._control, self._queue, self._cells = survey, control, queue, cells
        self._is_busy = False

    async def apply(
        self, plan: Plan, *, now: float, max_in_flight: int | None, stop: asyncio.Event | None = None
    ) -> AsyncGenerator[ApplyEvent, None]:
        """Apply a plan, and yield each change of its LRPs.

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
        run: _Run | None = None
        try:
            found = await self._compare(plan, now)
            done, migrations = found.done, _by_guid(plan)
            run = _Run(
                migrations, set(migrations) - done, self._newly_pinned(plan), dict(found.placement_tags)
            )
            run.begun |= done
            for guid in sorted(done):
                reason = Reason.MIGRATED if plan.goal is Goal.CACHE else Reason.RESTORED
                run.follow(guid, reason, "it was before")
            self._control.max_in_flight = max_in_flight
            subjects = [*(planned.subject for planned in plan.migrations), *plan.pins]
            apps = [subject.app_guid for subject in subjects]
            await (self._control.pin(apps) if plan.goal is Goal.SOURCE else self._control.unpin(apps))
            self._place(plan, run, now)
            async with _waking(run, stop), aclosing(self._watch(run, plan.goal, stop)) as events:
                async for event in events:
                    yield event
        finally:
            for planned in plan.migrations:
                self._control.withdraw_order(planned.subject.process_guid)
            self._control.max_in_flight = None
            self._is_busy = False
            if run is not None:  # an app of which no LRP was migrated is not pinned
                await asyncio.shield(self._control.unpin(run.needlessly_pinned))

    def _check(self, plan: Plan, max_in_flight: int | None) -> None:
        cache, most = self._survey.rules.cache.address, self._survey.rules.max_in_flight
        if plan.problems:
            raise Invalid("admin", "plan-incomplete", f"the plan may miss something: {plan.problems[0]}")
        if plan.cache != cache:
            raise Invalid("admin", "other-cache", f"the plan was made for {plan.cache}, not for {cache}")
        if max_in_flight is not None and not 1 <= max_in_flight <= most:
            raise Invalid("admin", "max-in-flight", f"the daemon migrates 1 to {most} LRPs at a time")

    async def _compare(self, plan: Plan, now: float) -> "_Found":
        """Compare a plan with the current state: name what is done already, or refuse the plan.

        Raises:
            Conflict: `plan-is-stale`.
        """
        order = Order(plan.goal, since=now)
        migrations = _by_guid(plan)
        found, done, changed = dict[ProcessGuid, frozenset[str]](), set[ProcessGuid](), list[str]()
        listed = await self._survey.list_some(migrations)
        looked = self._survey.decide_each(listed, Selection(), order, SurveyCounts())
        async with aclosing(looked) as seen_lrps:
            async for seen in seen_lrps:
                planned = migrations[seen.lrp.process_guid]
                found[seen.lrp.process_guid] = seen.lrp.placement_tags
                migration = seen.observed.migration
                if migration is not None and migration.goal is plan.goal:
                    continue  # it is being migrated, by an earlier order or by the daemon itself
                if self._is_done(planned, seen):
                    done.add(seen.lrp.process_guid)
                    continue
                as_now = plan_lrp(seen.observed, seen.lrp, seen.action, self._survey.rules)
                difference = changes_since_plan(planned, as_now)
                if difference:
                    changed.append(f"{_name(planned)} {difference}")
        changed += [f"{_name(planned)} is gone" for guid, planned in migrations.items() if guid not in found]
        if changed:
            more = f" and {len(changed) - NAMED_DIFFERENCES} more" if len(changed) > NAMED_DIFFERENCES else ""
            raise Conflict("admin", "plan-is-stale", "; ".join(changed[:NAMED_DIFFERENCES]) + more)
        return _Found(frozenset(done), found)

    def _is_done(self, planned: PlannedMigration, seen: SurveyedLrp) -> bool:
        if seen.lrp.rootfs == planned.subject.rootfs:
            return False
        is_from_cache = any(self._survey.rules.cache.covers(source) for source in seen.sources)
        if planned.to_rootfs is None:
            return is_from_cache
        return str(seen.lrp.rootfs) == str(planned.to_rootfs)  # a plan contains no login

    def _newly_pinned(self, plan: Plan) -> frozenset[AppGuid]:
        """Name the apps that this plan pins for its migrations, and not for being on their sources."""
        if plan.goal is Goal.CACHE:
            return frozenset()
        moved = {
            planned.subject.app_guid
            for planned in plan.migrations
            if not self._control.is_pinned(planned.subject.app_guid)
        }
        return frozenset(moved - {subject.app_guid for subject in plan.pins})

    def _place(self, plan: Plan, run: _Run, now: float) -> None:
        expected: dict[ImageReference, Digest] = {
            copy.source: copy.content.platform_digest for copy in plan.copies if copy.content is not None
        }
        for guid, planned in run.migrations.items():
            if guid not in run.open:
                continue
            order = Order(
                plan.goal,
                since=now,
                strategy=planned.strategy,
                rootfs=planned.subject.rootfs,
                to_rootfs=planned.to_rootfs if plan.goal is Goal.CACHE else None,
                platform_digest=None if planned.copy is None else expected.get(planned.copy),
            )
            if not self._control.place_order(guid, order, run.follow):
                raise AssertionError("one plan at a time gives orders")
            self._queue.add(guid)

    async def _watch(
        self, run: _Run, goal: Goal, stop: asyncio.Event | None
    ) -> AsyncGenerator[ApplyEvent, None]:
        total, over, awaited = len(run.migrations), set[ProcessGuid](), set(run.migrations)
        while not over >= awaited:
            change = await run.changes.get()
            if stop is not None and stop.is_set():
                awaited = self._withdraw_not_begun(run)
            if change is None or change[0] in over:
                continue
            guid, reason, detail = change
            ends = is_over(reason) or self._gives_up(run, guid, reason)
            if ends:
                over.add(guid)
            yield ApplyEvent(run.migrations[guid], goal, reason, detail, ends, len(over), total)
            if (
                reason is Reason.CIRCUIT_BREAKER_OPEN
            ):  # nothing more starts: the run ends with what is under way
                for idle in run.open - over - run.begun:
                    run.follow(idle, reason, detail)

    def _withdraw_not_begun(self, run: _Run) -> set[ProcessGuid]:
        """Withdraw the orders of migrations that have not begun, and name the LRPs of those that have."""
        for guid in run.open - run.begun:
            self._control.withdraw_order(guid)
        return set(run.begun)

    def _gives_up(self, run: _Run, guid: ProcessGuid, reason: Reason) -> bool:
        """Withdraw an order that leads nowhere for now, unless its migration has begun."""
        if reason is Reason.CHECK_FAILED:
            run.failed_looks[guid] += 1
        elif reason not in _NEUTRAL:
            run.failed_looks[guid] = 0
        too_often = run.failed_looks[guid] >= MOST_FAILED_LOOKS
        cannot_start = reason is Reason.CIRCUIT_BREAKER_OPEN or (
            reason is Reason.CELLS_NOT_PROVEN and self._cells.is_refuted(run.placement_tags[guid])
        )
        if (cannot_start or too_often) and guid not in run.begun:
            self._control.withdraw_order(guid)
            return True
        return False


@asynccontextmanager
async def _waking(run: _Run, stop: asyncio.Event | None) -> AsyncIterator[None]:
    """Let a stop wake whoever waits for changes, until the block ends."""
    if stop is None:
        yield
        return
    waiting = asyncio.ensure_future(stop.wait())
    waiting.add_done_callback(lambda _: run.changes.put_nowait(None))
    try:
        yield
    finally:
        waiting.cancel()


def _by_guid(plan: Plan) -> dict[ProcessGuid, PlannedMigration]:
    return {planned.subject.process_guid: planned for planned in plan.migrations}


def _name(planned: PlannedMigration) -> str:
    return planned.subject.owner.app or planned.subject.process_guid
