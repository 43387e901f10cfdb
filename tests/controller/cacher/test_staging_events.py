"""What is told of the copies for stagings, to those who word it for app developers."""

import asyncio
from dataclasses import replace

import pytest

from reconcile.app_events import CopyBegun, CopyEvent, CopyFailed, CopyPostponed, ImageCached
from reconcile.errors import Denied, RateLimited
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import JobId, requester_of_lrp
from tests.controller.cacher.bench import APP, CACHE, OTHER, SOURCE, Bench, request

pytestmark = pytest.mark.looptime


@pytest.fixture
def reported(bench: Bench) -> list[tuple[AppGuid, CopyEvent]]:
    events: list[tuple[AppGuid, CopyEvent]] = []

    def listen(app_guid: AppGuid, _: JobId, event: CopyEvent) -> None:
        events.append((app_guid, event))

    bench.staged.append(listen)
    return events


async def test_a_staging_is_told_of_its_copy_from_the_beginning_to_the_end(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    job = await bench.ended(await bench.cacher.request(request()))
    assert await bench.queue.take() == "p"
    (_, begun), (app_guid, cached) = reported

    assert job.cache_guid is not None
    assert (app_guid, begun) == (APP, CopyBegun(str(SOURCE)))
    assert isinstance(cached, ImageCached)
    copy = str(CACHE.image(job.cache_guid))
    assert replace(cached, seconds=0.0) == ImageCached(str(SOURCE), copy, 10, 10, 0.0)


async def test_a_staging_that_is_seen_again_is_told_of_nothing_again(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    await bench.ended(await bench.cacher.request(request()))
    await bench.queue.take()
    await bench.cacher.request(request())

    assert len(reported) == 2


async def test_a_copy_that_a_pause_keeps_from_beginning_is_not_told_of(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    """Its developers would read all day that it is being copied."""
    await bench.control.pause()
    await bench.cacher.request(request())
    await asyncio.sleep(60)
    assert reported == []
    await bench.control.resume()
    await bench.cacher.resume()
    await bench.queue.take()

    assert [type(event) for _, event in reported] == [CopyBegun, ImageCached]


async def test_a_staging_that_joins_a_copy_under_way_is_told_of_it(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    bench.registries.may_copy.clear()
    job = await bench.cacher.request(request())
    await bench.registries.copying.wait()
    joined = replace(request("task:2"), app_guid=AppGuid("app-2"))
    assert (await bench.cacher.request(joined)).job_id == job.job_id
    bench.registries.may_copy.set()
    await bench.ended(job)
    await bench.queue.take()

    begun = CopyBegun(str(SOURCE))
    assert reported[:2] == [(APP, begun), ("app-2", begun)]


async def test_a_copy_that_is_there_is_told_apart(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    await bench.ended(await bench.cacher.request(request()))
    await bench.queue.take()
    bench.queue.done(ProcessGuid("p"))
    await bench.ended(await bench.cacher.request(request("task:2")))
    await bench.queue.take()
    _, last = reported[-1]

    assert isinstance(last, ImageCached)
    assert last.transferred is None


async def test_a_copy_that_must_wait_is_told_of_with_its_time(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    bench.registries.failures = [RateLimited("registry", "TOOMANYREQUESTS", "slow down", retry_after=90.0)]
    await bench.ended(await bench.cacher.request(request()))
    await bench.queue.take()
    begun, waits, again, cached = [event for _, event in reported]

    assert begun == again == CopyBegun(str(SOURCE))
    assert waits == CopyPostponed(str(SOURCE), "source-unreachable: TOOMANYREQUESTS: slow down", 90.0)
    assert isinstance(cached, ImageCached)


async def test_a_copy_that_fails_is_told_of(bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]) -> None:
    await bench.ended(await bench.cacher.request(request(source=OTHER)))
    await bench.queue.take()
    _, failed = reported[-1]

    assert failed == CopyFailed(str(OTHER), f"MANIFEST_UNKNOWN: {OTHER}")


async def test_a_refusal_of_the_private_registry_is_told_apart(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    """What its developer reads must not send them to look for a login of theirs."""
    refusal = f"{CACHE.address}/guid:latest (start upload): authentication required"
    bench.registries.failures = [Denied("registry", "UNAUTHORIZED", refusal)]
    await bench.ended(await bench.cacher.request(request()))
    await bench.queue.take()
    _, failed = reported[-1]

    assert failed == CopyFailed(str(SOURCE), f"UNAUTHORIZED: {refusal}", is_private=True)


async def test_a_pass_that_asks_for_a_copy_is_no_staging(
    bench: Bench, reported: list[tuple[AppGuid, CopyEvent]]
) -> None:
    asked = replace(request(requester_of_lrp(ProcessGuid("p"))), reason=Reason.NOT_CACHED)
    await bench.ended(await bench.cacher.request(asked))
    await bench.queue.take()

    assert reported == []
