"""Copies the image of a job into the private registry, under the cache GUID of the image's content."""

import asyncio
from dataclasses import replace
from weakref import WeakValueDictionary

from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from controller.cacher.requests import JobRequests
from controller.progress import Progress
from reconcile.errors import DockerCacheError, NotFound
from reconcile.missing_copies import seen
from reconcile.ports import CheckDepth, CopiedImage, ResolvedImage, TargetState
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid, Digest, ImageReference

LOOKED_AT_FOR = 60.0
"""Seconds after a copy was made or looked at in which another request relies on its blobs."""


class JobCopies:
    """Makes the copies for jobs; no two jobs copy the same content at the same time."""

    def __init__(
        self, dependencies: CacherDependencies, *, requests: JobRequests, credentials: JobCredentials
    ) -> None:
        self._engine, self._cache = dependencies.engine, dependencies.cache
        self._jobs, self._images = dependencies.jobs, dependencies.images
        self._checks = dependencies.checks
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
        """Copy a job's image, unless a complete copy of its content exists, and end the job.

        Returns:
            The cached image, and the copy that was made; None for the latter when a copy existed already.
        """
        self._requests.note_start(job.job_id)
        resolved = await self._engine.resolve(job.source, self._credentials.find(job.job_id))
        async with self.content_lock(resolved.platform_digest):
            reserved = await self._images.find_guid(resolved.platform_digest)
            guid = reserved or await self._images.reserve_guid(resolved.platform_digest)
            known = await self._images.find_image(guid)
            if known is not None and await self._is_complete(known):
                await self._finish(
                    job, resolved, replace(known, verified_at=self._clock(), registry=self._cache.address), ()
                )
                return known, None
            # Where a GUID was reserved before, an earlier attempt may have left blobs.
            state = TargetState.EMPTY if reserved is None else TargetState.UNKNOWN
            return await self._make(job, resolved, guid, state if known is None else _state_of(known))

    async def repair_image(self, job: CacheJob, guid: CacheGuid) -> tuple[CachedImage, CopiedImage | None]:
        """Send again what of a copy is missing, under the GUID and the digest that it has, and end the job.

        Its source is not asked what its tag names now.

        Raises:
            NotFound: `no-such-image`: the copy was evicted meanwhile.
        """
        self._requests.note_start(job.job_id)
        known = await self._images.find_image(guid)
        if known is None:
            raise NotFound("store", "no-such-image", f"there is no cached image {guid} any more")
        resolved = ResolvedImage(job.source, known.root_digest, known.platform_digest)
        async with self.content_lock(known.platform_digest):
            return await self._make(job, resolved, guid, _state_of(known))

    async def _is_complete(self, known: CachedImage) -> bool:
        """Whether a copy is there with all that it consists of; its bytes are looked at now and then."""
        if known.needs_verification_since or known.missing_since:
            return False
        now, check = self._clock(), await self._checks.find_check(known.cache_guid)
        is_recent = 0 <= now - check.blobs_checked_at < LOOKED_AT_FOR
        depth = CheckDepth.MANIFEST if is_recent else CheckDepth.BYTES
        target = self._cache.image(known.cache_guid)
        if await self._engine.find_missing(target, known.digest, depth):
            return False
        with_blobs = depth is CheckDepth.BYTES
        await self._checks.save_check(seen(check, "", now=now, with_blobs=with_blobs))
        return True

    async def _make(
        self, job: CacheJob, resolved: ResolvedImage, guid: CacheGuid, state: TargetState
    ) -> tuple[CachedImage, CopiedImage]:
        copied = await self._copy(job, resolved, self._cache.image(guid), state)
        now, known = self._clock(), await self._images.find_image(guid)
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
            needs_verification_since=0.0 if known is None else known.needs_verification_since,
            registry=self._cache.address,
        )
        check = seen(await self._checks.find_check(guid), "", now=now, with_blobs=True)
        if known is not None:  # before anybody is told that the job has ended
            await self._checks.save_check(check)
        await self._finish(job, resolved, image, copied.blobs)
        if known is None:
            await self._checks.save_check(check)
        return image, copied

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
            if late and not job.is_repair and await self._may_have_moved(job, resolved):
                await self._requests.add_successor(late)
            await self._jobs.finish_job(cached, image, blobs)

    async def _may_have_moved(self, job: CacheJob, resolved: ResolvedImage) -> bool:
        """Whether a job's source names other content than when its copy started, or cannot be resolved."""
        try:
            resolved_again = await self._engine.resolve(job.source, self._credentials.find(job.job_id))
        except DockerCacheError:
            return True
        return resolved_again.platform_digest != resolved.platform_digest


def _state_of(known: CachedImage) -> TargetState:
    """Say what is known of the repository of a copy that is to be completed."""
    return TargetState.CORRUPT if known.needs_verification_since else TargetState.DAMAGED
