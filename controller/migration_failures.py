"""Counts the failures of migrations in circuit breakers, and says what they keep from starting."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from controller.metrics import Metrics
from reconcile.apply import Outcome
from reconcile.circuit_breaker import (
    CircuitBreaker,
    CircuitBreakers,
    FailureRecord,
    MigrationSubject,
    SetAside,
)
from reconcile.lrps import ProcessGuid
from reconcile.migrations import Goal
from reconcile.ports import CellPulls, EventCache
from reconcile.protocol import FAILURES
from reconcile.reasons import Reason
from reconcile.references import CacheGuid

log = structlog.get_logger(scope="reconciler")


class MigrationFailures:
    """The failures in a row of all migrations, and of each organization, copy and pair of them.

    Args:
        closed: The circuit breaker of all migrations, as it is when the process starts.
        event_cache: Knows on which cells instances crashed.
        pulls: Says which cells are known to pull.
        metrics: Shows what is open.
    """

    def __init__(
        self, closed: CircuitBreaker, *, event_cache: EventCache, pulls: CellPulls, metrics: Metrics
    ) -> None:
        self._breakers = CircuitBreakers(closed)
        self._event_cache, self._pulls, self._metrics = event_cache, pulls, metrics
        self._cells_not_proven = False
        """Whether a migration that counts as failed did so while cells were not known to pull."""
        self._awaits_pulls = False
        """Whether an earlier process has left such a failure, and no canary has passed in this one."""
        self._not_healthy: set[ProcessGuid] = set()
        """LRPs whose failure has been counted although their migrations have not ended."""
        self.changed = asyncio.Event()
        """Is set when failures may have changed."""

    @property
    def overall(self) -> CircuitBreaker:
        """The circuit breaker of all migrations as it is now."""
        return self._breakers.overall

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """The organizations and copies whose migrations wait, since too many of them failed."""
        return self._breakers.set_aside

    @property
    def records(self) -> tuple[FailureRecord, ...]:
        """The failures in a row so far, the latest failure last."""
        return tuple(
            replace(each, cells_not_proven=self._cells_not_proven) for each in self._breakers.failures
        )

    def restore(self, records: Sequence[FailureRecord]) -> None:
        """Count failures of an earlier process, and none of before; called before any migration starts."""
        self._breakers.restore(records)
        self._cells_not_proven = self._awaits_pulls = any(record.cells_not_proven for record in records)
        self._note_change()
        if self.overall.is_open or self.set_aside:
            log.info(
                "restored-circuit-breaker-state", reason=str(self.overall), set_aside=self._names_set_aside()
            )

    def reset(self) -> None:
        """Forget all failures, since an operator asked for it."""
        log.info("reset-circuit-breaker", before=str(self.overall), set_aside=self._names_set_aside())
        self._close()

    def note_proven_cells(self, *, is_mended: bool) -> bool:
        """Note that cells are known to pull, and return whether this has closed circuit breakers.

        Args:
            is_mended: Whether migrations had failed since cells could not pull. Then no failure counts any
                more, unless nothing is open, and cells could pull whenever one failed.
        """
        is_mended, self._awaits_pulls = is_mended or self._awaits_pulls, False
        was_open = self.overall.is_open or bool(self.set_aside)
        if not is_mended or not (was_open or self._cells_not_proven):
            return False
        if was_open:
            log.info(
                "closed-circuit-breaker",
                reason="a canary has passed",
                before=str(self.overall),
                set_aside=self._names_set_aside(),
            )
        self._close()
        return was_open

    def why_not_start(self, subject: MigrationSubject, now: float) -> Outcome | None:
        """Return the outcome of an LRP that may not be migrated since others failed; None if it may."""
        seconds = self.overall.seconds_until_allowed(now)
        if seconds > 0:
            return Outcome(Reason.CIRCUIT_BREAKER_OPEN, str(self.overall), retry_after=seconds)
        similar = self._breakers.set_aside_for(subject, now)
        if similar is None:
            return None
        what, seconds = similar
        return Outcome(Reason.SIMILAR_MIGRATIONS_FAILED, str(what), retry_after=seconds)

    def why_not_use(self, cache_guid: CacheGuid) -> tuple[Reason, str] | None:
        """Say why nothing more is to start from a copy, since migrations have failed; None when it may.

        What starts from a droplet has no bridge that would try the copy first. So failures of one
        organization's apps with the copy keep those of all others from it, too.
        """
        if self.overall.is_open:
            return Reason.CIRCUIT_BREAKER_OPEN, str(self.overall)
        similar = next((each for each in self.set_aside if each.image == cache_guid), None)
        return None if similar is None else (Reason.SIMILAR_MIGRATIONS_FAILED, str(similar))

    def note_start(self, subject: MigrationSubject) -> None:
        """Note that a migration starts."""
        self._breakers.started(subject)

    def note_resumption(self, subject: MigrationSubject, started_at: float) -> None:
        """Note that a migration of an earlier process goes on."""
        self._breakers.resumed(subject, started_at)

    def note_cancellation(self, subject: MigrationSubject) -> None:
        """Note that a migration has ended without saying whether migrations work."""
        self._breakers.cancelled(subject)

    def note_end(self, key: ProcessGuid) -> None:
        """Note that no migration of an LRP is under way any more."""
        self._not_healthy.discard(key)

    def note_outcome(self, key: ProcessGuid, subject: MigrationSubject, outcome: Outcome, now: float) -> bool:
        """Count what a pass says of a migration to a copy, and return whether the LRP was migrated.

        One that waits behind its bridge since it is not healthy counts as failed, once.
        """
        ended = outcome.ended
        if outcome.reason is Reason.NOT_HEALTHY_BRIDGE_KEPT:
            if key not in self._not_healthy:
                self._not_healthy.add(key)
                self._note_failure(key, subject, str(Reason.NOT_HEALTHY), now)
        elif ended is None or (ended.goal is Goal.SOURCE and not ended.is_turned_back):
            return False  # one that is restored says nothing about migrations to copies
        elif outcome.reason is Reason.MIGRATED:
            self._breakers.succeeded(subject)
            self._cells_not_proven = self._cells_not_proven and bool(self.set_aside)
        elif outcome.reason in FAILURES and key not in self._not_healthy:
            if self._pulls.why_not(ended.original.placement_tags) is not None:
                self._cells_not_proven = True
            self._note_failure(key, subject, f"{outcome.reason} {outcome.detail}".strip(), now)
        else:
            self._breakers.cancelled(subject)
        self._note_change()
        return outcome.reason is Reason.MIGRATED

    def _note_failure(self, key: ProcessGuid, subject: MigrationSubject, failure: str, now: float) -> None:
        was_open, cells = self.overall.is_open, self._event_cache.crashed_on(key)
        set_aside = self._breakers.failed(subject, f"{key}: {failure}", now, cells)
        breaker = self.overall
        if breaker.is_open and not was_open:
            log.error("opened-circuit-breaker", reason=str(breaker), retry_after_s=breaker.retry_after)
        for each in set_aside:
            log.error(
                "set-migrations-aside",
                organization=each.organization,
                cache_guid=each.image,
                reason=str(each),
                retry_after_s=breaker.retry_after,
            )

    def _close(self) -> None:
        self._breakers.close_all()
        self._cells_not_proven = False
        self._note_change()

    def _note_change(self) -> None:
        self.changed.set()
        self._metrics.migrations.circuit_breaker_open.set(self.overall.is_open)
        self._metrics.migrations.set_aside.set(len(self.set_aside))

    def _names_set_aside(self) -> list[str]:
        return [str(each) for each in self.set_aside]
