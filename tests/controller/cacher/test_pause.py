"""What is copied while an operator has paused everything."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from controller.cacher.running import PAUSE_CHECK_INTERVAL
from controller.store.opening import Store
from reconcile.errors import RateLimited, Unavailable
from reconcile.lrps import ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, JobState
from reconcile.references import ImageReference
from tests.controller.cacher.bench import OTHER, SOURCE, Bench, Registries, digest, open_bench, request


def ordered(requester: str, *, source: ImageReference = OTHER) -> CacheRequest:
    return replace(request(requester, source=source), reason=Reason.OPERATOR_REQUEST, is_ordered=True)


class TestPause:
    """Only what an operator asks for is copied; one loop takes the jobs in their order."""

    @pytest.fixture
    async def bench(self, store: Store) -> AsyncIterator[Bench]:
        registries = Registries({SOURCE: "one", OTHER: "two"})
        async with open_bench(store, registries, loops=1) as opened:
            await opened.control.pause()
            yield opened

    async def test_no_job_is_run_but_the_one_that_was_ordered(self, bench: Bench) -> None:
        waiting = await bench.cacher.request(request())
        job = await bench.ended(await bench.cacher.request(ordered("admin:1")))

        assert job.state is JobState.CACHED
        assert await bench.state(waiting) is JobState.QUEUED
        assert list(bench.registries.held.values()) == [digest("two")]

    async def test_a_job_that_waits_is_run_when_somebody_orders_the_same(self, bench: Bench) -> None:
        waiting = await bench.cacher.request(request())
        await bench.ended(await bench.cacher.request(ordered("admin:1")))
        assert await bench.state(waiting) is JobState.QUEUED, "its turn came before, and it was put back"

        bench.order_lrp("p")
        joined = await bench.cacher.request(ordered("lrp:p", source=SOURCE))

        assert joined.job_id == waiting.job_id
        assert (await bench.ended(waiting)).state is JobState.CACHED

    async def test_a_job_that_waits_is_run_when_whoever_asked_orders_it(self, bench: Bench) -> None:
        waiting = await bench.cacher.request(request("lrp:p"))
        await bench.ended(await bench.cacher.request(ordered("admin:1")))

        bench.order_lrp("p")
        await bench.cacher.request(ordered("lrp:p", source=SOURCE))

        assert (await bench.ended(waiting)).state is JobState.CACHED

    async def test_a_job_of_an_order_that_was_withdrawn_waits_on(self, bench: Bench) -> None:
        """Whoever wanted the LRP moved went away before its copy was begun."""
        bench.order_lrp("p")
        bench.control.withdraw_order(ProcessGuid("p"))
        waiting = await bench.cacher.request(ordered("lrp:p", source=SOURCE))
        await bench.ended(await bench.cacher.request(ordered("admin:1")))

        assert await bench.state(waiting) is JobState.QUEUED

    async def test_after_it_the_others_are_run_at_once(self, bench: Bench) -> None:
        waiting = await bench.cacher.request(request())
        await bench.ended(await bench.cacher.request(ordered("admin:1")))

        await bench.control.resume()
        await bench.cacher.resume()

        assert (await bench.ended(waiting)).state is JobState.CACHED

    @pytest.mark.looptime
    async def test_after_it_the_others_are_run_a_little_later_when_nobody_wakes_them(
        self, bench: Bench
    ) -> None:
        waiting = await bench.cacher.request(request())
        await bench.ended(await bench.cacher.request(ordered("admin:1")))
        begun = asyncio.get_running_loop().time()

        await bench.control.resume()
        await bench.ended(waiting)

        assert asyncio.get_running_loop().time() - begun == pytest.approx(PAUSE_CHECK_INTERVAL, abs=5.0)

    async def test_a_copy_that_was_begun_is_finished(self, bench: Bench) -> None:
        await bench.control.resume()
        bench.registries.may_copy.clear()
        job = await bench.cacher.request(request())
        await bench.registries.copying.wait()

        await bench.control.pause()
        bench.registries.may_copy.set()

        assert (await bench.ended(job)).state is JobState.CACHED

    @pytest.mark.looptime
    async def test_an_ordered_job_that_is_put_back_is_tried_again(self, bench: Bench) -> None:
        bench.registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]

        ended = await bench.ended(await bench.cacher.request(ordered("admin:1")))

        assert ended.state is JobState.CACHED

    @pytest.mark.looptime
    @pytest.mark.parametrize("requester", ["lrp:p", "admin:1"])
    async def test_an_order_does_not_wait_for_what_a_failure_has_put_off(
        self, bench: Bench, requester: str
    ) -> None:
        await bench.control.resume()
        bench.registries.failures += [Unavailable("registry", "connection", "x")] * 7
        job = await bench.cacher.request(request("lrp:p"))
        loop = asyncio.get_running_loop()
        while bench.registries.failures:  # noqa: ASYNC110 - a job that is put off sets no event
            await asyncio.sleep(1.0)
        begun = loop.time()

        bench.order_lrp("p")
        again = await bench.cacher.request(ordered(requester, source=SOURCE))

        assert again.job_id == job.job_id
        assert (await bench.ended(job)).state is JobState.CACHED
        assert loop.time() - begun < 1.0, "it was put off for a minute and more"

    @pytest.mark.looptime
    async def test_an_order_brings_one_attempt_and_not_more(self, bench: Bench) -> None:
        bench.registries.failures += [Unavailable("registry", "connection", "x")] * 8
        job = await bench.cacher.request(ordered("admin:1", source=SOURCE))
        while len(bench.registries.failures) > 1:  # noqa: ASYNC110 - a job that is put off sets no event
            await asyncio.sleep(1.0)

        await bench.cacher.request(ordered("admin:2", source=SOURCE))
        await asyncio.sleep(1.0)

        assert bench.registries.failures == []
        assert await bench.state(job) is JobState.QUEUED

    async def test_jobs_of_an_earlier_run_wait_as_well(self, store: Store) -> None:
        registries = Registries({SOURCE: "one", OTHER: "two"})
        async with open_bench(store, registries, loops=0) as earlier:
            await earlier.control.pause()
            waiting = await earlier.cacher.request(request())
        async with open_bench(store, registries, loops=1) as bench:
            await bench.ended(await bench.cacher.request(ordered("admin:1")))

            assert await bench.state(waiting) is JobState.QUEUED

    async def test_an_order_that_joins_a_copy_whose_tag_has_moved_gets_what_it_saw(
        self, bench: Bench
    ) -> None:
        """Also behind a staging that joined before it, which nobody ordered."""
        bench.registries.may_copy.clear()
        first = await bench.cacher.request(ordered("admin:1", source=SOURCE))
        await bench.registries.copying.wait()
        bench.registries.content[SOURCE] = "two"
        await bench.cacher.request(request("task:2", at=2))
        await bench.cacher.request(ordered("lrp:p", source=SOURCE))
        bench.registries.may_copy.set()
        await bench.ended(first)

        binding = await bench.store.records.find_binding("lrp:p")
        assert binding is not None
        successor = await bench.store.records.find_job(binding.job_id)
        assert successor is not None
        assert successor.job_id != first.job_id
        assert (await bench.ended(successor)).state is JobState.CACHED
