"""Copies that are brought from a former private registry to the present one, in virtual time."""

from dataclasses import dataclass, field, replace

import pytest

from controller.store.opening import Store
from reconcile.copying_ports import CopiedImage, ResolvedImage, TargetState
from reconcile.errors import DockerCacheError, NotFound, Unavailable
from reconcile.lrps import Credentials
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, JobState
from reconcile.references import CacheRepositories, ImageReference
from reconcile.trust import Reader
from tests.controller.cacher.bench import CACHE, SOURCE, Bench, Registries, digest, open_bench, request

OLD = CacheRepositories("old.example:5000")
CONTENT = digest("one")
MOVE = replace(request("lrp:p"), reason=Reason.COPY_IN_FORMER_REGISTRY, content=CONTENT)
GONE = NotFound("registry", "MANIFEST_UNKNOWN", "gone")


@dataclass
class SeveralRegistries(Registries):
    """The same with a former private registry, which may refuse to serve."""

    refusal: DockerCacheError | None = None
    copied_from: list[ImageReference] = field(default_factory=list)

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        self.copied_from.append(image.source)
        if OLD.covers(image.source) and self.refusal is not None:
            raise self.refusal
        return await super().copy(image, target, credentials, state=state, reader=reader)


async def made_in_former(bench: Bench) -> CachedImage:
    """Cache the image, and let the copy be in the former registry only."""
    job = await bench.ended(await bench.cacher.request(request("task:1")))
    assert job.cache_guid is not None
    image = await bench.store.records.find_image(job.cache_guid)
    assert image is not None
    await bench.store.records.keep_image(replace(image, registry=OLD.address), ())
    registries(bench).held.clear()
    registries(bench).copied_from.clear()
    return image


def registries(bench: Bench) -> SeveralRegistries:
    assert isinstance(bench.registries, SeveralRegistries)
    return bench.registries


async def moved(bench: Bench) -> CacheJob:
    return await bench.ended(await bench.cacher.request(MOVE))


async def test_a_copy_is_made_from_its_source_while_that_serves_it(store: Store) -> None:
    async with open_bench(store, SeveralRegistries(), cache=replace(CACHE, former=(OLD,))) as bench:
        image = await made_in_former(bench)
        registries(bench).content[SOURCE.at(CONTENT)] = "one"

        job = await moved(bench)

        assert (job.state, job.cache_guid) == (JobState.CACHED, image.cache_guid)
        assert registries(bench).copied_from == [SOURCE.at(CONTENT)]
        found = await bench.store.records.find_image(image.cache_guid)
        assert found is not None
        assert (found.registry, found.source) == (CACHE.address, SOURCE)


async def test_what_the_source_has_no_longer_is_copied_from_the_former_registry(store: Store) -> None:
    async with open_bench(store, SeveralRegistries(), cache=replace(CACHE, former=(OLD,))) as bench:
        image = await made_in_former(bench)

        job = await moved(bench)

        assert (job.state, job.cache_guid) == (JobState.CACHED, image.cache_guid)
        assert registries(bench).copied_from == [OLD.image(image.cache_guid).at(CONTENT)]
        assert registries(bench).held == {CACHE.image(image.cache_guid): CONTENT}
        found = await bench.store.records.find_image(image.cache_guid)
        assert found is not None
        assert (found.registry, found.source, found.root_digest) == (
            CACHE.address,
            SOURCE,
            image.root_digest,
        )


@pytest.mark.looptime
async def test_content_that_is_known_does_not_wait_for_a_source_that_does_not_say_what_its_tag_means(
    store: Store,
) -> None:
    """The app was started while its source was down, and then the private registry was replaced."""
    async with open_bench(store, SeveralRegistries(), cache=replace(CACHE, former=(OLD,))) as bench:
        image = await made_in_former(bench)
        registries(bench).failures = [Unavailable("registry", "connection", "refused")]
        waiting = await bench.cacher.request(request("lrp:p"))
        while not (found := await bench.store.records.find_job(waiting.job_id)) or found.not_before is None:
            await bench.store.records.measure_images()

        job = await moved(bench)

        assert job.job_id != waiting.job_id
        assert (job.state, job.cache_guid) == (JobState.CACHED, image.cache_guid)


async def test_a_copy_that_is_in_the_present_registry_by_now_is_made_once(store: Store) -> None:
    async with open_bench(store, SeveralRegistries(), cache=replace(CACHE, former=(OLD,))) as bench:
        await made_in_former(bench)
        await moved(bench)

        assert (await moved(bench)).state is JobState.CACHED
        assert len(registries(bench).copied_from) == 1


async def test_a_copy_that_nobody_has_any_more_fails_with_what_its_source_said(store: Store) -> None:
    async with open_bench(
        store, SeveralRegistries(refusal=GONE), cache=replace(CACHE, former=(OLD,))
    ) as bench:
        await made_in_former(bench)

        job = await moved(bench)

        assert (job.state, job.failure_code) == (JobState.FAILED, "MANIFEST_UNKNOWN")


@pytest.mark.looptime
async def test_a_former_registry_that_does_not_answer_is_asked_again(store: Store) -> None:
    silent = SeveralRegistries(refusal=Unavailable("registry", "503", "later"))
    async with open_bench(store, silent, cache=replace(CACHE, former=(OLD,))) as bench:
        await made_in_former(bench)
        job = await bench.cacher.request(MOVE)
        while not (found := await bench.store.records.find_job(job.job_id)) or found.not_before is None:
            await bench.store.records.measure_images()
        silent.refusal = None

        assert (await bench.ended(job)).state is JobState.CACHED
