# ruff: noqa: N802 - names carry the numbers of known bugs
"""Cache jobs over a real store and an engine whose registries are dictionaries, in virtual time.

What a real copy does is tested with the engines.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from controller.cacher import Cacher, CacherDependencies, CopyEngine, JobLimits
from controller.cacher.copying import LOOKED_AT_FOR
from controller.cacher.running import PAUSE_CHECK_INTERVAL
from controller.control import OperatorControl
from controller.coverage import StagingCoverage
from controller.engines.progress import CopyProgress
from controller.job_listeners import JobListeners
from controller.lrp_index import LrpIndex
from controller.metrics import Metrics
from controller.process import Process
from controller.progress import Progress
from controller.store.opening import Store, open_store
from controller.store.sql import SqlRecords
from controller.workqueue import WorkQueue
from reconcile.copying_ports import (
    CheckDepth,
    CopiedImage,
    IndexContents,
    ResolvedImage,
    Signatures,
    TargetState,
)
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.failed_bytes import DAY, FailedBytesBudget
from reconcile.fairness import Slots
from reconcile.lrps import AppGuid, Credentials, ModificationTag, ProcessGuid, SchedulingInfo, Secret
from reconcile.migrations import Goal
from reconcile.orders import Order
from reconcile.reasons import Reason
from reconcile.records import (
    MAX_ATTEMPTS,
    CachedImage,
    CacheJob,
    CacheRequest,
    CopyCheck,
    JobId,
    JobState,
    requester_of_repair,
)
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    ImageReference,
    Rootfs,
    parse_image_reference,
)
from reconcile.trust import ContentProof, Reader, ShareContent, Sharing

CACHE = CacheRepositories("cache.example:8080")
SOURCE = parse_image_reference("registry.example.com/team/app:1")
OTHER = parse_image_reference("registry.example.com/team/other:1")
APP = AppGuid("app-1")


def digest(text: str) -> Digest:
    return Digest("sha256", text.encode().hex().ljust(64, "0"))


@dataclass
class Registries:
    """An engine whose source registry maps references to content, and whose private one holds what was copied.

    Attributes:
        indexes: Of references that name one, its digest.
        hollow: References whose source names content and does not have it.
    """

    content: dict[ImageReference, str] = field(default_factory=lambda: {SOURCE: "one"})
    passwords: dict[ImageReference, str] = field(default_factory=dict)
    failures: list[DockerCacheError | Exception] = field(default_factory=list)
    held: dict[ImageReference, Digest] = field(default_factory=dict)
    copies: list[ImageReference] = field(default_factory=list)
    states: list[TargetState] = field(default_factory=list)
    copy_failures: list[DockerCacheError] = field(default_factory=list)
    missing_blobs: dict[ImageReference, str] = field(default_factory=dict)
    looks: list[CheckDepth] = field(default_factory=list)
    has_zstd_layers: bool = False
    resolved: list[ImageReference] = field(default_factory=list)
    indexes: dict[ImageReference, Digest] = field(default_factory=dict)
    shown: list[ImageReference] = field(default_factory=list)
    hollow: set[ImageReference] = field(default_factory=set)
    signed: list[ImageReference] = field(default_factory=list)
    signature_failures: list[DockerCacheError] = field(default_factory=list)
    resolving: dict[ImageReference, asyncio.Event] = field(default_factory=dict)
    showing: asyncio.Event = field(default_factory=asyncio.Event)
    may_show: asyncio.Event = field(default_factory=asyncio.Event)
    copying: asyncio.Event = field(default_factory=asyncio.Event)
    may_copy: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: dict[ImageReference, Progress] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.may_copy.set()
        self.may_show.set()

    def progress(self, target: ImageReference) -> Progress | None:
        return self.under_way.get(target)

    async def resolve(
        self,
        source: ImageReference,
        credentials: Credentials | None,
        *,
        indexes: IndexContents | None = None,
    ) -> ResolvedImage:
        self.resolved.append(source)
        if source in self.resolving:
            self.resolving[source].set()
        if self.failures:
            raise self.failures.pop(0)
        wanted = self.passwords.get(source)
        if wanted is not None and (credentials is None or credentials.password.value != wanted):
            raise Denied("registry", "DENIED", str(source))
        if source not in self.content:
            raise NotFound("registry", "MANIFEST_UNKNOWN", str(source))
        content = digest(self.content[source])
        return ResolvedImage(source, self.indexes.get(source, content), content)

    async def show(self, image: ResolvedImage, credentials: Credentials | None, reader: Reader) -> int:
        self.shown.append(image.source)
        self.showing.set()
        await self.may_show.wait()
        if image.source in self.hollow:
            raise NotFound("registry", "BLOB_UNKNOWN", str(image.source))
        return 10

    async def copy_signatures(
        self, image: ResolvedImage, target: ImageReference, credentials: Credentials | None, reader: Reader
    ) -> Signatures:
        self.signed.append(image.source)
        if self.signature_failures:
            raise self.signature_failures.pop(0)
        return Signatures.COPIED

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        self.states.append(state)
        if self.copy_failures:
            raise self.copy_failures.pop(0)
        self.under_way[target] = CopyProgress(total=10, transferred=4, skipped=3, retries=1)
        self.copying.set()
        try:
            await self.may_copy.wait()
        finally:
            self.under_way.pop(target, None)
        if image.source in self.hollow:
            raise NotFound("registry", "BLOB_UNKNOWN", str(image.source))
        self.copies.append(target)
        self.held[target] = image.platform_digest
        self.missing_blobs.pop(target, None)
        return CopiedImage(
            image.platform_digest, 10, 10, (digest("blob"),), has_zstd_layers=self.has_zstd_layers
        )

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        return self.held.get(target) == digest

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        self.looks.append(depth)
        if self.held.get(target) != digest:
            return "its manifest"
        return self.missing_blobs.get(target, "") if depth >= CheckDepth.BLOBS else ""


@dataclass
class Bench:
    """A cacher with two loops at work."""

    cacher: Cacher
    registries: Registries
    store: Store
    queue: WorkQueue[ProcessGuid]
    coverage: StagingCoverage
    control: OperatorControl
    repaired: list[Callable[[CacheGuid], None]]
    metrics: Metrics

    async def state(self, job: CacheJob) -> JobState:
        found = await self.store.records.find_job(job.job_id)
        assert found is not None
        return found.state

    def order_lrp(self, process_guid: str) -> None:
        """Let an operator wait for an LRP."""
        order = Order(Goal.CACHE, since=0.0)
        assert self.control.place_order(ProcessGuid(process_guid), order, lambda *_: None)

    async def ended(self, job: CacheJob, *, look_every: float = 0.01, within: float = 100_000) -> CacheJob:
        """Wait until a job is over."""
        async with asyncio.timeout(within):
            while True:
                found = await self.store.records.find_job(job.job_id)
                assert found is not None
                if found.state in {JobState.CACHED, JobState.FAILED}:
                    return found
                await asyncio.sleep(look_every)


@asynccontextmanager
async def open_bench(
    store: Store,
    registries: Registries,
    *,
    loops: int = 2,
    cache: CacheRepositories = CACHE,
    slots: Slots = Slots(),  # noqa: B008 - a frozen value
    limits: JobLimits = JobLimits(),  # noqa: B008 - a frozen value
    share_content: ShareContent = ShareContent.REGISTRY,
    engine: CopyEngine | None = None,
) -> AsyncIterator[Bench]:
    gate = OperatorControl(store.operations)
    await gate.load(start_paused=False)
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    index, coverage = LrpIndex(), StagingCoverage()
    index.put(
        SchedulingInfo(ProcessGuid("p"), "cf-apps", APP, Rootfs("docker://x.y/z"), 1, ModificationTag("", 0))
    )
    clock = asyncio.get_running_loop()
    listeners = JobListeners(coverage, index, queue)
    process = Process("run", clock=lambda: 1e9 + clock.time(), monotonic=clock.time)
    cacher = Cacher(
        CacherDependencies(
            engine=engine or registries,
            cache=cache,
            sharing=Sharing(share_content, store.login_keys),
            jobs=store.records,
            bindings=store.records,
            proofs=store.content_proofs,
            indexes=store.content_proofs,
            images=store.records,
            checks=store.copy_checks,
            listeners=listeners,
            gate=gate,
            process=process,
            slots=slots,
            limits=limits,
            failed_bytes=FailedBytesBudget(1000),
        )
    )
    await cacher.recover()
    running = [asyncio.create_task(cacher.run()) for _ in range(loops)]
    try:
        yield Bench(cacher, registries, store, queue, coverage, gate, listeners.of_repairs, process.metrics)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        cacher.close()
        queue.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/store/cache.db", journal_key=None, run_id="r") as opened:
        yield opened


@pytest.fixture
async def bench(store: Store) -> AsyncIterator[Bench]:
    async with open_bench(store, Registries()) as opened:
        yield opened


def request(requester: str = "task:1", *, at: int = 1, source: ImageReference = SOURCE) -> CacheRequest:
    return CacheRequest(APP, source, requester, at, reason=Reason.STAGING_TASK)


def private(requester: str, password: str) -> CacheRequest:
    return replace(request(requester), credentials=Credentials("robot", Secret(password)))


async def test_a_request_becomes_a_cached_image_and_wakes_the_apps_lrps(bench: Bench) -> None:
    job = await bench.ended(await bench.cacher.request(request()))

    assert job.state is JobState.CACHED
    assert job.cache_guid is not None
    image = await bench.store.records.find_image(job.cache_guid)
    assert image is not None
    assert image.platform_digest == digest("one")
    assert bench.registries.held == {CACHE.image(job.cache_guid): digest("one")}
    assert await bench.queue.take() == "p"


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


async def test_an_lrp_whose_job_has_ended_asks_anew(bench: Bench) -> None:
    first = await bench.ended(await bench.cacher.request(request("lrp:p")))
    again = await bench.ended(await bench.cacher.request(request("lrp:p")))

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
async def test_an_unreachable_registry_is_tried_again(bench: Bench) -> None:
    bench.registries.failures += [Unavailable("registry", "timeout", "x")] * 3
    ended = await bench.ended(await bench.cacher.request(request()), look_every=1.0)

    assert ended.state is JobState.CACHED
    assert ended.attempts == 4
    assert ended.failure == ""


@pytest.mark.looptime
async def test_a_registry_that_stays_unreachable_is_given_up_with_the_last_reason(bench: Bench) -> None:
    bench.registries.failures += [Unavailable("registry", "timeout", "x")] * 100
    ended = await bench.ended(await bench.cacher.request(request()), look_every=1.0)

    assert ended.state is JobState.FAILED
    assert ended.attempts == MAX_ATTEMPTS
    assert ended.failure == "gave-up: after 12 attempts, last source-unreachable: timeout: x"


@pytest.mark.looptime
async def test_a_copy_that_was_limited_halfway_looks_for_what_it_has_copied(bench: Bench) -> None:
    """Otherwise each attempt would read the same blobs from the source that limits it."""
    bench.registries.copy_failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]
    await bench.ended(await bench.cacher.request(request()), look_every=1.0)

    assert bench.registries.states == [TargetState.EMPTY, TargetState.OWN]


@pytest.mark.looptime
async def test_a_rate_limit_parks_the_job_for_as_long_as_it_says_and_uses_up_no_attempt(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    bench.registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]
    begun = loop.time()
    ended = await bench.ended(await bench.cacher.request(request()), look_every=1.0)

    assert ended.state is JobState.CACHED
    assert ended.attempts == 1
    assert loop.time() - begun == pytest.approx(900.0, abs=2.0)


@pytest.mark.looptime
async def test_E7_a_rate_limited_job_waits_out_its_time_across_a_restart(store: Store) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    registries = Registries()
    registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=900.0)]
    async with open_bench(store, registries) as first:
        job = await first.cacher.request(request())
        parked: CacheJob | None = job
        while parked is not None and parked.not_before is None:
            await asyncio.sleep(1.0)
            parked = await store.records.find_job(job.job_id)
    async with open_bench(store, registries) as second:
        ended = await second.ended(job, look_every=1.0)

    assert ended.state is JobState.CACHED
    assert loop.time() - begun == pytest.approx(900.0, abs=5.0)
    assert len(registries.copies) == 1


@pytest.mark.looptime
async def test_a_job_that_was_put_off_while_the_clock_was_ten_years_ahead_is_copied_with_all_that_joins_it(
    store: Store,
) -> None:
    ahead = 1e9 + 10 * 365 * 86_400.0
    async with open_bench(store, Registries(), loops=0) as waiting:
        job = await waiting.cacher.request(request())
        await store.records.save_job(
            replace(job, updated_at=ahead, not_before=ahead + 300.0, failure="timeout: x", attempts=1)
        )
    async with open_bench(store, Registries()) as bench:
        joined = await bench.cacher.request(request("task:2"))
        ended = await bench.ended(job)

    assert joined.job_id == job.job_id
    assert (ended.state, ended.attempts) == (JobState.CACHED, 1 + 1)


def moved(error: DockerCacheError, size: int) -> DockerCacheError:
    error.moved = size
    return error


@pytest.mark.looptime
async def test_an_app_whose_copies_move_too_many_bytes_in_vain_waits_and_others_go_on(bench: Bench) -> None:
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    for n in range(2):
        bench.registries.copy_failures.append(moved(Invalid("registry", "digest-mismatch", "x"), 500))
        failed = await bench.ended(await bench.cacher.request(request(f"task:{n}")))
        assert failed.state is JobState.FAILED

    waiting = await bench.cacher.request(request("task:9"))
    other = replace(request("task:other"), app_guid=AppGuid("other"), source=OTHER)
    bench.registries.content[OTHER] = "two"
    assert (await bench.ended(await bench.cacher.request(other))).state is JobState.CACHED
    held = await bench.store.records.find_job(waiting.job_id)
    assert held is not None
    assert (held.state, held.attempts) == (JobState.QUEUED, 0)
    assert held.failure == "failed-bytes: copies of its organization moved 1,000 bytes in vain in a day"

    assert (await bench.ended(waiting, look_every=60.0)).state is JobState.CACHED
    assert DAY - 3600 <= loop.time() - begun <= DAY + 60


@pytest.mark.looptime
async def test_what_was_moved_before_a_copy_went_well_was_not_moved_in_vain(bench: Bench) -> None:
    for n in range(5):
        bench.registries.copy_failures.append(moved(Unavailable("registry", "timeout", "x"), 999))
        bench.registries.content[SOURCE] = str(n)
        ended = await bench.ended(await bench.cacher.request(request(f"task:{n}")), look_every=1.0)
        assert (ended.state, ended.attempts) == (JobState.CACHED, 2)


@pytest.mark.looptime
async def test_a_copy_that_an_operator_orders_waits_for_no_budget(bench: Bench) -> None:
    bench.registries.copy_failures.append(moved(Invalid("registry", "digest-mismatch", "x"), 5000))
    await bench.ended(await bench.cacher.request(request("task:1")))

    ordered = await bench.cacher.request(replace(request("task:2"), is_ordered=True))

    assert (await bench.ended(ordered)).state is JobState.CACHED


@pytest.mark.looptime
async def test_a_bug_in_a_copy_does_not_end_the_loop(bench: Bench) -> None:
    bench.registries.failures += [TypeError("a bug")]
    ended = await bench.ended(await bench.cacher.request(request()), look_every=1.0)

    assert ended.state is JobState.CACHED


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
    sources = [replace(SOURCE, path=f"team/web-{number}") for number in range(100)]
    registries = Registries({source: f"content-{number:03}" for number, source in enumerate(sources)})
    async with open_bench(store, registries, loops=0) as waiting:
        jobs = [
            await waiting.cacher.request(request(f"task:{number}", source=source))
            for number, source in enumerate(sources)
        ]
    assert registries.copies == []
    assert len({job.job_id for job in jobs}) == 100
    async with open_bench(store, registries) as second:
        ended = [await second.ended(job) for job in jobs]

    assert {job.state for job in ended} == {JobState.CACHED}
    assert len(set(registries.copies)) == 100


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
        assert (await second.ended(job, look_every=1.0)).state is JobState.CACHED


@pytest.mark.looptime
async def test_credentials_that_nobody_brings_back_end_the_job(store: Store) -> None:
    async with open_bench(store, Registries(), loops=0) as first:
        job = await first.cacher.request(private("task:1", "right"))
    async with open_bench(store, Registries()) as second:
        ended = await second.ended(job, look_every=1.0)

        assert ended.state is JobState.FAILED
        assert ended.failure.startswith("credentials-lost: ")


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
        await bench.ended(await bench.cacher.request(ordered("admin:1")), look_every=1.0)
        begun = asyncio.get_running_loop().time()

        await bench.control.resume()
        await bench.ended(waiting, look_every=1.0)

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

        ended = await bench.ended(await bench.cacher.request(ordered("admin:1")), look_every=1.0)

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


class TestRepeats:
    """An LRP that asks again and again, without anything new, waits ever longer."""

    async def test_it_is_said_why_a_job_waits_and_a_staging_has_it_started(self, bench: Bench) -> None:
        await bench.ended(await bench.cacher.request(request("lrp:p")))
        repeated = await bench.cacher.request(request("lrp:p"))

        joined = await bench.cacher.request(request("task:2", at=2))

        assert repeated.failure.startswith("requested-again: ")
        assert joined.job_id == repeated.job_id
        assert (await bench.ended(joined)).state is JobState.CACHED

    @pytest.mark.looptime
    async def test_a_registry_that_limits_the_rate_and_says_at_once_is_asked_ever_more_seldom(
        self, bench: Bench
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.failures += [RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=0.0)] * 8
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=1.0)

        assert ended.state is JobState.CACHED
        assert loop.time() - begun > 200.0

    @pytest.mark.looptime
    async def test_a_registry_that_is_unavailable_and_names_no_time_gets_half_an_hour(
        self, bench: Bench
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.copy_failures += [
            Unavailable("registry", "http-503", "x", retry_after=seconds) for seconds in (None, 0.0) * 20
        ]
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=10.0)

        assert (ended.state, ended.attempts) == (JobState.FAILED, MAX_ATTEMPTS)
        assert loop.time() - begun > 600.0

    @pytest.mark.looptime
    @pytest.mark.parametrize("code", ["read-only", "disk-full", "quota-exceeded", "storage-failed"])
    async def test_a_registry_that_stores_nothing_for_hours_is_waited_for_and_uses_up_no_attempt(
        self, bench: Bench, code: str
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.copy_failures += [Unavailable("registry", code, "x")] * 40
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=100.0)

        assert (ended.state, ended.attempts) == (JobState.CACHED, 1)
        assert loop.time() - begun > 3600.0

    @pytest.mark.looptime
    @pytest.mark.parametrize(
        "refusal",
        [
            RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=43_000.0),
            RateLimited("registry", "TOOMANYREQUESTS", "x", retry_after=86_000.0),
            Unavailable("registry", "read-only", "x", retry_after=60_000.0),
        ],
    )
    async def test_a_job_does_not_wait_for_ever_for_a_registry_that_never_serves(
        self, bench: Bench, refusal: Unavailable
    ) -> None:
        loop = asyncio.get_running_loop()
        bench.registries.copy_failures += [refusal] * 100
        begun = loop.time()

        ended = await bench.ended(await bench.cacher.request(request()), look_every=5000.0, within=1_000_000)

        assert ended.state is JobState.FAILED
        assert ended.failure.startswith("gave-up: not within the 86400 s that a job may take")
        assert refusal.code in ended.failure
        assert loop.time() - begun <= 86_400.0 + 5000.0  # looked at so seldom


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
