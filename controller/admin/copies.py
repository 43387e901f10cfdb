"""Deletes copies that no LRP uses, and verifies copies, when an operator asks for it."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from controller.admin.naming import ImageNames
from controller.verifier import CopyReader
from reconcile.errors import Conflict, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable
from reconcile.eviction import EvictionDecision, EvictionVerdict
from reconcile.lrps import ProcessGuid
from reconcile.records import CachedImage, CacheJob, CopyCheck, JobId, JobState
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference
from reconcile.usage import Usage, used_by

BATCH = 50
"""Copies that are deleted after one look at what uses them."""

MOST_REPAIRS = 3
"""Maximum number of sources from which one call sends a copy again, one after the other."""

LOOK_AGAIN = 0.2
"""Seconds between two looks at a job that is waited for."""


class CopyRecords(Protocol):
    """The cached images in the store."""

    async def drop_image(self, cache_guid: CacheGuid) -> tuple[Digest, ...]:
        """Delete the record of a finished copy, and return the digests of its blobs."""

    async def keep_image(self, image: CachedImage, blobs: Iterable[Digest]) -> None:
        """Save the record of a finished copy with the digests of its blobs."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies."""

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Save since when a copy needs verification; 0 when it does not."""


class CopyRegistry(CopyReader, Protocol):
    """The private registry."""

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest."""


class CopyUsage(Protocol):
    """Shows what uses copies."""

    async def decide(self, wanted: Collection[CacheGuid]) -> list[EvictionDecision]:
        """Look now, and decide which of some copies may be deleted; of all copies when none is named."""

    async def look(self, images: Sequence[CachedImage]) -> Usage:
        """Look what uses some copies."""

    async def confirm(self, images: Sequence[CachedImage]) -> Usage:
        """Look what uses some copies, and ask for each LRP that should have been listed."""


class CopyChecks(Protocol):
    """What was last seen of copies, which is deleted with their records."""

    async def find_check(self, cache_guid: CacheGuid) -> CopyCheck:
        """Read what was last seen of a copy."""

    async def save_check(self, check: CopyCheck) -> None:
        """Save what was seen of a copy."""

    async def mark_unused(self, since: Mapping[CacheGuid, float]) -> None:
        """Save since when some copies are unused."""


class OrderedRepairs(Protocol):
    """The jobs that repair copies."""

    async def order(self, copy: CachedImage) -> CacheJob:
        """Have a copy sent again at once; after a failure, from another of its sources."""

    async def find(self, job_id: JobId) -> CacheJob | None:
        """Read one of the jobs."""

    def check(self, cache_guid: CacheGuid) -> None:
        """Let the daemon look for a copy at once."""


class ContentLocks(Protocol):
    """The cacher's locks, one per image content."""

    def content_lock(self, platform_digest: Digest) -> AbstractAsyncContextManager[object]:
        """Get the lock that is held while the copy of some content is deleted.

        Entering it raises Conflict while a copy of the content is under way.
        """


class NotesOfCopies(Protocol):
    """The notes beside copies."""

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        """Delete the notes beside a copy, if there are any."""


@dataclass(frozen=True, slots=True)
class CopyDependencies:
    """What the copies are kept in, what makes and repairs them, their notes, and what knows of their use."""

    registry: CopyRegistry
    cache: CacheRepositories
    cacher: ContentLocks
    repairs: OrderedRepairs
    notes: NotesOfCopies
    usage: CopyUsage
    checks: CopyChecks


class CopyStatus(StrEnum):
    """The result of reading a copy back."""

    OK = "ok"
    """Every byte was read and matches its digest."""
    CORRUPT = "corrupt"
    """The manifest or a blob does not match its digest."""
    MISSING = "missing"
    """The manifest or a blob is not in the private registry."""
    UNREADABLE = "unreadable"
    """The copy could not be read, so nothing is known about it."""
    REPAIRED = "repaired"
    """Something was missing or corrupt, was sent again, and every byte is as it should be now."""

    @property
    def calls_for_repair(self) -> bool:
        """Whether something is known to be wrong with the copy."""
        return self in {CopyStatus.CORRUPT, CopyStatus.MISSING}


@dataclass(frozen=True, slots=True)
class _DroppedRecord:
    """What the store knew of a copy before its record was deleted."""

    image: CachedImage
    blobs: tuple[Digest, ...]
    check: CopyCheck


