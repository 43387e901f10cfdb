"""What one tenant's copies cost others, over a real store and in virtual time: nothing that is not bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from controller.cacher import JobLimits
from controller.cacher.content_locks import PATIENCE
from controller.engines.progress import CopyProgress
from controller.store.opening import Store
from reconcile.copying_ports import CopiedImage, IndexContents, ResolvedImage, TargetState
from reconcile.errors import Conflict, RateLimited, Unavailable
from reconcile.fairness import Slots
from reconcile.lrps import AppGuid, Credentials, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, JobState, requester_of_lrp
from reconcile.references import ImageReference, parse_image_reference
from reconcile.trust import Reader
from tests.controller.cacher.bench import Bench, Registries, digest, open_bench

pytestmark = pytest.mark.looptime

SLOTS = Slots(common=2, reserve=2)
HANGS = "hangs.example"


@dataclass
class SlowRegistries(Registries):
    """Sources of which some hosts hang, in copies or in answers, and some drip; contents are named by tags."""

    drips: dict[str, float] = field(default_factory=dict)
    """Host to the bytes per second that it sends."""
    silent: set[str] = field(default_factory=set)
    """Hosts that do not answer what a tag means."""
    begun: list[ImageReference] = field(default_factory=list)
    has_left_unanswered: bool = False

    async def resolve(
        self,
        source: ImageReference,
        credentials: Credentials | None,
        *,
        indexes: IndexContents | None = None,
    ) -> ResolvedImage:
        if self.failures:
            raise self.failures.pop(0)
        if source.domain in self.silent:
            self.has_left_unanswered = True
            await asyncio.Event().wait()
        content = digest(source.tag or "")
        return ResolvedImage(source, content, content)

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        self.begun.append(image.source)
        if self.copy_failures:
            raise self.copy_failures.pop(0)
        rate = 0.0 if image.source.domain == HANGS else self.drips.get(image.source.domain)
        if rate is not None:
            await self._drip(target, rate)
        await self.may_copy.wait()
        self.held[target] = image.platform_digest
        return CopiedImage(image.platform_digest, 10, 10, (digest("blob"),))

    async def _drip(self, target: ImageReference, rate: float) -> None:
        moved = 0.0
        try:
            while True:
                self.under_way[target] = CopyProgress(total=40 << 30, transferred=int(moved))
                await asyncio.sleep(1.0)
                moved += rate
        finally:
            self.under_way.pop(target, None)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110 - the cacher's steps set no event
            await asyncio.sleep(0.01)


def image(text: str) -> ImageReference:
    return parse_image_reference(text)


def staging(name: str, source: str, organization: str) -> CacheRequest:
    return CacheRequest(
        AppGuid(f"app of {organization}"),
        image(source),
        f"task:{name}",
        1,
        Reason.STAGING_TASK,
        organization_guid=organization,
    )


def backlog(name: str, source: str, organization: str) -> CacheRequest:
    requester = requester_of_lrp(ProcessGuid(name))
    return replace(staging(name, source, organization), requester=requester, reason=Reason.NOT_CACHED)


@asynccontextmanager
async def bench_of(
    store: Store,
    registries: SlowRegistries,
    *,
    slots: Slots = SLOTS,
    limits: JobLimits = JobLimits(),  # noqa: B008 - a frozen value
) -> AsyncIterator[Bench]:
    async with open_bench(store, registries, loops=slots.total, slots=slots, limits=limits) as bench:
        yield bench


async def hang_everywhere(bench: Bench, registries: SlowRegistries, count: int = 10) -> None:
    """Let one organization have more images that hang than there are slots."""
    for n in range(count):
        await bench.cacher.request(staging(f"hangs-{n}", f"{HANGS}/x:{n}", "attacker"))
    await until(lambda: len(registries.begun) >= SLOTS.common)


@pytest.mark.parametrize("host", ["registry.example", HANGS.replace("hangs", "fine")])
async def test_copies_that_never_end_keep_no_other_organization_waiting(store: Store, host: str) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries) as bench:
        await hang_everywhere(bench, registries)

        job = await bench.ended(await bench.cacher.request(staging("mine", f"{host}/y:fine", "mine")))

        assert job.state is JobState.CACHED
        assert sum(each.domain == HANGS for each in registries.begun) == SLOTS.common


async def test_a_job_starts_when_an_app_joins_it_whose_organization_has_a_turn(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries) as bench:
        await hang_everywhere(bench, registries)
        waits = await bench.cacher.request(backlog("theirs", "fine.example/y:fine", "attacker"))
        await asyncio.sleep(1.0)
        assert await bench.state(waits) is JobState.QUEUED

        joined = await bench.cacher.request(backlog("mine", "fine.example/y:fine", "mine"))

        assert joined.job_id == waits.job_id
        assert (await bench.ended(joined, within=1.0)).state is JobState.CACHED


async def test_sources_that_do_not_answer_keep_no_other_organization_waiting(store: Store) -> None:
    registries = SlowRegistries(silent={"silent.example"})
    async with bench_of(store, registries) as bench:
        for n in range(10):
            await bench.cacher.request(staging(f"{n}", f"silent.example/x:{n}", "attacker"))

        job = await bench.ended(await bench.cacher.request(staging("mine", "r.example/y:fine", "mine")))

        assert job.state is JobState.CACHED


async def test_a_thousand_stagings_of_one_organization_take_turns_with_one_of_another(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries, slots=Slots(common=1, reserve=0)) as bench:
        await asyncio.gather(
            *(bench.cacher.request(staging(f"{n}", f"r.example/x:{n}", "attacker")) for n in range(200))
        )
        before = len(registries.begun)

        await bench.ended(await bench.cacher.request(staging("mine", "r.example/y:fine", "mine")))

        assert registries.begun.index(image("r.example/y:fine")) - before <= 3


async def test_a_staging_goes_before_the_backlog_that_came_earlier(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries, slots=Slots(common=1, reserve=0)) as bench:
        await asyncio.gather(
            *(bench.cacher.request(backlog(f"{n}", f"r.example/x:{n}", "mine")) for n in range(50))
        )
        before = len(registries.begun)

        await bench.ended(await bench.cacher.request(staging("staged", "r.example/y:fine", "mine")))

        assert registries.begun.index(image("r.example/y:fine")) - before <= 3


async def test_shares_are_known_again_after_a_restart(store: Store) -> None:
    registries = SlowRegistries(silent={"silent.example"})
    async with bench_of(store, registries) as bench:
        for n in range(10):
            request = staging(f"{n}", f"silent.example/x:{n}", "attacker")
            await bench.cacher.request(replace(request, app_guid=AppGuid(f"app-{n}")))

    async with bench_of(store, registries) as bench:
        job = await bench.ended(await bench.cacher.request(staging("mine", "r.example/y:fine", "mine")))

        assert job.state is JobState.CACHED


async def test_the_same_content_from_a_slow_foreign_source_is_not_waited_for(store: Store) -> None:
    """A tenant who knows a digest may claim to have it, and then send nothing."""
    registries = SlowRegistries()
    async with bench_of(store, registries) as bench:
        theirs = await bench.cacher.request(staging("theirs", f"{HANGS}/x:same", "attacker"))
        await until(lambda: bool(registries.begun))
        started = asyncio.get_running_loop().time()

        mine = await bench.ended(await bench.cacher.request(staging("mine", "r.example/y:same", "mine")))

        assert mine.state is JobState.CACHED
        assert asyncio.get_running_loop().time() - started < PATIENCE
        assert await bench.state(theirs) is JobState.COPYING


@pytest.mark.parametrize(("rate", "waits"), [(0.0, False), (1000.0, False), (1e6, True)])
async def test_the_same_content_from_the_same_source_is_waited_for_while_it_moves_on(
    store: Store,
    rate: float,
    waits: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    registries = SlowRegistries(drips={"r.example": rate})
    async with bench_of(store, registries) as bench:
        for name in ("one", "two"):
            await bench.cacher.request(staging(name, f"r.example/{name}:same", name))
        await asyncio.sleep(10 * PATIENCE)

        assert len(registries.begun) == (1 if waits else 2)


async def test_content_that_is_being_copied_is_not_deleted_meanwhile(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries) as bench:
        await hang_everywhere(bench, registries, count=2)

        with pytest.raises(Conflict) as copying:
            async with bench.cacher.content_lock(digest("0")):
                pytest.fail("it was to be refused")

        assert copying.value.code == "being-copied"


async def test_no_copy_of_content_begins_while_it_is_deleted(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries) as bench:
        async with bench.cacher.content_lock(digest("fine")):
            job = await bench.cacher.request(staging("mine", "r.example/y:fine", "mine"))
            await asyncio.sleep(10 * PATIENCE)
            assert registries.begun == []

        assert (await bench.ended(job)).state is JobState.CACHED


async def test_no_request_waits_while_a_source_is_asked_whether_its_tag_has_moved(store: Store) -> None:
    """The source may be a tenant's, and may take its time."""
    registries = SlowRegistries()
    registries.may_copy.clear()
    async with bench_of(store, registries) as bench:
        first = await bench.cacher.request(staging("first", "slow.example/x:1", "attacker"))
        await until(lambda: bool(registries.begun))
        late = await bench.cacher.request(staging("late", "slow.example/x:1", "attacker"))
        assert late.job_id == first.job_id
        registries.silent.add("slow.example")
        registries.may_copy.set()
        await until(lambda: registries.has_left_unanswered)

        job = await bench.ended(await bench.cacher.request(staging("mine", "r.example/y:fine", "mine")))

        assert job.state is JobState.CACHED
        assert await bench.state(first) is JobState.COPYING


