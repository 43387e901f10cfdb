"""Decides whether another migration may start.

That depends on how many are under way, on what has failed, and on whether the private registry serves pulls
and cells can pull.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import structlog

from controller.login_renewal import LoginRenewal
from controller.migration_failures import MigrationFailures
from controller.workqueue import Priority, WorkQueue
from reconcile.actions import BeginMigration, UpdateLogin
from reconcile.apply import Outcome
from reconcile.circuit_breaker import MigrationSubject
from reconcile.lrps import DesiredLrp, ProcessGuid, organization_of
from reconcile.migrations import Goal, Migration
from reconcile.ports import CellPulls, EventCache, OperatorOverrides
from reconcile.reasons import Reason
from reconcile.references import CacheGuid

log = structlog.get_logger(scope="reconciler")

IN_FLIGHT_LIMIT = Outcome(Reason.IN_FLIGHT_LIMIT)
RECOVERING = Outcome(Reason.WAITING_FOR_RECOVERY, "an earlier run left migrations open", retry_after=5.0)

NO_PULLS = frozenset({Reason.CELLS_NOT_PROVEN, Reason.CACHE_REGISTRY_UNHEALTHY})
"""Reasons for which an LRP waits until a canary or the private registry's health check calls the gate."""

PARKED = frozenset({Reason.OLD_INSTANCES_LEFT, Reason.NOT_HEALTHY_BRIDGE_KEPT})
"""Reasons for which an open migration may wait without limit, since its bridge serves: it takes no place of
`max_in_flight`."""


class PulledRegistry(Protocol):
    """The private registry, as far as it keeps migrations from starting."""

    def why_not_migrate(self) -> str | None:
        """Say why no LRP may be migrated to its copy now; None while nothing is known against it."""


class UnwatchedRegistry:
    """A private registry whose health nobody knows."""

    def why_not_migrate(self) -> str | None:
        """Know nothing against it."""
        return None


@dataclass(frozen=True, slots=True)
class GateDependencies:
    """What the gate asks before it lets a migration start."""

    overrides: OperatorOverrides
    event_cache: EventCache
    pulls: CellPulls
    failures: MigrationFailures


