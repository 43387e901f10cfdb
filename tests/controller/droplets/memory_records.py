"""The records that the loops of droplets read, in memory: no thread takes part, so virtual time is exact."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.known_records import StagedCopy
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, LrpRecord
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.trust import ContentProof


@dataclass
class MemoryRecords:
    """The records of droplets, bindings, jobs, copies and LRPs.

    Attributes:
        spoiled: The requester whose binding cannot be read because of a fault.
        slow_reads: Seconds that the last of what a decision needs takes to read.
        of_saves: What happens directly after each record of a droplet is saved.
    """

    droplets: dict[DropletGuid, DropletRecord] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    jobs: dict[JobId, CacheJob] = field(default_factory=dict)
    images: dict[CacheGuid, CachedImage] = field(default_factory=dict)
    lrps: dict[ProcessGuid, LrpRecord] = field(default_factory=dict)
    spoiled: str = ""
    slow_reads: float = 0.0
    of_saves: list[Callable[[], None]] = field(default_factory=list)

    async def find_droplet(self, guid: DropletGuid) -> DropletRecord | None:
        return self.droplets.get(guid)

    async def save_droplet(self, record: DropletRecord) -> None:
        self.droplets[record.droplet_guid] = record
        for happens in self.of_saves:
            happens()

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        return tuple(each for each in self.droplets.values() if each.app_guid == app_guid)

    async def list_droplets_of_apps(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        found = [each for each in self.droplets.values() if each.app_guid in app_guids]
        return tuple(sorted(found, key=lambda each: -each.created_at))

    async def page_droplets(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        return tuple(self.droplets[guid] for guid in sorted(self.droplets) if after is None or guid > after)

    async def count_droplets(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        return Counter((each.phase, each.reason) for each in self.droplets.values())

    async def list_droplets_of_copy(self, cache_guid: CacheGuid) -> tuple[DropletRecord, ...]:
        return tuple(each for each in self.droplets.values() if each.cache_guid == cache_guid)

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        return tuple(self.droplets.values())

    async def forget_droplets(self, guids: Sequence[DropletGuid]) -> None:
        for guid in guids:
            self.droplets.pop(guid, None)

    async def find_binding(self, requester: str) -> Binding | None:
        if requester == self.spoiled:
            raise RuntimeError("a fault of the program")
        return self.bindings.get(requester)

    async def find_newest_binding(self, app_guid: AppGuid, source: ImageReference) -> Binding | None:
        found = [
            each for each in self.bindings.values() if (each.app_guid, each.source) == (app_guid, source)
        ]
        return max(found, key=lambda each: each.staged_at, default=None)

    async def list_bindings(self, job_id: JobId) -> tuple[Binding, ...]:
        return tuple(each for each in self.bindings.values() if each.job_id == job_id)

    async def put_binding(self, binding: Binding) -> None:
        self.bindings[binding.requester] = binding

    async def drop_binding(self, requester: str) -> Binding | None:
        return self.bindings.pop(requester, None)

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        return self.jobs.get(job_id)

    async def list_open_jobs(self, source: ImageReference | None = None) -> tuple[CacheJob, ...]:
        return tuple(each for each in self.jobs.values() if each.is_open and source in {None, each.source})

    async def add_job(self, job: CacheJob, binding: Binding) -> None:
        self.jobs[job.job_id] = job
        await self.put_binding(binding)

    async def save_job(self, job: CacheJob) -> None:
        self.jobs[job.job_id] = job

    async def finish_job(
        self,
        job: CacheJob,
        image: CachedImage,
        blobs: Iterable[Digest],
        proof: ContentProof | None = None,
    ) -> None:
        self.jobs[job.job_id], self.images[image.cache_guid] = job, image

    async def find_guid(self, platform_digest: Digest) -> CacheGuid | None:
        found = (each for each in self.images.values() if each.platform_digest == platform_digest)
        return next((each.cache_guid for each in found), None)

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        return self.images.get(cache_guid)

    async def list_images(self) -> tuple[CachedImage, ...]:
        return tuple(self.images.values())

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        raise AssertionError("nothing here reads copies back")

    async def find_newest_copy(self, app_guid: AppGuid, source: ImageReference) -> StagedCopy | None:
        await asyncio.sleep(self.slow_reads)
        binding = await self.find_newest_binding(app_guid, source)
        job = None if binding is None else self.jobs.get(binding.job_id)
        image = None if job is None or job.cache_guid is None else self.images.get(job.cache_guid)
        return None if binding is None or image is None else StagedCopy(binding, image)

    async def list_lrps_of_app(self, app_guid: AppGuid) -> tuple[LrpRecord, ...]:
        return tuple(each for each in self.lrps.values() if each.app_guid == app_guid)
