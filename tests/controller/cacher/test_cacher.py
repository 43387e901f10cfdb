# ruff: noqa: N802 - names carry the numbers of known bugs
"""Cache jobs over a real store and an engine whose registries are dictionaries, in virtual time.

What a real copy does is tested with the engines.
"""

import asyncio
from dataclasses import replace

import pytest

from controller.engines.progress import CopyProgress
from controller.store.opening import Store
from reconcile.errors import Unavailable
from reconcile.records import MAX_ATTEMPTS, Binding, CacheJob, JobId, JobState
from tests.controller.cacher.bench import (
    APP,
    CACHE,
    OTHER,
    SOURCE,
    Bench,
    Registries,
    digest,
    open_bench,
    private,
    request,
)
from tests.written_lines import written_lines


async def test_a_request_becomes_a_cached_image_and_wakes_the_apps_lrps(bench: Bench) -> None:
    job = await bench.ended(await bench.cacher.request(request()))

    assert job.state is JobState.CACHED
    assert job.cache_guid is not None
    image = await bench.store.records.find_image(job.cache_guid)
    assert image is not None
    assert image.platform_digest == digest("one")
    assert bench.registries.held == {CACHE.image(job.cache_guid): digest("one")}
    assert await bench.queue.take() == "p"


async def test_a_copy_is_made_although_whoever_requested_it_goes_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of the BBS ended in that moment: the job was saved, and nobody ran it before the next restart."""
    records, has_saved = bench.store.records, asyncio.Event()
    add_job = records.add_job

    async def add_and_say(job: CacheJob, binding: Binding) -> None:
        await add_job(job, binding)
        has_saved.set()
        await asyncio.sleep(0)

    monkeypatch.setattr(records, "add_job", add_and_say)
    requesting = asyncio.create_task(bench.cacher.request(request()))
    await has_saved.wait()
    requesting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await requesting

    (job,) = await records.list_jobs(list(JobState))
    assert (await bench.ended(job)).state is JobState.CACHED


@pytest.mark.parametrize("has_zstd_layers", [True, False])
async def test_C14_layers_that_a_cell_may_refuse_are_copied_with_a_warning(
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    has_zstd_layers: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    bench.registries.has_zstd_layers = has_zstd_layers
    job = await bench.ended(await bench.cacher.request(request()))

    assert await bench.queue.take() == "p"  # it is queued after the line was written
    assert job.state is JobState.CACHED
    assert ("zstd" in capsys.readouterr().out) == has_zstd_layers


async def test_all_of_a_copy_is_in_one_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose image it was, of the first app of several, from where to where, its size and how long it took."""
    bench.app_tags.note(APP, {"app_name": "web", "space_name": "dev", "organization_name": "acme"})
    job = await bench.ended(await bench.cacher.request(request()))
    await bench.queue.take()  # it is queued after the line was written

    (line,) = (each for each in written_lines(capsys) if each["level"] != "debug")
    assert job.cache_guid is not None
    assert line["message"] == "docker-cache.cacher.cached-image"
    expected = {
        "app": "web",
        "space": "dev",
        "organization": "acme",
        "app-guid": APP,
        "apps": 1,
        "source-image": str(SOURCE),
        "cache-image": str(CACHE.image(job.cache_guid)),
        "bytes": 10,
        "transferred-bytes": 10,
        "attempt": 1,
        "reason": "staging-task",
        "detail": "",
    }
    assert expected.items() <= line["data"].items()
    assert line["data"]["duration-s"] >= 0


async def test_two_stagings_of_one_reference_at_once_make_one_job(bench: Bench) -> None:
    bench.registries.may_copy.clear()
    first, second = await asyncio.gather(
        bench.cacher.request(request("task:1")), bench.cacher.request(request("task:2"))
    )
    bench.registries.may_copy.set()
    await bench.ended(first)

    assert first.job_id == second.job_id
    assert len(bench.registries.copies) == 1


async def test_the_same_staging_again_is_the_same_job(bench: Bench) -> None:
    first = await bench.ended(await bench.cacher.request(request()))

    assert (await bench.cacher.request(request())).job_id == first.job_id


async def test_the_same_content_is_copied_once_under_one_guid(bench: Bench) -> None:
    bench.registries.content[OTHER] = "one"
    first = await bench.ended(await bench.cacher.request(request("task:1")))
    second = await bench.ended(await bench.cacher.request(request("task:2", source=OTHER)))

    assert first.job_id != second.job_id
    assert first.cache_guid == second.cache_guid
    assert len(bench.registries.copies) == 1


