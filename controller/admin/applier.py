"""Applies a plan: refuses it when the world has moved under it, then gives an order for each LRP and watches.

The orders are carried out by the same passes and jobs as ever, so nothing here touches an app. When the
caller goes away, orders that were not begun are withdrawn; what was begun goes on to its end.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.admin.survey import Survey, SurveyCounts, SurveyedLrp
from controller.control import Control, is_over
from controller.workqueue import WorkQueue
from reconcile.errors import Conflict, Invalid
from reconcile.images import Digest, ImageReference
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.orders import Order
from reconcile.plan import Plan, PlannedMigration, changes_since_plan, plan_lrp
from reconcile.reasons import AppState, Reason
from reconcile.records import Goal, Phase
from reconcile.selection import Selection

MOST_FAILED_LOOKS = 5
"""In a row, after which an LRP that is not being moved is given up."""

_ENDS = frozenset({Reason.MIGRATED, Reason.RESTORED, Reason.NOT_HEALTHY})
"""Ends at which an LRP is where it was to go, be it with fewer instances."""

_NOTHING_NEW = frozenset({Reason.CANCELLED, Phase.PREPARED.reason})
"""What is heard between two looks that fail."""

TOLD = 10
"""Differences that a refusal names."""


@dataclass(frozen=True, slots=True)
class ApplyEvent:
    """What became of one LRP by now.

    Attributes:
        is_over: Nothing more will come of its order.
        done: How many LRPs of the plan are over with.
        total: How many it has.
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
        """Whether something went wrong, or it was not moved although it was planned."""
        is_there = self.reason.state is AppState.CACHED
        if self.goal is Goal.SOURCE:
            is_there = self.reason is Reason.RESTORED
        return self.is_over and not is_there


