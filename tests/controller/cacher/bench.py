"""A cacher over a real store and an engine whose registries are dictionaries, for all tests of cache jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from controller.app_tags import AppTags
from controller.cacher import Cacher, CacherDependencies, CopyEngine, JobLimits
from controller.control import OperatorControl
from controller.coverage import StagingCoverage
from controller.engines.progress import CopyProgress
from controller.job_listeners import JobListeners
from controller.lrp_index import LrpIndex
from controller.metrics import Metrics
from controller.process import Process
from controller.progress import Progress
from controller.store.opening import Store
from controller.workqueue import WorkQueue
from reconcile.app_events import CopyEvent
from reconcile.copying_ports import (
    CheckDepth,
    CopiedImage,
    IndexContents,
    ResolvedImage,
    Signatures,
    TargetState,
)
from reconcile.errors import Denied, DockerCacheError, NotFound
from reconcile.failed_bytes import FailedBytesBudget
from reconcile.fairness import Slots
from reconcile.lrps import AppGuid, Credentials, ModificationTag, ProcessGuid, SchedulingInfo, Secret
from reconcile.migrations import Goal
from reconcile.orders import Order
from reconcile.reasons import Reason
from reconcile.records import CacheJob, CacheRequest, JobId, JobState
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    ImageReference,
    Rootfs,
    parse_image_reference,
)
from reconcile.trust import Reader, ShareContent, Sharing

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
    staged: list[Callable[[AppGuid, JobId, CopyEvent], None]]
    app_tags: AppTags

    async def state(self, job: CacheJob) -> JobState:
        found = await self.store.records.find_job(job.job_id)
        assert found is not None
        return found.state

    def failures(self, outcome: str, kind: str) -> float | None:
        """Count the attempts that failed in some way."""
        labels = {"outcome": outcome, "kind": kind}
        return self.metrics.registry.get_sample_value("docker_cache_job_failures_total", labels)

    def order_lrp(self, process_guid: str) -> None:
        """Let an operator wait for an LRP."""
        order = Order(Goal.CACHE, since=0.0)
        assert self.control.place_order(ProcessGuid(process_guid), order, lambda *_: None)

    async def ended(
        self, job: CacheJob, *, look_every: float | None = None, within: float = 100_000
    ) -> CacheJob:
        """Wait until a job is over, and look at an interval, or else less often the longer it takes."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.timeout(within):
            while True:
                found = await self.store.records.find_job(job.job_id)
                assert found is not None
                if found.state in {JobState.CACHED, JobState.FAILED}:
                    return found
                await asyncio.sleep(look_every or max(0.01, (loop.time() - begun) / 50))


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
    app_tags = AppTags()
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
            app_tags=app_tags,
        )
    )
    await cacher.recover()
    running = [asyncio.create_task(cacher.run()) for _ in range(loops)]
    try:
        yield Bench(
            cacher,
            registries,
            store,
            queue,
            coverage,
            gate,
            listeners.of_repairs,
            process.metrics,
            listeners.of_stagings,
            app_tags,
        )
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        cacher.close()
        queue.close()


def request(requester: str = "task:1", *, at: int = 1, source: ImageReference = SOURCE) -> CacheRequest:
    return CacheRequest(APP, source, requester, at, reason=Reason.STAGING_TASK)


def private(requester: str, password: str) -> CacheRequest:
    return replace(request(requester), credentials=Credentials("robot", Secret(password)))
