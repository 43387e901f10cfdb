"""Runs one cache job: decides whether it may run now, makes an attempt, and saves the result."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from controller.app_tags import named
from controller.backoff import backoff
from controller.cacher.copying import JobCopies
from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from controller.cacher.requests import JobRequests
from reconcile.answers import WAITED_FOR
from reconcile.app_events import CopyBegun, CopyEvent, CopyFailed, CopyPostponed, ImageCached
from reconcile.copying_ports import CopiedImage
from reconcile.errors import DockerCacheError, ErrorCode, Invalid, NotFound, RateLimited, Unavailable
from reconcile.failure_kinds import FailureKind, kind_of, kind_of_code
from reconcile.lrps import AppGuid
from reconcile.plain_causes import is_about
from reconcile.records import MAX_ATTEMPTS, Binding, CachedImage, CacheJob, JobId, JobState, repaired_by

log = structlog.get_logger(scope="cacher")

RETRY_PAUSE = backoff(2.0, 300.0)  # seconds, by the number of attempts
RATE_LIMIT_PAUSE = 60.0  # seconds, where the registry names none
_ZSTD = "layers of zstd were copied unchanged; cells of before 2026 cannot unpack them"
PAUSE_CHECK_INTERVAL = 60.0  # seconds between two checks whether a pause is over, besides its end


class JobRunner:
    """Makes single attempts at cache jobs."""

    def __init__(
        self,
        dependencies: CacherDependencies,
        *,
        requests: JobRequests,
        credentials: JobCredentials,
        copies: JobCopies,
    ) -> None:
        self._jobs, self._bindings = dependencies.jobs, dependencies.bindings
        self._cache, self._gate = dependencies.cache, dependencies.gate
        self._listeners, self._process = dependencies.listeners, dependencies.process
        self._requests, self._credentials, self._copies = requests, credentials, copies
        self._limits, self._app_tags = dependencies.limits, dependencies.app_tags
        self._waits: dict[JobId, int] = {}
        """How often in a row the attempts at a job met a registry that does not serve, or store, for now."""
        self._spent: dict[JobId, float] = {}
        """Seconds that the attempts at a job, and the waits between them, have taken."""
        self._failed_bytes = dependencies.failed_bytes
        self._failed_bytes_of_jobs: dict[JobId, int] = {}
        """The bytes that failed attempts at open jobs have moved."""

    async def run(self, job_id: JobId) -> float | None:
        """Run a job once, and return the seconds until it must run again; None when it has ended."""
        job = await self._jobs.find_job(job_id)
        if job is None or not job.is_open:
            return None
        if self._gate.is_paused and not self._requests.is_ordered(job_id):
            return PAUSE_CHECK_INTERVAL
        now = self._process.clock()
        is_urgent = self._requests.take_urgency(job_id)
        if (seconds := job.seconds_until_due(now)) > 0 and not is_urgent:
            return seconds
        bindings = await self._bindings.list_bindings(job_id)
        if not bindings:
            await self._save(job, JobState.FAILED, failure="not-wanted: the staging failed")
            return None
        seconds = self._failed_bytes.seconds_until_allowed(_payers(job, bindings), self._process.monotonic())
        if seconds > 0 and not self._requests.is_ordered(job_id):
            return await self._wait_for_budget(job, bindings, seconds)
        if self._credentials.are_missing(job):
            return await self._wait_for_credentials(job)
        if job.attempts >= MAX_ATTEMPTS:  # it ended the process each time, or was postponed until now
            await self._fail(
                job,
                f"{ErrorCode.GAVE_UP}: after {job.attempts} attempts, last {job.failure}",
                kind_of_code(job.failure_code),
            )
            return None
        job = await self._save(job, JobState.COPYING, attempts=job.attempts + 1, not_before=None, failure="")
        for binding in bindings:
            begun = CopyBegun(str(job.source))
            self._listeners.happened(binding.requester, binding.app_guid, job.job_id, begun)
        return await self._attempt(job)

    async def interrupt(self, job: CacheJob) -> None:
        """Put a job whose copy was interrupted back into the queue."""
        await self._save(job, JobState.QUEUED, failure="interrupted")

    def forget(self, job_id: JobId) -> None:
        """Forget how a job that has ended came to its end."""
        self._waits.pop(job_id, None)
        self._spent.pop(job_id, None)
        self._failed_bytes_of_jobs.pop(job_id, None)

    async def _wait_for_budget(self, job: CacheJob, bindings: Sequence[Binding], seconds: float) -> float:
        """Let a job wait whose organization's failed copies were too large; it uses up no attempt."""
        budget = self._failed_bytes.budget
        detail = f"copies of its organization transferred {budget:,} bytes in failed attempts within a day"
        failure = f"{ErrorCode.FAILED_BYTES}: {detail}"
        if job.failure != failure:
            self._process.metrics.jobs.failures.labels("again", FailureKind.FAILED_BYTES).inc()
            log.error(
                "too-many-failed-bytes",
                job=job.job_id,
                source_image=str(job.source),
                bytes=budget,
                retry_after_s=round(seconds, 1),
            )
        not_before = self._process.clock() + seconds
        await self._save(job, JobState.QUEUED, not_before=not_before, failure=failure)
        for binding in bindings:
            self._listeners.postponed(binding.app_guid)
            if job.failure != failure:
                event = self._postponed(job, failure, seconds)
                self._listeners.happened(binding.requester, binding.app_guid, job.job_id, event)
        return seconds

    async def _count_failed_bytes(self, job: CacheJob, error: DockerCacheError) -> None:
        self._process.metrics.jobs.failed_bytes.inc(error.moved)
        self._failed_bytes_of_jobs[job.job_id] = self._failed_bytes_of_jobs.get(job.job_id, 0) + error.moved
        await self._charge(job, error.moved)

    async def _charge(self, job: CacheJob, size: int) -> None:
        if not size:
            return
        payers = _payers(job, await self._bindings.list_bindings(job.job_id))
        self._failed_bytes.add(payers, size, self._process.monotonic())

    async def _wait_for_credentials(self, job: CacheJob) -> float | None:
        """Wait for credentials that a restart has lost, and that the staging task or an LRP brings back."""
        seconds = self._credentials.seconds_until_next_check(job.job_id)
        if seconds is None:
            failure = f"{ErrorCode.CREDENTIALS_LOST}: neither the staging task nor an LRP brought them back"
            await self._fail(job, failure, FailureKind.CREDENTIALS_LOST)
        return seconds

    async def _attempt(self, job: CacheJob) -> float | None:
        started = self._process.monotonic()
        log.debug("copying-image", job=job.job_id, source_image=str(job.source), attempt=job.attempts)
        try:
            image, copied = await self._make_in_time(job)
        except asyncio.CancelledError:
            with suppress(DockerCacheError):  # the job may have ended in this moment, and then stays so
                await asyncio.shield(self.interrupt(job))
            raise
        except Unavailable as error:
            await self._count_failed_bytes(job, error)
            return await self._postpone_or_fail(job, error)
        except DockerCacheError as error:
            await self._count_failed_bytes(job, error)
            await self._fail(job, f"{error.code}: {error.detail}", kind_of(error))
            return None
        except Exception:
            log.exception("failed-to-cache-image", job=job.job_id, source_image=str(job.source))
            failure, pause = f"{FailureKind.INTERNAL_ERROR}: see the log", RETRY_PAUSE(job.attempts)
            return await self._retry_or_fail(job, failure, pause, FailureKind.INTERNAL_ERROR)
        await self._charge(
            job, -self._failed_bytes_of_jobs.pop(job.job_id, 0)
        )  # none of it failed in the end
        await self._report_cached(job, image, copied, self._process.monotonic() - started)
        return None

    async def _make_in_time(self, job: CacheJob) -> tuple[CachedImage, CopiedImage | None]:
        """Make a job's copy within what is left of the time for the job.

        Raises:
            Invalid: `took-too-long`.
        """
        started, spent = self._process.monotonic(), self._spent.get(job.job_id, 0.0)
        time_limit = asyncio.timeout(self._limits.total - spent)
        try:
            async with time_limit:
                return await self._make(job)
        except TimeoutError as error:
            if not time_limit.expired():
                raise
            detail = f"{job.source} was not copied within {self._limits.total:g} s"
            raise Invalid("cacher", ErrorCode.TOOK_TOO_LONG, detail) from error
        finally:
            self._spent[job.job_id] = spent + self._process.monotonic() - started

    async def _make(self, job: CacheJob) -> tuple[CachedImage, CopiedImage | None]:
        if not job.is_repair:
            return await self._copies.cache_image(job)
        bindings = await self._bindings.list_bindings(job.job_id)
        guid = next(filter(None, (repaired_by(each.requester) for each in bindings)), None)
        if guid is None:
            raise NotFound("store", ErrorCode.NOT_WANTED, "nobody wants this repair any more")
        return await self._copies.repair_image(job, guid)

    async def _report_cached(
        self, job: CacheJob, image: CachedImage, copied: CopiedImage | None, seconds: float
    ) -> None:
        metrics = self._process.metrics
        bindings = await self._bindings.list_bindings(job.job_id)
        transferred = 0 if copied is None else copied.transferred
        metrics.jobs.attempts.labels(outcome="cached").inc()
        metrics.jobs.duration.observe(seconds)
        metrics.registries.note_served(job.source.domain)
        if copied is not None:
            registry = metrics.registries.names.of(job.source.domain)
            metrics.jobs.count_bytes(
                registry, transferred=transferred, mounted=copied.mounted, present=copied.present
            )
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
            duration_s=round(seconds, 3),
            reason=job.reason,
            detail=_ZSTD if copied is not None and copied.has_zstd_layers else "",
            **self._whose(bindings),
        )
        copy = str(self._cache.image(image.cache_guid))
        moved = None if copied is None else copied.transferred
        event = ImageCached(str(job.source), copy, image.size, moved, seconds)
        self._notify_listeners(job, bindings, event)

    async def _postpone_or_fail(self, job: CacheJob, error: Unavailable) -> float | None:
        failure = f"{error.code}: {error.detail}"
        if error.code == ErrorCode.TOO_SLOW:
            self._process.metrics.jobs.slow_transfers.inc()
        if isinstance(error, RateLimited) or error.code in WAITED_FOR or error.system == "store":
            # It says nothing about the copy: it uses up no attempt. A registry that names a time which is too
            # short is asked ever more seldom.
            count = self._waits[job.job_id] = self._waits.get(job.job_id, 0) + 1
            unnamed = RATE_LIMIT_PAUSE if isinstance(error, RateLimited) else 0.0
            named = unnamed if error.retry_after is None else error.retry_after
            seconds = max(named, RETRY_PAUSE(count))
            return await self._postpone(job, failure, seconds, kind_of(error), attempts=job.attempts - 1)
        self._waits.pop(job.job_id, None)
        pause = max(error.retry_after or 0.0, RETRY_PAUSE(job.attempts))
        return await self._retry_or_fail(job, failure, pause, kind_of(error))

    async def _retry_or_fail(
        self, job: CacheJob, failure: str, seconds: float, kind: FailureKind
    ) -> float | None:
        if job.attempts < MAX_ATTEMPTS:
            return await self._postpone(job, failure, seconds, kind, attempts=job.attempts)
        await self._fail(job, f"{ErrorCode.GAVE_UP}: after {job.attempts} attempts, last {failure}", kind)
        return None

    async def _postpone(
        self, job: CacheJob, failure: str, seconds: float, kind: FailureKind, *, attempts: int
    ) -> float | None:
        spent = self._spent[job.job_id] = self._spent.get(job.job_id, 0.0) + seconds
        if spent > self._limits.total:
            within = f"not within the {self._limits.total:g} s that a job may take"
            await self._fail(job, f"{ErrorCode.GAVE_UP}: {within}, last {failure}", kind)
            return None
        not_before = self._process.clock() + seconds
        await self._save(job, JobState.QUEUED, attempts=attempts, not_before=not_before, failure=failure)
        self._process.metrics.jobs.count_failure("again", kind)
        event = self._postponed(job, failure, seconds)
        for binding in await self._bindings.list_bindings(job.job_id):
            self._listeners.postponed(binding.app_guid)
            self._listeners.happened(binding.requester, binding.app_guid, job.job_id, event)
        is_first = job.attempts == 1 and self._waits.get(job.job_id, 0) <= 1
        write = log.info if is_first else log.debug  # `jobs` shows what each attempt comes to
        write(
            "postponed-job",
            job=job.job_id,
            source_image=str(job.source),
            reason=failure,
            attempt=job.attempts,
            retry_after_s=round(seconds, 1),
        )
        return seconds

    async def _fail(self, job: CacheJob, failure: str, kind: FailureKind) -> None:
        await self._save(job, JobState.FAILED, failure=failure)
        self._process.metrics.jobs.count_failure("failed", kind)
        bindings = await self._bindings.list_bindings(job.job_id)
        log.error(
            "failed-to-cache-image",
            job=job.job_id,
            source_image=str(job.source),
            reason=failure,
            attempt=job.attempts,
            **self._whose(bindings),
        )
        self._notify_listeners(job, bindings, CopyFailed(str(job.source), failure, self._is_private(failure)))

    def _postponed(self, job: CacheJob, failure: str, seconds: float) -> CopyPostponed:
        return CopyPostponed(str(job.source), failure, seconds, self._is_private(failure))

    def _is_private(self, failure: str) -> bool:
        return is_about(failure, self._cache.address)

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
            updated_at=self._process.clock(),
        )
        await self._jobs.save_job(changed)
        return changed

    def _whose(self, bindings: Sequence[Binding]) -> dict[str, object]:
        """Return the names of the app that waits for a copy, of the first of several, and their number."""
        apps = dict.fromkeys(binding.app_guid for binding in bindings if binding.app_guid)
        first = next(iter(apps), AppGuid(""))
        return {**named(self._app_tags.of(first)), "app_guid": first, "apps": len(apps)}

    def _notify_listeners(self, job: CacheJob, bindings: Sequence[Binding], event: CopyEvent) -> None:
        for binding in bindings:
            repaired = repaired_by(binding.requester)
            self._listeners.happened(binding.requester, binding.app_guid, job.job_id, event)
            if repaired is None:
                self._listeners.ended(binding.app_guid)
            else:
                self._listeners.repair_ended(repaired)


def _payers(job: CacheJob, bindings: Sequence[Binding]) -> frozenset[str]:
    """Name who the bytes of a job are counted for: its organization, or apps in jobs of older versions."""
    return frozenset({job.organization} if job.organization else (each.app_guid for each in bindings))
