"""Finds the job for each request for a copy: the requester's own, one that it may join, or a new one."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from controller.cacher.job_shares import JobShares
from controller.cacher.repeats import RepeatedRequests
from controller.shielding import to_the_end
from controller.workqueue import WorkQueue
from reconcile.app_events import CopyBegun
from reconcile.asking_budget import AskingBudget
from reconcile.errors import ErrorCode
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CacheJob,
    CacheRequest,
    JobId,
    JobState,
    is_of_lrp,
    is_of_pass,
    lrp_of_requester,
    repaired_by,
)
from reconcile.trust import may_join

log = structlog.get_logger(scope="cacher")


class JobRequests:
    """The requests for copies, and which of them were ordered by an operator or joined a copy under way."""

    def __init__(
        self,
        dependencies: CacherDependencies,
        *,
        queue: WorkQueue[JobId],
        credentials: JobCredentials,
        shares: JobShares,
    ) -> None:
        self._jobs, self._bindings = dependencies.jobs, dependencies.bindings
        self._listeners, self._gate = dependencies.listeners, dependencies.gate
        self._clock = dependencies.process.clock
        self._monotonic = dependencies.process.monotonic
        self._repeats = RepeatedRequests(self._monotonic)
        self._budget = AskingBudget()
        self._sharing = dependencies.sharing
        self._queue, self._credentials, self._shares = queue, credentials, shares
        self._ordered: dict[JobId, set[str]] = {}
        self._urgent: set[JobId] = set()
        self._joined_late: dict[JobId, list[CacheRequest]] = {}
        self._lock = asyncio.Lock()

    async def request(self, request: CacheRequest) -> CacheJob:
        """Request a copy and return its job: the open job that the requester has already, or another.

        It is carried to its end although whoever asks goes away: nobody would run a job that is only saved.
        """
        return await to_the_end(self._request(request))

    async def _request(self, request: CacheRequest) -> CacheJob:
        async with self._lock:
            known = await self._find_job_of(request)
            job = known or await self._join_or_add(request)
        if request.is_ordered and job.is_open:
            self._note_order(job.job_id, request)
            if job.state is JobState.QUEUED:
                self._urgent.add(job.job_id)
            self._queue.add(job.job_id)
        if not job.is_repair:
            self._listeners.requested(request)
        if known is None and job.state is JobState.COPYING:  # else it is told when that begins
            begun = CopyBegun(str(request.source))
            self._listeners.happened(request.requester, request.app_guid, job.job_id, begun)
        return job

    def pause_after_restart(self, job: CacheJob) -> float:
        """Return the seconds that a job of an earlier process must wait: as long as it would, were it new."""
        if job.failure_code != ErrorCode.ASKED_IN_TURN:
            return 0.0
        return self._budget.pause(job.source.domain, self._monotonic())

    def is_ordered(self, job_id: JobId) -> bool:
        """Whether an operator asked for a copy, or still waits for an LRP that needs it."""
        return any(
            not is_of_lrp(requester) or self._gate.order_of(lrp_of_requester(requester)) is not None
            for requester in self._ordered.get(job_id, ())
        )

    def take_urgency(self, job_id: JobId) -> bool:
        """Whether an operator has ordered a copy since its last attempt, which is to be made at once."""
        is_urgent = job_id in self._urgent
        self._urgent.discard(job_id)
        return is_urgent

    def note_start(self, job_id: JobId) -> None:
        """Note that a job is about to resolve its source: requests that have joined by now are not late."""
        self._joined_late.pop(job_id, None)

    def count_late(self, job_id: JobId) -> int:
        """Count the requests that have joined a job since it started to resolve its source."""
        return len(self._joined_late.get(job_id, ()))

    @asynccontextmanager
    async def locked(self, job_id: JobId) -> AsyncIterator[Sequence[CacheRequest]]:
        """Make new requests wait inside the `with` block; yields the requests that joined a job late."""
        async with self._lock:
            yield self._joined_late.pop(job_id, [])

    async def add_successor(self, late: Sequence[CacheRequest]) -> None:
        """Add a new job for the requests that joined too late; call it only within `locked`."""
        is_ordered = any(request.is_ordered for request in late)
        successor = await self._add(replace(late[0], is_ordered=is_ordered))
        for request in late[1:]:
            await self._bindings.put_binding(_binding(request, successor.job_id))
            self._note_share(successor, request)

    def forget(self, job_id: JobId) -> None:
        """Forget who ordered a job that has ended."""
        self._ordered.pop(job_id, None)
        self._urgent.discard(job_id)
        self._shares.forget(job_id)

    async def _find_job_of(self, request: CacheRequest) -> CacheJob | None:
        """Find the job that the requester asked for already; None when it may ask anew."""
        binding = await self._bindings.find_binding(request.requester)
        job = None if binding is None else await self._jobs.find_job(binding.job_id)
        if job is None:
            return None
        if job.is_open:
            self._note_share(job, request)
            if request.content is not None and job.source != request.job_source:
                return None  # it waits for what a tag means, and this content is known
            if request.credentials is not None and self._credentials.are_missing(job):
                self._credentials.put(job.job_id, request.credentials)
                self._queue.add(job.job_id)
            return job
        may_ask_anew = (
            is_of_pass(request.requester)
            or repaired_by(request.requester) is not None
            or job.failure_code == ErrorCode.CREDENTIALS_LOST
        )
        return None if may_ask_anew else job

    async def _join_or_add(self, request: CacheRequest) -> CacheJob:
        for job in await self._jobs.list_open_jobs(request.job_source):
            if self._may_join(request, job):
                await self._bindings.put_binding(_binding(request, job.job_id))
                self._note_share(job, request)
                if job.state is JobState.COPYING:
                    self._joined_late.setdefault(job.job_id, []).append(request)
                is_urgent = job.failure_code == ErrorCode.ASKED_IN_TURN and not request.may_wait
                if is_urgent or not is_of_pass(request.requester):
                    self._queue.add(job.job_id)  # it need not wait any longer for having been repeated
                return job
        return await self._add(request)

    def _may_join(self, request: CacheRequest, job: CacheJob) -> bool:
        """Whether a request may share a job for its source: what the job proves is proven for both.

        A job that only moves what an LRP has been given before proves nothing of its source.
        """
        if repaired_by(request.requester) is not None or job.is_repair:
            return False
        if (request.reason is Reason.COPY_IN_FORMER_REGISTRY) != job.is_move:
            return False
        if not self._credentials.may_share(job, request.credentials):
            return False
        of_job = self._sharing.reader(job.source, job.organization, request.credentials)
        return may_join(of_job, self._sharing.reader(job.source, request.organization, request.credentials))

    async def _add(self, request: CacheRequest) -> CacheJob:
        now, pause, failure = self._clock(), self._repeats.pause(request), ""
        if pause:
            failure = f"requested-again: too soon after the last copy, it waits {pause:.0f} s"
        elif request.may_wait and not request.is_ordered:
            pause = self._budget.pause(request.source.domain, self._monotonic())
            failure = _asked_in_turn(pause)
        job = CacheJob(
            job_id=JobId(str(uuid.uuid4())),
            source=request.job_source,
            state=JobState.QUEUED,
            reason=request.reason,
            created_at=now,
            updated_at=now,
            needs_credentials=request.credentials is not None,
            organization=request.organization,
            failure=failure,
        )
        await self._jobs.add_job(job, _binding(request, job.job_id))
        if request.credentials is not None:
            self._credentials.put(job.job_id, request.credentials)
        self._note_order(job.job_id, request)
        self._note_share(job, request)
        self._queue.add_later(job.job_id, pause)
        log.debug(
            "queued-job",
            job=job.job_id,
            source_image=str(job.source),
            reason=job.reason,
            starts_in_s=round(pause, 1),
        )
        return job

    def _note_order(self, job_id: JobId, request: CacheRequest) -> None:
        if request.is_ordered:
            self._ordered.setdefault(job_id, set()).add(request.requester)

    def _note_share(self, job: CacheJob, request: CacheRequest) -> None:
        """Let a job wait for the turn of a requester too, which may be now."""
        self._shares.note_request(job, request)
        self._queue.look_again()


def _asked_in_turn(pause: float) -> str:
    """Say why a job waits whose source is only asked whether its tag has moved; empty when it does not."""
    why = "the sources of many apps are asked whether their tags have moved"
    return f"{ErrorCode.ASKED_IN_TURN}: {why}, it waits {pause:.0f} s" if pause else ""


def _binding(request: CacheRequest, job_id: JobId) -> Binding:
    return Binding(
        app_guid=request.app_guid,
        source=request.source,
        requester=request.requester,
        staged_at=request.staged_at,
        job_id=job_id,
        opted_in=request.opted_in,
    )
