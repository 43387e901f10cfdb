import asyncio
import functools
from dataclasses import replace

import pytest

from controller.store.opening import Store
from controller.store.sql import SqlRecords
from reconcile.copying_ports import BlobLocations
from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.ports import BindingRecords, ImageRecords, JobRecords, Journal, LrpRecords
from reconcile.records import JOB_CHANGES, CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid, Digest, ImageReference, parse_image_reference
from reconcile.trust import BlobHolder
from tests.controller.store.samples import APP, SOURCE, binding, digest, image, job, lrp_record


def _fits(
    store: Store,
) -> tuple[JobRecords, BindingRecords, ImageRecords, BlobLocations, LrpRecords, Journal]:
    """Hold the store against the ports: a type checker's test."""
    records = store.records
    return (records, records, records, records, records, store.journal)


async def finished(
    records: SqlRecords, name: str = "job-1", *, number: int = 9
) -> tuple[CacheJob, CachedImage]:
    await records.add_job(job(name), binding(name, task=f"task-of-{name}"))
    guid = await records.reserve_guid(digest(number))
    await records.save_job(job(name, state=JobState.COPYING))
    done = replace(job(name, state=JobState.CACHED), cache_guid=guid)
    copy = image(guid, platform=digest(number))
    await records.finish_job(done, copy, (digest(50), digest(51)))
    return done, copy


async def test_a_job_comes_back_as_it_was_saved(records: SqlRecords) -> None:
    full = replace(job(), needs_credentials=True, attempts=3, not_before=12.125, failure="x: ü ")

    await records.add_job(full, binding())

    assert full == await records.find_job(full.job_id)
    assert await records.find_job(JobId("other")) is None


@pytest.mark.parametrize(
    "source",
    [
        parse_image_reference("ubuntu"),
        parse_image_reference(f"localhost:5000/a/b:t@{digest(3)}"),
        parse_image_reference(f"registry.example/a@sha512:{'a' * 128}"),
        # A capital marked the first part as a host; in lower case only the field says so.
        parse_image_reference("HOST/path:1").canonical(),
    ],
    ids=str,
)
async def test_a_source_comes_back_without_new_defaults(records: SqlRecords, source: ImageReference) -> None:
    await records.add_job(replace(job(), source=source), replace(binding(), source=source))

    found = await records.find_job(JobId("job-1"))

    assert found is not None
    assert source == found.source
    assert replace(binding(), source=source) == await records.find_newest_binding(APP, source)


async def test_open_jobs_are_listed_oldest_first(records: SqlRecords) -> None:
    for name, created_at in (("c", 3.0), ("a", 1.0), ("b2", 2.0), ("b1", 2.0)):
        await records.add_job(job(name, created_at=created_at), binding(name, task=name))
    await records.save_job(job("a", state=JobState.COPYING, created_at=1.0))
    await records.save_job(job("c", state=JobState.FAILED, created_at=3.0))

    assert [open_job.job_id for open_job in await records.list_open_jobs()] == ["a", "b2", "b1"]


async def test_a_job_is_added_once(records: SqlRecords) -> None:
    await records.add_job(job(), binding())

    with pytest.raises(Conflict) as caught:
        await records.add_job(job(), binding(task="task-2"))

    assert caught.value.code == "job-exists"
    assert await records.find_binding("task:task-2") is None


async def test_a_job_is_added_with_its_own_binding_only(records: SqlRecords) -> None:
    with pytest.raises(Invalid):
        await records.add_job(job(), binding("job-2"))


@pytest.mark.parametrize("after", JobState)
@pytest.mark.parametrize("before", JobState)
async def test_states_move_along_the_table(records: SqlRecords, before: JobState, after: JobState) -> None:
    done, _ = await finished(records)  # an image for the cached ones
    start = replace(job("job-2", state=before), cache_guid=done.cache_guid)
    await records.add_job(start, binding("job-2", task="task-2"))
    change = replace(start, state=after, failure="changed")

    if after is before or after in JOB_CHANGES[before]:
        await records.save_job(change)
        assert change == await records.find_job(start.job_id)
    else:
        with pytest.raises(Conflict) as caught:
            await records.save_job(change)
        assert caught.value.code == "illegal-change"
        assert start == await records.find_job(start.job_id)


