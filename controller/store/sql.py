"""Implements the record ports on a database, with one transaction for each method.

It fits JobRecords, BindingRecords, KnownCopies, ImageRecords, BlobLocations and LrpRecords. The modules named
after the records hold the statements of each transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from controller.store import (
    bindings,
    cached_images,
    jobs,
    lrps,
    proofs,
    remembered_uses,
    retention,
    survey,
)
from controller.store.database import Database
from reconcile.errors import NotFound
from reconcile.known_records import KnownLrp, LrpKey, StagedCopy
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, LrpRecord
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.trust import BlobHolder, ContentProof, Reader
from reconcile.usage import RememberedUses


class SqlRecords:
    """Jobs, bindings, images, blobs and LRP records in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._registry = ""

    async def use_registry(self, address: str) -> None:
        """Take a private registry for the present one: records of older versions get its address."""
        self._registry = address
        await self._database.write(lambda connection: cached_images.claim(connection, address))

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        """Read one job."""
        return await self._database.read(lambda connection: jobs.find(connection, job_id))

    async def list_open_jobs(self, source: ImageReference | None = None) -> tuple[CacheJob, ...]:
        """List the queued and copying jobs, of one source or all, oldest first."""
        return await self._database.read(lambda connection: jobs.list_open(connection, source))

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Save since when a copy needs verification; 0 deletes the mark."""
        await self._database.write(
            lambda connection: cached_images.mark_for_verification(connection, cache_guid, at)
        )

    async def list_jobs(self, states: Collection[JobState]) -> tuple[CacheJob, ...]:
        """List the jobs in some states, the latest to change first."""
        wanted = frozenset(states)
        return await self._database.read(lambda connection: jobs.list_in_states(connection, wanted))

    async def add_job(self, job: CacheJob, binding: Binding) -> None:
        """Save a new job with the binding that asked for it, in place of an earlier one of its requester.

        Raises:
            Conflict: `job-exists`.
            Invalid: The binding names another job.
        """
        await self._database.write(lambda connection: jobs.add(connection, job, binding))

    async def save_job(self, job: CacheJob) -> None:
        """Save a change of a job; within one state its other fields may change.

        Raises:
            NotFound: There is no such job.
            Conflict: `illegal-change`, or `image-missing` for a cached job without a finished copy.
        """
        await self._database.write(lambda connection: jobs.save(connection, job))

    async def finish_job(
        self,
        job: CacheJob,
        image: CachedImage,
        blobs: Iterable[Digest],
        proof: ContentProof | None = None,
    ) -> None:
        """Save a cached job with its image, the image's blobs and its source's proof, all or nothing.

        A mapping of blobs has their sizes, too. Repeating the call changes nothing. An existing image keeps
        its source, root digest and creation time, and gets further blobs.

        Raises:
            NotFound: There is no such job.
            Conflict: `illegal-change`, or `guid-of-other-content` for a GUID not reserved for the content.
            Invalid: The job is not cached as this image.
        """
        held = _kept(blobs)  # the iterable belongs to the caller's thread
        await self._database.write(lambda connection: jobs.finish(connection, job, image, held, proof))

    async def find_binding(self, requester: str) -> Binding | None:
        """Find the binding of a requester: a staging task or an LRP."""
        return await self._database.read(lambda connection: bindings.find(connection, requester))

    async def find_newest_binding(self, app_guid: AppGuid, source: ImageReference) -> Binding | None:
        """Find an app's latest binding for a source; of two staged at the same time, the one saved later."""
        return await self._database.read(
            lambda connection: bindings.find_newest(connection, app_guid, source)
        )

    async def find_newest_copy(self, app_guid: AppGuid, source: ImageReference) -> StagedCopy | None:
        """Find the newest finished copy that an app has a binding to for a source."""

        def find(connection: Connection) -> StagedCopy | None:
            newest = bindings.find_newest_with_copy(connection, app_guid, source)
            image = None if newest is None else cached_images.find(connection, CacheGuid(newest[1]))
            return None if newest is None or image is None else StagedCopy(newest[0], image)

        return await self._database.read(find)

    async def list_bindings(self, job_id: JobId) -> tuple[Binding, ...]:
        """List a job's bindings in the order they were saved."""
        return await self._database.read(lambda connection: bindings.list_of_job(connection, job_id))

    async def put_binding(self, binding: Binding) -> None:
        """Save a binding to a job that exists, in place of an earlier one of its requester.

        Raises:
            NotFound: There is no such job.
        """

        def put(connection: Connection) -> None:
            if jobs.find(connection, binding.job_id) is None:
                raise NotFound("store", "no-such-job", f"there is no job {binding.job_id}")
            bindings.save(connection, binding)

        await self._database.write(put)

    async def drop_binding(self, requester: str) -> Binding | None:
        """Delete the binding of a requester and return it."""
        return await self._database.write(lambda connection: bindings.drop(connection, requester))

    async def find_guid(self, platform_digest: Digest) -> CacheGuid | None:
        """Find the GUID that is reserved for some content."""
        return await self._database.read(
            lambda connection: cached_images.find_guid(connection, platform_digest)
        )

    async def reserve_guid(self, platform_digest: Digest) -> CacheGuid:
        """Return the GUID reserved for some content, always the same; a new one is saved first."""
        return await self._database.write(
            lambda connection: cached_images.reserve(connection, platform_digest)
        )

    async def forget_unused(self, before: float) -> int:
        """Forget bindings and jobs that nothing refers to and that ended before some time."""
        return await self._database.write(lambda connection: retention.forget_old(connection, before))

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Find a finished copy; a reservation alone is no copy."""
        return await self._database.read(lambda connection: cached_images.find(connection, cache_guid))

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""
        return await self._database.read(cached_images.list_all)

    async def list_remembered_uses(self) -> RememberedUses:
        """List what is remembered of the use of copies, at one moment."""
        return await self._database.read(remembered_uses.read)

    async def drop_image(self, cache_guid: CacheGuid) -> tuple[Digest, ...]:
        """Delete a finished copy and return the digests of its blobs; its GUID stays reserved.

        Raises:
            NotFound: There is no such copy.
        """
        return await self._database.write(lambda connection: cached_images.drop(connection, cache_guid))

    async def keep_image(self, image: CachedImage, blobs: Iterable[Digest]) -> None:
        """Save a finished copy with the digests of its blobs; a mapping has their sizes, too."""
        held = _kept(blobs)
        await self._database.write(lambda connection: cached_images.keep(connection, image, held))

    async def count_lrps(self) -> dict[Reason, int]:
        """Count the LRPs by the reason of their last pass."""
        return await self._database.read(lrps.count_by_reason)

    async def count_jobs(self) -> dict[str, int]:
        """Count the jobs by state."""
        return await self._database.read(jobs.count_by_state)

    async def measure_images(self) -> dict[str, tuple[int, int]]:
        """Count the finished copies and their bytes, by the address of the registry that holds them."""
        return await self._database.read(cached_images.measure)

    async def count_incomplete_images(self) -> tuple[int, int]:
        """Count the copies of which something is missing, and those of them that are lost."""
        return await self._database.read(cached_images.count_incomplete)

    async def look_up(self, keys: Sequence[LrpKey]) -> tuple[KnownLrp, ...]:
        """Read what is known of many LRPs at one moment, in their order."""
        return await self._database.read(lambda connection: survey.look_up(connection, keys))

    async def find_holders(self, blobs: Iterable[Digest], reader: Reader | None) -> dict[Digest, BlobHolder]:
        """Find, for each blob, the most recently verified image in the present registry that contains it.

        For a reader only the images of its trust domain count, and those that it need not show come first.
        """
        wanted = tuple(blobs)
        return await self._database.read(
            lambda connection: cached_images.find_holders(connection, wanted, self._registry, reader)
        )

    async def list_sources(self, platform_digests: Collection[Digest]) -> dict[Digest, tuple[str, ...]]:
        """List the repositories that have shown each of some hundred images, the first one first."""
        wanted = frozenset(platform_digests)
        return await self._database.read(lambda connection: proofs.list_sources(connection, wanted))

    async def find_lrp(self, process_guid: ProcessGuid) -> LrpRecord | None:
        """Read one LRP's record."""
        return await self._database.read(lambda connection: lrps.find(connection, process_guid))

    async def list_lrps(self) -> tuple[LrpRecord, ...]:
        """List the records, by process GUID."""
        return await self._database.read(lrps.list_all)

    async def list_lrps_of_app(self, app_guid: AppGuid) -> tuple[LrpRecord, ...]:
        """List the records of an app's LRPs, by process GUID."""
        return await self._database.read(lambda connection: lrps.list_of_app(connection, app_guid))

    async def save_lrp(self, record: LrpRecord) -> None:
        """Save one LRP's record in place of an earlier one."""
        await self._database.write(lambda connection: lrps.save(connection, record))

    async def forget_lrps(self, process_guids: Sequence[ProcessGuid]) -> None:
        """Delete the records of LRPs that are gone."""
        gone = tuple(process_guids)
        await self._database.write(lambda connection: lrps.forget(connection, gone))


def _kept(blobs: Iterable[Digest]) -> Iterable[Digest]:
    """Keep digests that an iterable gives once, and their sizes where it is a mapping."""
    return dict(blobs) if isinstance(blobs, Mapping) else tuple(blobs)
