"""Copies the image of a job into the private registry, under the cache GUID of the image's content."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import structlog

from controller.cacher.content_locks import ContentLocks
from controller.cacher.credentials import JobCredentials
from controller.cacher.dependencies import CacherDependencies
from controller.cacher.requests import JobRequests
from controller.cacher.shown_contents import ShownContents
from controller.progress import Progress
from reconcile.copying_ports import CheckDepth, CopiedImage, ResolvedImage, TargetState
from reconcile.errors import DockerCacheError, ErrorCode, NotFound, Unavailable
from reconcile.missing_copies import seen
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.trust import ContentProof, Reader

LOOKED_AT_FOR = 60.0
"""Seconds after a copy was made or looked at in which another request relies on its blobs."""

log = structlog.get_logger(scope="cacher")

CONFIRMED_WITHIN = 5.0
"""Seconds within which a source must answer at first, where another copy may do: that of the staging that is
known, for an LRP of which nothing runs, or the one in a former private registry."""

_SHORTLY_ASKED = frozenset({Reason.STAGING_MAY_HAVE_BEEN_MISSED, Reason.COPY_IN_FORMER_REGISTRY})


class JobCopies:
    """Makes the copies for jobs; no two jobs copy the same content at the same time."""

    def __init__(
        self, dependencies: CacherDependencies, *, requests: JobRequests, credentials: JobCredentials
    ) -> None:
        self._engine, self._cache = dependencies.engine, dependencies.cache
        self._jobs, self._images = dependencies.jobs, dependencies.images
        self._bindings, self._checks = dependencies.bindings, dependencies.checks
        self._proofs, self._indexes = dependencies.proofs, dependencies.indexes
        self._shown = ShownContents(dependencies, credentials)
        self._clock = dependencies.process.clock
        self._requests, self._credentials = requests, credentials
        self._targets: dict[JobId, ImageReference] = {}
        self._content_locks = ContentLocks(dependencies.limits.slowest)

    def progress(self, job_id: JobId) -> Progress | None:
        """Return the progress of a job's copy; None when no copy is under way."""
        target = self._targets.get(job_id)
        return None if target is None else self._engine.progress(target)

    def content_lock(self, platform_digest: Digest) -> AbstractAsyncContextManager[None]:
        """Return the lock to hold while the copy of some content is deleted.

        Entering it raises Conflict `being-copied` while a copy of the content is under way.
        """
        return self._content_locks.exclusive(platform_digest)

    def _copying(self, job: CacheJob, platform_digest: Digest) -> AbstractAsyncContextManager[None]:
        """Return the lock to hold while some content is copied for a job."""

        def transferred() -> int:
            progress = self.progress(job.job_id)
            return 0 if progress is None else progress.transferred + progress.skipped

        return self._content_locks.copying(platform_digest, self._shown.reader(job).scope, transferred)

    async def cache_image(self, job: CacheJob) -> tuple[CachedImage, CopiedImage | None]:
        """Copy a job's image, unless a complete copy of its content exists, and end the job.

        Returns:
            The cached image, and the copy that was made; None for the latter when a copy existed already.
        """
        self._requests.note_start(job.job_id)
        known = await self._find_pinned(job)
        if known is not None and (present := await self._end_with_present(job, known)) is not None:
            return present, None
        try:
            return await self._copy_from_source(job, await self._resolve(job))
        except DockerCacheError as error:
            if known is None or not self._cache.former:
                raise
            return await self._copy_from_former(job, known, error)

    async def _copy_from_source(
        self, job: CacheJob, resolved: ResolvedImage
    ) -> tuple[CachedImage, CopiedImage | None]:
        """Copy what a source was resolved to, unless a copy of it exists, and end the job.

        To know a digest is no proof of possession: before a job gets a copy that exists, its source has shown
        what the copy consists of. Nobody who wants the same content waits while it does.
        """
        reader, digest, is_shown = self._shown.reader(job), resolved.platform_digest, job.is_move
        while True:
            async with self._copying(job, digest):
                guid = await self._images.find_guid(digest)
                known = None if guid is None else await self._images.find_image(guid)
                if known is None:
                    guid, state = await self._proofs.begin_copy(digest, reader)
                    return await self._make(job, resolved, guid, state=state, reader=reader)
                if is_shown or await self._shown.is_proven(digest, reader):
                    return await self._bind(job, resolved, known)
            await self._shown.show(job, resolved)
            is_shown = True

    async def _bind(
        self, job: CacheJob, resolved: ResolvedImage, known: CachedImage
    ) -> tuple[CachedImage, CopiedImage | None]:
        """End a job with a copy whose content its source has shown; what is missing of it is copied first."""
        if not await self._is_complete(known):
            return await self._make(job, resolved, known.cache_guid, state=_state_of(known), reader=None)
        if not job.is_move:
            await self._shown.add_signatures(job, known)
        image = replace(known, verified_at=self._clock(), registry=self._cache.address)
        await self._finish(job, resolved, image, None, proof=self._shown.proof(job, known.platform_digest))
        return known, None

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
        async with self._copying(job, known.platform_digest):
            return await self._make(job, resolved, guid, state=_state_of(known), reader=None)

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
        self,
        job: CacheJob,
        resolved: ResolvedImage,
        guid: CacheGuid,
        *,
        state: TargetState,
        reader: Reader | None,
    ) -> tuple[CachedImage, CopiedImage]:
        target = self._cache.image(guid)
        copied = await self._copy(job, resolved, target, state=state, reader=reader)
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
        proof = self._shown.proof(job, resolved.platform_digest)
        await self._finish(job, resolved, image, copied, proof=proof)
        if known is None:
            await self._checks.save_check(check)
        return image, copied

    async def _find_pinned(self, job: CacheJob) -> CachedImage | None:
        """Find the record of what a job's source pins by a digest, if it may be used unasked.

        A digest always names the same bytes, so the source could only say that it has them no longer.
        """
        digest = job.source.digest
        if digest is None:
            return None
        if job.is_move:  # whoever asks for it was migrated to it, or staged it
            guid = await self._images.find_guid(digest)
            return None if guid is None else await self._images.find_image(guid)
        reader = self._shown.reader(job)
        found = [
            await self._proofs.find_pinned_copy(binding.app_guid, job.source, reader)
            for binding in await self._bindings.list_bindings(job.job_id)
        ]
        return found[0] if found and found.count(found[0]) == len(found) else None

    async def _end_with_present(self, job: CacheJob, known: CachedImage) -> CachedImage | None:
        """End a job with a copy that the private registry has; None when it does not, or may be corrupt."""
        async with self._copying(job, known.platform_digest):
            image = await self._images.find_image(known.cache_guid)  # an operator may have evicted it
            if image is None or (image.registry and not self._cache.is_at(image.registry)):
                return None
            if not await self._is_complete(image):
                return None
            resolved = ResolvedImage(job.source, image.root_digest, image.platform_digest)
            await self._finish(job, resolved, replace(image, verified_at=self._clock()), None, proof=None)
            return image

    async def _copy_from_former(
        self, job: CacheJob, known: CachedImage, refusal: DockerCacheError
    ) -> tuple[CachedImage, CopiedImage | None]:
        """Copy from a former private registry what the source does not serve, and end the job.

        Raises:
            Unavailable: The source or a former registry does not answer.
            DockerCacheError: None of them has it; what the source said.
        """
        recorded = [each for each in self._cache.former if each.is_at(known.registry)]
        target, failures = self._cache.image(known.cache_guid), [refusal]
        async with self._copying(job, known.platform_digest):
            for former in recorded or self._cache.former:
                source = former.image(known.cache_guid).at(known.digest)
                try:
                    former_image = ResolvedImage(source, known.digest, known.digest)
                    copied = await self._copy(job, former_image, target)
                except DockerCacheError as error:
                    failures.append(error)
                    continue
                log.info(
                    "copied-from-former-registry",
                    job=job.job_id,
                    source_image=str(job.source),
                    registry=former.address,
                    reason=str(refusal),
                )
                image = replace(
                    known,
                    digest=copied.digest,
                    size=copied.size,
                    verified_at=self._clock(),
                    registry=self._cache.address,
                )
                check = await self._checks.find_check(known.cache_guid)
                await self._checks.save_check(seen(check, "", now=image.verified_at, with_blobs=True))
                resolved = ResolvedImage(job.source, known.root_digest, known.platform_digest)
                await self._finish(job, resolved, image, copied, proof=None)
                return image, copied
        raise next((each for each in failures if isinstance(each, Unavailable)), refusal)

    async def _resolve(self, job: CacheJob) -> ResolvedImage:
        """Ask a job's source what it means; at first only for a short time when a known copy may do.

        Raises:
            Unavailable: The source did not answer.
        """
        is_short = job.reason in _SHORTLY_ASKED and job.attempts <= 1
        try:
            async with asyncio.timeout(CONFIRMED_WITHIN if is_short else None):
                return await self._engine.resolve(
                    job.source, self._credentials.find(job.job_id), indexes=self._indexes
                )
        except TimeoutError as error:
            detail = f"timeout: {job.source.domain} did not answer within {CONFIRMED_WITHIN:g} s"
            raise Unavailable("registry", ErrorCode.SOURCE_UNREACHABLE, detail) from error
        except Unavailable as error:
            detail = f"{error.code}: {error.detail}"
            raise replace(error, code=ErrorCode.SOURCE_UNREACHABLE, detail=detail) from error

    async def _copy(
        self,
        job: CacheJob,
        image: ResolvedImage,
        target: ImageReference,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        is_of_app = not self._cache.owns(image.source)
        credentials = self._credentials.find(job.job_id) if is_of_app else None
        self._targets[job.job_id] = target
        try:
            return await self._engine.copy(image, target, credentials, state=state, reader=reader)
        finally:
            del self._targets[job.job_id]

    async def _finish(
        self,
        job: CacheJob,
        resolved: ResolvedImage,
        image: CachedImage,
        copied: CopiedImage | None,
        *,
        proof: ContentProof | None,
    ) -> None:
        """End a job; requests that joined during it get a new job if the tag may have moved."""
        cached = replace(
            job, state=JobState.CACHED, cache_guid=image.cache_guid, updated_at=self._clock(), failure=""
        )
        if proof is not None and resolved.root_digest != resolved.platform_digest:
            await self._indexes.save_index(resolved.root_digest, resolved.platform_digest)
        is_movable = job.source.digest is None and not job.is_repair
        known_late = self._requests.count_late(job.job_id) if is_movable else 0
        # No request waits while the source is asked, which a tenant may run.
        has_moved = known_late > 0 and await self._may_have_moved(job, resolved)
        async with self._requests.locked(job.job_id) as late:
            unserved = late if has_moved else late[known_late:]  # of the latter nobody knows
            if unserved and is_movable:
                await self._requests.add_successor(unserved)
            blobs = () if copied is None else copied.sizes or copied.blobs
            await self._jobs.finish_job(cached, image, blobs, proof)

    async def _may_have_moved(self, job: CacheJob, resolved: ResolvedImage) -> bool:
        """Whether a job's source names other content than when its copy started, or cannot be resolved."""
        try:
            resolved_again = await self._engine.resolve(
                job.source, self._credentials.find(job.job_id), indexes=self._indexes
            )
        except DockerCacheError:
            return True
        return resolved_again.platform_digest != resolved.platform_digest


def _state_of(known: CachedImage) -> TargetState:
    """Say what is known of the repository of a copy that is to be completed."""
    return TargetState.CORRUPT if known.needs_verification_since else TargetState.DAMAGED
