"""Takes cache jobs from the queue and runs them, one at a time in each concurrent call of `Cacher.run`."""

from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog

from controller.cacher.copying import JobCopies
from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from controller.cacher.job_shares import JobShares
from controller.cacher.requests import JobRequests
from controller.cacher.running import JobRunner
from controller.progress import Progress
from controller.workqueue import WorkQueue
from reconcile.errors import DockerCacheError
from reconcile.fairness import Urgency
from reconcile.records import Binding, CacheJob, CacheRequest, JobId, JobState
from reconcile.references import Digest

log = structlog.get_logger(scope="cacher")


class Cacher:
    """The queue of cache jobs, and the loop that runs them."""

    def __init__(self, dependencies: CacherDependencies) -> None:
        self._jobs, self._bindings = dependencies.jobs, dependencies.bindings
        self._slots, self._shares = dependencies.slots, JobShares(dependencies.slots)
        self._queue: WorkQueue[JobId] = WorkQueue(self._shares)
        for urgency in Urgency:
            waiting = dependencies.process.metrics.jobs.waiting.labels(urgency=urgency.name.lower())
            waiting.set_function(partial(self._shares.count, urgency))
        self._credentials = JobCredentials()
        self._requests = JobRequests(
            dependencies, queue=self._queue, credentials=self._credentials, shares=self._shares
        )
        self._copies = JobCopies(dependencies, requests=self._requests, credentials=self._credentials)
        self._runner = JobRunner(
            dependencies, requests=self._requests, credentials=self._credentials, copies=self._copies
        )

    @property
    def slots(self) -> int:
        """Number of jobs that run at the same time at most, each in a call of `run`."""
        return self._slots.total

    @property
    def pending_jobs(self) -> int:
        """The number of jobs that wait, are under way, or are done and not yet saved."""
        return self._queue.pending

    async def recover(self) -> None:
        """Queue the open jobs that an earlier run of the daemon left; all, or none when the store fails."""
        left = list[tuple[CacheJob, tuple[Binding, ...]]]()
        for job in await self._jobs.list_open_jobs():
            if job.state is JobState.COPYING:
                await self._runner.interrupt(job)
            left.append((job, await self._bindings.list_bindings(job.job_id)))
        for job, bindings in left:
            log.debug("resuming-job", job=job.job_id, source_image=str(job.source))
            self._shares.note_bindings(job, bindings)
            self._queue.add_later(job.job_id, self._requests.pause_after_restart(job))

    def close(self) -> None:
        """Stop all timers."""
        self._queue.close()

    async def resume(self) -> None:
        """Queue all open jobs again, since a pause is over."""
        for job in await self._jobs.list_open_jobs():
            self._queue.add(job.job_id)

    async def request(self, request: CacheRequest) -> CacheJob:
        """Request a copy and return its job: the open job that the requester has already, or another."""
        return await self._requests.request(request)

    def progress(self, job_id: JobId) -> Progress | None:
        """Return the progress of a job's copy; None when no copy is under way."""
        return self._copies.progress(job_id)

    def content_lock(self, platform_digest: Digest) -> AbstractAsyncContextManager[None]:
        """Return the lock to hold while the copy of some content is deleted.

        Entering it raises Conflict `being-copied` while a copy of the content is under way.
        """
        return self._copies.content_lock(platform_digest)

    async def run(self) -> None:
        """Run one job after another, until cancelled."""
        while True:
            job_id = await self._queue.take()
            try:
                seconds = await self._runner.run(job_id)
            except DockerCacheError as error:  # the result could not be saved: the job's row stays as it was
                pause = self._queue.back_off(job_id)
                log.exception(
                    "failed-to-save-job", job=job_id, error=str(error), retry_after_s=round(pause, 1)
                )
                continue
            if seconds is None:
                self._credentials.forget(job_id)
                self._requests.forget(job_id)
                self._runner.forget(job_id)
                self._queue.done(job_id)
            else:
                self._queue.again(job_id, seconds)
