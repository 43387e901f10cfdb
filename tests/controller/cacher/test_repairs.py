"""Copies that have lost something and are completed."""

import asyncio
from dataclasses import replace

from controller.cacher.copying import LOOKED_AT_FOR
from reconcile.copying_ports import CheckDepth, TargetState
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheRequest, CopyCheck, JobState, requester_of_repair
from reconcile.references import CacheGuid
from tests.controller.cacher.bench import CACHE, SOURCE, Bench, request


class TestRepair:
    """What is missing of a copy is sent again under its GUID, whatever its tag names by now."""

    async def cached(self, bench: Bench) -> CachedImage:
        job = await bench.ended(await bench.cacher.request(request()))
        assert job.cache_guid is not None
        image = await bench.store.records.find_image(job.cache_guid)
        assert image is not None
        saved = bench.store.copy_checks
        async with asyncio.timeout(5.0):  # the check of a new copy is saved after its job
            while not (await saved.find_check(job.cache_guid)).blobs_checked_at:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.001)
        return image

    def repair_of(self, image: CachedImage) -> CacheRequest:
        return CacheRequest(
            app_guid=AppGuid(""),
            source=SOURCE.at(image.platform_digest),
            requester=requester_of_repair(image.cache_guid),
            staged_at=0,
            reason=Reason.REPAIRING_COPY,
        )

    async def test_a_repair_keeps_guid_source_and_digests(self, bench: Bench) -> None:
        image = await self.cached(bench)
        lost = CopyCheck(image.cache_guid, missing_since=5.0, missing="its manifest", lost_since=6.0)
        await bench.store.copy_checks.save_check(lost)
        bench.registries.held.clear()
        bench.registries.content[SOURCE] = "moved"
        ended = list[CacheGuid]()
        bench.repaired.append(ended.append)

        job = await bench.ended(await bench.cacher.request(self.repair_of(image)))

        assert (job.state, job.cache_guid) == (JobState.CACHED, image.cache_guid)
        assert bench.registries.states[-1] is TargetState.DAMAGED
        again = await bench.store.records.find_image(image.cache_guid)
        assert again is not None
        assert replace(again, verified_at=image.verified_at) == image
        assert bench.registries.held[CACHE.image(image.cache_guid)] == image.digest
        check = await bench.store.copy_checks.find_check(image.cache_guid)
        assert (check.missing_since, check.missing, check.lost_since) == (0.0, "", 0.0)
        assert ended == [image.cache_guid]

    async def test_a_doubtful_copy_is_read_completely(self, bench: Bench) -> None:
        image = await self.cached(bench)
        await bench.store.records.mark_for_verification(image.cache_guid, 5.0)

        await bench.ended(await bench.cacher.request(self.repair_of(image)))

        assert bench.registries.states[-1] is TargetState.CORRUPT

    async def test_a_copy_may_be_repaired_again_and_again(self, bench: Bench) -> None:
        image = await self.cached(bench)
        first = await bench.ended(await bench.cacher.request(self.repair_of(image)))

        second = await bench.cacher.request(self.repair_of(image))

        assert second.job_id != first.job_id

    async def test_a_repair_of_an_evicted_copy_ends(self, bench: Bench) -> None:
        image = await self.cached(bench)
        await bench.store.records.drop_image(image.cache_guid)

        job = await bench.ended(await bench.cacher.request(self.repair_of(image)))

        assert (job.state, job.failure_code) == (JobState.FAILED, "no-such-image")

    async def test_a_copy_whose_blobs_were_not_looked_at_lately_is_looked_at_before_another_app_gets_it(
        self, bench: Bench
    ) -> None:
        """One layer was lost, and the same image is pushed as another app."""
        image = await self.cached(bench)
        check = await bench.store.copy_checks.find_check(image.cache_guid)
        await bench.store.copy_checks.save_check(
            replace(check, blobs_checked_at=check.blobs_checked_at - 2 * LOOKED_AT_FOR)
        )
        bench.registries.missing_blobs[CACHE.image(image.cache_guid)] = "1 of 4 blobs"

        job = await bench.ended(await bench.cacher.request(replace(request("task:2"), staged_at=2)))

        assert job.cache_guid == image.cache_guid
        assert bench.registries.looks == [CheckDepth.BYTES]
        assert len(bench.registries.copies) == 2
        assert bench.registries.states[-1] is TargetState.DAMAGED

    async def test_a_copy_that_is_known_to_be_incomplete_is_completed_by_whoever_asks_for_it(
        self, bench: Bench
    ) -> None:
        image = await self.cached(bench)
        lost = CopyCheck(image.cache_guid, missing_since=5.0, missing="1 of 4 blobs")
        await bench.store.copy_checks.save_check(lost)

        await bench.ended(await bench.cacher.request(replace(request("task:2"), staged_at=2)))

        assert bench.registries.states[-1] is TargetState.DAMAGED
        assert (await bench.store.copy_checks.find_check(image.cache_guid)).missing_since == 0.0
