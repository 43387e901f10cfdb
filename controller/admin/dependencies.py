"""The dependencies of the admin API."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from controller.admin.app_directory import AppDirectory
from controller.admin.applier import Applier
from controller.admin.audit import Audit
from controller.admin.backups import BackupReceiver
from controller.admin.cells import AdminCells
from controller.admin.copies import Copies
from controller.admin.droplets import AdminDroplets
from controller.admin.listing import (
    AdminGate,
    AdminWatcher,
    AuditEntries,
    ListedRecords,
    PagedRecords,
)
from controller.admin.planner import Planner
from controller.admin.survey import Survey
from controller.admin.unhealthy import AdminHealth
from controller.control import OperatorControl
from controller.notes import Adoption
from controller.process import Process
from controller.progress import Progress
from controller.store.availability import Outage
from reconcile.ports import Journal, Mode
from reconcile.records import CacheJob, CacheRequest, JobId
from reconcile.references import CacheRepositories
from reconcile.store_markers import StoreId


class RequestedJobs(Protocol):
    """Cache jobs, as operators request and watch them."""

    async def request(self, request: CacheRequest) -> CacheJob:
        """Request a copy."""

    async def resume(self) -> None:
        """Queue all open jobs again."""

    def progress(self, job_id: JobId) -> Progress | None:
        """Return the progress of a job's copy; None when no copy is under way."""


class AdminCertificates(Protocol):
    """The certificates that the daemon uses."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Describe each certificate that ends soon, or has ended."""


@dataclass(frozen=True, slots=True)
class Planning:
    """Makes plans and applies them."""

    survey: Survey
    planner: Planner
    applier: Applier


@dataclass(frozen=True, slots=True)
class Stored:
    """What is read from the store, and the audit that is written to it."""

    records: ListedRecords
    pages: PagedRecords
    journal: Journal
    entries: AuditEntries
    audit: Audit


class AdminStoreMarker(Protocol):
    """Whether a daemon with another store works on the BBS."""

    @property
    def store(self) -> StoreId:
        """The id of this process's store."""

    @property
    def others(self) -> tuple[StoreId, ...]:
        """The other stores that were seen at the last look."""


class AdminDatabase(Protocol):
    """Whether the database does what it is asked."""

    @property
    def outage(self) -> Outage | None:
        """Since when it does not, and what it says; None while it does."""


@dataclass(frozen=True, slots=True)
class WaitingWork:
    """What waits for the database while it does not do what it is asked.

    Attributes:
        migrations: Those that are under way.
        lrps: The number of LRPs whose last pass failed.
        jobs: Cache jobs that wait, are under way, or are done and not yet saved.
    """

    migrations: int
    lrps: int
    jobs: int


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """The parts of the running daemon that report their state, or that an operator stops and resumes."""

    control: OperatorControl
    gate: AdminGate
    watching: AdminWatcher
    mode: Mode
    cells: AdminCells
    process: Process
    health: AdminHealth
    certificates: AdminCertificates
    store_marker: AdminStoreMarker
    database: AdminDatabase
    count_waiting: Callable[[], WaitingWork]
    distinct_bytes: Callable[[], int | None] = lambda: None
    started_at: float = field(default_factory=time.time)


class SealedCounts(Protocol):
    """What has become of the sealed values of the database."""

    @property
    def values(self) -> int:
        """How many there are."""

    @property
    def renewed(self) -> int:
        """How many were sealed anew."""

    @property
    def unreadable(self) -> int:
        """How many none of the keys opens."""


class AdminSealing(Protocol):
    """The sealed values of the database."""

    async def seal_anew(self) -> SealedCounts:
        """Seal with the first key what an older one has sealed."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What brings records back that were lost, and keeps those readable that are sealed."""

    adoption: Adoption
    backups: BackupReceiver
    sealing: AdminSealing


@dataclass(frozen=True, slots=True)
class AdminDependencies:
    """The dependencies of the admin API."""

    planning: Planning
    copies: Copies
    jobs: RequestedJobs
    droplets: AdminDroplets
    directory: AppDirectory
    stored: Stored
    daemon: RunningDaemon
    recovery: Recovery

    @property
    def cache(self) -> CacheRepositories:
        """The names of copies in the private registry."""
        return self.planning.survey.rules.cache
