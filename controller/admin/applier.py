"""Applies a plan: refuses it when the world has moved under it, then gives an order for each LRP and watches.

The orders are carried out by the same passes and jobs as ever, so nothing here touches an app. When the
caller goes away, orders that were not begun are withdrawn; what was begun goes on to its end.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.admin.survey import Findings, Seen, Survey
from controller.control import Control, is_over
from controller.workqueue import WorkQueue
from reconcile.errors import Conflict, Invalid
from reconcile.images import Digest, ImageReference
from reconcile.lrps import ProcessGuid
from reconcile.orders import Order
from reconcile.proposal import PlannedMove, Proposal, differences, propose
from reconcile.protocol import REPLACED, RESTORED
from reconcile.reasons import REASONS, AppState
from reconcile.records import Goal
from reconcile.selection import Selection

CIRCUIT_OPEN = "waiting: circuit-open"
LOOK_FAILED = "waiting: look-failed"
MOST_FAILED_LOOKS = 5
"""In a row, after which an LRP that is not being moved is given up."""

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
    reason: str
    detail: str
    is_over: bool
    done: int
    total: int

    @property
    def has_failed(self) -> bool:
        """Whether something went wrong, or it was not moved although it was planned."""
        is_done = self.reason == RESTORED or REASONS[self.reason].state is AppState.CACHED
        return self.is_over and not is_done


@dataclass(slots=True)
class _Run:
    """Orders that are being carried out."""

    moves: Mapping[ProcessGuid, PlannedMove]
    open: set[ProcessGuid]
    newly_held: set[ProcessGuid]
    failed_looks: Counter[ProcessGuid] = field(default_factory=Counter)
    begun: set[ProcessGuid] = field(default_factory=set)
    changes: asyncio.Queue[tuple[ProcessGuid, str, str]] = field(default_factory=asyncio.Queue)

    def follow(self, process_guid: ProcessGuid, reason: str, detail: str) -> None:
        """Take note of what a pass came to."""
        self.changes.put_nowait((process_guid, reason, detail))

    def note(self, process_guid: ProcessGuid, reason: str) -> None:
        """Remember which LRPs were begun with."""
        if REASONS[reason].state is AppState.MOVING:
            self.begun.add(process_guid)

    def drain(self) -> None:
        """Take note of what nobody waits for any more."""
        while not self.changes.empty():
            guid, reason, _ = self.changes.get_nowait()
            self.note(guid, reason)


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
            for guid in sorted(done):
                run.follow(guid, REPLACED if proposal.goal is Goal.CACHE else RESTORED, "it was before")
            self._control.max_in_flight = max_in_flight
            await self._control.prepare(proposal.goal, [move.subject.app_guid for move in proposal.moves])
            self._place(proposal, run, now)
            async with aclosing(self._watch(run)) as news:
                async for each in news:
                    yield each
        finally:
            for move in proposal.moves:
                self._control.withdraw(move.subject.process_guid)
            self._control.max_in_flight = None
            self._is_busy = False
            if run is not None:  # hold no app that was not begun with when its caller went away
                run.drain()
                await asyncio.shield(self._release(run, run.newly_held - run.begun))

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

    def _newly_held(self, proposal: Proposal) -> set[ProcessGuid]:
        if proposal.goal is Goal.CACHE:
            return set()
        subjects = [move.subject for move in proposal.moves]
        return {each.process_guid for each in subjects if not self._control.is_held(each.app_guid)}

    async def _release(self, run: _Run, process_guids: Iterable[ProcessGuid]) -> None:
        """Let apps be moved again that were held for a move that did not take place."""
        apps = [run.moves[guid].subject.app_guid for guid in process_guids]
        await self._control.prepare(Goal.CACHE, apps)
        run.newly_held -= set(process_guids)

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

    async def _watch(self, run: _Run) -> AsyncGenerator[News, None]:
        total, over = len(run.moves), set[ProcessGuid]()
        while len(over) < total:
            guid, reason, detail = await run.changes.get()
            if guid in over:
                continue
            run.note(guid, reason)
            ends = is_over(reason) or self._gives_up(run, guid, reason)
            if ends:
                over.add(guid)
            news = News(run.moves[guid], reason, detail, ends, len(over), total)
            if ends and guid in run.newly_held:
                if news.has_failed:  # it stays where it is
                    await self._release(run, {guid})
                else:
                    run.newly_held.discard(guid)
            yield news

    def _gives_up(self, run: _Run, guid: ProcessGuid, reason: str) -> bool:
        """Withdraw an order that leads nowhere for now; what was begun goes on to its end."""
        run.failed_looks[guid] = run.failed_looks[guid] + 1 if reason == LOOK_FAILED else 0
        gives_up = run.failed_looks[guid] >= MOST_FAILED_LOOKS and guid not in run.begun
        if reason == CIRCUIT_OPEN or gives_up:  # nothing more is begun: it ends with what is under way
            self._control.withdraw(guid)
            return True
        return False


def _name(move: PlannedMove) -> str:
    return move.subject.owner.app or move.subject.process_guid
