"""Lists LRPs for operators, and names what listings read: records, audit entries, breaker and watcher."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from controller.admin.survey import Survey, SurveyCounts, SurveyedLrp
from reconcile.actions import BeginMigration, CacheImage, Skip, VerifyImage
from reconcile.circuit_breaker import CircuitBreaker
from reconcile.instances import running
from reconcile.lrps import DesiredLrp
from reconcile.reasons import AppState, Reason
from reconcile.records import AuditEntry, CachedImage, CacheJob, Goal, JobId, JobState
from reconcile.references import Rootfs
from reconcile.selection import Selection


class ListedRecords(Protocol):
    """The records in the store."""

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        """Read one job."""

    async def list_jobs(self, states: Collection[JobState]) -> tuple[CacheJob, ...]:
        """List the jobs in some states, the last changed first."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""

    async def count_lrps(self) -> Mapping[Reason, int]:
        """Count the LRPs by the reason of their last pass."""

    async def count_jobs(self) -> Mapping[str, int]:
        """Count the jobs by state."""

    async def measure_images(self) -> tuple[int, int]:
        """Count the finished copies, and sum up their bytes."""


class AuditEntries(Protocol):
    """The entries of the audit."""

    async def list_entries(self) -> tuple[AuditEntry, ...]:
        """List what operators had the daemon do, the latest first."""


class Breaker(Protocol):
    """The circuit breaker."""

    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """Its current state."""

    def reset_circuit_breaker(self) -> None:
        """Let migrations resume although some have failed."""


class Watching(Protocol):
    """The watcher of the BBS."""

    @property
    def listed_at(self) -> float:
        """When the BBS was last listed, in UTC seconds since 1970; 0 when it never was."""

    @property
    def is_watching(self) -> bool:
        """Whether both event streams are open, and the BBS was listed since they were opened."""

    def request_full_sweep(self) -> None:
        """Request a sweep that queues every LRP that runs from its source."""


@dataclass(frozen=True, slots=True)
class AppRow:
    """One Docker LRP for people.

    Attributes:
        wanted: What it is to be desired from; None while that is not known.
        running: Instances that run.
    """

    lrp: DesiredLrp
    wanted: Rootfs | None
    reason: Reason
    detail: str
    running: int

    @property
    def state(self) -> AppState:
        """The state that the reason means."""
        return self.reason.state


LOOKED_AT = 5_000
"""LRPs that are read for one page at most, however few of them are chosen."""

_HINDRANCES = frozenset({Reason.CIRCUIT_BREAKER_OPEN, Reason.IN_FLIGHT_LIMIT, Reason.WAITING_FOR_RECOVERY})
"""Reasons for which a pass begins no migration, and which a decision about a single LRP cannot know."""


@dataclass(frozen=True, slots=True)
class AppPage:
    """Some LRPs, by process GUID.

    Attributes:
        last: The LRP that was read last; "" when there are no more.
        unreadable: ListedRecords of the BBS that could not be read.
    """

    rows: Sequence[AppRow]
    last: str
    unreadable: int


async def list_apps(
    survey: Survey, selection: Selection, states: Collection[AppState], *, after: str, most: int
) -> AppPage:
    """List LRPs after one: `most` of them, or fewer when thousands had to be read for them."""
    counts, rows = SurveyCounts(), list[AppRow]()
    rest = await survey.list_for_page(after)
    looked_at = rest.first(LOOKED_AT)
    async with aclosing(survey.decide_each(looked_at, selection, None, counts)) as seen_lrps:
        async for seen in seen_lrps:
            row = app_row(seen, survey)
            if not states or row.state in states:
                rows.append(row)
            if len(rows) > most:
                return AppPage(rows[:most], rows[most - 1].lrp.process_guid, counts.unreadable)
    has_more = len(rest.guids) > LOOKED_AT
    return AppPage(rows, looked_at.guids[-1] if has_more else "", counts.unreadable)


def app_row(seen: SurveyedLrp, survey: Survey) -> AppRow:
    """Describe one LRP."""
    reason, detail = _reason_of(seen)
    return AppRow(
        seen.lrp, _wanted(seen, survey, reason), reason, detail, running(seen.lrp, seen.observed.instances)
    )


def _reason_of(seen: SurveyedLrp) -> tuple[Reason, str]:
    record, action = seen.observed.record, seen.action
    is_same = record is not None and record.rootfs == str(seen.lrp.rootfs)
    match action:
        case Skip(reason, detail) if seen.observed.migration is not None and record is not None:
            is_recorded = record.reason.state is AppState.MIGRATING
            return (record.reason, record.detail) if is_recorded else (reason, detail)
        case Skip(reason, detail):
            was_migrated = record is not None and record.cache_guid is not None
            return (Reason.MIGRATED if reason is Reason.ALREADY_CACHED and was_migrated else reason), detail
        case BeginMigration() | CacheImage() | VerifyImage():
            if record is not None and is_same and record.reason in _HINDRANCES:
                return record.reason, record.detail
            return action.reason, ""
        case _:
            return Reason.RETIRED_STALE_INSTANCES, ""


def _wanted(seen: SurveyedLrp, survey: Survey, reason: Reason) -> Rootfs | None:
    state = reason.state
    if state in {AppState.CACHED, AppState.SKIPPED} and seen.observed.migration is None:
        return seen.lrp.rootfs
    image, migration = seen.observed.image, seen.observed.migration
    if migration is not None and migration.goal is Goal.SOURCE:
        return seen.observed.original_source.rootfs if seen.observed.original_source is not None else None
    guid = migration.cache_guid if migration is not None else (image.cache_guid if image else None)
    return None if guid is None else survey.rules.cache.rootfs(guid)


def count_by_state(counts: Mapping[Reason, int]) -> Mapping[AppState, int]:
    """Count LRPs by state, from their numbers by reason."""
    states = Counter[AppState]()
    for reason, count in counts.items():
        states[reason.state] += count
    return states
