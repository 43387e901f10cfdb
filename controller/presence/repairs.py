"""Has the missing parts of a copy sent again, by a cache job that is pinned to the digest of the copy."""

import structlog

from controller.presence.dependencies import PresenceDependencies
from reconcile.errors import Invalid
from reconcile.lrps import AppGuid
from reconcile.missing_copies import RepairSource, RepairStep, next_repair, repair_sources
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, CacheRequest, JobId, requester_of_repair
from reconcile.references import CacheGuid, image_from_rootfs

log = structlog.get_logger(scope="presence")

MOST_SOURCES = 20
"""LRPs whose sources are considered; most LRPs of one copy have the same."""


class Repairs:
    """The jobs that repair copies; each copy is sent again from one source after another."""

    def __init__(self, dependencies: PresenceDependencies) -> None:
        self._records, self._requests = dependencies.records, dependencies.requests
        self._uses, self._process = dependencies.uses, dependencies.process
        self._source_index: dict[CacheGuid, int] = {}  # of the source that sends a copy now, or sent it last

    async def advance(self, copy: CachedImage) -> bool:
        """Take the next step for an incomplete copy; False when no known source can send it again."""
        job = await self.find_job(copy.cache_guid)
        step = next_repair(job, now=self._process.clock())
        if step is RepairStep.WAIT:
            return True
        sources = await self._sources_of(copy)
        if step is RepairStep.LOST:
            following = self._source_index.get(copy.cache_guid, _index_of(job, sources)) + 1
            if following >= len(sources):
                return False
            self._source_index[copy.cache_guid] = following
        elif job is None or not job.failure:
            self._source_index[copy.cache_guid] = 0
        await self._request(copy, sources[self._source_index.get(copy.cache_guid, 0) % len(sources)])
        return True

    async def order(self, copy: CachedImage) -> CacheJob:
        """Have a copy sent again at once, since an operator asks for it, also during a pause."""
        job = await self.find_job(copy.cache_guid)
        sources = await self._sources_of(copy)
        is_next = job is not None and bool(job.failure) and not job.is_open
        index = (_index_of(job, sources) + 1) % len(sources) if is_next else 0
        self._source_index[copy.cache_guid] = index
        return await self._request(copy, sources[index], is_ordered=True)

    def forget(self, cache_guid: CacheGuid) -> None:
        """Forget which sources a copy was sent from again, since it is complete."""
        self._source_index.pop(cache_guid, None)

    async def find_job(self, cache_guid: CacheGuid) -> CacheJob | None:
        """Read the last job that was to repair a copy; None when there was none."""
        binding = await self._records.bindings.find_binding(requester_of_repair(cache_guid))
        return None if binding is None else await self._records.jobs.find_job(binding.job_id)

    async def find(self, job_id: JobId) -> CacheJob | None:
        """Read one of the jobs that repair copies."""
        return await self._records.jobs.find_job(job_id)

    async def _request(
        self, copy: CachedImage, source: RepairSource, *, is_ordered: bool = False
    ) -> CacheJob:
        request = CacheRequest(
            app_guid=AppGuid(""),
            source=source.image,
            requester=requester_of_repair(copy.cache_guid),
            staged_at=0,
            reason=Reason.REPAIRING_COPY,
            credentials=source.credentials,
            is_ordered=is_ordered,
        )
        return await self._requests.request(request)

    async def _sources_of(self, copy: CachedImage) -> tuple[RepairSource, ...]:
        known = list[RepairSource]()
        for process_guid in sorted(self._uses.lrps_of(copy.cache_guid))[:MOST_SOURCES]:
            try:
                found = await self._records.original_sources.find_original_source(process_guid)
                if found is not None:
                    image = image_from_rootfs(found.rootfs).canonical()
                    known.append(RepairSource(image, found.credentials))
            except Invalid as error:
                log.info("failed-to-read-source", process_guid=process_guid, error=str(error))
        return repair_sources(copy, tuple(known))


def _index_of(job: CacheJob | None, sources: tuple[RepairSource, ...]) -> int:
    """Find the index of the source that a job copies from; -1 when there is no job or no such source.

    An earlier run of the daemon may have started the job.
    """
    images = [source.image for source in sources]
    return images.index(job.source) if job is not None and job.source in images else -1