async def test_the_same_content_asked_for_twice_at_once_is_copied_once(bench: Bench) -> None:
    bench.registries.content[OTHER] = "one"
    bench.registries.may_copy.clear()
    first = await bench.cacher.request(request("task:1"))
    second = await bench.cacher.request(request("task:2", source=OTHER))
    await bench.registries.copying.wait()
    bench.registries.may_copy.set()

    ended = [await bench.ended(first), await bench.ended(second)]

    assert ended[0].cache_guid == ended[1].cache_guid
    assert len(bench.registries.copies) == 1


async def test_a_tag_that_moved_gets_a_new_guid(bench: Bench) -> None:
    first = await bench.ended(await bench.cacher.request(request("task:1", at=1)))
    bench.registries.content[SOURCE] = "two"
    second = await bench.ended(await bench.cacher.request(request("task:2", at=2)))

    assert first.cache_guid != second.cache_guid
    assert len(bench.registries.held) == 2


async def test_a_copy_that_vanished_is_copied_again_under_its_guid(bench: Bench) -> None:
    first = await bench.ended(await bench.cacher.request(request("task:1")))
    bench.registries.held.clear()
    second = await bench.ended(await bench.cacher.request(request("task:2")))

    assert second.cache_guid == first.cache_guid
    assert len(bench.registries.held) == 1


async def test_of_two_stagings_the_newer_wins_however_late_the_older_one_finishes(bench: Bench) -> None:
    bench.registries.may_copy.clear()
    older = await bench.cacher.request(private("task:1", "a"))
    await bench.registries.copying.wait()
    bench.registries.content[SOURCE] = "two"
    newer = await bench.cacher.request(replace(private("task:2", "b"), staged_at=2))
    bench.registries.may_copy.set()
    await bench.ended(newer)
    await bench.ended(older)

    newest = await bench.store.records.find_newest_binding(APP, SOURCE)
    assert newest is not None
    assert newest.job_id == newer.job_id


async def test_a_staging_that_joins_a_copy_whose_tag_has_moved_since_gets_what_it_saw(bench: Bench) -> None:
    bench.registries.may_copy.clear()
    first = await bench.cacher.request(request("task:1", at=1))
    await bench.registries.copying.wait()
    bench.registries.content[SOURCE] = "two"
    late = [await bench.cacher.request(request(f"task:{n}", at=n)) for n in (2, 3)]
    bench.registries.may_copy.set()
    old = await bench.ended(first)

    assert {job.job_id for job in late} == {first.job_id}, "they joined it"
    newest = await bench.store.records.find_newest_binding(APP, SOURCE)
    assert newest is not None
    successor = await bench.store.records.find_job(newest.job_id)
    assert successor is not None
    new = await bench.ended(successor)
    assert new.cache_guid != old.cache_guid
    assert len(await bench.store.records.list_bindings(new.job_id)) == 2
    assert set(bench.registries.held.values()) == {digest("one"), digest("two")}


async def test_a_staging_that_joins_a_copy_whose_tag_nobody_can_confirm_gets_a_job_of_its_own(
    bench: Bench,
) -> None:
    bench.registries.may_copy.clear()
    first = await bench.cacher.request(request("task:1", at=1))
    await bench.registries.copying.wait()
    await bench.cacher.request(request("task:2", at=2))
    bench.registries.failures.append(Unavailable("registry", "timeout", "x"))
    bench.registries.may_copy.set()

    assert (await bench.ended(first)).state is JobState.CACHED
    newest = await bench.store.records.find_newest_binding(APP, SOURCE)
    assert newest is not None
    assert newest.job_id != first.job_id


async def test_an_image_that_ends_the_process_each_time_is_given_up(store: Store) -> None:
    async with open_bench(store, Registries(), loops=0) as first:
        job = await first.cacher.request(request())
    await store.records.save_job(replace(job, state=JobState.COPYING, attempts=MAX_ATTEMPTS))
    async with open_bench(store, Registries()) as bench:
        ended = await bench.ended(job)

        assert ended.failure.startswith("gave-up: ")
        assert bench.registries.copies == []


@pytest.mark.parametrize("requester", ["lrp:p", "droplet:d"])
async def test_an_lrp_or_a_droplet_whose_job_has_ended_asks_anew(bench: Bench, requester: str) -> None:
    first = await bench.ended(await bench.cacher.request(request(requester)))
    again = await bench.ended(await bench.cacher.request(request(requester)))

    assert again.job_id != first.job_id
    assert again.cache_guid == first.cache_guid
    assert await bench.store.records.find_job(first.job_id) is None, "nobody is bound to it any more"


