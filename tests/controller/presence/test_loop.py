"""The loop that looks after copies, over a real store and a registry of dictionaries, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from controller.copy_uses import CopyUses
from controller.presence import Intervals, PresenceDependencies, PresenceLoop, RepairRecords
from controller.presence.dependencies import NamedCopies, NoNamedCopies
from controller.presence.loop import CONFIRM_AFTER
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.copying_ports import CheckDepth
from reconcile.errors import Denied, DockerCacheError, Unavailable
from reconcile.events import ActualLrpCrashed
from reconcile.lrps import ActualLrpState, AppGuid, Credentials, ProcessGuid, Secret
from reconcile.migrations import OriginalSource
from reconcile.missing_copies import RETRY_LOST, RETRY_UNREACHABLE
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    CopyCheck,
    JobId,
    JobState,
    requester_of_repair,
)
from reconcile.references import CacheGuid, Digest, ImageReference, Rootfs, parse_image_reference
from tests.reconcile.protocol_samples import EXITED, NO_SUCH_COPY
from tests.reconcile.test_decide import DIGEST, GUID, IMAGE, PROCESS, RULES, SOURCE, row

pytestmark = pytest.mark.looptime

HOUR = 3600.0
EPOCH = 1e9
MISSING = "its manifest (MANIFEST_UNKNOWN)"
LOGIN = Credentials("robot", Secret("pw"))
MIRROR = Rootfs("docker://mirror.example.com/team/app#1")


@dataclass
class Registry:
    """What is missing of the copy; None for a registry that does not tell."""

    missing: str = ""
    problem: DockerCacheError | None = None
    hangs: bool = False
    looks: list[tuple[float, CheckDepth]] = field(default_factory=list)

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        assert target == RULES.cache.image(GUID)
        assert digest == DIGEST
        self.looks.append((asyncio.get_running_loop().time(), depth))
        if self.hangs:
            await asyncio.Event().wait()
        if self.problem is not None:
            raise self.problem
        is_blob = "blobs" in self.missing
        return "" if is_blob and depth is CheckDepth.MANIFEST else self.missing

    @property
    def depths(self) -> list[CheckDepth]:
        return [depth for _, depth in self.looks]


@dataclass
class Records:
    """A store in memory: reading it takes no time."""

    images: dict[CacheGuid, CachedImage] = field(default_factory=lambda: {GUID: IMAGE})
    checks: dict[CacheGuid, CopyCheck] = field(default_factory=dict)
    jobs: dict[JobId, CacheJob] = field(default_factory=dict)
    last_job: JobId | None = None
    sources: dict[ProcessGuid, OriginalSource] = field(default_factory=dict)

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        return self.images.get(cache_guid)

    async def find_check(self, cache_guid: CacheGuid) -> CopyCheck:
        return self.checks.get(cache_guid, CopyCheck(cache_guid))

    async def list_checks(self) -> tuple[CopyCheck, ...]:
        return tuple(self.checks.values())

    async def save_check(self, check: CopyCheck) -> None:
        if check.cache_guid in self.images:
            self.checks[check.cache_guid] = check

    async def find_binding(self, requester: str) -> Binding | None:
        assert requester == requester_of_repair(GUID)
        return None if self.last_job is None else Binding(AppGuid(""), SOURCE, requester, 0, self.last_job)

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        return self.jobs.get(job_id)

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        return self.sources.get(process_guid)


@dataclass
class Requests:
    """Takes requests for repairs, and saves their jobs."""

    records: Records
    taken: list[CacheRequest] = field(default_factory=list)

    async def request(self, request: CacheRequest) -> CacheJob:
        self.taken.append(request)
        now = EPOCH + asyncio.get_running_loop().time()
        job_id = JobId(f"job-{len(self.taken)}")
        job = CacheJob(job_id, request.source, JobState.QUEUED, request.reason, now, now)
        self.records.jobs[job_id], self.records.last_job = job, job_id
        return job


@dataclass
class Bench:
    """A loop at work, and all that it reaches."""

    records: Records
    registry: Registry
    requests: Requests
    uses: CopyUses
    queue: WorkQueue[ProcessGuid]
    process: Process
    loop: PresenceLoop

    async def check(self) -> CopyCheck:
        return await self.records.find_check(GUID)

    async def end_repair(self, state: JobState, failure: str = "") -> None:
        """End the last repair, and let the loop know."""
        last = self.records.last_job
        assert last is not None
        now = self.process.clock()
        self.records.jobs[last] = replace(
            self.records.jobs[last], state=state, failure=failure, updated_at=now
        )
        self.loop.repair_ended(GUID)
        await asyncio.sleep(1.0)

    def crash(self, reason: str) -> None:
        crash = ActualLrpCrashed(PROCESS, 0, "cf-apps", "i", "cell", 1, reason)
        self.loop.note_crash(crash)

    def queued(self) -> int:
        """Take all LRPs that wait."""
        return len(self.queue)


@asynccontextmanager
async def looking(
    records: Records | None = None,
    registry: Registry | None = None,
    intervals: Intervals = Intervals(HOUR, 24 * HOUR),  # noqa: B008 - a frozen value
    named: NamedCopies = NoNamedCopies(),  # noqa: B008 - it has no state
) -> AsyncIterator[Bench]:
    now = EPOCH + asyncio.get_running_loop().time()
    records = records or Records(checks={GUID: CopyCheck(GUID, now, now)})
    registry = registry or Registry()
    clock = asyncio.get_running_loop()
    process = Process("run", clock=lambda: EPOCH + clock.time(), monotonic=clock.time)
    uses, queue = CopyUses(), WorkQueue[ProcessGuid]()
    requests = Requests(records)
    uses.put(PROCESS, GUID)
    loop = PresenceLoop(
        PresenceDependencies(
            registry=registry,
            cache=RULES.cache,
            images=records,
            checks=records,
            requests=requests,
            records=RepairRecords(records, records, records),
            uses=uses,
            queue=queue,
            process=process,
            named=named,
        ),
        intervals=intervals,
    )
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(1.0)
    try:
        yield Bench(records, registry, requests, uses, queue, process, loop)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        loop.close()
        queue.close()


async def incomplete(bench: Bench) -> None:
    """Let the copy be found incomplete."""
    bench.registry.missing = MISSING
    bench.crash(NO_SUCH_COPY)
    await asyncio.sleep(2 * CONFIRM_AFTER)
    assert (await bench.check()).missing == MISSING


class OneNamedCopy:
    """Droplets that name one copy."""

    def copies(self) -> frozenset[CacheGuid]:
        return frozenset({GUID})

    def names(self, cache_guid: CacheGuid) -> bool:
        return cache_guid == GUID


class TestNamedCopies:
    async def test_a_copy_that_only_a_droplet_names_is_looked_for_each_hour(self) -> None:
        """Its app does not run, and is to start from it."""
        async with looking(intervals=Intervals(150.0, 24 * HOUR), named=OneNamedCopy()) as bench:
            bench.uses.remove(PROCESS)
            await asyncio.sleep(1500.0)

            assert 8 <= len(bench.registry.looks) <= 13

    async def test_whoever_names_a_copy_is_told_when_it_is_incomplete_and_when_it_is_lost(self) -> None:
        async with looking(named=OneNamedCopy()) as bench:
            reported = list[tuple[CacheGuid, bool]]()

            def note(cache_guid: CacheGuid) -> None:
                reported.append((cache_guid, bool(bench.records.checks[GUID].lost_since)))

            bench.loop.of_copies.append(note)
            await incomplete(bench)
            assert reported == [(GUID, False)]

            await bench.end_repair(JobState.FAILED, "MANIFEST_UNKNOWN: it is gone")
            await asyncio.sleep(60.0)
            assert reported[-1] == (GUID, True)


class TestLooks:
    async def test_a_copy_is_looked_for_each_hour_and_its_blobs_each_day(self) -> None:
        hour = 150.0  # shorter than real ones, so that three days are not long
        async with looking(intervals=Intervals(hour, 24 * hour)) as bench:
            started = bench.process.clock()
            await asyncio.sleep(72 * hour)

            assert 72 <= len(bench.registry.looks) <= 85
            assert 2 <= bench.registry.depths.count(CheckDepth.BLOBS) <= 4
            check = await bench.check()
            assert check.checked_at > started + 70 * hour
            assert bench.requests.taken == []

    @pytest.mark.parametrize(
        ("reason", "depth"), [(EXITED, CheckDepth.MANIFEST), (NO_SUCH_COPY, CheckDepth.BYTES)]
    )
    async def test_a_crash_makes_a_copy_suspect_at_once(self, reason: str, depth: CheckDepth) -> None:
        async with looking() as bench:
            bench.crash(reason)
            await asyncio.sleep(1.0)

            assert bench.registry.depths == [depth]

    async def test_an_instance_without_a_place_and_one_that_is_slow_make_a_copy_suspect(self) -> None:
        async with looking() as bench:
            bench.loop.note_instance(replace(row(ActualLrpState.UNCLAIMED), placement_error="no room"))
            await asyncio.sleep(1.0)
            assert bench.registry.depths == [CheckDepth.MANIFEST]

            bench.loop.note_instance(row(ActualLrpState.CLAIMED))
            await asyncio.sleep(120.0)
            assert bench.registry.depths == [CheckDepth.MANIFEST, CheckDepth.BYTES]

    async def test_crashes_in_a_row_cost_few_requests(self) -> None:
        async with looking() as bench:
            for _ in range(600):
                bench.crash(NO_SUCH_COPY)
                await asyncio.sleep(0.1)

            assert len(bench.registry.looks) <= 4

    async def test_a_crash_of_what_runs_from_its_source_is_nobodys_business(self) -> None:
        async with looking() as bench:
            bench.uses.remove(PROCESS)
            bench.crash(NO_SUCH_COPY)
            await asyncio.sleep(2 * HOUR)

            assert bench.registry.looks == []

    @pytest.mark.parametrize(
        "problem", [Unavailable("registry", "timeout", "x"), Denied("registry", "DENIED", "x")]
    )
    async def test_a_registry_that_does_not_tell_has_lost_nothing_and_is_asked_seldom(
        self, problem: DockerCacheError
    ) -> None:
        async with looking() as bench:
            bench.registry.problem = problem
            bench.crash(NO_SUCH_COPY)
            await asyncio.sleep(HOUR)

            assert (await bench.check()).missing_since == 0.0
            assert bench.requests.taken == []
            assert len(bench.registry.looks) < 150
            assert bench.process.metrics.registry.get_sample_value("docker_cache_copies_incomplete") == 0

    async def test_a_registry_that_hangs_is_not_waited_for(self) -> None:
        async with looking() as bench:
            bench.registry.hangs = True
            bench.crash(NO_SUCH_COPY)
            await asyncio.sleep(120.0)
            bench.registry.hangs = False
            await asyncio.sleep(120.0)

            assert bench.queued() == 1
            assert (await bench.check()).missing_since == 0.0

    async def test_what_is_missing_once_is_not_missing(self) -> None:
        async with looking() as bench:
            bench.registry.missing = MISSING
            bench.crash(NO_SUCH_COPY)
            await asyncio.sleep(CONFIRM_AFTER / 2)
            bench.registry.missing = ""
            await asyncio.sleep(60.0)

            assert (await bench.check()).missing_since == 0.0
            assert bench.requests.taken == []

    async def test_a_copy_of_another_registry_is_left_to_its_own(self) -> None:
        async with looking() as bench:
            bench.records.images[GUID] = replace(IMAGE, registry="former.example:8080")
            bench.crash(NO_SUCH_COPY)
            await asyncio.sleep(2 * HOUR)

            assert bench.registry.looks == []


class TestRepairs:
    async def test_what_is_missing_twice_is_sent_again_by_its_digest(self) -> None:
        async with looking() as bench:
            await incomplete(bench)

            (request,) = bench.requests.taken
            assert request.source == SOURCE.at(DIGEST)
            assert (request.requester, request.reason) == (requester_of_repair(GUID), Reason.REPAIRING_COPY)
            assert not request.is_ordered
            assert bench.queued() == 1
            assert bench.process.metrics.registry.get_sample_value("docker_cache_copies_incomplete") == 1

    async def test_a_copy_that_is_missing_on_schedule_is_sent_again_too(self) -> None:
        async with looking() as bench:
            bench.registry.missing = MISSING
            await asyncio.sleep(1.2 * HOUR)

            assert len(bench.requests.taken) == 1

    async def test_a_copy_that_was_repaired_is_complete_and_its_lrps_are_looked_at(self) -> None:
        async with looking() as bench:
            await incomplete(bench)
            key = await bench.queue.take()
            bench.queue.done(key)

            bench.registry.missing = ""
            await bench.end_repair(JobState.CACHED)

            check = await bench.check()
            assert (check.missing_since, check.missing) == (0.0, "")
            assert bench.queued() == 1
            assert bench.process.metrics.registry.get_sample_value("docker_cache_copies_incomplete") == 0

    async def test_a_repair_that_is_under_way_is_waited_for(self) -> None:
        async with looking() as bench:
            await incomplete(bench)
            await asyncio.sleep(HOUR)

            assert len(bench.requests.taken) == 1

    async def test_a_source_with_a_login_and_other_sources_are_tried_and_then_it_is_lost(self) -> None:
        async with looking() as bench:
            for process, rootfs in (
                (PROCESS, Rootfs("docker://registry.example.com/team/app#1")),
                (ProcessGuid("p-2"), MIRROR),
            ):
                bench.uses.put(process, GUID)
                bench.records.sources[process] = OriginalSource(
                    process, GUID, rootfs, needs_credentials=True, credentials=LOGIN
                )
            await incomplete(bench)
            for _ in range(2):
                await bench.end_repair(JobState.FAILED, "MANIFEST_UNKNOWN: gone")
                assert (await bench.check()).lost_since == 0.0
            await bench.end_repair(JobState.FAILED, "MANIFEST_UNKNOWN: gone")

            mirror = parse_image_reference("mirror.example.com/team/app:1").canonical()
            assert [(each.source, each.credentials) for each in bench.requests.taken] == [
                (SOURCE.at(DIGEST), LOGIN),
                (mirror.at(DIGEST), LOGIN),
                (SOURCE.at(DIGEST), None),
            ]
            assert (await bench.check()).lost_since > 0
            assert bench.process.metrics.registry.get_sample_value("docker_cache_copies_lost") == 1

    async def test_a_lost_copy_is_tried_again_after_an_hour(self) -> None:
        async with looking() as bench:
            await incomplete(bench)
            await bench.end_repair(JobState.FAILED, "MANIFEST_UNKNOWN: gone")
            lost = await bench.check()
            await asyncio.sleep(RETRY_LOST / 2)
            assert len(bench.requests.taken) == 1
            await asyncio.sleep(RETRY_LOST / 2 + 120.0)

            assert lost.lost_since > 0
            assert len(bench.requests.taken) == 2

    async def test_a_source_that_did_not_answer_is_asked_again_soon_and_nothing_is_lost(self) -> None:
        async with looking() as bench:
            await incomplete(bench)
            await bench.end_repair(JobState.FAILED, "gave-up: after 12 attempts, last timeout: x")
            await asyncio.sleep(RETRY_UNREACHABLE + 60.0)

            assert (await bench.check()).lost_since == 0.0
            assert len(bench.requests.taken) == 2

    async def test_nothing_is_repaired_while_the_registry_does_not_answer(self) -> None:
        async with looking() as bench:
            bench.registry.missing = MISSING
            bench.crash(NO_SUCH_COPY)
            await asyncio.sleep(CONFIRM_AFTER / 2)
            bench.registry.problem = Unavailable("registry", "timeout", "x")
            await asyncio.sleep(600.0)
            assert bench.requests.taken == []
            bench.registry.problem = None
            await asyncio.sleep(120.0)

            assert len(bench.requests.taken) == 1

    async def test_a_copy_that_is_evicted_meanwhile_is_forgotten(self) -> None:
        async with looking() as bench:
            await incomplete(bench)
            bench.uses.remove(PROCESS)
            del bench.records.images[GUID]
            looks = len(bench.registry.looks)
            await asyncio.sleep(HOUR)

            assert len(bench.registry.looks) <= looks + 1
            assert bench.process.metrics.registry.get_sample_value("docker_cache_copies_incomplete") == 0

    async def test_an_order_tries_the_next_source_after_a_failure(self) -> None:
        async with looking() as bench:
            bench.records.sources[PROCESS] = OriginalSource(
                PROCESS, GUID, MIRROR, needs_credentials=False, credentials=None
            )
            image = replace(IMAGE)
            await bench.loop.order(image)
            await bench.end_repair(JobState.FAILED, "MANIFEST_UNKNOWN: gone")
            await bench.loop.order(image)

            assert [each.source.domain for each in bench.requests.taken] == [
                "mirror.example.com",
                "registry.example.com",
            ]
            assert all(each.is_ordered for each in bench.requests.taken)


async def test_a_copy_that_was_incomplete_before_a_restart_is_followed() -> None:
    records = Records(checks={GUID: CopyCheck(GUID, EPOCH, EPOCH, EPOCH, MISSING)})
    async with looking(records, Registry(MISSING)) as bench:
        assert len(bench.requests.taken) == 1
        assert (await bench.check()).missing_since == EPOCH
