"""Takes a key, runs the pass over it, logs, counts, and puts the key back if needed.

What to do is decided in `reconcile.plan`; this loop bounds how much happens at once, and begins
nothing new when too much has failed.
"""

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

import structlog

from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.actions import BeginReplacement
from reconcile.apply import Outcome, Targets, apply
from reconcile.bridges import BRIDGE_DOMAIN, BRIDGE_DOMAIN_TTL, is_bridge
from reconcile.circuit import Circuit
from reconcile.errors import Conflict, DockerCacheError
from reconcile.lrps import ProcessGuid
from reconcile.observe import Moment, Sources, observe, observe_left_bridge
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.plan import plan, plan_left_bridge
from reconcile.protocol import FAILURES, NOT_SETTLED, REPLACED, RESTORED
from reconcile.reasons import CIRCUIT_OPEN, LOOK_FAILED
from reconcile.records import LrpRecord, Phase, Replacement

log = structlog.get_logger(scope="reconciler")

IN_FLIGHT_LIMIT = Outcome("waiting: in-flight-limit")
WITHDRAWN = Outcome("called-off", "what was asked for was withdrawn", look_again=0.0)
RECOVERING = Outcome("waiting: recovery", "an earlier run left replacements open", look_again=1.0)

SECONDS_TO_DESIRE = 4.0
"""For what must not be lost with a journal in memory, when the process ends."""

LONGEST_BACK_OFF = 5.0
"""Seconds between two looks at an LRP that is being replaced, whatever fails: its app waits."""

RESCUE_PAUSE = 0.3  # seconds between two tries of that

UNREMARKABLE = frozenset({"not-docker", "already-cached", "other-domain", "not-desired"})
"""Reasons that are no record worth keeping."""


