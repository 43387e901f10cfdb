"""Droplets that are reconciled, and all that they rest on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from controller.app_placements import AppPlacements
from controller.droplets import DropletDependencies, DropletObstacles, Droplets, KnownDroplets
from controller.lrp_index import LrpIndex
from controller.process import Process
from reconcile.copying_ports import CheckDepth
from reconcile.droplets import BuildGuid, DropletGuid, DropletPhase, DropletRecord, task_of_build
from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid, SchedulingInfo, Task, TaskState
from reconcile.observed import Rules
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    JobId,
    JobState,
    requester_of_task,
)
from reconcile.references import CacheGuid, Digest, ImageReference, parse_image_reference
from tests.controller.droplets.memory_api import MemoryApi
from tests.controller.droplets.memory_records import MemoryRecords
from tests.reconcile.test_decide import RULES
from tests.reconcile.test_staging import staging_task

NOW = 1_800_000_000.0
TEXT = "registry.example.com/team/app:1"
APP = AppGuid("app-1")
INTERVAL = 600.0


def guid_of(number: int) -> CacheGuid:
    return CacheGuid(f"3d9f1a52-8c1c-4e58-9a1c-{number:012x}")


def text_of(number: int) -> str:
    return f"cache.example:8080/{guid_of(number)}:latest"


def digest_of(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def named(number: int) -> DropletRecord:
    """Return the record of a droplet that names the first copy."""
    return DropletRecord(
        DropletGuid(f"droplet-{number}"),
        APP,
        None,
        original=TEXT,
        username="",
        cache_guid=guid_of(1),
        registry="cache.example:8080",
        target=text_of(1),
        phase=DropletPhase.PATCHED,
        reason=Reason.DROPLET_PATCHED,
        created_at=0.0,
        updated_at=0.0,
    )


@dataclass
class Platform:
    """What droplets are asked of beside Cloud Controller: cells, the registry, operators."""

    is_paused: bool = False
    is_restoring: bool = False
    pinned: set[AppGuid] = field(default_factory=set)
    no_pulls: str | None = None
    no_pulls_with_login: str | None = None
    unhealthy: str | None = None
    failed: tuple[Reason, str] | None = None
    missing: str = ""
    inactive: DockerCacheError | None = None
    asked_pulls: list[tuple[frozenset[str], str]] = field(default_factory=list)
    suspects: list[CacheGuid] = field(default_factory=list)
    is_whole: bool | None = True
    requests: list[CacheRequest] = field(default_factory=list)
    lrps: dict[ProcessGuid, DesiredLrp] = field(default_factory=dict)

    def is_pinned(self, app_guid: AppGuid) -> bool:
        return app_guid in self.pinned

    def why_not_migrate(self) -> str | None:
        return self.unhealthy

    def why_not_use(self, cache_guid: CacheGuid) -> tuple[Reason, str] | None:
        return self.failed

    def why_not(self, placement_tags: frozenset[str], username: str) -> str | None:
        self.asked_pulls.append((placement_tags, username))
        return self.no_pulls or (self.no_pulls_with_login if username else None)

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        return self.missing

    def suspect(self, cache_guid: CacheGuid, depth: CheckDepth) -> None:
        self.suspects.append(cache_guid)

    async def request(self, request: CacheRequest) -> CacheJob:
        self.requests.append(request)
        return CacheJob(JobId("asked"), request.source, JobState.QUEUED, request.reason, NOW, NOW)

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        return self.lrps.get(process_guid)

    def check_active(self) -> None:
        if self.inactive is not None:
            raise self.inactive


@dataclass
class Verifier:
    """Reads copies back, as the platform says."""

    platform: Platform
    records: MemoryRecords

    async def verify(self, image: CachedImage) -> bool | None:
        if self.platform.is_whole:
            self.records.images[image.cache_guid] = replace(image, needs_verification_since=0.0)
        return self.platform.is_whole


@dataclass
class Scene:
    """Droplets that are reconciled, and all that they rest on."""

    api: MemoryApi
    records: MemoryRecords
    platform: Platform
    process: Process
    rules: Rules
    index: LrpIndex
    known: KnownDroplets
    loops: "asyncio.Task[None] | None" = None

    @property
    def now(self) -> float:
        return self.process.clock()

    async def staged(self, number: int = 1, *, text: str = TEXT, app_guid: AppGuid = APP) -> DropletGuid:
        """Let an image be staged, as Cloud Controller has it; its task has not ended."""
        return self.api.stage(number, app_guid, text, created_at=self.now)

    async def requested(
        self, number: int = 1, *, text: str = TEXT, app_guid: AppGuid = APP, needs_login: bool = False
    ) -> CacheJob:
        """Let a staging request a copy."""
        source = parse_image_reference(text).canonical()
        job = CacheJob(
            JobId(f"job-{number}"),
            source,
            JobState.QUEUED,
            Reason.STAGING_TASK,
            self.now,
            self.now,
            needs_credentials=needs_login,
        )
        requester = requester_of_task(task_of_build(BuildGuid(f"build-{number}")))
        await self.records.add_job(job, Binding(app_guid, source, requester, int(self.now * 1e9), job.job_id))
        return job

    async def cached(self, job: CacheJob, number: int = 1) -> CachedImage:
        """Let a copy be finished, as the cacher does."""
        digest = digest_of(number)
        copying = replace(job, state=JobState.COPYING)
        await self.records.save_job(copying)
        image = CachedImage(
            guid_of(number), job.source, digest, digest, digest, 1, self.now, self.now, registry=""
        )
        finished = replace(copying, state=JobState.CACHED, cache_guid=image.cache_guid)
        await self.records.finish_job(finished, image, [])
        return image

    def task(self, number: int = 1, *args: str) -> Task:
        """Return the staging task of a build as it ends."""
        task = staging_task(f"-dockerRef={TEXT}", *args)
        guid = task_of_build(BuildGuid(f"build-{number}"))
        return replace(task, task_guid=guid, state=TaskState.RESOLVING)

    async def patched(self, number: int = 1) -> DropletGuid:
        """Let a droplet be staged and name its copy."""
        guid = await self.staged(number)
        await self.cached(await self.requested(number), number)
        self.droplets.note_removed_task(self.task(number))
        await self.until(lambda: self.api.image_of(guid) == text_of(number))
        await self.rest()
        return guid

    def runs(self, lrp: DesiredLrp) -> None:
        """Let an LRP run from its source."""
        self.platform.lrps[lrp.process_guid] = lrp
        self.index.put(
            SchedulingInfo(lrp.process_guid, lrp.domain, lrp.app_guid, lrp.rootfs, lrp.instances, lrp.tag)
        )

    async def record(self, guid: DropletGuid) -> DropletRecord:
        """Read a droplet's record."""
        found = await self.records.find_droplet(guid)
        assert found is not None
        return found

    async def until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something is so, for that many seconds."""
        for _ in range(int(seconds / 0.02)):
            if holds():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"it does not come about: {self.api.asked} {self.api.droplets}")

    async def rest(self) -> None:
        """Let what was caused come to rest."""
        await asyncio.sleep(0.2)

    async def begin(self) -> None:
        """Start the loops, and let the first listing come to rest; it counts as no request."""
        self.start()
        await self.rest()
        self.api.asked.clear()

    def start(self) -> None:
        """Start the loops."""
        self.loops = asyncio.create_task(self.droplets.run())

    async def restart(self) -> None:
        """Begin anew with the same store, as another process does."""
        await self.stop()
        self.known = KnownDroplets()
        self.make_droplets()
        await self.droplets.recover()
        self.start()

    def make_droplets(self) -> None:
        """Make what another process has of droplets."""
        platform, records = self.platform, self.records
        process = replace(self.process, metrics=type(self.process.metrics)())
        dependencies = DropletDependencies(
            api=self.api,
            records=records,
            bindings=records,
            jobs=records,
            images=records,
            copies=records,
            requests=platform,
            index=self.index,
            lrps=platform,
            obstacles=DropletObstacles(
                registry=platform,
                breakers=platform,
                pulls=platform,
                lrps=records,
                placements=AppPlacements(),
            ),
            registry=platform,
            verifier=Verifier(platform, records),
            presence=platform,
            overrides=platform,
            mode=platform,
            rules=self.rules,
            process=process,
            check_active=platform.check_active,
        )
        self.process, self.dependencies = process, dependencies
        self.droplets = Droplets(dependencies, known=self.known, interval=INTERVAL)

    async def stop(self) -> None:
        """End the loops."""
        if self.loops is not None:
            self.loops.cancel()
            await asyncio.gather(self.loops, return_exceptions=True)
        self.droplets.close()


@asynccontextmanager
async def reconciling(rules: Rules = RULES) -> AsyncIterator[Scene]:
    """Make droplets whose loops do not run yet."""
    loop = asyncio.get_running_loop()
    process = Process("run-1", clock=lambda: NOW + loop.time(), monotonic=loop.time)
    parts = (MemoryApi(), MemoryRecords(), Platform(), process, rules, LrpIndex(), KnownDroplets())
    scene = Scene(*parts)
    scene.make_droplets()
    try:
        yield scene
    finally:
        await scene.stop()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A platform without any droplet; a test begins the loops, since time is virtual only within it."""
    async with reconciling() as made:
        yield made
