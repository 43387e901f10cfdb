"""Lists LRPs for operators, and declares the interfaces that listings read from."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from controller.admin.survey import Survey, SurveyCounts, SurveyedLrp
from reconcile.actions import (
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    GiveRoutesBack,
    RemoveOrphanedBridge,
    Skip,
    UpdateLogin,
    VerifyImage,
)
from reconcile.causes import cause_of
from reconcile.circuit_breaker import CircuitBreaker, SetAside
from reconcile.instances import needed, running
from reconcile.lrps import DesiredLrp
from reconcile.migrations import Goal
from reconcile.reasons import AppState, Reason
from reconcile.records import AuditEntry, CachedImage, CacheJob, JobId, JobState, LrpRecord
from reconcile.references import CacheGuid, Digest, Rootfs
from reconcile.selection import Selection
from reconcile.steps import RetireInstances


class ListedRecords(Protocol):
    """The records in the store."""

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        """Read one job."""

    async def list_jobs(self, states: Collection[JobState]) -> tuple[CacheJob, ...]:
        """List the jobs in some states, the last changed first."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""

    async def list_sources(self, platform_digests: Collection[Digest]) -> Mapping[Digest, tuple[str, ...]]:
        """List the repositories that have shown each of some images, at most some hundred of these."""

    async def list_lrps(self) -> tuple[LrpRecord, ...]:
        """List what is known of LRPs."""

    async def count_lrps(self) -> Mapping[Reason, int]:
        """Count the LRPs by the reason of their last pass."""

    async def count_jobs(self) -> Mapping[str, int]:
        """Count the jobs by state."""

    async def measure_images(self) -> Mapping[str, tuple[int, int]]:
        """Count the finished copies and sum up their bytes, by the address of their registry."""

    async def count_incomplete_images(self) -> tuple[int, int]:
        """Count the copies of which something is missing, and those of them that are lost."""


class PagedRecords(Protocol):
    """The records of which there may be very many, a page at a time."""

    async def page_images(
        self, after: tuple[float, CacheGuid] | None, *, most: int
    ) -> tuple[CachedImage, ...]:
        """List the finished copies after a time and a GUID, oldest first."""

    async def page_jobs(
        self, states: Collection[JobState], after: tuple[float, JobId] | None, *, most: int
    ) -> tuple[CacheJob, ...]:
        """List the jobs in some states after a time and an id, the latest first, and the greatest id."""

    async def list_job_ids(
        self, states: Collection[JobState], beginnings: Collection[str]
    ) -> tuple[JobId, ...]:
        """List the ids of jobs in some states that begin with one of some texts."""

    async def find_jobs(self, job_ids: Collection[JobId]) -> tuple[CacheJob, ...]:
        """Find the jobs with some ids."""


class AuditEntries(Protocol):
    """The audit log."""

    async def list_entries(self, *, before: int | None, most: int) -> tuple[AuditEntry, ...]:
        """List the entries from the one before a number on, the latest first."""


class AdminFailures(Protocol):
    """The failures in a row of migrations."""

    @property
    def overall(self) -> CircuitBreaker:
        """The circuit breaker of all migrations as it is now."""

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """The organizations and copies whose migrations wait, since too many of them failed."""


class AdminGate(Protocol):
    """The gate that lets migrations start."""

    @property
    def failures(self) -> AdminFailures:
        """What failed, and what that keeps from starting."""

    def reset_circuit_breaker(self) -> None:
        """Close all circuit breakers, so that migrations resume although some have failed."""


class AdminWatcher(Protocol):
    """The watcher of the BBS."""

    @property
    def listed_at(self) -> float:
        """When the BBS was last listed, in UTC seconds since 1970; 0 when it never was."""

    @property
    def is_watching(self) -> bool:
        """Whether both event streams are open, and the BBS was listed since they were opened."""

    @property
    def former_lrps(self) -> Mapping[str, int]:
        """The number of LRPs that run from copies in former private registries, by address."""

    def request_full_sweep(self) -> None:
        """Request a sweep that queues every LRP that runs from its source."""


@dataclass(frozen=True, slots=True)
class AppRow:
    """One Docker LRP as `apps` lists it.

    Attributes:
        to_rootfs: The rootfs that the LRP is to run from, its present one when nothing is to change; None
            while it is not known.
        running: The number of instances that run.
    """

    lrp: DesiredLrp
    to_rootfs: Rootfs | None
    reason: Reason
    detail: str
    running: int

    @property
    def state(self) -> AppState:
        """The state that the reason means."""
        return self.reason.state


MAX_LRPS_READ = 5_000
"""How many LRPs are read at most for one page, even when few of them match the selection."""

_DAEMON_WIDE_REASONS = frozenset(
    {
        Reason.CIRCUIT_BREAKER_OPEN,
        Reason.SIMILAR_MIGRATIONS_FAILED,
        Reason.IN_FLIGHT_LIMIT,
        Reason.WAITING_FOR_RECOVERY,
        Reason.CELLS_NOT_PROVEN,
        Reason.CACHE_REGISTRY_UNHEALTHY,
    }
)
"""Reasons not to start a migration that come from the whole daemon, and not from the LRP."""

