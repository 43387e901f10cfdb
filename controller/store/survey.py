"""Reads what is known of many LRPs within one transaction, for whoever looks at all of them."""

from collections.abc import Sequence

from sqlalchemy import Connection

from controller.store import bindings, images, jobs, lrps
from reconcile.images import CacheGuid
from reconcile.records import CachedImage, CacheJob, JobId, Known, LrpKey


def look_up(connection: Connection, keys: Sequence[LrpKey]) -> tuple[Known, ...]:
    """Read the records of LRPs, in their order; jobs and images, which they share, once each."""
    known_jobs: dict[JobId, CacheJob | None] = {}
    known_images: dict[CacheGuid, CachedImage | None] = {}

    def job_of(job_id: JobId) -> CacheJob | None:
        if job_id not in known_jobs:
            known_jobs[job_id] = jobs.find(connection, job_id)
        return known_jobs[job_id]

    def image_of(guid: CacheGuid) -> CachedImage | None:
        if guid not in known_images:
            known_images[guid] = images.find(connection, guid)
        return known_images[guid]

    def read(key: LrpKey) -> Known:
        record = lrps.find(connection, key.process_guid)
        if key.source is None or not key.app_guid:
            return Known(record)
        binding = bindings.find_newest(connection, key.app_guid, key.source)
        job = None if binding is None else job_of(binding.job_id)
        image = None if job is None or job.cache_guid is None else image_of(job.cache_guid)
        return Known(record, binding, job, image)

    return tuple(map(read, keys))
