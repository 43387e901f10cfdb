"""Takes a key, runs the pass over it, records and logs its outcome, and puts the key back if needed.

`reconcile.decide` decides what to do; `controller.migration_gate` whether a migration may start now.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import structlog

from controller.backoff import backoff
from controller.lrp_sources import save_binding, save_original_source
from controller.migration_failures import MigrationFailures
from controller.migration_gate import GateDependencies, MigrationGate
from controller.migration_log import MigrationLog
from controller.pass_listeners import PassListeners
from controller.process import Process
from controller.removed_lrps import desire_removed_lrps
from controller.tracing import tracing
from controller.workqueue import FIRST_BACK_OFF, Priority, WorkQueue
from reconcile.actions import Action, BeginMigration, CacheImage, UpdateLogin
from reconcile.apply import ActionPorts, Outcome, apply
from reconcile.bridges import BRIDGE_DOMAIN, BRIDGE_DOMAIN_TTL, is_bridge
from reconcile.causes import detail_of_migration
from reconcile.decide import decide, decide_orphaned_bridge
from reconcile.errors import DockerCacheError
from reconcile.facts import PassContext
from reconcile.failure_kinds import FailureKind, kind_of
from reconcile.live_facts import PassSources, live_facts
from reconcile.logins import OUTDATED, is_outdated
from reconcile.lrp_records import record_to_save
from reconcile.lrps import ProcessGuid
from reconcile.migrations import Goal, Phase
from reconcile.observe import observe, observe_orphaned_bridge
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.reasons import Reason

log = structlog.get_logger(scope="reconciler")

WITHDRAWN = Outcome(Reason.CANCELLED, "what an operator asks for has changed", retry_after=0.0)

MIGRATION_BACKOFF = backoff(FIRST_BACK_OFF, 5.0)
"""Pauses between failed looks at an LRP that is being migrated: shorter than others, since its app waits."""

START_BACKOFF = backoff(FIRST_BACK_OFF, 30.0)
"""Pauses between failed attempts to start a migration: its place is kept meanwhile, so that only as many LRPs
as may be migrated at a time ask a private registry that does not answer."""


class Reconciler:
    """Runs passes over LRPs."""

    def __init__(
        self,
        queue: WorkQueue[ProcessGuid],
        *,
        sources: PassSources,
        ports: ActionPorts,
        rules: Rules,
        process: Process,
    ) -> None:
        self._queue = queue
        self._sources = sources
        self._facts = live_facts(sources)
        self._ports = ports
        self._rules = rules
        self._process = process
        self._first_answer: float | None = None
        self.gate = MigrationGate(
            queue,
            max_in_flight=rules.max_in_flight,
            dependencies=GateDependencies(
                sources.overrides,
                sources.event_cache,
                ports.pulls,
                MigrationFailures(
                    rules.circuit_breaker,
                    event_cache=sources.event_cache,
                    pulls=ports.pulls,
                    metrics=process.metrics,
                ),
            ),
        )
        """Whether migrations may start."""
        self.listeners = PassListeners(rules.cache, process)
        """Are told what passes came to, and which migrations they began and ended."""
        self._migration_log = MigrationLog(rules.cache, process.clock)
        process.metrics.lrps.outdated_logins.set_function(lambda: self.gate.logins.outdated)

    async def recover(self) -> None:
        """Continue the migrations that an earlier run left open, before any other starts."""
        for problem in await self._sources.journal.list_undecryptable():
            log.error("failed-to-read-journal", error=str(problem))
        for migration in await self._sources.journal.list_migrations():
            log.info("resuming-migration", process_guid=migration.process_guid, phase=str(migration.phase))
            self.gate.recover(migration)

    async def keep_bridges_fresh(self) -> None:
        """Keep the domain of bridges fresh while there are any, so that Diego removes surplus instances."""
        while True:
            if self.gate.has_migrations:
                with tracing():
                    await self._keep_bridges_fresh()
            await asyncio.sleep(BRIDGE_DOMAIN_TTL / 4)

    async def _keep_bridges_fresh(self) -> None:
        try:
            await self._ports.bridges.upsert_domain(BRIDGE_DOMAIN, ttl=BRIDGE_DOMAIN_TTL)
        except DockerCacheError as error:
            log.info("failed-to-keep-bridge-domain-fresh", error=str(error))

    async def desire_removed_lrps(self) -> None:
        """Desire what a journal in memory would lose, when no loop runs any more."""
        await desire_removed_lrps(self._ports, self._rules.pull_credentials)

    async def run(self) -> None:
        """Run passes forever; several of these loops may share one queue."""
        while True:
            key = await self._queue.take()
            with tracing():
                reason = await self._run_pass(key)
            if reason is not None:
                self.listeners.note_pass(key, reason)

    async def _run_pass(self, key: ProcessGuid) -> Reason | None:
        """Run one pass, and return what it came to; None where it failed, or was about a bridge."""
        started, order = time.monotonic(), self._sources.overrides.order_of(key)
        observed: Observed | None = None
        try:
            if is_bridge(key):
                await self._look_at_orphaned_bridge(key)
                return None
            observed = await observe(key, self._facts, self.context_of(key))
            self._first_answer = self._first_answer or self._process.monotonic()
            self._migration_log.look(observed)
            observed = await save_original_source(observed, self._sources)
            outcome = await self._decide_and_apply(observed)
            try:
                outcome = self._note_login(observed, outcome)
                await self._log_end(observed, outcome)
                record = record_to_save(observed, outcome)
                if record is not None:
                    await self._sources.records.save_lrp(record)
            finally:
                self._report_end(key, outcome)
            self._report_outcome(observed, outcome)
            self.listeners.note_recovery(observed, outcome)
        except DockerCacheError as error:
            seconds = self._back_off(key, observed)
            self._report(key, order, Reason.CHECK_FAILED, str(error))
            self._count_error(kind_of(error))
            write = log.info if self.gate.is_migrating(key) else log.debug  # many may wait for the same
            write("failed-to-reconcile", process_guid=key, error=str(error), retry_after_s=round(seconds, 1))
        except Exception:
            self._back_off(key, observed)
            self._report(key, order, Reason.CHECK_FAILED, "internal-error: see the log")
            self._count_error(FailureKind.INTERNAL_ERROR)
            log.exception("failed-to-reconcile", process_guid=key)
        else:
            self._log_pass(observed, outcome, time.monotonic() - started)
            if outcome.retry_after is None:
                self._queue.done(key)
            else:
                priority = Priority.URGENT if self.gate.is_migrating(key) else Priority.FRESH
                self._queue.again(key, outcome.retry_after, priority)
            return outcome.reason
        return None

    def _count_error(self, kind: FailureKind) -> None:
        self._process.metrics.lrps.passes.labels(reason=Reason.CHECK_FAILED).inc()
        self._process.metrics.lrps.pass_errors.labels(kind=kind).inc()

    def _report(self, key: ProcessGuid, order: Order | None, reason: Reason, detail: str) -> None:
        """Report the outcome of a pass to the order that the pass has observed, not to one placed since."""
        if order is not None and self._sources.overrides.order_of(key) is order:
            self._sources.overrides.report(key, reason, detail)

    def _report_outcome(self, observed: Observed, outcome: Outcome) -> None:
        """Report the outcome of a pass; the end of a migration that an order outlasts does not end it."""
        order, reason, detail = observed.order, outcome.reason, outcome.detail
        if order is not None and outcome.ended is not None and order.outlasts(outcome.ended):
            detail = f"the migration that was under way has ended: {reason} {detail}".rstrip()
            reason = Reason.RUNS_FROM_SOURCE if order.goal is Goal.CACHE else Reason.RESTORE_REQUESTED
        self._report(observed.process_guid, order, reason, detail)

    async def _log_end(self, observed: Observed, outcome: Outcome) -> None:
        if outcome.ended is None:
            return
        image = None
        with suppress(DockerCacheError):  # the store is away, and the line lacks the size
            image = await self._sources.images.find_image(outcome.ended.cache_guid)
        self._migration_log.ended(observed, outcome, None if image is None else image.size)

    def _back_off(self, key: ProcessGuid, observed: Observed | None) -> float:
        if not self.gate.is_migrating(key):
            return self._queue.back_off(key)
        has_row = observed is None or observed.migration is not None
        return self._queue.back_off(key, MIGRATION_BACKOFF if has_row else START_BACKOFF, Priority.URGENT)

    def context_of(self, key: ProcessGuid) -> PassContext:
        """Return the context in which an LRP is observed now, for passes and for plans."""
        return PassContext(
            now=self._process.clock(),
            process_age=self._age(),
            run_id=self._process.run_id,
            cache=self._rules.cache,
            stale=self._sources.event_cache.stale(key),
            is_restoring=self._sources.mode.is_restoring,
            unseen_stagings=self._rules.unseen_stagings,
            stores_logins=self._ports.login_storage.is_stored,
            pull_credentials=self._rules.pull_credentials,
            droplet_pulls=self._sources.droplet_pulls,
        )

    def _age(self) -> float:
        return 0.0 if self._first_answer is None else self._process.monotonic() - self._first_answer

    async def _look_at_orphaned_bridge(self, bridge: ProcessGuid) -> None:
        """Decide about a bridge that is in the BBS but not in the journal."""
        left = await observe_orphaned_bridge(
            bridge,
            self._facts,
            domains=self._rules.domains,
            process_age=self._age(),
            own_store=self._rules.own_store,
        )
        action = decide_orphaned_bridge(left, cloud_controller_sync=self._rules.limits.cloud_controller_sync)
        empty = Observed(bridge, now=self._process.clock(), process_age=self._age(), run_id="")
        outcome = await apply(action, empty, self._facts, self._ports)
        self._process.metrics.lrps.passes.labels(reason=outcome.reason).inc()
        write = log.info if outcome.reason is Reason.ORPHANED_BRIDGE else log.debug  # the others stay
        write("checked-orphaned-bridge", process_guid=bridge, reason=outcome.reason, detail=outcome.detail)
        self._queue.done(bridge)  # the sweep finds it again while it is there

    async def _decide_and_apply(self, observed: Observed) -> Outcome:
        key = observed.process_guid
        self.gate.note_pass(key)
        if observed.migration is None and self.gate.is_migrating(key):  # an earlier pass failed to start it
            self.gate.cancel(key, None)
        await save_binding(observed, self._sources)
        action, obstacle = self._check_start(decide(observed, self._rules), observed)
        if obstacle is not None:
            if obstacle.reason in {Reason.CELLS_NOT_PROVEN, Reason.SIMILAR_MIGRATIONS_FAILED}:
                self.gate.wake_waiting()  # LRPs of other cells, or of other organizations, may start
            return obstacle
        is_waiting = observed.job is not None and observed.job.is_open
        if observed.lrp is not None and (is_waiting or isinstance(action, CacheImage)):
            self.listeners.note_tags(observed.lrp)
        if isinstance(action, BeginMigration):
            if self._is_overridden(action, observed.order):
                self.gate.wake_waiting()
                return WITHDRAWN
            self._note_known_copy(action)
            self.gate.start(action)
            self._report(key, observed.order, Phase.PREPARED.reason, "")
        outcome = await self._apply(action, observed)
        if not outcome.detail or (outcome.ended is not None and outcome.detail == outcome.ended.detail):
            # In the words that the passes before it have used, or else as its row has it.
            detail = detail_of_migration(observed, outcome.reason, self._rules.cache)
            outcome = replace(outcome, detail=detail or outcome.detail)
        self.gate.note_outcome(key, outcome, observed.now)
        await self._give_up_place(observed, outcome)
        if isinstance(action, BeginMigration) and outcome.ended is None and self.gate.is_migrating(key):
            self.listeners.note_begin(action)
        return outcome

    async def _give_up_place(self, observed: Observed, outcome: Outcome) -> None:
        """Let others start where no migration of an LRP is open, and none has ended just now."""
        key = observed.process_guid
        if not self.gate.is_migrating(key):
            self.gate.wake_waiting()  # the place for which this LRP was looked at is free
        elif outcome.ended is None and await self._sources.journal.find_migration(key) is None:
            self.gate.cancel(key, observed.migration)

    def _report_end(self, key: ProcessGuid, outcome: Outcome) -> None:
        """Report a migration that has ended, and let others start; nothing for none.

        No later pass sees it, since it is in no journal any more. The gate is told last: a process that is to
        end waits for that.
        """
        self.listeners.note_end(outcome)
        if outcome.ended is not None and self.gate.is_migrating(key):
            self.gate.end(key, outcome.ended)

    async def _apply(self, action: Action, observed: Observed) -> Outcome:
        """Carry out an action; report a former copy that it takes an LRP from, also if a request fails."""
        try:
            outcome = await apply(action, observed, self._facts, self._ports)
        except DockerCacheError:
            with suppress(DockerCacheError):  # the first error says more
                await self._report_failing_former(action, observed)
            raise
        if outcome.ended is None:
            await self._report_failing_former(action, observed)
        return outcome

    async def _report_failing_former(self, action: Action, observed: Observed) -> None:
        """Report a copy in a former registry that an LRP leaves, once its migration has begun."""
        if not isinstance(action, BeginMigration) or not action.leaves_failing_former:
            return
        former, source = observed.former_copy, observed.original_source
        has_begun = await self._sources.journal.find_migration(observed.process_guid) is not None
        if not has_begun or former is None or source is None:
            return
        guid = source.cache_guid if former.image is None else former.image.cache_guid
        self.listeners.note_failing_former(action, guid)

    def _note_known_copy(self, action: BeginMigration) -> None:
        if action.reason is Reason.SOURCE_UNREACHABLE_KNOWN_COPY_USED:
            process_guid = action.lrp.process_guid
            log.info("used-known-copy", process_guid=process_guid, reason=action.reason, detail=action.detail)
            self._process.metrics.migrations.known_copies_used.inc()

    def _check_start(self, action: Action, observed: Observed) -> tuple[Action, Outcome | None]:
        """Return the action that may be done now, and why the LRP must wait instead, or None."""
        match action:
            case BeginMigration():
                obstacle = self.gate.why_not_start(action, observed.now)
            case UpdateLogin():
                obstacle = self.gate.why_not_update(action, self._process.monotonic())
            case _:
                return action, None
        if obstacle is None:
            return action, None
        is_refuted = self._ports.pulls.is_refuted(action.lrp.placement_tags)
        cannot_pull = obstacle.reason is Reason.CACHE_REGISTRY_UNHEALTHY or (
            obstacle.reason is Reason.CELLS_NOT_PROVEN and is_refuted
        )
        if action.instead is not None and (cannot_pull or action.instead.leaves_failing_former):
            return self._check_start(action.instead, observed)
        if action.reason is Reason.LOGIN_OUTDATED:
            obstacle = replace(obstacle, detail=f"{OUTDATED}: {obstacle.detail}".removesuffix(": "))
        return action, obstacle

    def _is_overridden(self, action: BeginMigration, order: Order | None) -> bool:
        """Whether an operator has asked for something else since: by an order or a pin."""
        overrides = self._sources.overrides
        is_by_itself = order is None and action.goal is Goal.CACHE and not action.renews_login
        is_pinned = is_by_itself and overrides.is_pinned(action.lrp.app_guid)
        return is_pinned or overrides.order_of(action.lrp.process_guid) is not order

    def _note_login(self, observed: Observed, outcome: Outcome) -> Outcome:
        """Note whether an LRP has another login than the configured one, and look again if it may have.

        A migration that an earlier run began with another config ends with the login of that config.
        """
        if observed.migration is not None and outcome.ended is None:
            return outcome
        lrp, is_renewed = observed.lrp, outcome.reason in {Reason.LOGIN_UPDATED, Reason.MIGRATED}
        outdated = lrp is not None and not is_renewed and is_outdated(observed, lrp, self._rules)
        self.gate.logins.note(observed.process_guid, is_outdated=outdated)
        if outcome.reason is not Reason.MIGRATED or lrp is None:
            return outcome
        has_other = lrp.credentials != self._rules.pull_credentials
        return replace(outcome, retry_after=0.0) if has_other else outcome

    def _log_pass(self, observed: Observed, outcome: Outcome, duration: float) -> None:
        """Log a pass for whoever looks for a fault; what it led to has lines of its own."""
        self._process.metrics.lrps.passes.labels(reason=outcome.reason).inc()
        log.debug(
            "reconciled",
            process_guid=observed.process_guid,
            reason=outcome.reason,
            detail=outcome.detail,
            cache_guid=outcome.cache_guid,
            duration_s=round(duration, 3),
        )
