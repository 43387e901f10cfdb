"""Reads all records about many LRPs within one transaction, for plans and listings of all of them."""

from collections.abc import Sequence

from sqlalchemy import Connection

from controller.store import bindings, cached_images, jobs, lrps
from reconcile.known_records import KnownCopy, KnownLrp, LrpKey, StagedCopy
from reconcile.records import Binding, CachedImage


def look_up(connection: Connection, keys: Sequence[LrpKey]) -> tuple[KnownLrp, ...]:
    """Read the records of some hundred LRPs, in their order, with one query for each kind of record."""
    records = lrps.find_many(connection, {key.process_guid for key in keys})
    of_apps = bindings.list_of_apps(connection, {key.app_guid for key in keys if key.app_guid})
    of_lrps = bindings.find_of_lrps(connection, {key.process_guid for key in keys})
    known_jobs = jobs.find_many(connection, {each.job_id for listed in of_apps.values() for each in listed})
    copied = {job.cache_guid for job in known_jobs.values() if job.cache_guid is not None}
    current = {key.cache_guid for key in keys if key.cache_guid is not None}
    known_images = cached_images.find_many(connection, copied | current)

    def image_of(binding: Binding) -> CachedImage | None:
        job = known_jobs.get(binding.job_id)
        return None if job is None or job.cache_guid is None else known_images.get(job.cache_guid)

    def copy_of(key: LrpKey) -> KnownCopy:
        listed = () if key.source is None else of_apps.get((key.app_guid, str(key.source)), ())
        own = of_lrps.get(key.process_guid)
        if key.staged_as:
            binding = next((each for each in listed if each.requester == key.staged_as), None)
        else:
            binding = own if own in listed else next(iter(listed), None)
        if binding is None:
            return KnownCopy()
        copies = ((each, image_of(each)) for each in listed)
        newest = next((StagedCopy(each, image) for each, image in copies if image is not None), None)
        return KnownCopy(binding, known_jobs.get(binding.job_id), image_of(binding), newest)

    def known(key: LrpKey) -> KnownLrp:
        current_copy = None if key.cache_guid is None else known_images.get(key.cache_guid)
        return KnownLrp(records.get(key.process_guid), copy_of(key), current_copy)

    return tuple(map(known, keys))
