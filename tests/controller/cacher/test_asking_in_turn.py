"""Sources of apps that run are asked in turn whether their tags have moved; whoever needs an answer waits not."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from controller.store.opening import Store
from reconcile import asking_budget
from reconcile.records import CacheJob, CacheRequest, JobState
from tests.controller.cacher.bench import SOURCE, Bench, Registries, open_bench, request

COUNT = 5
SOURCES = [replace(SOURCE, path=f"team/web-{number}") for number in range(COUNT)]


@pytest.fixture(autouse=True)
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask two sources at once, and further ones when no test is running any more."""
    monkeypatch.setattr(asking_budget, "AT_ONCE", 2)
    monkeypatch.setattr(asking_budget, "EVERY", 3600.0)


def registries() -> Registries:
    return Registries({source: f"content-{number}" for number, source in enumerate(SOURCES)})


def asked() -> Sequence[CacheRequest]:
    return [
        replace(request(f"lrp:{number}", source=source), may_wait=True)
        for number, source in enumerate(SOURCES)
    ]


async def all_ended(bench: Bench, jobs: Sequence[CacheJob]) -> bool:
    return {(await bench.ended(job)).state for job in jobs} == {JobState.CACHED}


async def all_wait(bench: Bench, jobs: Sequence[CacheJob]) -> bool:
    return {await bench.state(job) for job in jobs} == {JobState.QUEUED}


async def test_sources_are_asked_in_turn(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        jobs = [await bench.cacher.request(each) for each in asked()]

        assert [job.failure.partition(":")[0] for job in jobs] == ["", ""] + ["asked-in-turn"] * 3
        assert re.search(
            r"it waits 10[78]\d\d s$", jobs[4].failure
        )  # three hours, but for what the test took
        assert await all_ended(bench, jobs[:2])
        assert await all_wait(bench, jobs[2:])


async def test_an_app_that_does_not_run_waits_for_no_turn(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        jobs = [await bench.cacher.request(replace(each, may_wait=False)) for each in asked()]

        assert await all_ended(bench, jobs)


async def test_an_app_for_which_an_operator_asks_waits_for_no_turn(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        jobs = [await bench.cacher.request(replace(each, is_ordered=True)) for each in asked()]

        assert await all_ended(bench, jobs)


async def test_an_app_that_does_not_run_has_the_job_of_others_begun(store: Store) -> None:
    async with open_bench(store, registries()) as bench:
        jobs = [await bench.cacher.request(each) for each in asked()]

        down = replace(request("lrp:down", source=SOURCES[4]), may_wait=False)
        assert (await bench.cacher.request(down)).job_id == jobs[4].job_id

        assert await all_ended(bench, [jobs[0], jobs[1], jobs[4]])
        assert await all_wait(bench, jobs[2:4])


async def test_a_restart_asks_no_more_of_them_at_once(store: Store) -> None:
    async with open_bench(store, registries(), loops=0) as waiting:
        jobs = [await waiting.cacher.request(each) for each in asked()]
    async with open_bench(store, registries()) as bench:
        assert await all_ended(bench, jobs[:4])
        assert await all_wait(bench, jobs[4:])