async def test_no_job_is_cached_without_an_image(records: SqlRecords) -> None:
    """A reservation is a promise, not a copy."""
    guid = await records.reserve_guid(digest(9))
    copying = replace(job(state=JobState.COPYING), cache_guid=guid)
    await records.add_job(copying, binding())

    with pytest.raises(Conflict) as caught:
        await records.save_job(replace(copying, state=JobState.CACHED))

    assert caught.value.code == "image-missing"
    assert copying == await records.find_job(copying.job_id)


async def test_a_change_of_an_unknown_job_is_not_found(records: SqlRecords) -> None:
    with pytest.raises(NotFound):
        await records.save_job(job())
    with pytest.raises(NotFound):
        await records.put_binding(binding())


async def test_finishing_saves_job_image_and_blobs(records: SqlRecords) -> None:
    done, copy = await finished(records)

    assert done == await records.find_job(done.job_id)
    assert copy == await records.find_image(copy.cache_guid)
    assert (copy,) == await records.list_images()
    assert {digest(51): BlobHolder(copy.cache_guid)} == await records.find_holders(
        [digest(51), digest(99)], None
    )
    assert await records.find_holders([digest(52)], None) == {}
    assert await records.list_open_jobs() == ()


async def test_finishing_again_changes_nothing(records: SqlRecords) -> None:
    done, copy = await finished(records)

    await records.finish_job(done, copy, (digest(50), digest(50)))

    assert done == await records.find_job(done.job_id)
    assert (copy,) == await records.list_images()
    assert {digest(51): BlobHolder(copy.cache_guid)} == await records.find_holders(
        [digest(51), digest(99)], None
    )


async def test_an_image_copied_again_keeps_what_it_was_first_copied_from(records: SqlRecords) -> None:
    _, copy = await finished(records)
    other = parse_image_reference("registry.example/team/other:8")
    await records.add_job(job("job-2", state=JobState.COPYING), binding("job-2", task="task-2"))
    done = replace(job("job-2", state=JobState.CACHED), cache_guid=copy.cache_guid)

    await records.finish_job(done, replace(copy, source=other, created_at=900.0, verified_at=900.0), ())

    assert replace(copy, verified_at=900.0) == await records.find_image(copy.cache_guid)


async def test_a_finish_that_is_refused_leaves_no_image(records: SqlRecords) -> None:
    await records.add_job(job(state=JobState.QUEUED), binding())
    guid = await records.reserve_guid(digest(9))
    done = replace(job(state=JobState.CACHED), cache_guid=guid)

    with pytest.raises(Conflict):
        await records.finish_job(done, image(guid, platform=digest(9)), (digest(50),))
    with pytest.raises(NotFound):
        await records.finish_job(replace(done, job_id=JobId("x")), image(guid, platform=digest(9)), ())
    with pytest.raises(Invalid):
        await records.finish_job(replace(done, cache_guid=None), image(guid, platform=digest(9)), ())

    assert await records.list_images() == ()
    assert await records.find_holders([digest(50)], None) == {}


@pytest.mark.parametrize("number", [9, 10], ids=["guid of other content", "content of another guid"])
async def test_a_guid_stays_with_its_content(records: SqlRecords, number: int) -> None:
    await records.add_job(job(state=JobState.COPYING), binding())
    mine, other = await records.reserve_guid(digest(9)), await records.reserve_guid(digest(10))
    wrong = {9: other, 10: mine}[number]

    with pytest.raises(Conflict) as caught:
        await records.finish_job(
            replace(job(state=JobState.CACHED), cache_guid=wrong), image(wrong, platform=digest(number)), ()
        )

    assert caught.value.code == "guid-of-other-content"


async def test_a_reservation_is_no_image(records: SqlRecords) -> None:
    guid = await records.reserve_guid(digest(9))

    assert guid == await records.reserve_guid(digest(9))
    assert guid != await records.reserve_guid(digest(10))
    assert await records.find_image(guid) is None
    assert await records.list_images() == ()


async def test_the_newest_binding_is_the_one_staged_last_then_saved_last(records: SqlRecords) -> None:
    await records.add_job(job(), binding(task="late", staged_at=20))
    for task, staged_at in (("early", 10), ("late-too", 20), ("middle", 15)):
        await records.put_binding(binding(task=task, staged_at=staged_at))

    newest = await records.find_newest_binding(APP, SOURCE)

    assert newest is not None
    assert newest.requester == "task:late-too"
    assert await records.find_newest_binding(APP, parse_image_reference("other")) is None


async def test_the_same_origin_again_stands_in_place_of_its_earlier_binding(records: SqlRecords) -> None:
    await records.add_job(job(), binding())

    await records.put_binding(binding(staged_at=5))

    assert (binding(staged_at=5),) == await records.list_bindings(JobId("job-1"))