@dataclass(slots=True)
class _Run:
    """Orders that are being carried out.

    Attributes:
        newly_pinned: Apps that are held since this run, and not before.
        there: LRPs that are where they are to be, or on their way there.
        failed_looks: In a row, of each LRP.
    """

    migrations: Mapping[ProcessGuid, PlannedMigration]
    open: set[ProcessGuid]
    newly_pinned: frozenset[AppGuid]
    there: set[ProcessGuid] = field(default_factory=set)
    failed_looks: Counter[ProcessGuid] = field(default_factory=Counter)
    changes: asyncio.Queue[tuple[ProcessGuid, Reason, str]] = field(default_factory=asyncio.Queue)

    def follow(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Take note of what a pass came to."""
        self.changes.put_nowait((process_guid, reason, detail))

    def note(self, process_guid: ProcessGuid, reason: Reason) -> None:
        """Remember which LRPs are on their way, or there."""
        state = reason.state
        if state is AppState.MIGRATING or reason in _ENDS:
            self.there.add(process_guid)
        elif state is not AppState.PENDING or reason is Reason.CANCELLED:
            self.there.discard(process_guid)

    def drain(self) -> None:
        """Take note of what nobody waits for any more."""
        while not self.changes.empty():
            guid, reason, _ = self.changes.get_nowait()
            self.note(guid, reason)

    @property
    def needlessly_pinned(self) -> frozenset[AppGuid]:
        """The apps that are held since this run, and of which no LRP went where it was to go."""
        apps = {self.migrations[guid].subject.app_guid for guid in self.there}
        return self.newly_pinned - apps


class Applier:
    """Applies one plan at a time."""

    def __init__(self, survey: Survey, control: Control, queue: WorkQueue[ProcessGuid]) -> None:
        self._survey, self._control, self._queue = survey, control, queue
        self._is_busy = False

    async def apply(
        self, plan: Plan, *, now: float, max_in_flight: int | None
    ) -> AsyncGenerator[ApplyEvent, None]:
        """Apply a plan, and tell how each of its LRPs gets on.

        Raises:
            Conflict: `plan-is-stale`, `apply-running`: nothing was begun.
            Invalid: `plan-incomplete`, `other-cache`, `max-in-flight`.
        """
        self._check(plan, max_in_flight)
        if self._is_busy:
            raise Conflict("admin", "apply-running", "another plan is being applied: wait for its end")
        self._is_busy = True
        run: _Run | None = None
        try:
            done = await self._already_done(plan, now)
            migrations = {move.subject.process_guid: move for move in plan.migrations}
            run = _Run(migrations, set(migrations) - done, self._newly_pinned(plan))
            run.there |= done
            for guid in sorted(done):
                run.follow(
                    guid, Reason.MIGRATED if plan.goal is Goal.CACHE else Reason.RESTORED, "it was before"
                )
            self._control.max_in_flight = max_in_flight
            subjects = [*(move.subject for move in plan.migrations), *plan.pins]
            await self._control.prepare(plan.goal, [subject.app_guid for subject in subjects])
            self._place(plan, run, now)
            async with aclosing(self._watch(run, plan.goal)) as news:
                async for each in news:
                    yield each
        finally:
            for move in plan.migrations:
                self._control.withdraw(move.subject.process_guid)
            self._control.max_in_flight = None
            self._is_busy = False
            if run is not None:  # an app that stays where it was is not held there
                run.drain()
                await asyncio.shield(self._control.prepare(Goal.CACHE, run.needlessly_pinned))

    def _check(self, plan: Plan, max_in_flight: int | None) -> None:
        cache, most = self._survey.rules.cache.address, self._survey.rules.max_in_flight
        if plan.problems:
            raise Invalid("admin", "plan-incomplete", f"it misses something: {plan.problems[0]}")
        if plan.cache != cache:
            raise Invalid("admin", "other-cache", f"it was made for {plan.cache}, not for {cache}")
        if max_in_flight is not None and not 1 <= max_in_flight <= most:
            raise Invalid("admin", "max-in-flight", f"the daemon migrations 1 to {most} LRPs at a time")

    async def _already_done(self, plan: Plan, now: float) -> frozenset[ProcessGuid]:
        """Compare a plan with the world: name what is done already, or refuse it.

        Raises:
            Conflict: `plan-is-stale`.
        """
        order = Order(plan.goal, since=now)
        planned = {move.subject.process_guid: move for move in plan.migrations}
        found, done, changed = set[ProcessGuid](), set[ProcessGuid](), list[str]()
        listed = await self._survey.list_some(planned)
        looked = self._survey.decide_each(listed, Selection(), order, SurveyCounts())
        async with aclosing(looked) as seen_lrps:
            async for seen in seen_lrps:
                move = planned[seen.lrp.process_guid]
                found.add(seen.lrp.process_guid)
                migration = seen.observed.migration
                if migration is not None and migration.goal is plan.goal:
                    continue  # it is on its way, by an earlier order or by the daemon itself
                if self._is_done(move, seen):
                    done.add(seen.lrp.process_guid)
                    continue
                as_now = plan_lrp(seen.observed, seen.lrp, seen.action, self._survey.rules)
                difference = changes_since_plan(move, as_now)
                if difference:
                    changed.append(f"{_name(move)} {difference}")
        changed += [f"{_name(move)} is gone" for guid, move in planned.items() if guid not in found]
        if changed:
            more = f" and {len(changed) - TOLD} more" if len(changed) > TOLD else ""
            raise Conflict("admin", "plan-is-stale", "; ".join(changed[:TOLD]) + more)
        return frozenset(done)

    def _is_done(self, planned: PlannedMigration, seen: SurveyedLrp) -> bool:
        if seen.lrp.rootfs == planned.subject.rootfs:
            return False
        is_from_cache = any(self._survey.rules.cache.holds(source) for source in seen.sources)
        if planned.to_rootfs is None:
            return is_from_cache
        return str(seen.lrp.rootfs) == str(planned.to_rootfs)  # a plan has no login in it

    def _newly_pinned(self, plan: Plan) -> frozenset[AppGuid]:
        """Name the apps that are pinned for their migrations alone; those on their sources stay pinned."""
        if plan.goal is Goal.CACHE:
            return frozenset()
        moved = {
            move.subject.app_guid
            for move in plan.migrations
            if not self._control.is_pinned(move.subject.app_guid)
        }
        return frozenset(moved - {subject.app_guid for subject in plan.pins})

    def _place(self, plan: Plan, run: _Run, now: float) -> None:
        expected: dict[ImageReference, Digest] = {
            copy.source: copy.content.platform_digest for copy in plan.copies if copy.content is not None
        }
        for guid, move in run.migrations.items():
            if guid not in run.open:
                continue
            order = Order(
                plan.goal,
                since=now,
                strategy=move.strategy,
                rootfs=move.subject.rootfs,
                to_rootfs=move.to_rootfs if plan.goal is Goal.CACHE else None,
                platform_digest=None if move.copy is None else expected.get(move.copy),
            )
            if not self._control.place(guid, order, run.follow):
                raise AssertionError("one plan at a time gives orders")
            self._queue.add(guid)

    async def _watch(self, run: _Run, goal: Goal) -> AsyncGenerator[ApplyEvent, None]:
        total, over = len(run.migrations), set[ProcessGuid]()
        while len(over) < total:
            guid, reason, detail = await run.changes.get()
            if guid in over:
                continue
            run.note(guid, reason)
            ends = is_over(reason) or self._gives_up(run, guid, reason)
            if ends:
                over.add(guid)
            yield ApplyEvent(run.migrations[guid], goal, reason, detail, ends, len(over), total)
            if reason is Reason.CIRCUIT_BREAKER_OPEN:  # nothing more is begun: it ends with what is under way
                for idle in run.open - over - run.there:
                    run.follow(idle, reason, detail)

    def _gives_up(self, run: _Run, guid: ProcessGuid, reason: Reason) -> bool:
        """Withdraw an order that leads nowhere for now; what was begun goes on to its end."""
        if reason is Reason.CHECK_FAILED:
            run.failed_looks[guid] += 1
        elif reason not in _NOTHING_NEW:
            run.failed_looks[guid] = 0
        too_often = run.failed_looks[guid] >= MOST_FAILED_LOOKS
        if (reason is Reason.CIRCUIT_BREAKER_OPEN or too_often) and guid not in run.there:
            self._control.withdraw(guid)
            return True
        return False


def _name(planned: PlannedMigration) -> str:
    return planned.subject.owner.app or planned.subject.process_guid
