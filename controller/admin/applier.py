"""Applies a plan: refuses it when the world has moved under it, then gives an order for each LRP and watches.

The orders are carried out by the same passes and jobs as ever, so nothing here touches an app. When the
caller goes away, orders that were not begun are withdrawn; what was begun goes on to its end.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.admin.survey import Findings, Seen, Survey
from controller.control import Control, is_over
from controller.workqueue import WorkQueue
from reconcile.errors import Conflict, Invalid
from reconcile.images import Digest, ImageReference
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.orders import Order
from reconcile.proposal import PlannedMove, Proposal, differences, propose
from reconcile.protocol import CALLED_OFF, NOT_SETTLED, REPLACED, RESTORED
from reconcile.reasons import CIRCUIT_OPEN, LOOK_FAILED, REASONS, AppState
from reconcile.records import Goal, Phase
from reconcile.selection import Selection

MOST_FAILED_LOOKS = 5
"""In a row, after which an LRP that is not being moved is given up."""

_ENDS = frozenset({REPLACED, RESTORED, NOT_SETTLED})
"""Ends at which an LRP is where it was to go, be it with fewer instances."""

_NOTHING_NEW = frozenset({CALLED_OFF, f"waiting: {Phase.PREPARED}"})
"""What is heard between two looks that fail."""

TOLD = 10
"""Differences that a refusal names."""


@dataclass(frozen=True, slots=True)
class News:
    """What became of one LRP by now.

    Attributes:
        is_over: Nothing more will come of its order.
        done: How many LRPs of the plan are over with.
        total: How many it has.
    """

    move: PlannedMove
    goal: Goal
    reason: str
    detail: str
    is_over: bool
    done: int
    total: int

    @property
    def has_failed(self) -> bool:
        """Whether something went wrong, or it was not moved although it was planned."""
        is_there = REASONS[self.reason].state is AppState.CACHED
        if self.goal is Goal.SOURCE:
            is_there = self.reason == RESTORED
        return self.is_over and not is_there


@dataclass(slots=True)
class _Run:
    """Orders that are being carried out.

    Attributes:
        newly_held: Apps that are held since this run, and not before.
        there: LRPs that are where they are to be, or on their way there.
        failed_looks: In a row, of each LRP.
    """

    moves: Mapping[ProcessGuid, PlannedMove]
    open: set[ProcessGuid]
    newly_held: frozenset[AppGuid]
    there: set[ProcessGuid] = field(default_factory=set)
    failed_looks: Counter[ProcessGuid] = field(default_factory=Counter)
    changes: asyncio.Queue[tuple[ProcessGuid, str, str]] = field(default_factory=asyncio.Queue)

    def follow(self, process_guid: ProcessGuid, reason: str, detail: str) -> None:
        """Take note of what a pass came to."""
        self.changes.put_nowait((process_guid, reason, detail))

    def note(self, process_guid: ProcessGuid, reason: str) -> None:
        """Remember which LRPs are on their way, or there."""
        state = REASONS[reason].state
        if state is AppState.MOVING or reason in _ENDS:
            self.there.add(process_guid)
        elif state is not AppState.PENDING or reason == CALLED_OFF:
            self.there.discard(process_guid)

    def drain(self) -> None:
        """Take note of what nobody waits for any more."""
        while not self.changes.empty():
            guid, reason, _ = self.changes.get_nowait()
            self.note(guid, reason)

    @property
    def needlessly_held(self) -> frozenset[AppGuid]:
        """The apps that are held since this run, and of which no LRP went where it was to go."""
        apps = {self.moves[guid].subject.app_guid for guid in self.there}
        return self.newly_held - apps


class Applier:
    """Applies one plan at a time."""

    def __init__(self, survey: Survey, control: Control, queue: WorkQueue[ProcessGuid]) -> None:
        self._survey, self._control, self._queue = survey, control, queue
        self._is_busy = False

    async def apply(
        self, proposal: Proposal, *, now: float, max_in_flight: int | None
    ) -> AsyncGenerator[News, None]:
        """Apply a plan, and tell how each of its LRPs gets on.

        Raises:
            Conflict: `world-moved`, `apply-running`: nothing was begun.
            Invalid: `plan-incomplete`, `other-cache`, `max-in-flight`.
        """
        self._check(proposal, max_in_flight)
        if self._is_busy:
            raise Conflict("admin", "apply-running", "another plan is being applied: wait for its end")
        self._is_busy = True
        run: _Run | None = None
        try:
            done = await self._already_done(proposal, now)
            moves = {move.subject.process_guid: move for move in proposal.moves}
            run = _Run(moves, set(moves) - done, self._newly_held(proposal))
            run.there |= done
            for guid in sorted(done):
                run.follow(guid, REPLACED if proposal.goal is Goal.CACHE else RESTORED, "it was before")
            self._control.max_in_flight = max_in_flight
            subjects = [*(move.subject for move in proposal.moves), *proposal.holds]
            await self._control.prepare(proposal.goal, [subject.app_guid for subject in subjects])
            self._place(proposal, run, now)
            async with aclosing(self._watch(run, proposal.goal)) as news:
                async for each in news:
                    yield each
        finally:
            for move in proposal.moves:
                self._control.withdraw(move.subject.process_guid)
            self._control.max_in_flight = None
            self._is_busy = False
            if run is not None:  # an app that stays where it was is not held there
                run.drain()
                await asyncio.shield(self._control.prepare(Goal.CACHE, run.needlessly_held))

    def _check(self, proposal: Proposal, max_in_flight: int | None) -> None:
        cache, most = self._survey.rules.cache.address, self._survey.rules.max_in_flight
        if proposal.problems:
            raise Invalid("admin", "plan-incomplete", f"it misses something: {proposal.problems[0]}")
        if proposal.cache != cache:
            raise Invalid("admin", "other-cache", f"it was made for {proposal.cache}, not for {cache}")
        if max_in_flight is not None and not 1 <= max_in_flight <= most:
            raise Invalid("admin", "max-in-flight", f"the daemon moves 1 to {most} LRPs at a time")

    async def _already_done(self, proposal: Proposal, now: float) -> frozenset[ProcessGuid]:
        """Compare a plan with the world: name what is done already, or refuse it.

        Raises:
            Conflict: `world-moved`.
        """
        order = Order(proposal.goal, since=now)
        planned = {move.subject.process_guid: move for move in proposal.moves}
        found, done, changed = set[ProcessGuid](), set[ProcessGuid](), list[str]()
        listed = await self._survey.list_some(planned)
        looked = self._survey.look(listed, Selection(), order, Findings())
        async with aclosing(looked) as seen_lrps:
            async for seen in seen_lrps:
                move = planned[seen.lrp.process_guid]
                found.add(seen.lrp.process_guid)
                replacement = seen.observed.replacement
                if replacement is not None and replacement.goal is proposal.goal:
                    continue  # it is on its way, by an earlier order or by the daemon itself
                if self._is_done(move, seen):
                    done.add(seen.lrp.process_guid)
                    continue
                as_now = propose(seen.observed, seen.lrp, seen.action, self._survey.rules)
                difference = differences(move, as_now)
                if difference:
                    changed.append(f"{_name(move)} {difference}")
        changed += [f"{_name(move)} is gone" for guid, move in planned.items() if guid not in found]
        if changed:
            more = f" and {len(changed) - TOLD} more" if len(changed) > TOLD else ""
            raise Conflict("admin", "world-moved", "; ".join(changed[:TOLD]) + more)
        return frozenset(done)

    def _is_done(self, move: PlannedMove, seen: Seen) -> bool:
        if seen.lrp.rootfs == move.subject.rootfs:
            return False
        is_from_cache = any(self._survey.rules.cache.holds(source) for source in seen.sources)
        if move.to_rootfs is None:
            return is_from_cache
        return str(seen.lrp.rootfs) == str(move.to_rootfs)  # a plan has no login in it

    def _newly_held(self, proposal: Proposal) -> frozenset[AppGuid]:
        """Name the apps that are held for their moves alone; those that are on their sources stay held."""
        if proposal.goal is Goal.CACHE:
            return frozenset()
        moved = {
            move.subject.app_guid
            for move in proposal.moves
            if not self._control.is_held(move.subject.app_guid)
        }
        return frozenset(moved - {subject.app_guid for subject in proposal.holds})

    def _place(self, proposal: Proposal, run: _Run, now: float) -> None:
        expected: dict[ImageReference, Digest] = {
            copy.source: copy.content.platform_digest for copy in proposal.copies if copy.content is not None
        }
        for guid, move in run.moves.items():
            if guid not in run.open:
                continue
            order = Order(
                proposal.goal,
                since=now,
                strategy=move.strategy,
                rootfs=move.subject.rootfs,
                to_rootfs=move.to_rootfs if proposal.goal is Goal.CACHE else None,
                platform_digest=None if move.copy is None else expected.get(move.copy),
            )
            if not self._control.place(guid, order, run.follow):
                raise AssertionError("one plan at a time gives orders")
            self._queue.add(guid)

    async def _watch(self, run: _Run, goal: Goal) -> AsyncGenerator[News, None]:
        total, over = len(run.moves), set[ProcessGuid]()
        while len(over) < total:
            guid, reason, detail = await run.changes.get()
            if guid in over:
                continue
            run.note(guid, reason)
            ends = is_over(reason) or self._gives_up(run, guid, reason)
            if ends:
                over.add(guid)
            yield News(run.moves[guid], goal, reason, detail, ends, len(over), total)
            if reason == CIRCUIT_OPEN:  # nothing more is begun: it ends with what is under way
                for idle in run.open - over - run.there:
                    run.follow(idle, reason, detail)

    def _gives_up(self, run: _Run, guid: ProcessGuid, reason: str) -> bool:
        """Withdraw an order that leads nowhere for now; what was begun goes on to its end."""
        if reason == LOOK_FAILED:
            run.failed_looks[guid] += 1
        elif reason not in _NOTHING_NEW:
            run.failed_looks[guid] = 0
        too_often = run.failed_looks[guid] >= MOST_FAILED_LOOKS
        if (reason == CIRCUIT_OPEN or too_often) and guid not in run.there:
            self._control.withdraw(guid)
            return True
        return False


def _name(move: PlannedMove) -> str:
    return move.subject.owner.app or move.subject.process_guid