_CODES = {
    EvictionVerdict.IN_USE: "image-in-use",
    EvictionVerdict.SHARED: "image-shared",
    EvictionVerdict.TOO_SOON: "too-soon",
}


def _refusal(decision: EvictionDecision) -> DockerCacheError:
    """Say as an error why a copy may not be deleted."""
    if decision.problem is not None:
        return decision.problem
    detail = f"{decision.image.cache_guid} cannot be deleted: {decision.detail}"
    return Conflict("admin", _CODES[decision.verdict], detail)


@dataclass(frozen=True, slots=True)
class ReadBackResult:
    """The status of one copy after it was read back; `error` is empty when nothing was wrong."""

    status: CopyStatus
    error: str = ""


@dataclass(frozen=True, slots=True)
class EvictedCopy:
    """What came of the deletion of one copy; the error is None when it was deleted."""

    image: CachedImage
    error: DockerCacheError | None = None


class Copies:
    """What operators do with single copies: find, evict and verify them."""

    def __init__(self, records: CopyRecords, dependencies: CopyDependencies) -> None:
        self._records = records
        self._registry, self._cache = dependencies.registry, dependencies.cache
        self._cacher, self._repairs = dependencies.cacher, dependencies.repairs
        self._notes, self._usage = dependencies.notes, dependencies.usage
        self._checks = dependencies.checks

    async def find(self, names: Sequence[str]) -> list[CachedImage]:
        """Find the records of copies by GUID, by a prefix of the GUID, or by source.

        Raises:
            NotFound: `no-such-image`.
            Invalid: `ambiguous`: a name matches several copies.
        """
        known = ImageNames(await self._records.list_images())
        return [known.find(name) for name in names]

    async def find_each(
        self, names: Sequence[str]
    ) -> tuple[dict[str, CachedImage], dict[str, DockerCacheError]]:
        """Find records as `find` does, and an error for each name that means no copy, or several."""
        known = ImageNames(await self._records.list_images())
        found, unknown = dict[str, CachedImage](), dict[str, DockerCacheError]()
        for name in names:
            try:
                found[name] = known.find(name)
            except (Invalid, NotFound) as error:
                unknown[name] = error
        return found, unknown

    async def users(self, images: Sequence[CachedImage]) -> list[Sequence[ProcessGuid]]:
        """List the LRPs of every domain that are desired from copies, or are being migrated to or from them.

        Raises:
            Invalid: `unreadable-lrps`: an LRP that cannot be read may use a copy.
        """
        usage = await self._usage.look(images)
        if usage.problem is not None and usage.problem.code == ErrorCode.UNREADABLE_LRPS:
            raise usage.problem
        return [sorted(usage.lrps_of(image.cache_guid)) for image in images]

    async def plan_eviction(self, images: Sequence[CachedImage]) -> list[EvictionDecision]:
        """Decide which of some copies may be deleted, and delete none; of all copies when none is named."""
        return await self._usage.decide([image.cache_guid for image in images])

    async def evict(self, images: Sequence[CachedImage]) -> AsyncGenerator[EvictedCopy, None]:
        """Delete copies from the private registry and the store, each by itself.

        The records are deleted first, and then the use of the copies is checked once more. A pass that
        migrates an LRP writes its journal row first, and then checks whether the record still exists. So at
        least one of the two sees the other.
        """
        decisions = await self.plan_eviction(images) if images else []
        decided = {decision.image.cache_guid for decision in decisions}
        for image in images:
            if image.cache_guid not in decided:
                missing = f"there is no cached image {image.cache_guid}"
                yield EvictedCopy(image, NotFound("admin", "no-such-image", missing))
        for decision in decisions:
            if not decision.is_deletable:
                yield EvictedCopy(decision.image, _refusal(decision))
        deletable = [decision.image for decision in decisions if decision.is_deletable]
        for number in range(0, len(deletable), BATCH):
            for evicted in await self._evict_batch(deletable[number : number + BATCH]):
                yield evicted

    async def _evict_batch(self, batch: Sequence[CachedImage]) -> list[EvictedCopy]:
        async with AsyncExitStack() as stack:
            dropped, results = list[_DroppedRecord](), list[EvictedCopy]()
            for image in sorted(batch, key=lambda each: str(each.platform_digest)):
                try:
                    await stack.enter_async_context(self._cacher.content_lock(image.platform_digest))
                except Conflict as being_copied:
                    results.append(EvictedCopy(image, being_copied))
            copied = {each.image.cache_guid for each in results}
            images = [image for image in batch if image.cache_guid not in copied]
            try:
                for image in images:
                    check = await self._checks.find_check(image.cache_guid)
                    dropped.append(
                        _DroppedRecord(image, await self._records.drop_image(image.cache_guid), check)
                    )
                usage = await self._usage.confirm(images)
                while dropped:
                    error = await self._delete_unless_used(dropped[0].image, usage)
                    if error is not None:
                        await self._keep(dropped[0])
                    results.append(EvictedCopy(dropped.pop(0).image, error))
                    if isinstance(error, Unavailable):  # the others wait for an operator
                        results += [EvictedCopy(record.image, error) for record in dropped]
                        break
                for record in dropped:
                    await self._keep(record)
            except BaseException:
                for record in dropped:
                    await self._keep(record)
                raise
            return results

    async def _keep(self, record: "_DroppedRecord") -> None:
        await self._records.keep_image(record.image, record.blobs)
        await self._checks.save_check(record.check)
        await self._checks.mark_unused({record.image.cache_guid: record.check.unused_since})

    async def _delete_unless_used(self, image: CachedImage, usage: Usage) -> DockerCacheError | None:
        """Delete a copy, or return why it was not deleted."""
        users = usage.users.get(image.cache_guid, ())
        if users:
            return Conflict("admin", "image-in-use", f"{image.cache_guid} is {used_by(users)}")
        if usage.problem is not None:
            return usage.problem
        try:
            await self._delete(image)
        except DockerCacheError as error:
            return error
        with suppress(DockerCacheError):  # a note without its copy is believed by nobody
            await self._notes.delete(image.cache_guid, image.digest)
        return None

    def _target_of(self, image: CachedImage) -> ImageReference:
        """Name a copy in the registry that it was made in."""
        return self._cache.of_registry(image.registry).image(image.cache_guid)

    async def _delete(self, image: CachedImage) -> None:
        target = self._target_of(image)
        if not self._cache.owns(target):
            return  # it was made in a registry that is not configured any more: only the record is left
        try:
            await self._registry.delete_copy(target, image.digest)
        except NotFound:
            return  # the registry has deleted it already
        except Invalid as error:
            raise Invalid(
                error.system,
                error.code,
                f"{target} cannot be deleted: {error.detail}; let the registry delete "
                "(REGISTRY_STORAGE_DELETE_ENABLED=true), and try again",
            ) from error

    async def verify(self, image: CachedImage, *, now: float) -> ReadBackResult:
        """Read a copy back, and save the result.

        A corrupt or missing copy needs verification from now on: no app is migrated to it. Nothing is saved
        for a copy that could not be read.
        """
        target = self._target_of(image)
        try:
            await self._registry.read_back(target, image.digest)
        except (Invalid, NotFound) as error:
            await self._records.mark_for_verification(image.cache_guid, now)
            self._repairs.check(image.cache_guid)
            is_missing = isinstance(error, NotFound)
            return ReadBackResult(CopyStatus.MISSING if is_missing else CopyStatus.CORRUPT, str(error))
        except DockerCacheError as error:
            return ReadBackResult(CopyStatus.UNREADABLE, str(error))
        await self._records.mark_for_verification(image.cache_guid, 0.0)
        return ReadBackResult(CopyStatus.OK)

    async def repair(self, image: CachedImage, found: ReadBackResult, *, now: float) -> ReadBackResult:
        """Send again what a copy lacks, or has wrong, and read it back once more.

        Its sources are tried one after the other. While one of them does not answer, the job goes on without
        this call.
        """
        failure = ""
        for _ in range(MOST_REPAIRS):
            job = await self._wait_for(await self._repairs.order(image))
            if job.is_open:
                return replace(found, error=f"{found.error}; it is being sent again: {job.failure}")
            if job.state is JobState.CACHED:
                after = await self.verify(image, now=now)
                if after.status is CopyStatus.OK:
                    return ReadBackResult(CopyStatus.REPAIRED, found.error)
                return replace(after, error=f"it was sent again, and still: {after.error}")
            failure = job.failure
        return replace(found, error=f"{found.error}; it cannot be sent again: {failure}")

    async def _wait_for(self, job: CacheJob) -> CacheJob:
        """Wait until the repair of a copy has ended, or has failed after its order and is put off."""
        ordered = job
        while job.is_open and (job.state is JobState.COPYING or job == ordered):
            await asyncio.sleep(LOOK_AGAIN)
            found = await self._repairs.find(ordered.job_id)
            if found is None:
                return job
            job = found
        return job
