"""Pages of long lists have each row once and in order, on every kind of database."""

from dataclasses import replace

import pytest

from controller.store.opening import Store
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid
from tests.controller.store.samples import binding, digest, image, job

COUNT = 7
TIMES = [300.25, 100.125, 100.125, 1e9 / 3, 100.125, 1_800_000_000.123456, 0.1]
"""When the records were made; three in the same moment, and some that are no short decimals."""


async def fill(store: Store) -> None:
    for number, at in enumerate(TIMES):
        guid = await store.records.reserve_guid(digest(number))
        await store.records.keep_image(image(guid, platform=digest(number), created_at=at), ())
        name = f"Job_{number}" if number % 2 else f"job-{number}"
        state = JobState.FAILED if number % 3 else JobState.QUEUED
        bound = binding(name, task=name, app=f"app-{number}")
        await store.records.add_job(replace(job(name, created_at=at), state=state), bound)


@pytest.mark.parametrize("most", [1, 2, COUNT])
async def test_copies_come_oldest_first(store: Store, most: int) -> None:
    await fill(store)

    listed, after = list[CachedImage](), None
    while page := await store.pages.page_images(after, most=most):
        assert len(page) <= most
        listed += page
        after = page[-1].created_at, page[-1].cache_guid

    assert tuple(listed) == await store.records.list_images()
    assert [each.created_at for each in listed] == sorted(TIMES)
    assert listed == sorted(listed, key=lambda each: (each.created_at, each.cache_guid))


@pytest.mark.parametrize("most", [1, 2, COUNT])
async def test_jobs_come_latest_first(store: Store, most: int) -> None:
    await fill(store)
    states = (JobState.FAILED, JobState.QUEUED, JobState.COPYING)

    listed, after = list[CacheJob](), None
    while page := await store.pages.page_jobs(states, after, most=most):
        assert len(page) <= most
        listed += page
        after = page[-1].created_at, page[-1].job_id

    assert [each.created_at for each in listed] == sorted(TIMES, reverse=True)
    assert listed == sorted(listed, key=lambda each: (each.created_at, each.job_id), reverse=True)


async def test_jobs_of_other_states_are_left_out(store: Store) -> None:
    await fill(store)

    found = await store.pages.page_jobs([JobState.QUEUED, JobState.QUEUED], None, most=COUNT)

    assert {each.state for each in found} == {JobState.QUEUED}
    assert await store.pages.page_jobs([], None, most=COUNT) == ()


async def test_the_row_that_a_page_starts_after_may_be_gone(store: Store) -> None:
    await fill(store)

    found = await store.pages.page_images((100.125, CacheGuid("g")), most=COUNT)

    assert [each.created_at for each in found] == sorted(TIMES)[4:]


async def test_ids_are_found_by_their_beginnings_with_their_capitals(store: Store) -> None:
    await fill(store)

    async def found(*beginnings: str) -> set[JobId]:
        return set(await store.pages.list_job_ids(tuple(JobState), beginnings))

    assert await found("Job_") == {JobId("Job_1"), JobId("Job_3"), JobId("Job_5")}
    assert await found("job", "Job_5") == {JobId(f"job-{n}") for n in (0, 2, 4, 6)} | {JobId("Job_5")}
    assert await found("%", "Job%", "J\\", "JOB") == set()
    assert await found(*(f"no-job-{number}" for number in range(1200))) == set()
    assert await store.pages.list_job_ids([JobState.QUEUED], ["Job_"]) == (JobId("Job_3"),)


async def test_jobs_are_found_by_their_ids(store: Store) -> None:
    await fill(store)

    found = await store.pages.find_jobs([JobId("Job_5"), JobId("job_5"), JobId("job-0"), JobId("Job_5")])

    assert sorted(each.job_id for each in found) == ["Job_5", "job-0"]