async def test_a_job_is_not_shared_across_credentials(bench: Bench) -> None:
    """Somebody who may not read an image must not get it through the job of one who may."""
    bench.registries.passwords[SOURCE] = "right"
    bench.registries.may_copy.clear()
    allowed = await bench.cacher.request(private("task:1", "right"))
    denied = [
        await bench.cacher.request(private("task:2", "wrong")),
        await bench.cacher.request(request("task:3")),
    ]
    bench.registries.may_copy.set()

    assert (await bench.ended(allowed)).state is JobState.CACHED
    for job in denied:
        ended = await bench.ended(job)
        assert ended.state is JobState.FAILED
        assert ended.failure.startswith("DENIED: ")


async def test_a_job_is_shared_by_those_with_the_same_credentials(bench: Bench) -> None:
    bench.registries.passwords[SOURCE] = "right"
    bench.registries.may_copy.clear()
    first = await bench.cacher.request(private("task:1", "right"))
    second = await bench.cacher.request(private("task:2", "right"))
    bench.registries.may_copy.set()

    assert first.job_id == second.job_id
    assert (await bench.ended(first)).state is JobState.CACHED


async def test_an_image_that_is_not_there_fails_at_once_with_its_reason(bench: Bench) -> None:
    ended = await bench.ended(await bench.cacher.request(request(source=OTHER)))

    assert ended.state is JobState.FAILED
    assert ended.failure == "MANIFEST_UNKNOWN: registry.example.com/team/other:1"
    assert ended.attempts == 1
    assert await bench.queue.take() == "p", "its LRPs learn that they stay on their source"


async def test_a_request_after_a_failure_is_a_new_job(bench: Bench) -> None:
    failed = await bench.ended(await bench.cacher.request(request("task:1", source=OTHER)))
    bench.registries.content[OTHER] = "late"
    later = await bench.ended(await bench.cacher.request(request("task:2", source=OTHER)))

    assert later.job_id != failed.job_id
    assert later.state is JobState.CACHED


@pytest.mark.looptime
async def test_a_bug_in_a_copy_does_not_end_the_loop(bench: Bench) -> None:
    bench.registries.failures += [TypeError("a bug")]
    ended = await bench.ended(await bench.cacher.request(request()))

    assert ended.state is JobState.CACHED


async def test_a_request_counts_as_seen(bench: Bench) -> None:
    await bench.cacher.request(request("task:1", at=5))
    newest = await bench.store.records.find_newest_binding(APP, SOURCE)

    assert newest is not None
    assert bench.coverage.is_current(newest)


async def test_a_suspect_copy_is_looked_through_again_and_stays_suspect(bench: Bench) -> None:
    """What is missing of it is brought; that it is whole only reading it back can tell."""
    first = await bench.ended(await bench.cacher.request(request()))
    assert first.cache_guid is not None
    await bench.store.records.mark_for_verification(first.cache_guid, 5.0)

    again = await bench.ended(await bench.cacher.request(replace(request("task:2"), staged_at=2)))

    assert len(bench.registries.copies) == 2
    image = await bench.store.records.find_image(first.cache_guid)
    assert again.cache_guid == first.cache_guid
    assert image is not None
    assert image.needs_verification_since == 5.0


class TestProgress:
    async def test_it_is_told_while_a_copy_is_under_way(self, bench: Bench) -> None:
        bench.registries.may_copy.clear()
        job = await bench.cacher.request(request())
        await bench.registries.copying.wait()

        assert bench.cacher.progress(job.job_id) == CopyProgress(
            total=10, transferred=4, skipped=3, retries=1
        )

        bench.registries.may_copy.set()
        await bench.ended(job)
        assert bench.cacher.progress(job.job_id) is None

    async def test_of_a_job_that_does_not_copy_there_is_none(self, store: Store) -> None:
        async with open_bench(store, Registries(), loops=0) as bench:
            job = await bench.cacher.request(request())

            assert bench.cacher.progress(job.job_id) is None
            assert bench.cacher.progress(JobId("unknown")) is None

    async def test_a_copy_that_failed_has_none(self, bench: Bench) -> None:
        job = await bench.ended(await bench.cacher.request(request(source=OTHER)))

        assert job.state is JobState.FAILED
        assert bench.cacher.progress(job.job_id) is None
