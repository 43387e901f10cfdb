"""Names everything that operators' calls reach, in four parts."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from controller.admin.applier import Applier
from controller.admin.audit import Audit
from controller.admin.copies import Copies
from controller.admin.listing import AuditEntries, Breaker, ListedRecords, Watching
from controller.admin.planner import Planner
from controller.admin.survey import Survey
from controller.control import OperatorControl
from controller.process import Process
from controller.progress import Progress
from reconcile.ports import Journal, Mode
from reconcile.records import CacheJob, CacheRequest, JobId
from reconcile.references import CacheRepositories


class RequestedJobs(Protocol):
    """Cache jobs, as operators ask for them and follow them."""

    async def request(self, request: CacheRequest) -> CacheJob:
        """Ask for a copy."""

    async def resume(self) -> None:
        """Look again at all jobs that wait."""

    def progress(self, job_id: JobId) -> Progress | None:
        """Return how far a job's copy has come; None while it does not copy."""


@dataclass(frozen=True, slots=True)
class Planning:
    """What plans are made and applied by."""

    survey: Survey
    planner: Planner
    applier: Applier


@dataclass(frozen=True, slots=True)
class Stored:
    """What is read from the store, and the audit that is written to it."""

    records: ListedRecords
    journal: Journal
    entries: AuditEntries
    audit: Audit


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """The parts of the running daemon that report their state, or that an operator stops and resumes."""

    control: OperatorControl
    breaker: Breaker
    watching: Watching
    mode: Mode
    process: Process
    started_at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class AdminDependencies:
    """Everything that operators' calls reach."""

    planning: Planning
    copies: Copies
    jobs: RequestedJobs
    stored: Stored
    daemon: RunningDaemon

    @property
    def cache(self) -> CacheRepositories:
        """Where copies lie."""
        return self.planning.survey.rules.cache
