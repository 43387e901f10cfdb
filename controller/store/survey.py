"""Reads all records about many LRPs within one transaction, for plans and listings of all of them."""

from collections.abc import Sequence

from sqlalchemy import Connection

from controller.store import bindings, cached_images, jobs, lrps
from reconcile.records import Binding, KnownCopy, KnownLrp, LrpKey


def look_up(connection: Connection, keys: Sequence[LrpKey]) -> tuple[KnownLrp, ...]:
    """Read the records of some hundred LRPs, in their order, with one query for each kind of record."""
    records = lrps.find_many(connection, {key.process_guid for key in keys})
    newest = bindings.find_newest_of_apps(connection, {key.app_guid for key in keys if key.app_guid})
    bound = [None if key.source is None else newest.get((key.app_guid, str(key.source))) for key in keys]
    known_jobs = jobs.find_many(connection, {each.job_id for each in bound if each is not None})
    copied = {job.cache_guid for job in known_jobs.values() if job.cache_guid is not None}
    current = {key.cache_guid for key in keys if key.cache_guid is not None}
    known_images = cached_images.find_many(connection, copied | current)

    def known(key: LrpKey, binding: Binding | None) -> KnownLrp:
        job = None if binding is None else known_jobs.get(binding.job_id)
        image = None if job is None or job.cache_guid is None else known_images.get(job.cache_guid)
        current_copy = None if key.cache_guid is None else known_images.get(key.cache_guid)
        return KnownLrp(records.get(key.process_guid), KnownCopy(binding, job, image), current_copy)

    return tuple(map(known, keys, bound))
