"""Copies the image of a job into the private registry, under the cache GUID of the image's content."""

import asyncio
from dataclasses import replace
from weakref import WeakValueDictionary

from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from controller.cacher.requests import JobRequests
from controller.progress import Progress
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.ports import CopiedImage, ResolvedImage, TargetState
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import Digest, ImageReference

CONFIRMED_WITHIN = 5.0
"""Seconds within which a source must first say whether a tag has moved since the staging that is known. Without an
answer, an LRP of which nothing runs gets the copy that its app had; the source is asked again meanwhile."""


class JobCopies:
    """Makes the copies for jobs; no two jobs copy the same content at the same time."""

    def __init__(
        self, dependencies: CacherDependencies, *, requests: JobRequests, credentials: JobCredentials
    ) -> None:
        self._engine, self._cache = dependencies.engine, dependencies.cache
        self._jobs, self._images = dependencies.jobs, dependencies.images
        self._bindings, self._known = dependencies.bindings, dependencies.copies
        self._clock = dependencies.process.clock
        self._requests, self._credentials = requests, credentials
        self._targets: dict[JobId, ImageReference] = {}
        self._content_locks: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    def progress(self, job_id: JobId) -> Progress | None:
        """Return the progress of a job's copy; None when no copy is under way."""
        target = self._targets.get(job_id)
        return None if target is None else self._engine.progress(target)

    def content_lock(self, platform_digest: Digest) -> asyncio.Lock:
        """Return the lock to hold while the copy of some content is made or deleted."""
        return self._content_locks.setdefault(platform_digest, asyncio.Lock())

    async def cache_image(self, job: CacheJob) -> tuple[CachedImage, CopiedImage | None]:
        """Copy a job's image, unless a copy of its content exists, and end the job.

        Returns:
            The cached image, and the copy that was made; None for the latter when a copy existed already.
        """
        self._requests.note_start(job.job_id)
        pinned = await self._find_pinned(job)
        if pinned is not None:
            return pinned, None
        resolved = await self._resolve(job)
        async with self.content_lock(resolved.platform_digest):
            reserved = await self._images.find_guid(resolved.platform_digest)
            guid = reserved or await self._images.reserve_guid(resolved.platform_digest)
            target = self._cache.image(guid)
            known = await self._images.find_image(guid)
            needs_verification_since = 0.0 if known is None else known.needs_verification_since
            is_trusted = known is not None and not needs_verification_since
            if known is not None and is_trusted and await self._engine.is_present(target, known.digest):
                await self._finish(
                    job, resolved, replace(known, verified_at=self._clock(), registry=self._cache.address), ()
                )
                return known, None
            # Where a GUID was reserved before, an earlier attempt may have left blobs.
            state = TargetState.EMPTY if reserved is None else TargetState.UNKNOWN
            copied = await self._copy(job, resolved, target, state)
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
                # Copying adds missing blobs and repairs no corrupt ones: only reading back clears this.
                needs_verification_since=needs_verification_since,
                registry=self._cache.address,
            )
            await self._finish(job, resolved, image, copied.blobs)
            return image, copied

    async def _find_pinned(self, job: CacheJob) -> CachedImage | None:
        """End a job whose source is a digest of which the copy is there, without asking the source.

        A digest always names the same bytes, so the source could only say that it has them no longer.
        """
        if job.source.digest is None:
            return None
        found = [
            await self._known.find_pinned_copy(binding.app_guid, job.source)
            for binding in await self._bindings.list_bindings(job.job_id)
        ]
        if not found or found[0] is None or found.count(found[0]) < len(found):
            return None
        async with self.content_lock(found[0].platform_digest):
            image = await self._images.find_image(found[0].cache_guid)  # an operator may have evicted it
            if image is None or image.needs_verification_since:
                return None
            if not await self._engine.is_present(self._cache.image(image.cache_guid), image.digest):
                return None
            resolved = ResolvedImage(job.source, image.root_digest, image.platform_digest)
            await self._finish(job, resolved, replace(image, verified_at=self._clock()), ())
            return image

    async def _resolve(self, job: CacheJob) -> ResolvedImage:
        """Ask a job's source what it means; at first only for a short time when a known copy may do.

        Raises:
            Unavailable: The source did not answer.
        """
        asking = self._engine.resolve(job.source, self._credentials.find(job.job_id))
        if job.reason is not Reason.STAGING_MAY_HAVE_BEEN_MISSED or job.attempts > 1:
            return await asking
        try:
            async with asyncio.timeout(CONFIRMED_WITHIN):
                return await asking
        except TimeoutError as error:
            detail = f"{job.source.domain} did not answer within {CONFIRMED_WITHIN:g} s"
            raise Unavailable("registry", "timeout", detail) from error

    async def _copy(
        self, job: CacheJob, resolved: ResolvedImage, target: ImageReference, state: TargetState
    ) -> CopiedImage:
        self._targets[job.job_id] = target
        try:
            return await self._engine.copy(
                resolved,
                target,
                self._credentials.find(job.job_id),
                state=state,
            )
        finally:
            del self._targets[job.job_id]

    async def _finish(
        self, job: CacheJob, resolved: ResolvedImage, image: CachedImage, blobs: tuple[Digest, ...]
    ) -> None:
        """End a job; requests that joined during it get a new job if the tag may have moved."""
        cached = replace(
            job, state=JobState.CACHED, cache_guid=image.cache_guid, updated_at=self._clock(), failure=""
        )
        async with self._requests.locked(job.job_id) as late:
            if late and job.source.digest is None and await self._may_have_moved(job, resolved):
                await self._requests.add_successor(late)
            await self._jobs.finish_job(cached, image, blobs)

    async def _may_have_moved(self, job: CacheJob, resolved: ResolvedImage) -> bool:
        """Whether a job's source names other content than when its copy started, or cannot be resolved."""
        try:
            resolved_again = await self._engine.resolve(job.source, self._credentials.find(job.job_id))
        except DockerCacheError:
            return True
        return resolved_again.platform_digest != resolved.platform_digest