class MigrationGate:
    """The migrations that are under way, and the LRPs that wait until theirs may start."""

    def __init__(
        self, queue: WorkQueue[ProcessGuid], *, max_in_flight: int, dependencies: GateDependencies
    ) -> None:
        self._queue = queue
        self._configured_max_in_flight = max_in_flight
        self._overrides, self._event_cache = dependencies.overrides, dependencies.event_cache
        self._pulls = dependencies.pulls
        self._registry: PulledRegistry = UnwatchedRegistry()
        self.failures = dependencies.failures
        """What failed, and what that keeps from starting."""
        self._migrating: dict[ProcessGuid, MigrationSubject | None] = {}
        """None for one that is restored to its source, which says nothing about migrations to copies."""
        self._recovering: set[ProcessGuid] = set()
        self._parked: set[ProcessGuid] = set()
        self._waiting: OrderedDict[ProcessGuid, None] = OrderedDict()
        self._waiting_for_pulls: OrderedDict[ProcessGuid, None] = OrderedDict()
        self._set_aside: OrderedDict[ProcessGuid, MigrationSubject] = OrderedDict()
        self.logins = LoginRenewal()
        """The turns of LRPs whose logins are updated in place."""
        self._none_migrating = asyncio.Event()
        self._none_migrating.set()
        self._is_stopping = False

    @property
    def has_migrations(self) -> bool:
        """Whether any migration is under way."""
        return bool(self._migrating)

    @property
    def migrations(self) -> int:
        """The number of migrations that are under way."""
        return len(self._migrating)

    def watch(self, registry: PulledRegistry) -> None:
        """Start no migration to copies while a registry is unhealthy."""
        self._registry = registry

    def is_migrating(self, key: ProcessGuid) -> bool:
        """Whether a migration of an LRP is under way."""
        return key in self._migrating

    def reset_circuit_breaker(self) -> None:
        """Close all circuit breakers although migrations have failed, since an operator asked for it."""
        self.failures.reset()
        self._end_set_aside()
        self.wake_waiting()

    def _end_set_aside(self) -> None:
        self._waiting.update(dict.fromkeys(self._set_aside))
        self._set_aside.clear()

    def note_proven_cells(self, *, is_mended: bool) -> None:
        """Let LRPs start that waited until cells are known to pull from the private registry.

        Args:
            is_mended: Whether migrations had failed since cells could not pull; these failures count no more.
        """
        if self.failures.note_proven_cells(is_mended=is_mended):
            self._end_set_aside()
        self.note_served_pulls()

    def note_served_pulls(self) -> None:
        """Let LRPs start that waited until they can be pulled, or until more is known of why not."""
        self._waiting.update(self._waiting_for_pulls)
        self._waiting_for_pulls.clear()
        self.wake_waiting()

    def note_unproven_cells(self) -> None:
        """Let LRPs that wait for cells be looked at once more, so that what cells said is shown with them."""
        while self._waiting_for_pulls:
            key, _ = self._waiting_for_pulls.popitem(last=False)
            self._queue.add(key, Priority.ROUTINE)

    def recover(self, migration: Migration) -> None:
        """Continue a migration that an earlier run left open; no other starts before its first pass."""
        key = migration.process_guid
        self._recovering.add(key)
        is_restored = migration.goal is Goal.SOURCE and not migration.is_turned_back
        subject = None if is_restored else _subject(migration.original, migration.cache_guid)
        if subject is not None:
            self.failures.note_resumption(subject, migration.started_at)
        self._track(key, subject)
        self._queue.add(key, Priority.URGENT)

    def note_pass(self, key: ProcessGuid) -> None:
        """Note that an LRP was observed: it no longer waits, and is recovered if it had to be."""
        self._waiting.pop(key, None)
        self._waiting_for_pulls.pop(key, None)
        self._set_aside.pop(key, None)
        if key in self._recovering:
            self._recovering.remove(key)
            if not self._recovering:
                self.wake_waiting()

    def why_not_start(self, action: BeginMigration, now: float) -> Outcome | None:
        """Return the outcome of an LRP whose migration may not start now, and let it wait; None if it may."""
        obstacle = self._obstacle(action, now)
        key = action.lrp.process_guid
        if obstacle is None:
            return None
        if obstacle.reason is Reason.SIMILAR_MIGRATIONS_FAILED:
            self._set_aside[key] = _subject_of(action)
        elif obstacle.reason in NO_PULLS:
            self._waiting_for_pulls[key] = None
        else:
            self._waiting[key] = None
        return obstacle

    def why_not_update(self, action: UpdateLogin, now: float) -> Outcome | None:
        """Return the outcome of an LRP whose login may not be updated now, and let it wait; None if it may.

        Args:
            action: What would be done.
            now: Seconds of the monotonic clock.
        """
        key = action.lrp.process_guid
        problem = self._pulls.why_not(action.lrp.placement_tags)
        if problem is not None:
            self._waiting_for_pulls[key] = None
            return Outcome(Reason.CELLS_NOT_PROVEN, problem)
        if action.instead is not None:  # new instances of it cannot start
            return None
        seconds = self.logins.seconds_until_turn(key, now)
        return Outcome(action.reason, "other LRPs come first", retry_after=seconds) if seconds > 0 else None

    def _obstacle(self, action: BeginMigration, now: float) -> Outcome | None:
        if self._is_stopping:
            return IN_FLIGHT_LIMIT
        if action.ended is not None or action.is_urgent:  # cells cannot start it from its copy
            return None
        if len(self._migrating) - len(self._parked) >= self._max_in_flight:
            return IN_FLIGHT_LIMIT
        if self._recovering:
            return RECOVERING
        if action.goal is Goal.SOURCE:  # whatever failed on the way to copies is no obstacle on the way back
            return None
        unhealthy = self._registry.why_not_migrate()
        if unhealthy is not None:
            return Outcome(Reason.CACHE_REGISTRY_UNHEALTHY, unhealthy)
        problem = self._pulls.why_not(action.lrp.placement_tags)
        if problem is not None:
            return Outcome(Reason.CELLS_NOT_PROVEN, problem)
        return self.failures.why_not_start(_subject_of(action), now)

    @property
    def _max_in_flight(self) -> int:
        ordered = self._overrides.max_in_flight
        configured = self._configured_max_in_flight
        return configured if ordered is None else min(ordered, configured)

    def start(self, action: BeginMigration) -> None:
        """Note that the migration of an LRP starts."""
        subject = _subject_of(action) if action.goal is Goal.CACHE else None
        if subject is not None:
            self.failures.note_start(subject)
        self._track(action.lrp.process_guid, subject)

    def _track(self, key: ProcessGuid, subject: MigrationSubject | None) -> None:
        self._migrating[key] = subject
        self._event_cache.track(key)
        self._none_migrating.clear()

    def note_outcome(self, key: ProcessGuid, outcome: Outcome, now: float) -> None:
        """Note in the circuit breaker how a pass over an LRP has ended its migration, if it has."""
        ended, subject = outcome.ended, self._migrating.get(key)
        self._park(key, is_parked=outcome.reason in PARKED and ended is None)
        if subject is None and ended is not None:
            subject = _subject(ended.original, ended.cache_guid)
        if subject is None:
            return
        if self.failures.note_outcome(key, subject, outcome, now):
            self._let_wait_those_like(subject)

    def _let_wait_those_like(self, subject: MigrationSubject) -> None:
        """Let those wait for a place that were set aside together with one that has been migrated."""
        alike = [
            key
            for key, other in self._set_aside.items()
            if other.organization == subject.organization or other.image == subject.image
        ]
        for key in alike:
            del self._set_aside[key]
            self._waiting[key] = None

    def _park(self, key: ProcessGuid, *, is_parked: bool) -> None:
        """Give the place of a migration that only waits for a cell to others, or take it back."""
        if is_parked:
            self._parked.add(key)
            self.wake_waiting()
        else:
            self._parked.discard(key)

    def end(self, key: ProcessGuid, ended: Migration | None) -> None:
        """Note that a migration has ended, and look at LRPs that wait, least recently looked at first."""
        self._migrating.pop(key, None)
        self._parked.discard(key)
        self.failures.note_end(key)
        self._event_cache.untrack(key, ended.instance_guids if ended is not None else frozenset())
        if not self._migrating:
            self._none_migrating.set()
        self.wake_waiting()

    def cancel(self, key: ProcessGuid, migration: Migration | None) -> None:
        """Note that a migration has ended without saying whether migrations work."""
        subject = self._migrating.get(key)
        if subject is not None:
            self.failures.note_cancellation(subject)
        self.end(key, migration)

    def wake_waiting(self) -> None:
        """Look again at as many of the LRPs that wait as could start now."""
        places = self._max_in_flight - len(self._migrating) + len(self._parked)
        if self.failures.overall.is_open:  # at most one may start, and those that know it come by themselves
            places = min(places, 1)
        for _ in range(min(len(self._waiting), places)):
            key, _ = self._waiting.popitem(last=False)
            self._queue.add(key)

    async def finish_migrations(self, seconds: float | None) -> None:
        """Start no further migration, and wait some seconds, or forever, for the end of those under way."""
        self._is_stopping = True
        for key in self._migrating:
            self._queue.add(key, Priority.URGENT)
        try:
            async with asyncio.timeout(seconds):
                await self._none_migrating.wait()
        except TimeoutError:
            log.info("left-migrations-open", process_guids=sorted(self._migrating))


def _subject_of(action: BeginMigration) -> MigrationSubject:
    return _subject(action.lrp, None if action.image is None else action.image.cache_guid)


def _subject(lrp: DesiredLrp, image: CacheGuid | None) -> MigrationSubject:
    return MigrationSubject(lrp.app_guid, organization_of(lrp) or lrp.app_guid, image or "")
