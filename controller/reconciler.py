"""Takes a key, runs the pass over it, logs, counts, and puts the key back if needed.

What to do is decided in `reconcile.plan`; this loop bounds how much happens at once.
"""

import asyncio
import time
from dataclasses import replace

import structlog

from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.apply import Outcome, Targets, apply
from reconcile.errors import DockerCacheError
from reconcile.lrps import ProcessGuid
from reconcile.observe import Moment, Sources, observe
from reconcile.plan import BeginReplacement, DesireFromCache, Observed, Rules, plan
from reconcile.records import LrpRecord, Phase

log = structlog.get_logger(scope="reconciler")

IN_FLIGHT_LIMIT = Outcome("waiting: in-flight-limit", look_again=1.0)

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
        self._started_at = process.clock()
        self._replacing: set[ProcessGuid] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._is_stopping = False

    async def recover(self) -> None:
        """Take up the replacements that an earlier run left open, before anything else is replaced."""
        for replacement in await self._sources.journal.list_replacements():
            log.info(
                "resuming-replacement", process_guid=replacement.process_guid, phase=str(replacement.phase)
            )
            self._replacing.add(replacement.process_guid)
            self._none_open.clear()
            self._queue.add(replacement.process_guid)

    async def finish_replacements(self, seconds: float) -> None:
        """Begin no further replacement, and give those under way some seconds to come to their end.

        What is still open then goes on after a restart; where the journal does not outlive the
        process, it is desired from the cache at once instead, instance rows or not: an index
        that stays empty until the next convergence is better than a definition that is lost.
        """
        self._is_stopping = True
        for key in self._replacing:
            self._queue.add(key)
        try:
            async with asyncio.timeout(seconds):
                await self._none_open.wait()
        except TimeoutError:
            log.info("left-replacements-open", process_guids=sorted(self._replacing))
        if self._sources.journal.is_durable:
            return
        for replacement in await self._sources.journal.list_replacements():
            if replacement.phase is Phase.REMOVING:
                moment = self._moment()
                await apply(
                    DesireFromCache(replacement),
                    Observed(replacement.process_guid, moment.now, moment.process_age, moment.run_id),
                    self._targets,
                )

    async def run(self) -> None:
        """Run passes for ever; several of these loops may share one queue."""
        while True:
            key = await self._queue.take()
            await self._run_pass(key)

    async def _run_pass(self, key: ProcessGuid) -> None:
        started = time.monotonic()
        try:
            observed = await observe(key, self._sources, self._moment())
            outcome = await self._decide_and_apply(observed)
            await self._remember(observed, outcome)
        except DockerCacheError as error:
            seconds = self._queue.back_off(key)
            self._process.metrics.passes.labels(reason=type(error).__name__).inc()
            log.info(
                "failed-to-reconcile", process_guid=key, error=str(error), retry_after_s=round(seconds, 1)
            )
        except Exception:
            self._queue.back_off(key)
            self._process.metrics.passes.labels(reason="internal-error").inc()
            log.exception("failed-to-reconcile", process_guid=key)
        else:
            self._report(observed, outcome, time.monotonic() - started)
            if outcome.look_again is None:
                self._queue.done(key)
            else:
                self._queue.again(key, outcome.look_again)

    def _moment(self) -> Moment:
        now = self._process.clock()
        return Moment(now=now, process_age=now - self._started_at, run_id=self._process.run_id)

    async def _decide_and_apply(self, observed: Observed) -> Outcome:
        key = observed.process_guid
        if observed.replacement is None:
            self._settle(key)
        action = plan(observed, self._rules)
        if isinstance(action, BeginReplacement):
            if self._is_stopping or len(self._replacing) >= self._rules.max_in_flight:
                return IN_FLIGHT_LIMIT
            self._replacing.add(key)
            self._none_open.clear()
        outcome = await apply(action, observed, self._targets)
        if key in self._replacing and await self._sources.journal.find_replacement(key) is None:
            self._settle(key)
        return outcome

    def _settle(self, key: ProcessGuid) -> None:
        self._replacing.discard(key)
        if not self._replacing:
            self._none_open.set()

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
    lrp = observed.lrp or (observed.replacement.original if observed.replacement else None)
    if lrp is None:
        return before and replace(before, reason=outcome.reason, updated_at=observed.now)
    return LrpRecord(
        process_guid=observed.process_guid,
        app_guid=lrp.app_guid,
        rootfs=str(lrp.rootfs),
        cache_guid=outcome.cache_guid or (before.cache_guid if before else None),
        rounds=outcome.rounds or (before.rounds if before else 0),
        reason=outcome.reason,
        updated_at=observed.now,
    )