class Reconciler:
    """Runs passes, with a limit on open replacements."""

    def __init__(
        self,
        queue: WorkQueue[ProcessGuid],
        *,
        sources: Sources,
        targets: Targets,
        rules: Rules,
        process: Process,
    ) -> None:
        self._queue = queue
        self._sources = sources
        self._targets = targets
        self._rules = rules
        self._process = process
        self._sightings = sources.sightings
        self._circuit = rules.circuit
        self._first_answer: float | None = None
        self._replacing: set[ProcessGuid] = set()
        self._recovering: set[ProcessGuid] = set()
        self._unsettled: set[ProcessGuid] = set()
        self._parked: OrderedDict[ProcessGuid, None] = OrderedDict()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._is_stopping = False

    async def recover(self) -> None:
        """Take up the replacements that an earlier run left open, before anything else is replaced."""
        for problem in await self._sources.journal.list_undecryptable():
            log.error("failed-to-read-journal", error=str(problem))
        for replacement in await self._sources.journal.list_replacements():
            log.info(
                "resuming-replacement", process_guid=replacement.process_guid, phase=str(replacement.phase)
            )
            self._recovering.add(replacement.process_guid)
            self._follow(replacement.process_guid)
            self._queue.add_urgent(replacement.process_guid)

    def _follow(self, key: ProcessGuid) -> None:
        self._replacing.add(key)
        self._sightings.follow(key)
        self._none_open.clear()

    async def keep_bridges_fresh(self) -> None:
        """Keep the bridges' domain fresh for ever while there are any, so that surplus instances go."""
        while True:
            if self._replacing:
                try:
                    await self._targets.bridges.upsert_domain(BRIDGE_DOMAIN, ttl=BRIDGE_DOMAIN_TTL)
                except DockerCacheError as error:
                    log.info("failed-to-keep-bridges-fresh", error=str(error))
            await asyncio.sleep(BRIDGE_DOMAIN_TTL / 4)

    @property
    def circuit(self) -> Circuit:
        """The circuit breaker as it is now."""
        return self._circuit

    def close_circuit(self) -> None:
        """Go on although replacements have failed: an operator wants it."""
        log.info("closed-circuit", before=str(self._circuit))
        self._circuit = self._circuit.succeeded()
        self._process.metrics.circuit_open.set(0)
        self._begin_parked()

    async def finish_replacements(self, seconds: float | None) -> None:
        """Begin no further replacement, and give those under way some seconds, or as long as they need."""
        self._is_stopping = True
        for key in self._replacing:
            self._queue.add_urgent(key)
        try:
            async with asyncio.timeout(seconds):
                await self._none_open.wait()
        except TimeoutError:
            log.info("left-replacements-open", process_guids=sorted(self._replacing))

    async def rescue(self) -> None:
        """Desire what a journal in memory would lose, when no loop runs any more.

        From the cache, and with instance rows left or not: an index that stays empty until the next
        convergence is better than a definition that is lost. A durable journal goes on after a restart.
        """
        if self._sources.journal.is_durable:
            return
        removed = [
            row for row in await self._sources.journal.list_replacements() if row.phase is not Phase.PREPARED
        ]
        async with asyncio.TaskGroup() as group:
            for replacement in removed:
                group.create_task(self._desire_in_time(replacement))

    async def _desire_in_time(self, replacement: Replacement) -> None:
        lrp, targets = replacement.original, self._targets
        rootfs = targets.cache.rootfs(replacement.cache_guid)
        problem = "out of time"
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS_TO_DESIRE):
                while True:
                    try:
                        await targets.lrps.desire_lrp(lrp, rootfs, self._rules.pull_credentials)
                    except Conflict:
                        return  # it is desired
                    except DockerCacheError as error:
                        problem = str(error)
                        await asyncio.sleep(RESCUE_PAUSE)
                    else:
                        return
        log.error("failed-to-desire-removed-lrp", process_guid=lrp.process_guid, error=problem)

    async def run(self) -> None:
        """Run passes for ever; several of these loops may share one queue."""
        while True:
            key = await self._queue.take()
            await self._run_pass(key)

    async def _run_pass(self, key: ProcessGuid) -> None:
        started, order = time.monotonic(), self._sources.wishes.order_of(key)
        try:
            if is_bridge(key):
                await self._look_at_left_bridge(key)
                return
            observed = await observe(key, self._sources, self._moment(key))
            self._first_answer = self._first_answer or self._process.monotonic()
            outcome = await self._decide_and_apply(observed)
            await self._remember(observed, outcome)
            self._tell(key, observed.order, outcome.reason, outcome.detail)
        except DockerCacheError as error:
            seconds = self._back_off(key)
            self._tell(key, order, LOOK_FAILED, str(error))
            self._process.metrics.passes.labels(reason=type(error).__name__).inc()
            log.info(
                "failed-to-reconcile", process_guid=key, error=str(error), retry_after_s=round(seconds, 1)
            )
        except Exception:
            self._back_off(key)
            self._tell(key, order, LOOK_FAILED, "internal-error: see the log")
            self._process.metrics.passes.labels(reason="internal-error").inc()
            log.exception("failed-to-reconcile", process_guid=key)
        else:
            self._report(observed, outcome, time.monotonic() - started)
            if outcome.look_again is None:
                self._queue.done(key)
            elif key in self._replacing:  # its app waits
                self._queue.again_urgent(key, outcome.look_again)
            else:
                self._queue.again(key, outcome.look_again)

    def _tell(self, key: ProcessGuid, order: Order | None, reason: str, detail: str) -> None:
        """Report to whoever gave an order what came of it, but not of a pass that knew nothing of it."""
        if order is not None and self._sources.wishes.order_of(key) is order:
            self._sources.wishes.report(key, reason, detail)

    def _back_off(self, key: ProcessGuid) -> float:
        longest = LONGEST_BACK_OFF if key in self._replacing else None
        return self._queue.back_off(key, longest)

    def _moment(self, key: ProcessGuid) -> Moment:
        return Moment(
            now=self._process.clock(),
            process_age=self._age(),
            run_id=self._process.run_id,
            stale=self._sightings.stale(key),
            is_restoring=self._sources.mode.is_restoring,
        )

    def _age(self) -> float:
        return 0.0 if self._first_answer is None else self._process.monotonic() - self._first_answer

    async def _look_at_left_bridge(self, bridge: ProcessGuid) -> None:
        """Decide about a bridge that is in the BBS but not in the journal."""
        left = await observe_left_bridge(
            bridge, self._sources, domains=self._rules.domains, process_age=self._age()
        )
        action = plan_left_bridge(left, owner_sync=self._rules.limits.owner_sync)
        empty = Observed(bridge, now=self._process.clock(), process_age=self._age(), run_id="")
        outcome = await apply(action, empty, self._sources, self._targets)
        self._process.metrics.passes.labels(reason=outcome.reason).inc()
        log.info("looked-at-bridge", process_guid=bridge, reason=outcome.reason, detail=outcome.detail)
        self._queue.done(bridge)  # the sweep finds it again while it is there

    async def _decide_and_apply(self, observed: Observed) -> Outcome:
        key = observed.process_guid
        self._parked.pop(key, None)
        self._recovering.discard(key)
        if observed.replacement is None and key in self._replacing:  # it could not be begun
            self._circuit = self._circuit.called_off()
            self._settle(key)
        action = plan(observed, self._rules)
        if isinstance(action, BeginReplacement):
            hindrance = self._hindrance(observed.now)
            if hindrance is not None:
                self._parked[key] = None
                return hindrance
            if observed.order is not self._sources.wishes.order_of(key):
                self._begin_parked()
                return WITHDRAWN
            self._circuit = self._circuit.begun()
            self._follow(key)
            self._tell(key, observed.order, f"waiting: {Phase.PREPARED}", "")
        outcome = await apply(action, observed, self._sources, self._targets)
        self._judge(key, outcome, observed.now)
        if key not in self._replacing:
            self._begin_parked()  # it did not take the place that it was looked at for
        elif await self._sources.journal.find_replacement(key) is None:
            if outcome.ended is None:
                self._circuit = self._circuit.called_off()
            self._settle(key, outcome.ended or observed.replacement)
        return outcome

    @property
    def _most(self) -> int:
        """How many LRPs may be moved at a time."""
        wished = self._sources.wishes.max_in_flight
        return self._rules.max_in_flight if wished is None else min(wished, self._rules.max_in_flight)

    def _hindrance(self, now: float) -> Outcome | None:
        """Give the reason why no replacement is begun at the moment."""
        if self._is_stopping or len(self._replacing) >= self._most:
            return IN_FLIGHT_LIMIT
        if self._recovering:
            return RECOVERING
        seconds = self._circuit.closed_for(now)
        if seconds > 0:
            return Outcome(CIRCUIT_OPEN, str(self._circuit), look_again=seconds)
        return None

    def _judge(self, key: ProcessGuid, outcome: Outcome, now: float) -> None:
        """Let the circuit breaker know how a replacement went."""
        was_open = self._circuit.is_open
        if outcome.reason == f"waiting: {NOT_SETTLED}":
            if key not in self._unsettled:
                self._unsettled.add(key)
                self._circuit = self._circuit.failed(f"{key}: {NOT_SETTLED}", now)
        elif outcome.ended is None:
            return
        elif outcome.reason in {REPLACED, RESTORED}:
            self._circuit = self._circuit.succeeded()
        elif outcome.reason in FAILURES and key not in self._unsettled:
            self._circuit = self._circuit.failed(f"{key}: {outcome.reason} {outcome.detail}".strip(), now)
        else:
            self._circuit = self._circuit.called_off()
        if self._circuit.is_open and not was_open:
            log.error("opened-circuit", reason=str(self._circuit), retry_after_s=self._circuit.retry_after)
        self._process.metrics.circuit_open.set(self._circuit.is_open)

    def _settle(self, key: ProcessGuid, ended: Replacement | None = None) -> None:
        """Note that a replacement is over, and let the one that waits longest begin."""
        if key not in self._replacing:
            return
        self._replacing.discard(key)
        self._unsettled.discard(key)
        self._sightings.unfollow(key, ended.instance_guids if ended is not None else frozenset())
        if not self._replacing:
            self._none_open.set()
        self._begin_parked()

    def _begin_parked(self) -> None:
        """Look again at as many of those that wait as could begin now."""
        for _ in range(min(len(self._parked), self._most - len(self._replacing))):
            self._queue.add(self._parked.popitem(last=False)[0])

    async def _remember(self, observed: Observed, outcome: Outcome) -> None:
        """Keep what people may ask about this LRP, written only when it changed.

        That of an LRP that is gone stays a while, until a sweep forgets it: an owner who keeps putting
        it back must not be forgotten in between.
        """
        before = observed.record
        record = _record_of(observed, outcome)
        if record is None or (before is None and outcome.reason in UNREMARKABLE):
            return
        if before is None or replace(before, updated_at=observed.now) != record:
            await self._sources.records.save_lrp(record)

    def _report(self, observed: Observed, outcome: Outcome, duration: float) -> None:
        self._process.metrics.passes.labels(reason=outcome.reason).inc()
        is_news = observed.record is None or observed.record.reason != outcome.reason or outcome.detail
        write = log.info if is_news and outcome.reason not in UNREMARKABLE else log.debug
        write(
            "reconciled",
            process_guid=observed.process_guid,
            reason=outcome.reason,
            detail=outcome.detail,
            cache_guid=outcome.cache_guid,
            duration_s=round(duration, 3),
        )


def _record_of(observed: Observed, outcome: Outcome) -> LrpRecord | None:
    before = observed.record
    if before is not None and observed.order is not None and before.updated_at < observed.order.since:
        before = replace(before, rounds=0)  # an operator wants it tried again
    lrp = observed.lrp or (observed.replacement.original if observed.replacement else None)
    if lrp is None:
        return before and replace(
            before, reason=outcome.reason, detail=outcome.detail, updated_at=observed.now
        )
    return LrpRecord(
        process_guid=observed.process_guid,
        app_guid=lrp.app_guid,
        rootfs=str(lrp.rootfs),
        cache_guid=outcome.cache_guid or (before.cache_guid if before else None),
        rounds=outcome.rounds if outcome.rounds is not None else (before.rounds if before else 0),
        reason=outcome.reason,
        detail=outcome.detail,
        updated_at=observed.now,
    )
