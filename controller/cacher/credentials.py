"""Keeps the credentials of jobs in memory, and limits how long a job waits for those that a restart lost."""

from reconcile.lrps import Credentials
from reconcile.records import CacheJob, JobId

CHECK_INTERVAL = 15.0  # seconds between two checks for credentials that a restart has lost
MAX_CHECKS = 20


class JobCredentials:
    """The credentials of jobs that have not ended."""

    def __init__(self) -> None:
        self._credentials: dict[JobId, Credentials] = {}
        self._checks: dict[JobId, int] = {}

    def find(self, job_id: JobId) -> Credentials | None:
        """Return the credentials of a job; None when it has none, or none any more."""
        return self._credentials.get(job_id)

    def are_missing(self, job: CacheJob) -> bool:
        """Whether a job needs credentials that a restart has lost."""
        return job.needs_credentials and job.job_id not in self._credentials

    def put(self, job_id: JobId, credentials: Credentials) -> None:
        """Keep the credentials of a job."""
        self._credentials[job_id] = credentials

    def may_share(self, job: CacheJob, credentials: Credentials | None) -> bool:
        """Whether a request with these credentials, or with none, may join a job: the job has the same."""
        if credentials is None:
            return not job.needs_credentials
        return self._credentials.get(job.job_id) == credentials

    def seconds_until_next_check(self, job_id: JobId) -> float | None:
        """Count a check for lost credentials; None when that was the last one."""
        checks = self._checks[job_id] = self._checks.get(job_id, 0) + 1
        return CHECK_INTERVAL if checks <= MAX_CHECKS else None

    def forget(self, job_id: JobId) -> None:
        """Forget the credentials of a job that has ended."""
        self._credentials.pop(job_id, None)
        self._checks.pop(job_id, None)