async def test_the_one_of_two_with_the_same_time_that_was_put_again_is_the_newest(
    records: SqlRecords,
) -> None:
    """So an LRP's confirmation of a staging goes before it, and after the next one."""
    await records.add_job(job(), binding(task="lrp", staged_at=20))
    await records.put_binding(binding(task="staging", staged_at=20))
    await records.put_binding(binding(task="lrp", staged_at=20))

    newest = await records.find_newest_binding(APP, SOURCE)
    assert newest is not None
    assert newest.requester == "task:lrp"


async def test_old_bindings_and_the_ended_jobs_that_only_they_led_to_are_dropped(records: SqlRecords) -> None:
    for n in range(6):
        each = replace(job(state=JobState.FAILED), job_id=JobId(f"job-{n}"))
        await records.add_job(each, replace(binding(task=f"t{n}", staged_at=n), job_id=each.job_id))

    kept = [await records.find_job(JobId(f"job-{n}")) for n in range(6)]
    assert [each is not None for each in kept] == [False, False, False, True, True, True]
    assert await records.find_binding("task:t0") is None


async def test_a_job_that_has_not_ended_outlives_its_bindings(records: SqlRecords) -> None:
    await records.add_job(job(), binding())
    other = replace(job(), job_id=JobId("job-2"))

    await records.add_job(other, replace(binding(), job_id=other.job_id))

    assert await records.find_job(JobId("job-1")) is not None
    assert await records.list_bindings(JobId("job-1")) == ()


async def test_failed_jobs_are_listed_the_latest_first(records: SqlRecords) -> None:
    for n in (1, 3, 2):
        each = replace(job(state=JobState.FAILED), job_id=JobId(f"job-{n}"), updated_at=float(n))
        await records.add_job(each, replace(binding(task=f"t{n}"), job_id=each.job_id))

    assert [each.job_id for each in await records.list_jobs({JobState.FAILED})] == ["job-3", "job-2", "job-1"]


async def test_a_dropped_binding_is_told_and_gone(records: SqlRecords) -> None:
    await records.add_job(job(), binding())

    assert binding() == await records.drop_binding(binding().requester)
    assert await records.drop_binding(binding().requester) is None
    assert await records.find_binding(binding().requester) is None


async def test_lrp_records_are_saved_listed_and_forgotten(records: SqlRecords) -> None:
    await records.save_lrp(lrp_record("b"))
    await records.save_lrp(lrp_record("a"))
    changed = replace(lrp_record("b"), rounds=2, cache_guid=CacheGuid("a-guid"))
    await records.save_lrp(changed)

    assert (lrp_record("a"), changed) == await records.list_lrps()
    assert (lrp_record("a"), changed) == await records.list_lrps_of_app(changed.app_guid)
    assert await records.list_lrps_of_app(AppGuid("another-app")) == ()

    await records.forget_lrps([])
    await records.forget_lrps([ProcessGuid(f"p-{n}") for n in range(2_000)] + [ProcessGuid("a")])

    assert (changed,) == await records.list_lrps()
    assert await records.find_lrp(ProcessGuid("a")) is None
    assert changed == await records.find_lrp(ProcessGuid("b"))


async def test_many_who_ask_at_once_get_one_guid(records: SqlRecords) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(records.reserve_guid(digest(9))) for _ in range(20)]

    assert len({task.result() for task in asked}) == 1


async def test_a_cancelled_call_has_ended_when_its_caller_leaves(records: SqlRecords) -> None:
    """It is done or undone, and the calls after it see which."""
    for number in range(20):
        content = Digest("sha256", f"{number:064x}")
        call = asyncio.ensure_future(records.reserve_guid(content))
        for _ in range(number % 3):
            await asyncio.sleep(0)
        call.cancel()
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
        assert isinstance(outcome, asyncio.CancelledError | str)

    name = functools.partial("job-{}".format)
    for number in range(20):
        add = asyncio.ensure_future(
            records.add_job(job(name(number)), binding(name(number), task=f"task-{number}"))
        )
        await asyncio.sleep(0)
        add.cancel()
        await asyncio.gather(add, return_exceptions=True)
        found = await records.find_job(JobId(name(number)))
        bound = await records.find_binding(f"task:task-{number}")
        assert (found is None) == (bound is None)
        assert found is not None, "the call had begun, so it was carried out"
