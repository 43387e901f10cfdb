"""Deletes copies that no LRP uses, and verifies copies, when an operator asks for it."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from controller.admin.naming import resolve_image
from controller.admin.survey import SurveyScan
from controller.verifier import CopyReader
from reconcile.errors import Conflict, DockerCacheError, Invalid, NotFound
from reconcile.lrps import ProcessGuid, SchedulingInfo
from reconcile.ports import Journal
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference, Rootfs

MOST_REPAIRS = 3
"""Sources that a copy is sent again from, one after the other, in one call."""

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


class UsedBbs(Protocol):
    """The BBS, whose desired LRPs show whether a copy is used."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> SurveyScan[SchedulingInfo]:
        """List the scheduling infos of the desired LRPs of one domain, or of all domains when it is empty."""


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

    def content_lock(self, platform_digest: Digest) -> asyncio.Lock:
        """Get the lock that is held while the copy of some content is made or deleted."""


class NotesOfCopies(Protocol):
    """The notes beside copies."""

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        """Delete the notes beside a copy, if there are any."""


@dataclass(frozen=True, slots=True)
class CopyDependencies:
    """The private registry, how copies are named there, their notes, and what makes and repairs copies."""

    registry: CopyRegistry
    cache: CacheRepositories
    cacher: ContentLocks
    repairs: OrderedRepairs
    notes: NotesOfCopies


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
class ReadBackResult:
    """The status of one copy after it was read back; `error` is empty when nothing was wrong."""

    status: CopyStatus
    error: str = ""


class Copies:
    """What operators do with single copies: find, evict and verify them."""

    def __init__(
        self, records: CopyRecords, journal: Journal, bbs: UsedBbs, dependencies: CopyDependencies
    ) -> None:
        self._records, self._journal, self._bbs = records, journal, bbs
        self._registry, self._cache = dependencies.registry, dependencies.cache
        self._cacher, self._repairs = dependencies.cacher, dependencies.repairs
        self._notes = dependencies.notes

    async def find(self, names: Sequence[str]) -> list[CachedImage]:
        """Find the records of copies by GUID, by a prefix of the GUID, or by source.

        Raises:
            NotFound: `no-such-image`.
            Invalid: `ambiguous`: a name matches several copies.
        """
        images = await self._records.list_images()
        return [resolve_image(name, images) for name in names]

    async def users(self, image: CachedImage) -> Sequence[ProcessGuid]:
        """List the LRPs of every domain that are desired from a copy, or are being migrated to or from it.

        Raises:
            Invalid: `unreadable-lrps`: an LRP that cannot be read may use the copy.
        """
        migrating = [
            row.process_guid
            for row in await self._journal.list_migrations()
            if row.cache_guid == image.cache_guid
        ]
        scan = self._bbs.list_scheduling_infos("", docker_only=True)
        using = [info.process_guid async for info in scan if self._names_copy(info.rootfs, image)]
        if scan.skipped:
            raise Invalid("bbs", "unreadable-lrps", f"{scan.skipped} LRPs cannot be read: any may use it")
        return sorted({*migrating, *using})

    def _names_copy(self, rootfs: Rootfs, image: CachedImage) -> bool:
        """Whether a rootfs names a copy: by tag or digest, with a login or without."""
        text = rootfs.uri.lower()
        names = (image.cache_guid.lower(), image.digest.hex)
        return self._cache.address.lower() in text and any(name in text for name in names)

    async def evict(self, image: CachedImage) -> None:
        """Delete a copy from the private registry and the store.

        The record is deleted first, and then the use of the copy is checked once more. A pass that migrates
        an LRP writes its journal row first, and then checks whether the record still exists. So at least one
        of the two sees the other.

        Raises:
            NotFound: `no-such-image`.
            Conflict: `image-in-use`.
            Invalid: The registry does not allow deletion, or an LRP that may use the copy cannot be read.
        """
        await self._refuse_if_used(image)
        async with self._cacher.content_lock(image.platform_digest):
            blobs = await self._records.drop_image(image.cache_guid)
            try:
                await self._refuse_if_used(image)
                await self._delete(image)
            except BaseException:
                await self._records.keep_image(image, blobs)
                raise
            with suppress(DockerCacheError):  # a note without its copy is believed by nobody
                await self._notes.delete(image.cache_guid, image.digest)

    async def _refuse_if_used(self, image: CachedImage) -> None:
        if await self._journal.list_undecryptable():
            raise Invalid("admin", "journal-unreadable", "an open migration that cannot be read may use it")
        await self._refuse_if_shared(image)
        users = await self.users(image)
        if users:
            named = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
            raise Conflict("admin", "image-in-use", f"{image.cache_guid} is used by these LRPs: {named}")

    async def _refuse_if_shared(self, image: CachedImage) -> None:
        """Refuse when another copy is the same manifest: a registry deletes a manifest with all its tags."""
        repository = self._cache.image(image.cache_guid).repository
        for other in await self._records.list_images():
            is_other = other.cache_guid != image.cache_guid and other.digest == image.digest
            if is_other and self._cache.image(other.cache_guid).repository == repository:
                raise Conflict(
                    "admin", "image-shared", f"{other.cache_guid} is the same manifest in the same repository"
                )

    async def _delete(self, image: CachedImage) -> None:
        target = self._cache.image(image.cache_guid)
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
        target = self._cache.image(image.cache_guid)
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
        """Wait until the repair of a copy has ended, or is put off for a failure."""
        requested = job.job_id
        while job.is_open and not (job.state is JobState.QUEUED and job.attempts):
            await asyncio.sleep(LOOK_AGAIN)
            found = await self._repairs.find(requested)
            if found is None:
                return job
            job = found
        return job
