"""Takes a key, runs the pass over it, logs, counts, and puts the key back if needed.

What to do is decided in `reconcile.decide`; this loop bounds how much happens at once, and begins
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
from reconcile.actions import BeginMigration
from reconcile.apply import Outcome, PassTargets, apply
from reconcile.bridges import BRIDGE_DOMAIN, BRIDGE_DOMAIN_TTL, is_bridge
from reconcile.circuit import Circuit
from reconcile.decide import decide, decide_orphaned_bridge
from reconcile.errors import Conflict, DockerCacheError
from reconcile.facts import PassContext
from reconcile.live_facts import PassSources, live_facts
from reconcile.lrps import ProcessGuid
from reconcile.observe import observe, observe_orphaned_bridge
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.protocol import FAILURES
from reconcile.reasons import Reason
from reconcile.records import LrpRecord, Migration, Phase

log = structlog.get_logger(scope="reconciler")

IN_FLIGHT_LIMIT = Outcome(Reason.IN_FLIGHT_LIMIT)
WITHDRAWN = Outcome(Reason.CANCELLED, "what was asked for was withdrawn", retry_after=0.0)
RECOVERING = Outcome(Reason.WAITING_FOR_RECOVERY, "an earlier run left migrations open", retry_after=1.0)

SECONDS_TO_DESIRE = 4.0
"""For what must not be lost with a journal in memory, when the process ends."""

LONGEST_BACK_OFF = 5.0
"""Seconds between two looks at an LRP that is being replaced, whatever fails: its app waits."""

RESCUE_PAUSE = 0.3  # seconds between two tries of that

UNREMARKABLE = frozenset({Reason.NOT_DOCKER, Reason.ALREADY_CACHED, Reason.OTHER_DOMAIN, Reason.NOT_DESIRED})
"""Reasons that are no record worth keeping."""


class Reconciler:
    """Runs passes, with a limit on open migrations."""

    def __init__(
        self,
        queue: WorkQueue[ProcessGuid],
        *,
        sources: PassSources,
        targets: PassTargets,
        rules: Rules,
        process: Process,
    ) -> None:
        self._queue = queue
        self._sources = sources
        self._facts = live_facts(sources)
        self._targets = targets
        self._rules = rules
        self._process = process
        self._event_cache = sources.event_cache
        self._circuit = rules.circuit
        self._first_answer: float | None = None
        self._migrating: set[ProcessGuid] = set()
        self._recovering: set[ProcessGuid] = set()
        self._not_healthy: set[ProcessGuid] = set()
        self._parked: OrderedDict[ProcessGuid, None] = OrderedDict()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._is_stopping = False

    async def recover(self) -> None:
        """Take up the migrations that an earlier run left open, before anything else is replaced."""
        for problem in await self._sources.journal.list_undecryptable():
            log.error("failed-to-read-journal", error=str(problem))
        for migration in await self._sources.journal.list_migrations():
            log.info("resuming-migration", process_guid=migration.process_guid, phase=str(migration.phase))
            self._recovering.add(migration.process_guid)
            self._follow(migration.process_guid)
            self._queue.add_urgent(migration.process_guid)

    def _follow(self, key: ProcessGuid) -> None:
        self._migrating.add(key)
        self._event_cache.follow(key)
        self._none_open.clear()

    async def keep_bridges_fresh(self) -> None:
        """Keep the bridges' domain fresh for ever while there are any, so that surplus instances go."""
        while True:
            if self._migrating:
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
        """Go on although migrations have failed: an operator wants it."""
        log.info("closed-circuit", before=str(self._circuit))
        self._circuit = self._circuit.succeeded()
        self._process.metrics.circuit_open.set(0)
        self._begin_parked()

    async def finish_migrations(self, seconds: float | None) -> None:
        """Begin no further migration, and give those under way some seconds, or as long as they need."""
        self._is_stopping = True
        for key in self._migrating:
            self._queue.add_urgent(key)
        try:
            async with asyncio.timeout(seconds):
                await self._none_open.wait()
        except TimeoutError:
            log.info("left-migrations-open", process_guids=sorted(self._migrating))

    async def rescue(self) -> None:
        """Desire what a journal in memory would lose, when no loop runs any more.

        From the cache, and with instance rows left or not: an index that stays empty until the next
        convergence is better than a definition that is lost. A durable journal goes on after a restart.
        """
        if self._sources.journal.is_durable:
            return
        removed = [
            row for row in await self._sources.journal.list_migrations() if row.phase is not Phase.PREPARED
        ]
        async with asyncio.TaskGroup() as group:
            for migration in removed:
                group.create_task(self._desire_in_time(migration))

    async def _desire_in_time(self, migration: Migration) -> None:
        lrp, targets = migration.original, self._targets
        rootfs = targets.cache.rootfs(migration.cache_guid)
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
        started, order = time.monotonic(), self._sources.overrides.order_of(key)
        try:
            if is_bridge(key):
                await self._look_at_orphaned_bridge(key)
                return
            observed = await observe(key, self._facts, self.context_of(key))
            self._first_answer = self._first_answer or self._process.monotonic()
            outcome = await self._decide_and_apply(observed)
            await self._remember(observed, outcome)
            self._tell(key, observed.order, outcome.reason, outcome.detail)
        except DockerCacheError as error:
            seconds = self._back_off(key)
            self._tell(key, order, Reason.CHECK_FAILED, str(error))
            self._process.metrics.passes.labels(reason=type(error).__name__).inc()
            log.info(
                "failed-to-reconcile", process_guid=key, error=str(error), retry_after_s=round(seconds, 1)
            )
        except Exception:
            self._back_off(key)
            self._tell(key, order, Reason.CHECK_FAILED, "internal-error: see the log")
            self._process.metrics.passes.labels(reason="internal-error").inc()
            log.exception("failed-to-reconcile", process_guid=key)
        else:
            self._report(observed, outcome, time.monotonic() - started)
            if outcome.retry_after is None:
                self._queue.done(key)
            elif key in self._migrating:  # its app waits
                self._queue.again_urgent(key, outcome.retry_after)
            else:
                self._queue.again(key, outcome.retry_after)

    def _tell(self, key: ProcessGuid, order: Order | None, reason: Reason, detail: str) -> None:
        """Report to whoever gave an order what came of it, but not of a pass that knew nothing of it."""
        if order is not None and self._sources.overrides.order_of(key) is order:
            self._sources.overrides.report(key, reason, detail)

    def _back_off(self, key: ProcessGuid) -> float:
        longest = LONGEST_BACK_OFF if key in self._migrating else None
        return self._queue.back_off(key, longest)

    def context_of(self, key: ProcessGuid) -> PassContext:
        """Give the context in which an LRP is observed now, for passes and for plans."""
        return PassContext(
            now=self._process.clock(),
            process_age=self._age(),
            run_id=self._process.run_id,
            stale=self._event_cache.stale(key),
            is_restoring=self._sources.mode.is_restoring,
        )

    def _age(self) -> float:
        return 0.0 if self._first_answer is None else self._process.monotonic() - self._first_answer

    async def _look_at_orphaned_bridge(self, bridge: ProcessGuid) -> None:
        """Decide about a bridge that is in the BBS but not in the journal."""
        left = await observe_orphaned_bridge(
            bridge, self._facts, domains=self._rules.domains, process_age=self._age()
        )
        action = decide_orphaned_bridge(left, cloud_controller_sync=self._rules.limits.cloud_controller_sync)
        empty = Observed(bridge, now=self._process.clock(), process_age=self._age(), run_id="")
        outcome = await apply(action, empty, self._facts, self._targets)
        self._process.metrics.passes.labels(reason=outcome.reason).inc()
        log.info("looked-at-bridge", process_guid=bridge, reason=outcome.reason, detail=outcome.detail)
        self._queue.done(bridge)  # the sweep finds it again while it is there

    async def _decide_and_apply(self, observed: Observed) -> Outcome:
        key = observed.process_guid
        self._parked.pop(key, None)
        self._recovering.discard(key)
        if observed.migration is None and key in self._migrating:  # it could not be begun
            self._circuit = self._circuit.cancelled()
            self._settle(key)
        action = decide(observed, self._rules)
        if isinstance(action, BeginMigration):
            hindrance = self._hindrance(observed.now)
            if hindrance is not None:
                self._parked[key] = None
                return hindrance
            if observed.order is not self._sources.overrides.order_of(key):
                self._begin_parked()
                return WITHDRAWN
            self._circuit = self._circuit.begun()
            self._follow(key)
            self._tell(key, observed.order, Phase.PREPARED.reason, "")
        outcome = await apply(action, observed, self._facts, self._targets)
        self._judge(key, outcome, observed.now)
        if key not in self._migrating:
            self._begin_parked()  # it did not take the place that it was looked at for
        elif await self._sources.journal.find_migration(key) is None:
            if outcome.ended is None:
                self._circuit = self._circuit.cancelled()
            self._settle(key, outcome.ended or observed.migration)
        return outcome

    @property
    def _most(self) -> int:
        """How many LRPs may be moved at a time."""
        wished = self._sources.overrides.max_in_flight
        return self._rules.max_in_flight if wished is None else min(wished, self._rules.max_in_flight)

    def _hindrance(self, now: float) -> Outcome | None:
        """Give the reason why no migration is begun at the moment."""
        if self._is_stopping or len(self._migrating) >= self._most:
            return IN_FLIGHT_LIMIT
        if self._recovering:
            return RECOVERING
        seconds = self._circuit.closed_for(now)
        if seconds > 0:
            return Outcome(Reason.CIRCUIT_BREAKER_OPEN, str(self._circuit), retry_after=seconds)
        return None

    def _judge(self, key: ProcessGuid, outcome: Outcome, now: float) -> None:
        """Let the circuit breaker know how a migration went."""
        was_open = self._circuit.is_open
        if outcome.reason is Reason.NOT_HEALTHY_BRIDGE_KEPT:
            if key not in self._not_healthy:
                self._not_healthy.add(key)
                self._circuit = self._circuit.failed(f"{key}: {Reason.NOT_HEALTHY}", now)
        elif outcome.ended is None:
            return
        elif outcome.reason in {Reason.MIGRATED, Reason.RESTORED}:
            self._circuit = self._circuit.succeeded()
        elif outcome.reason in FAILURES and key not in self._not_healthy:
            self._circuit = self._circuit.failed(f"{key}: {outcome.reason} {outcome.detail}".strip(), now)
        else:
            self._circuit = self._circuit.cancelled()
        if self._circuit.is_open and not was_open:
            log.error("opened-circuit", reason=str(self._circuit), retry_after_s=self._circuit.retry_after)
        self._process.metrics.circuit_open.set(self._circuit.is_open)

    def _settle(self, key: ProcessGuid, ended: Migration | None = None) -> None:
        """Note that a migration is over, and let the one that waits longest begin."""
        if key not in self._migrating:
            return
        self._migrating.discard(key)
        self._not_healthy.discard(key)
        self._event_cache.unfollow(key, ended.instance_guids if ended is not None else frozenset())
        if not self._migrating:
            self._none_open.set()
        self._begin_parked()

    def _begin_parked(self) -> None:
        """Look again at as many of those that wait as could begin now."""
        for _ in range(min(len(self._parked), self._most - len(self._migrating))):
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
        is_news = observed.record is None or observed.record.reason is not outcome.reason or outcome.detail
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
    lrp = observed.lrp or (observed.migration.original if observed.migration else None)
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
