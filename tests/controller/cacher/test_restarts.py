# ruff: noqa: N802 - names carry the numbers of known bugs
"""What becomes of jobs when the process that runs them ends."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from controller.store.opening import Store
from controller.store.sql import SqlRecords
from reconcile.records import CachedImage, CacheJob, JobState
from reconcile.references import Digest
from reconcile.trust import ContentProof
from tests.controller.cacher.bench import SOURCE, Registries, open_bench, private, request


async def test_a_job_whose_staging_failed_before_it_ran_is_not_copied(store: Store) -> None:
    async with open_bench(store, Registries(), loops=0) as waiting:
        job = await waiting.cacher.request(request("task:1"))
        await store.records.drop_binding("task:1")
    async with open_bench(store, Registries()) as bench:
        ended = await bench.ended(job)

        assert ended.failure == "not-wanted: the staging failed"
        assert bench.registries.copies == []


async def test_a_job_that_was_cut_off_is_finished_by_the_next_run(store: Store) -> None:
    registries = Registries()
    registries.may_copy.clear()
    async with open_bench(store, registries) as first:
        job = await first.cacher.request(request())
        await registries.copying.wait()
    cut = await store.records.find_job(job.job_id)
    assert cut is not None
    assert (cut.state, cut.failure) == (JobState.QUEUED, "interrupted")

    registries.may_copy.set()
    async with open_bench(store, registries) as second:
        assert (await second.ended(job)).state is JobState.CACHED


async def test_P16_jobs_that_were_only_queued_are_all_done_after_a_restart(store: Store) -> None:
    sources = [replace(SOURCE, path=f"team/web-{number}") for number in range(50)]
    registries = Registries({source: f"content-{number:03}" for number, source in enumerate(sources)})
    async with open_bench(store, registries, loops=0) as waiting:
        jobs = [
            await waiting.cacher.request(request(f"task:{number}", source=source))
            for number, source in enumerate(sources)
        ]
    assert registries.copies == []
    assert len({job.job_id for job in jobs}) == 50
    async with open_bench(store, registries) as second:
        ended = [await second.ended(job) for job in jobs]

    assert {job.state for job in ended} == {JobState.CACHED}
    assert len(set(registries.copies)) == 50


class SlowToSay(SqlRecords):
    """Finishes a job and takes for ever to say so."""

    def __init__(self, records: SqlRecords) -> None:
        super().__init__(records._database)
        self.has_finished = asyncio.Event()

    async def finish_job(
        self,
        job: CacheJob,
        image: CachedImage,
        blobs: Iterable[Digest],
        proof: ContentProof | None = None,
    ) -> None:
        await super().finish_job(job, image, blobs, proof)
        self.has_finished.set()
        await asyncio.Event().wait()


async def test_a_loop_that_is_stopped_in_the_moment_its_job_ends_stops_and_leaves_the_job_ended(
    store: Store,
) -> None:
    """The job can no longer be put back, which must not be taken for a failure to go on after."""
    slow = SlowToSay(store.records)
    async with open_bench(replace(store, records=slow), Registries()) as bench:
        job = await bench.cacher.request(request())
        await slow.has_finished.wait()

    ended = await store.records.find_job(job.job_id)
    assert ended is not None
    assert ended.state is JobState.CACHED


@pytest.mark.looptime
async def test_credentials_lost_in_a_restart_come_back_with_the_staging_task(store: Store) -> None:
    registries = Registries(passwords={SOURCE: "right"})
    async with open_bench(store, registries, loops=0) as first:
        job = await first.cacher.request(private("task:1", "right"))
    async with open_bench(store, registries) as second:
        await asyncio.sleep(5.0)
        assert registries.copies == [], "it does not try without them"
        again = await second.cacher.request(private("task:1", "right"))

        assert again.job_id == job.job_id
        assert (await second.ended(job)).state is JobState.CACHED


@pytest.mark.looptime
async def test_credentials_that_nobody_brings_back_end_the_job(store: Store) -> None:
    async with open_bench(store, Registries(), loops=0) as first:
        job = await first.cacher.request(private("task:1", "right"))
    async with open_bench(store, Registries()) as second:
        ended = await second.ended(job)

        assert ended.state is JobState.FAILED
        assert ended.failure.startswith("credentials-lost: ")
