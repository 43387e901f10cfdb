"""Takes a cache job, runs the engine, records the result, wakes the waiting LRPs.

One job per source and credentials at a time: stagings of the same reference that arrive
meanwhile join it, and before it ends it is seen that the tag has not moved since. Sharing
never crosses credentials, since a tenant who may not read an image must not get it through
somebody else's job. Credentials stay in memory; after a restart they come back with the
staging task or the LRP that asked.
"""

import asyncio
import random
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from controller.coverage import Followers
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.errors import DockerCacheError, RateLimited, Unavailable
from reconcile.images import CacheRepositories, Digest, ImageReference
from reconcile.lrps import Credentials, ProcessGuid
from reconcile.orders import Order
from reconcile.ports import (
    BindingRecords,
    CopiedImage,
    ImageEngine,
    ImageRecords,
    JobRecords,
    ResolvedImage,
    TargetState,
)
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    JobId,
    JobState,
    is_of_lrp,
    lrp_of_requester,
)

log = structlog.get_logger(scope="cacher")

FIRST_WAIT = 2.0  # seconds after the first failure; doubles
LONGEST_WAIT = 300.0  # seconds
RATE_LIMIT_WAIT = 60.0  # seconds, where the registry names none
CREDENTIALS_WAIT = 15.0  # seconds between two looks for credentials that a restart lost
CREDENTIALS_LOOKS = 20
CREDENTIALS_LOST = "credentials-lost"
OPEN = frozenset({JobState.QUEUED, JobState.COPYING})
PAUSED_WAIT = 60.0  # seconds between two looks whether a pause is over; its end wakes the jobs besides
MAX_ATTEMPTS = 12  # about half an hour of an unreachable registry


@dataclass(frozen=True, slots=True)
class Records:
    """Where jobs, bindings and images are kept."""

    jobs: JobRecords
    bindings: BindingRecords
    images: ImageRecords


class Gate(Protocol):
    """Whether jobs may be run at all."""

    @property
    def is_paused(self) -> bool:
        """Only what an operator asked for is run."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Give what was asked of an LRP, while somebody waits for it."""


class Progress(Protocol):
    """How far a copy has come, in bytes."""

    @property
    def total(self) -> int:
        """Of all layers; 0 until it is known."""

    @property
    def moved(self) -> int:
        """What was transferred."""

    @property
    def skipped(self) -> int:
        """What was there already."""

    @property
    def retries(self) -> int:
        """Layers that were begun again."""


class CopyEngine(ImageEngine, Protocol):
    """An engine that tells how far it has come."""

    def progress(self, target: ImageReference) -> Progress | None:
        """Tell how far the copy to a target has come; None when there is none under way."""


@dataclass(frozen=True, slots=True)
class Copying:
    """How copies are made, and where they lie."""

    engine: CopyEngine
    cache: CacheRepositories