async def test_a_registry_that_limits_its_rate_for_ever_ends_in_a_failed_copy(store: Store) -> None:
    registries = SlowRegistries()
    registries.failures = [RateLimited("registry", "TOOMANYREQUESTS", "r.example")] * 100_000
    async with bench_of(store, registries, limits=JobLimits(total=3600.0)) as bench:
        job = await bench.ended(
            await bench.cacher.request(staging("mine", "r.example/x:1", "mine")), look_every=10.0
        )

        assert job.state is JobState.FAILED
        assert "3600 s" in job.failure
        assert "TOOMANYREQUESTS" in job.failure


async def test_a_copy_that_takes_longer_than_a_job_may_take_has_failed(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries, limits=JobLimits(total=3600.0)) as bench:
        job = await bench.ended(
            await bench.cacher.request(staging("mine", f"{HANGS}/x:1", "mine")), look_every=10.0
        )

        assert job.failure_code == "took-too-long"


async def test_a_source_that_is_too_slow_is_asked_again_later(store: Store) -> None:
    registries = SlowRegistries()
    registries.copy_failures = [Unavailable("registry", "too-slow", "r.example sends too little")] * 3
    async with bench_of(store, registries) as bench:
        job = await bench.ended(await bench.cacher.request(staging("mine", "r.example/x:1", "mine")))

        assert job.state is JobState.CACHED
        assert job.attempts == 4


async def test_waiting_jobs_and_slow_transfers_are_counted(store: Store) -> None:
    registries = SlowRegistries()
    async with bench_of(store, registries) as bench:
        await hang_everywhere(bench, registries)
        await bench.cacher.request(backlog("lrp", f"{HANGS}/y:1", "attacker"))
        metrics = bench.metrics.registry
        waiting = [
            metrics.get_sample_value("docker_cache_jobs_waiting", {"urgency": each})
            for each in ("staging", "backlog")
        ]
        registries.copy_failures = [Unavailable("registry", "too-slow", "r.example sends too little")]
        await bench.ended(await bench.cacher.request(staging("mine", "r.example/x:1", "mine")))

        assert waiting == [8.0, 1.0]
        assert metrics.get_sample_value("docker_cache_slow_transfers_total") == 1.0