_STAYS_ON_COPY = frozenset({Reason.COPY_INCOMPLETE, Reason.COPY_AND_SOURCE_LOST})
"""What a pass says of an LRP that would go back to its source, which has no image for it or is silent."""


@dataclass(frozen=True, slots=True)
class AppPage:
    """One page of LRPs, sorted by process GUID.

    Attributes:
        last: The process GUID after which the next page begins; "" on the last page.
        unreadable: The number of records of the BBS that could not be read.
    """

    rows: Sequence[AppRow]
    last: str
    unreadable: int


async def list_apps(
    survey: Survey, selection: Selection, states: Collection[AppState], *, after: str, limit: int
) -> AppPage:
    """List at most `limit` LRPs after a process GUID; fewer when `MAX_LRPS_READ` were read to find them."""
    counts, rows = SurveyCounts(), list[AppRow]()
    rest = await survey.list_for_page(after)
    to_read = rest.first(MAX_LRPS_READ)
    async with aclosing(survey.decide_each(to_read, selection, None, counts)) as surveyed_lrps:
        async for surveyed in surveyed_lrps:
            row = app_row(surveyed, survey)
            if not states or row.state in states:
                rows.append(row)
            if len(rows) > limit:
                return AppPage(rows[:limit], rows[limit - 1].lrp.process_guid, counts.unreadable)
    has_more = len(rest.guids) > MAX_LRPS_READ
    return AppPage(rows, to_read.guids[-1] if has_more else "", counts.unreadable)


def app_row(surveyed: SurveyedLrp, survey: Survey) -> AppRow:
    """Describe one LRP, with what the BBS says of its instances that do not run."""
    decided, detail = _reason_of(surveyed)
    cause = cause_of(surveyed.observed, survey.rules.cache)
    if surveyed.observed.migration is None:
        detail = cause if detail in cause else "; ".join(text for text in (detail, cause) if text)
    return AppRow(
        surveyed.lrp,
        _to_rootfs(surveyed, survey, decided),
        _reason_to_show(decided, surveyed),
        detail or cause,  # a pass over an open migration has said what it knows, of the bridge too
        running(surveyed.lrp, surveyed.observed.instances),
    )


def _reason_to_show(decided: Reason, surveyed: SurveyedLrp) -> Reason:
    """Return the decided reason, or why an LRP that is desired from its copy is not called cached."""
    if decided.state is not AppState.CACHED:
        return decided
    if surveyed.lrp.instances == 0:
        return Reason.NO_INSTANCES
    return decided if needed(surveyed.lrp, surveyed.observed.instances) else Reason.NOT_RUNNING


def _reason_of(surveyed: SurveyedLrp) -> tuple[Reason, str]:
    record, action = surveyed.observed.record, surveyed.action
    is_same = record is not None and record.rootfs == str(surveyed.lrp.rootfs)
    match action:
        case Skip(reason, detail) if surveyed.observed.migration is not None and record is not None:
            is_recorded = record.reason.state is AppState.MIGRATING
            return (record.reason, record.detail) if is_recorded else (reason, detail)
        case Skip(reason, detail):
            was_migrated = record is not None and record.cache_guid is not None
            return (Reason.MIGRATED if reason is Reason.ALREADY_CACHED and was_migrated else reason), detail
        case BeginMigration() | CacheImage() | UpdateLogin() | VerifyImage():
            asks_source = isinstance(action, BeginMigration) and action.asks_source
            not_begun = _DAEMON_WIDE_REASONS | (_STAYS_ON_COPY if asks_source else frozenset())
            if record is not None and is_same and record.reason in not_begun:
                return record.reason, record.detail
            return action.reason, ""
        case Forget() | RetireInstances() | RemoveOrphanedBridge() | GiveRoutesBack():
            return action.reason, ""
        case Continue():
            raise AssertionError("a listing does not decide the steps of an open migration")


def _to_rootfs(surveyed: SurveyedLrp, survey: Survey, reason: Reason) -> Rootfs | None:
    state = reason.state
    if state in {AppState.CACHED, AppState.SKIPPED} and surveyed.observed.migration is None:
        return surveyed.lrp.rootfs
    image = _image_of(surveyed)
    migration = surveyed.observed.migration
    if migration is not None and migration.goal is Goal.SOURCE:
        return (
            surveyed.observed.original_source.rootfs
            if surveyed.observed.original_source is not None
            else None
        )
    guid = migration.cache_guid if migration is not None else (image.cache_guid if image else None)
    return None if guid is None else survey.rules.cache.rootfs(guid)


def _image_of(surveyed: SurveyedLrp) -> CachedImage | None:
    """Return the copy that an LRP would be migrated to."""
    match surveyed.action:
        case BeginMigration(image=image) | VerifyImage(image=image) if image is not None:
            return image
        case _:
            return surveyed.observed.image or surveyed.observed.current_copy


def count_by_state(counts: Mapping[Reason, int]) -> Mapping[AppState, int]:
    """Count LRPs by state, from the numbers of their records by reason: those that are gone do not count."""
    states = Counter[AppState]()
    for reason, count in counts.items():
        if reason is not Reason.NOT_DESIRED:
            states[reason.state] += count
    return states