class Cacher:
    """Runs cache jobs; as many at a time as there are loops of `run`."""

    def __init__(
        self,
        copying: Copying,
        *,
        records: Records,
        followers: Followers,
        process: Process,
        gate: Gate,
    ) -> None:
        self._engine, self._cache = copying.engine, copying.cache
        self._records = records
        self._followers = followers
        self._gate = gate
        self._ordered: dict[JobId, set[str]] = {}
        self._targets: dict[JobId, ImageReference] = {}
        self._metrics = process.metrics
        self._clock = process.clock
        self._queue: WorkQueue[JobId] = WorkQueue()
        self._credentials: dict[JobId, Credentials] = {}
        self._waited_for_credentials: dict[JobId, int] = {}
        self._late: dict[JobId, list[CacheRequest]] = {}
        self._requesting = asyncio.Lock()
        self._content_locks: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    async def recover(self) -> None:
        """Put the jobs of an earlier run back in line."""
        for job in await self._records.jobs.list_open_jobs():
            if job.state is JobState.COPYING:
                await self._save(job, JobState.QUEUED, failure="interrupted")
            log.info("resuming-job", job=job.job_id, source_image=str(job.source))
            self._queue.add(job.job_id)

    def close(self) -> None:
        """Stop all timers."""
        self._queue.close()

    async def go_on(self) -> None:
        """Look again at all jobs that wait: a pause is over."""
        for job in await self._records.jobs.list_open_jobs():
            self._queue.add(job.job_id)

    def progress(self, job_id: JobId) -> Progress | None:
        """Tell how far a job's copy has come; None when none is under way."""
        target = self._targets.get(job_id)
        return None if target is None else self._engine.progress(target)

    async def request(self, request: CacheRequest) -> CacheJob:
        """Ask for a copy; the same requester again gives the same job."""
        async with self._requesting:
            job = await self._find_job_of(request) or await self._join_or_add(request)
        if request.is_ordered and job.state in OPEN:
            self._note_order(job.job_id, request)
            self._queue.add(job.job_id)
        self._followers.requested(request)
        return job

    async def _find_job_of(self, request: CacheRequest) -> CacheJob | None:
        """Find the job that the requester asked for already; an LRP whose job has ended asks anew."""
        binding = await self._records.bindings.find_binding(request.requester)
        job = None if binding is None else await self._records.jobs.find_job(binding.job_id)
        if job is None or job.state in OPEN:
            if job is not None and job.needs_credentials:
                self._give_credentials(job.job_id, request.credentials)
            return job
        may_ask_anew = is_of_lrp(request.requester) or job.failure.startswith(CREDENTIALS_LOST)
        return None if may_ask_anew else job

    def _give_credentials(self, job_id: JobId, credentials: Credentials | None) -> None:
        if credentials is not None and job_id not in self._credentials:
            self._credentials[job_id] = credentials
            self._queue.add(job_id)

    async def _join_or_add(self, request: CacheRequest) -> CacheJob:
        for job in await self._records.jobs.list_open_jobs(request.source):
            if self._may_share(job, request.credentials):
                await self._records.bindings.put_binding(self._binding(request, job.job_id))
                if job.state is JobState.COPYING:
                    self._late.setdefault(job.job_id, []).append(request)
                return job
        return await self._add(request)

    async def _add(self, request: CacheRequest) -> CacheJob:
        now = self._clock()
        job = CacheJob(
            job_id=JobId(str(uuid.uuid4())),
            source=request.source,
            state=JobState.QUEUED,
            reason=request.reason,
            created_at=now,
            updated_at=now,
            needs_credentials=request.credentials is not None,
        )
        await self._records.jobs.add_job(job, self._binding(request, job.job_id))
        if request.credentials is not None:
            self._credentials[job.job_id] = request.credentials
        self._note_order(job.job_id, request)
        self._queue.add(job.job_id)
        log.info("queued-job", job=job.job_id, source_image=str(job.source), reason=job.reason)
        return job

    def _note_order(self, job_id: JobId, request: CacheRequest) -> None:
        if request.is_ordered:
            self._ordered.setdefault(job_id, set()).add(request.requester)

    def _is_ordered(self, job_id: JobId) -> bool:
        """Whether an operator asked for a copy, or still waits for an LRP that needs it."""
        return any(
            not is_of_lrp(requester) or self._gate.order_of(lrp_of_requester(requester)) is not None
            for requester in self._ordered.get(job_id, ())
        )

    def content_lock(self, platform_digest: Digest) -> asyncio.Lock:
        """Give what is held by whoever makes or deletes the copy of some content."""
        return self._content_locks.setdefault(platform_digest, asyncio.Lock())

    def _may_share(self, job: CacheJob, credentials: Credentials | None) -> bool:
        if credentials is None:
            return not job.needs_credentials
        return self._credentials.get(job.job_id) == credentials

    @staticmethod
    def _binding(request: CacheRequest, job_id: JobId) -> Binding:
        return Binding(
            app_guid=request.app_guid,
            source=request.source,
            requester=request.requester,
            staged_at=request.staged_at,
            job_id=job_id,
            opted_in=request.opted_in,
        )

    async def run(self) -> None:
        """Run jobs for ever."""
        while True:
            job_id = await self._queue.take()
            try:
                after = await self._run_job(job_id)
            except DockerCacheError as error:  # the store does not take the result: the job's row stands
                seconds = self._queue.back_off(job_id)
                log.exception(
                    "failed-to-save-job", job=job_id, error=str(error), retry_after_s=round(seconds, 1)
                )
                continue
            if after is None:
                self._credentials.pop(job_id, None)
                self._ordered.pop(job_id, None)
                self._queue.done(job_id)
            else:
                self._queue.again(job_id, after)

    async def _run_job(self, job_id: JobId) -> float | None:
        """Run a job once, and tell in how many seconds to look at it again; None when it is over."""
        job = await self._records.jobs.find_job(job_id)
        if job is None or job.state not in OPEN:
            return None
        if self._gate.is_paused and not self._is_ordered(job_id):
            return PAUSED_WAIT
        now = self._clock()
        if job.not_before is not None and job.not_before > now:
            return job.not_before - now
        if not await self._records.bindings.list_bindings(job_id):
            await self._save(job, JobState.FAILED, failure="not-wanted: the staging failed")
            return None
        if job.needs_credentials and job_id not in self._credentials:
            return await self._wait_for_credentials(job)
        if job.attempts >= MAX_ATTEMPTS:  # it ended the process each time, or was put back until now
            await self._fail(job, f"gave-up: after {job.attempts} attempts, last {job.failure}")
            return None
        job = await self._save(job, JobState.COPYING, attempts=job.attempts + 1, not_before=None, failure="")
        return await self._attempt(job)

    async def _wait_for_credentials(self, job: CacheJob) -> float | None:
        """Wait for what a restart has lost, and what the staging task or an LRP brings back."""
        waited = self._waited_for_credentials.get(job.job_id, 0)
        self._waited_for_credentials[job.job_id] = waited + 1
        if waited < CREDENTIALS_LOOKS:
            return CREDENTIALS_WAIT
        del self._waited_for_credentials[job.job_id]
        await self._fail(job, f"{CREDENTIALS_LOST}: neither the staging task nor an LRP brought them back")
        return None

    async def _attempt(self, job: CacheJob) -> float | None:
        started = time.monotonic()
        log.debug("copying-image", job=job.job_id, source_image=str(job.source), attempt=job.attempts)
        try:
            image, copied = await self._cache_image(job)
        except asyncio.CancelledError:
            with suppress(DockerCacheError):  # the job may have ended in this moment, and stays so
                await asyncio.shield(self._save(job, JobState.QUEUED, failure="interrupted"))
            raise
        except RateLimited as error:
            wait = RATE_LIMIT_WAIT if error.retry_after is None else error.retry_after
            return await self._put_back(job, error, wait)
        except Unavailable as error:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(job.attempts - 1, 16))
            spread = random.uniform(wait / 2, wait)  # noqa: S311 - spreads retries
            wait = spread if error.retry_after is None else error.retry_after
            return await self._put_back(job, error, wait)
        except DockerCacheError as error:
            await self._fail(job, f"{error.code}: {error.detail}")
            return None
        except Exception:
            log.exception("failed-to-cache-image", job=job.job_id, source_image=str(job.source))
            return await self._put_back(job, None, FIRST_WAIT * 2.0 ** min(job.attempts, 7))
        duration = time.monotonic() - started
        self._metrics.jobs.labels(outcome="cached").inc()
        self._metrics.job_seconds.observe(duration)
        transferred = 0 if copied is None else copied.transferred
        self._metrics.transferred_bytes.inc(transferred)
        log.info(
            "cached-image",
            job=job.job_id,
            source_image=str(job.source),
            cache_image=str(self._cache.image(image.cache_guid)),
            digest=str(image.digest),
            bytes=image.size,
            transferred_bytes=transferred,
            signatures=None if copied is None else str(copied.signatures),
            attempt=job.attempts,
            duration_s=round(duration, 3),
            reason=job.reason,
        )
        if copied is not None and copied.has_zstd_layers:
            log.info(
                "warning",
                job=job.job_id,
                source_image=str(job.source),
                detail="has layers compressed with zstd: copied as they are, but a cell may refuse them",
            )
        await self._wake_waiting(job)
        return None

    async def _cache_image(self, job: CacheJob) -> tuple[CachedImage, CopiedImage | None]:
        """Have the job's content in the private registry under its GUID; without a copy if it was there."""
        self._late.pop(job.job_id, None)  # they come in time after all
        resolved = await self._engine.resolve(job.source, self._credentials.get(job.job_id))
        async with self.content_lock(resolved.platform_digest):
            guid = await self._records.images.reserve_guid(resolved.platform_digest)
            target = self._cache.image(guid)
            known = await self._records.images.find_image(guid)
            needs_verification_since = 0.0 if known is None else known.needs_verification_since
            is_trusted = known is not None and not needs_verification_since
            if known is not None and is_trusted and await self._engine.is_present(target, known.digest):
                await self._finish(job, resolved, replace(known, verified_at=self._clock()), ())
                return known, None
            copied = await self._copy(job, resolved, target, is_first=known is None and job.attempts == 1)
            now = self._clock()
            image = CachedImage(
                cache_guid=guid,
                source=job.source,
                root_digest=resolved.root_digest,
                platform_digest=resolved.platform_digest,
                digest=copied.digest,
                size=copied.size,
                created_at=now,
                verified_at=now,
                # Until it was read back: a copy adds what is missing, and does not mend what is corrupt.
                needs_verification_since=needs_verification_since,
            )
            await self._finish(job, resolved, image, copied.blobs)
            return image, copied

    async def _copy(
        self, job: CacheJob, resolved: ResolvedImage, target: ImageReference, *, is_first: bool
    ) -> CopiedImage:
        self._targets[job.job_id] = target
        try:
            return await self._engine.copy(
                resolved,
                target,
                self._credentials.get(job.job_id),
                state=TargetState.EMPTY if is_first else TargetState.UNKNOWN,
            )
        finally:
            del self._targets[job.job_id]

    async def _finish(
        self, job: CacheJob, resolved: ResolvedImage, image: CachedImage, blobs: tuple[Digest, ...]
    ) -> None:
        cached = replace(
            job, state=JobState.CACHED, cache_guid=image.cache_guid, updated_at=self._clock(), failure=""
        )
        async with self._requesting:
            late = self._late.pop(job.job_id, [])
            if late and await self._has_moved(job, resolved):
                is_ordered = any(request.is_ordered for request in late)
                successor = await self._add(replace(late[0], is_ordered=is_ordered))
                for request in late[1:]:
                    await self._records.bindings.put_binding(self._binding(request, successor.job_id))
            await self._records.jobs.finish_job(cached, image, blobs)

    async def _has_moved(self, job: CacheJob, resolved: ResolvedImage) -> bool:
        """Whether a reference stands for something else than when its copy began, or nobody can tell."""
        try:
            again = await self._engine.resolve(job.source, self._credentials.get(job.job_id))
        except DockerCacheError:
            return True
        return again.platform_digest != resolved.platform_digest

    async def _put_back(self, job: CacheJob, error: Unavailable | None, wait: float) -> float | None:
        failure = "internal-error: see the log" if error is None else f"{error.code}: {error.detail}"
        is_limit = isinstance(error, RateLimited)
        if job.attempts >= MAX_ATTEMPTS and not is_limit:
            await self._fail(job, f"gave-up: after {job.attempts} attempts, last {failure}")
            return None
        # A rate limit says nothing about the copy: it does not use up attempts.
        attempts = job.attempts - 1 if is_limit else job.attempts
        not_before = self._clock() + wait
        await self._save(job, JobState.QUEUED, attempts=attempts, not_before=not_before, failure=failure)
        self._metrics.jobs.labels(outcome="again").inc()
        log.info(
            "postponed-job",
            job=job.job_id,
            source_image=str(job.source),
            reason=failure,
            attempt=job.attempts,
            retry_after_s=round(wait, 1),
        )
        return wait

    async def _fail(self, job: CacheJob, failure: str) -> None:
        await self._save(job, JobState.FAILED, failure=failure)
        self._metrics.jobs.labels(outcome="failed").inc()
        log.error("failed-to-cache-image", job=job.job_id, source_image=str(job.source), reason=failure)
        await self._wake_waiting(job)

    async def _save(
        self,
        job: CacheJob,
        state: JobState,
        *,
        failure: str,
        attempts: int | None = None,
        not_before: float | None = None,
    ) -> CacheJob:
        changed = replace(
            job,
            state=state,
            failure=failure,
            attempts=job.attempts if attempts is None else attempts,
            not_before=not_before,
            updated_at=self._clock(),
        )
        await self._records.jobs.save_job(changed)
        return changed

    async def _wake_waiting(self, job: CacheJob) -> None:
        for binding in await self._records.bindings.list_bindings(job.job_id):
            self._followers.ended(binding.app_guid)
