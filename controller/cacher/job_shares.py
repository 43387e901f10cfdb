"""Knows whose work each job is, and chooses the next job from the queue by fair shares."""

from collections.abc import Iterable

from controller.workqueue import Priority
from reconcile.fairness import FairShares, Share, Slots, Urgency
from reconcile.records import Binding, CacheJob, CacheRequest, JobId, is_of_pass

MAX_SHARES = 16
"""Most shares of one job that are remembered; the job starts at the turn of whichever comes first."""


class JobShares:
    """The lines in which jobs wait, as the `Lines` of the work queue.

    A job that several apps asked for waits in the line of each of their organizations. The first turn starts
    it. An app whose organization is not known counts as an organization of its own.
    """

    def __init__(self, slots: Slots) -> None:
        self._line: FairShares[JobId] = FairShares(slots)
        self._shares: dict[JobId, tuple[Share, ...]] = {}

    def note_request(self, job: CacheJob, request: CacheRequest) -> None:
        """Note who asks for a job, before the job is put into the queue."""
        self._note(job.job_id, Share(request.organization, job.source.domain, _urgency_of(request.requester)))

    def note_bindings(self, job: CacheJob, bindings: Iterable[Binding]) -> None:
        """Note the apps that asked for a job in an earlier run of the daemon."""
        for binding in bindings:
            owner = job.organization or f"app:{binding.app_guid}"
            self._note(job.job_id, Share(owner, job.source.domain, _urgency_of(binding.requester)))

    def forget(self, job_id: JobId) -> None:
        """Forget a job that has ended."""
        self._shares.pop(job_id, None)

    def count(self, urgency: Urgency) -> int:
        """Count the jobs that wait for a slot."""
        return self._line.count(urgency)

    def __len__(self) -> int:
        return len(self._line)

    def __contains__(self, key: object) -> bool:
        return key in self._line

    def put(self, key: JobId, priority: Priority) -> None:  # noqa: ARG002 - the shares decide alone
        """Let a job wait for the turns of its shares."""
        for share in self._shares.get(key, (_UNKNOWN_SHARE,)):
            self._line.add(key, share)

    def take(self) -> JobId | None:
        """Take the job whose turn it is; None when none may start now."""
        return self._line.choose()

    def release(self, key: JobId) -> None:
        """Note that a job is not under way any more."""
        self._line.release(key)

    def _note(self, job_id: JobId, share: Share) -> None:
        shares = self._shares.get(job_id, ())
        if share in shares or len(shares) >= MAX_SHARES:
            return
        self._shares[job_id] = (*shares, share)
        if job_id in self._line:
            self._line.add(job_id, share)


_UNKNOWN_SHARE = Share("", "", Urgency.BACKLOG)


def _urgency_of(requester: str) -> Urgency:
    """Tell how urgent a request is: that of a pass is not, since its app runs from the source meanwhile."""
    return Urgency.BACKLOG if is_of_pass(requester) else Urgency.STAGING
