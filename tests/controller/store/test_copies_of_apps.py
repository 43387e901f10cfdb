"""Which bindings and copies are kept and found, also while sources and private registries come and go."""

from dataclasses import replace

from controller.store.sql import SqlRecords
from reconcile.lrps import ProcessGuid
from reconcile.records import Binding, CachedImage, JobId, JobState, requester_of_lrp
from reconcile.trust import BlobHolder
from tests.controller.store.samples import APP, SOURCE, binding, digest, image, job, lrp_record

BLOBS = (digest(50), digest(51))


async def cached(
    records: SqlRecords, name: str, *, number: int, staged_at: int, registry: str
) -> CachedImage:
    copying = job(name, state=JobState.COPYING)
    await records.add_job(copying, binding(name, task=name, staged_at=staged_at))
    guid = await records.reserve_guid(digest(number))
    copy = replace(image(guid, platform=digest(number)), registry=registry)
    await records.finish_job(replace(copying, state=JobState.CACHED, cache_guid=guid), copy, BLOBS)
    return copy


async def failed(records: SqlRecords, name: str, *, staged_at: int) -> None:
    bound = binding(name, task=name, staged_at=staged_at)
    await records.add_job(job(name, state=JobState.FAILED), bound)


def own(process_guid: str, job_id: str, *, staged_at: int) -> Binding:
    return replace(
        binding(job_id, staged_at=staged_at), requester=requester_of_lrp(ProcessGuid(process_guid))
    )


async def test_the_newest_copy_of_an_app_is_found_and_kept_however_many_jobs_have_failed_since(
    records: SqlRecords,
) -> None:
    """A source that does not answer may be asked often, and the copy is needed all the more."""
    await cached(records, "old", number=60, staged_at=1, registry="")
    newest = await cached(records, "new", number=61, staged_at=2, registry="")
    for number in range(5):
        await failed(records, f"failed-{number}", staged_at=3 + number)

    found = await records.find_newest_copy(APP, SOURCE)

    assert found is not None
    assert (found.image, found.binding.requester) == (newest, "task:new")
    assert await records.find_binding("task:old") is None


async def test_the_bindings_of_lrps_that_exist_are_kept(records: SqlRecords) -> None:
    await cached(records, "first", number=60, staged_at=1, registry="")
    await records.save_lrp(lrp_record("p-1"))
    await records.put_binding(own("p-1", "first", staged_at=1))
    await records.put_binding(own("p-gone", "first", staged_at=1))
    for number in range(5):
        await cached(records, f"job-{number}", number=61 + number, staged_at=2 + number, registry="")

    assert await records.find_binding("lrp:p-1") == own("p-1", "first", staged_at=1)
    assert await records.find_binding("lrp:p-gone") is None
    assert await records.find_job(JobId("first")) is not None


async def test_copies_are_counted_by_the_registry_that_they_were_made_in(records: SqlRecords) -> None:
    old = await cached(records, "old", number=60, staged_at=1, registry="")
    await records.use_registry("old.example:5000")
    await records.use_registry("new.example:5000")
    new = await cached(records, "new", number=61, staged_at=2, registry="new.example:5000")

    assert await records.measure_images() == {
        "old.example:5000": (1, old.size),
        "new.example:5000": (1, new.size),
    }
    found = await records.find_image(old.cache_guid)
    assert found is not None
    assert found.registry == "old.example:5000", "the first registry that was used with the records"


async def test_blobs_are_mounted_only_from_copies_in_the_present_registry(records: SqlRecords) -> None:
    await cached(records, "old", number=60, staged_at=1, registry="old.example:5000")
    await records.use_registry("new.example:5000")

    assert await records.find_holders(BLOBS, None) == {}
    new = await cached(records, "new", number=61, staged_at=2, registry="new.example:5000")
    assert await records.find_holders(BLOBS, None) == dict.fromkeys(BLOBS, BlobHolder(new.cache_guid))


async def test_a_copy_that_is_made_again_elsewhere_is_counted_there(records: SqlRecords) -> None:
    copy = await cached(records, "old", number=60, staged_at=1, registry="old.example:5000")

    await records.keep_image(replace(copy, registry="new.example:5000"), BLOBS)

    assert await records.measure_images() == {"new.example:5000": (1, copy.size)}
