"""Passes over a simulated BBS with a cell, a real store, and a private registry that is a set of digests.

The loops' reading of events is tested with the whole process (`tests/daemon`), decisions in `test_plan`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller import login_renewal
from controller.bbs.client import BbsClient, open_bbs
from controller.canary import NullCanaryLoop
from controller.control import OperatorControl, is_over
from controller.coverage import StagingCoverage
from controller.event_cache import LrpEventCache
from controller.process import Process
from controller.reconciler import Reconciler
from controller.store.opening import Store
from controller.transport import client_tls
from controller.verifier import CopyVerifier
from controller.workqueue import WorkQueue
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from reconcile.actions import Action, BeginMigration
from reconcile.apply import ActionPorts, Outcome, apply
from reconcile.circuit_breaker import CircuitBreaker
from reconcile.copying_ports import CopiedImage, IndexContents, ResolvedImage, TargetState
from reconcile.current_stagings import CurrentStaging
from reconcile.errors import Invalid, NotFound, Unavailable
from reconcile.facts import SourceLoginPulls, StagingFacts
from reconcile.live_facts import PassSources, live_facts
from reconcile.lrps import AppGuid, Credentials, ProcessGuid, Pull, Secret, source_of
from reconcile.migrations import Goal, Migration, OriginalSource, Phase
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.policy import Policy
from reconcile.ports import OriginalSources
from reconcile.protocol import MAX_ROUNDS
from reconcile.pull_proof import CanaryLogin
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, CacheRequest, JobId, JobState, LrpRecord
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    ImageReference,
    Rootfs,
    source_from_rootfs,
)
from reconcile.steps import PhaseLimits
from reconcile.trust import Reader
from tests.simulators.bbs import Bbs, Fault, actual, desired, serve_bbs
from tests.simulators.cell import SimulatedCell
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import App, CloudController, InProcess
from tests.simulators.recipes import Image
from tests.stores import open_store

CACHE = CacheRepositories("cache.example:8080")
CONTENT = Digest("sha256", "c" * 64)
PULL = Credentials("puller", Secret("cache-password"))


@dataclass
class PrivateRegistry:
    """An engine of which the private registry is asked; `meanwhile` happens just before it answers.

    Attributes:
        sources: The images that source registries have.
    """

    held: set[ImageReference] = field(default_factory=set)
    damaged: set[ImageReference] = field(default_factory=set)
    read: list[ImageReference] = field(default_factory=list)
    sources: set[ImageReference] = field(default_factory=set)
    meanwhile: Callable[[], None] = lambda: None

    async def resolve(
        self,
        source: ImageReference,
        credentials: Credentials | None,
        *,
        indexes: IndexContents | None = None,
    ) -> ResolvedImage:
        if source not in self.sources:
            raise NotFound("registry", "MANIFEST_UNKNOWN", str(source))
        return ResolvedImage(source, CONTENT, CONTENT)

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        raise NotImplementedError

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        self.meanwhile()
        return target in self.held and digest == CONTENT

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        self.read.append(target)
        if target in self.damaged:
            raise Invalid("registry", "not-verified", str(target))


@dataclass
class Direction:
    """Which way LRPs are moved."""

    is_restoring: bool = False


@dataclass
class Requests:
    """Takes requests for copies and makes none."""

    taken: list[CacheRequest] = field(default_factory=list)

    async def request(self, request: CacheRequest) -> CacheJob:
        self.taken.append(request)
        return CacheJob(JobId("asked"), request.source, JobState.QUEUED, request.reason, 0.0, 0.0)


@dataclass
class OrderWatch:
    """Notes what becomes of an order."""

    reported: list[tuple[ProcessGuid, str, str]] = field(default_factory=list)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        self.reported.append((process_guid, reason, detail))
        if is_over(reason):
            self.is_over.set()

    async def end(self) -> str:
        """Wait for the end of the order, and tell what it came to."""
        async with asyncio.timeout(60):
            await self.is_over.wait()
        return self.reported[-1][1]


@dataclass
class Bench:
    """One reconciler and all that it reaches."""

    bbs: Bbs
    cell: SimulatedCell
    cloud: CloudController
    store: Store
    registry: PrivateRegistry
    requests: Requests
    client: BbsClient
    coverage: StagingCoverage = field(default_factory=StagingCoverage)
    queue: WorkQueue[ProcessGuid] = field(default_factory=WorkQueue)
    event_cache: LrpEventCache = field(default_factory=LrpEventCache)
    mode: Direction = field(default_factory=Direction)
    control: OperatorControl = field(init=False)
    pull_credentials: Credentials = PULL
    cache: CacheRepositories = CACHE
    pulls: NullCanaryLoop = field(default_factory=NullCanaryLoop)
    droplet_pulls: SourceLoginPulls | None = None
    original_sources: OriginalSources | None = None
    """Other ones than those of the store, where a test needs these."""
    may_bridge: bool = False
    stagings: StagingFacts | None = None
    passed: float = 0.0
    """Seconds that a test has let pass."""

    def __post_init__(self) -> None:
        self.control = OperatorControl(self.store.operations)

    @property
    def sources(self) -> PassSources:
        records = self.store.records
        return PassSources(
            lrps=self.client,
            instances=self.client,
            jobs=records,
            bindings=records,
            copies=records,
            images=records,
            journal=self.store.journal,
            original_sources=self.original_sources or self.store.original_sources,
            droplets=self.store.droplets,
            records=records,
            coverage=self.coverage,
            event_cache=self.event_cache,
            mode=self.mode,
            overrides=self.control,
            stagings=self.stagings,
            droplet_pulls=self.droplet_pulls,
        )

    @property
    def ports(self) -> ActionPorts:
        records = self.store.records
        return ActionPorts(
            lrps=self.client,
            logins=self.client,
            bridges=self.client,
            instances=self.client,
            journal=self.store.journal,
            original_sources=self.store.original_sources,
            images=records,
            engine=self.registry,
            verifier=CopyVerifier(self.registry, records, self.cache),
            requests=self.requests,
            pulls=self.pulls,
            cache=self.cache,
        )

    async def applies(self, action: Action, observed: Observed) -> Outcome:
        """Carry out one action."""
        return await apply(action, observed, live_facts(self.sources), self.ports)

    def reconciler(self, *, max_in_flight: int = 10, run_id: str = "run-1") -> Reconciler:
        return Reconciler(
            self.queue,
            sources=self.sources,
            ports=self.ports,
            rules=Rules(
                Policy(),
                self.cache,
                frozenset({"cf-apps"}),
                limits=PhaseLimits(routes=0.0),
                may_bridge=self.may_bridge,
                pull_credentials=self.pull_credentials,
                max_in_flight=max_in_flight,
                circuit_breaker=CircuitBreaker(max_failures=2, retry_after=600.0),
            ),
            process=Process(
                run_id,
                clock=lambda: time.time() + self.passed,
                monotonic=lambda: time.monotonic() + self.passed,
            ),
        )

    @asynccontextmanager
    async def running(self, reconciler: Reconciler, *, loops: int = 3) -> AsyncIterator[None]:
        """Run a reconciler; from now on instances start at once, and those from before do not."""
        await self.claimed()
        self.cell.settings.start_delay = 0.02
        tasks = [asyncio.create_task(reconciler.run()) for _ in range(loops)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.queue.close()

    async def app_with_copy(self, name: str = "web", *, instances: int = 1) -> App:
        """Start an app whose image is cached already."""
        app = self.cloud.create(name, Image("registry.example.com/team/app:1", "robot", "source-password"))
        app.droplet, app.instances = app.package, instances
        await self.cloud.start_app(app)
        await self.cached_for(app)
        return app

    async def cached_for(self, app: App) -> CacheGuid:
        lrp = await self.client.find_desired_lrp(ProcessGuid(app.process_guid))
        assert lrp is not None
        source = source_of(lrp)
        guid = await self.store.records.reserve_guid(CONTENT)
        job = CacheJob(
            JobId(f"job-{app.guid}"), source, JobState.COPYING, Reason.STAGING_TASK, 0.0, 0.0, cache_guid=None
        )
        request = CacheRequest(AppGuid(app.guid), source, f"task:{app.guid}", 1, Reason.STAGING_TASK)
        binding = Binding(request.app_guid, source, request.requester, 1, job.job_id)
        await self.store.records.add_job(job, binding)
        image = CachedImage(guid, source, CONTENT, CONTENT, CONTENT, 1, 0.0, 0.0)
        cached = CacheJob(job.job_id, source, JobState.CACHED, Reason.STAGING_TASK, 0.0, 0.0, cache_guid=guid)
        await self.store.records.finish_job(cached, image, ())
        self.coverage.record(request)
        self.registry.held.add(CACHE.image(guid))
        return guid

    async def claimed(self) -> None:
        """Wait until the cell has claimed all instances, none of which will run that does not run already.

        Those that crash by then are started again at once at first, and later not for half a minute.
        """
        claimed = {"CLAIMED", "RUNNING", "CRASHED"}
        async with asyncio.timeout(60):
            while not all(row.state in claimed for row in self.bbs.state.rows()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def lose_stops(self) -> None:
        """Let every stop request get lost, so that rows stay after a removal."""
        self.cell.lost_stops = 1000

    def end_instances(self) -> None:
        """Let the rows that stayed go after all."""
        self.cell.lost_stops = 0
        for row in list(self.bbs.state.rows()):
            key = row.actual_lrp_key
            actual.remove(self.bbs.state, key.process_guid, key.index, None)

    def lrp(self, app: App) -> DesiredLRP | None:
        return self.bbs.state.desired.get(app.process_guid)

    def order(self, app: App, goal: Goal = Goal.CACHE, *, rootfs: Rootfs | None = None) -> OrderWatch:
        """Have an app moved now, and let its LRP be looked at."""
        guid, watch = ProcessGuid(app.process_guid), OrderWatch()
        assert self.control.place_order(
            guid, Order(goal, since=time.time() + self.passed, rootfs=rootfs), watch
        )
        self.queue.add(guid)
        return watch

    def rootfs(self, app: App) -> str:
        lrp = self.lrp(app)
        assert lrp is not None
        return lrp.root_fs

    async def reason(self, app: App, *reasons: str) -> str:
        """Wait until the last pass over an app came to one of some reasons."""
        async with asyncio.timeout(60):
            while True:
                record = await self.store.records.find_lrp(ProcessGuid(app.process_guid))
                if record is not None and record.reason in reasons:
                    return record.reason
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def bench(servers: None, certificates: Certificates, tmp_path: Path) -> AsyncIterator[Bench]:
    pair = certificates.client
    tls = client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key)
    async with (
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs) as cell,
        CloudController(InProcess(bbs)) as cloud,
        open_store(
            f"sqlite:///{tmp_path}/store/cache.db", journal_key=Fernet.generate_key(), run_id="run-1"
        ) as store,
        open_bbs(bbs.url, tls=tls) as client,
    ):
        cell.settings.start_delay = 60.0
        bench = Bench(bbs, cell, cloud, store, PrivateRegistry(), Requests(), client)
        await bench.control.load(start_paused=False)
        yield bench


async def test_only_rootfs_and_image_credentials_change(bench: Bench) -> None:
    app = await bench.app_with_copy(instances=3)
    before = DesiredLRP.FromString(bench.bbs.state.desired[app.process_guid].SerializeToString())
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated")

    after = bench.lrp(app)
    assert after is not None
    assert (after.image_username, after.image_password) == ("puller", "cache-password")
    for message in (before, after):
        for name in ("root_fs", "image_username", "image_password", "modification_tag", "metrics_guid"):
            message.ClearField(name)
    assert before == after


async def test_an_instance_that_began_to_run_since_the_observation_stops_the_migration(
    bench: Bench,
) -> None:
    app = await bench.app_with_copy()
    lrp = bench.lrp(app)
    assert lrp is not None
    tag = lrp.modification_tag.epoch

    def start() -> None:
        for row in bench.bbs.state.rows():
            row.state = "RUNNING"

    bench.registry.meanwhile = start
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "waiting-until-stopped")

    still = bench.lrp(app)
    assert still is not None
    assert still.modification_tag.epoch == tag, "it was not touched"
    assert await bench.store.journal.list_migrations() == ()


async def test_a_change_of_its_owner_during_the_check_survives(bench: Bench) -> None:
    app = await bench.app_with_copy(instances=1)

    def scale() -> None:
        bench.bbs.state.desired[app.process_guid].instances = 4
        bench.registry.meanwhile = lambda: None

    bench.registry.meanwhile = scale
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated")

    after = bench.lrp(app)
    assert after is not None
    assert after.instances == 4


async def test_a_copy_that_vanished_is_asked_for_again_and_the_lrp_not_touched(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.registry.held.clear()
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "waiting-for-copy")

    assert [request.reason for request in bench.requests.taken] == ["copy-vanished"]
    lrp = bench.lrp(app)
    assert lrp is not None
    assert lrp.root_fs == "docker://registry.example.com/team/app#1"
    assert await bench.store.journal.list_migrations() == ()


async def test_nothing_is_desired_before_the_last_row_is_gone(bench: Bench) -> None:
    app = await bench.app_with_copy(instances=2)
    await bench.claimed()
    bench.lose_stops()
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "instances-stopping")
        for _ in range(3):
            bench.queue.add(ProcessGuid(app.process_guid))
            await asyncio.sleep(0.05)
            assert bench.lrp(app) is None
        bench.end_instances()
        await bench.reason(app, "migrated")

    indices = sorted(row.actual_lrp_key.index for row in bench.bbs.state.rows())
    assert indices == [0, 1], "every index is filled without a convergence"


async def test_no_more_migrations_are_open_than_allowed(bench: Bench) -> None:
    apps = [await bench.app_with_copy(f"web-{n}") for n in range(3)]
    await bench.claimed()
    bench.lose_stops()
    async with bench.running(bench.reconciler(max_in_flight=1)):
        for app in apps:
            bench.queue.add(ProcessGuid(app.process_guid))
        for app in apps:
            await bench.reason(app, "instances-stopping", "in-flight-limit")
        assert len(await bench.store.journal.list_migrations()) == 1
        bench.end_instances()
        for app in apps:
            await bench.reason(app, "migrated")


async def test_the_end_of_a_migration_is_told_although_its_record_could_not_be_saved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no journal any more, so that no later pass could tell of it."""
    app = await bench.app_with_copy()
    reconciler, reported, lost = bench.reconciler(), list[Reason](), list[LrpRecord]()
    reconciler.listeners.of_ends.append(lambda _, reason: reported.append(reason))
    save = bench.store.records.save_lrp

    async def save_but_the_end(record: LrpRecord) -> None:
        if lost or record.reason is not Reason.MIGRATED:
            await save(record)
            return
        lost.append(record)
        raise Unavailable("store", "unavailable", "it is away")

    monkeypatch.setattr(bench.store.records, "save_lrp", save_but_the_end)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated", "already-cached")

    assert reported == [Reason.MIGRATED]
    assert [each.reason for each in lost] == reported


async def test_a_removal_found_in_the_journal_goes_on_in_the_next_run(bench: Bench) -> None:
    app = await bench.app_with_copy()
    await bench.claimed()
    bench.lose_stops()
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "instances-stopping")
    (row,) = await bench.store.journal.list_migrations()
    assert row.phase is Phase.REMOVED
    bench.end_instances()

    bench.queue = WorkQueue()
    again = bench.reconciler(run_id="run-2")
    await again.recover()
    async with bench.running(again):
        await bench.reason(app, "migrated")
    assert await bench.store.journal.list_migrations() == ()


async def test_a_definition_that_the_bbs_no_longer_takes_from_the_cache_is_given_back(bench: Bench) -> None:
    """The BBS refuses half a pair of credentials; the original is desired again as it was."""
    app = await bench.app_with_copy()
    bench.pull_credentials = Credentials("puller", Secret(""))
    reconciler = bench.reconciler()
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "bbs-refused-definition")

    lrp = bench.lrp(app)
    assert lrp is not None
    assert lrp.root_fs == "docker://registry.example.com/team/app#1"
    assert (lrp.image_username, lrp.image_password) == ("robot", "source-password")


async def test_finishing_begins_nothing_new(bench: Bench) -> None:
    app = await bench.app_with_copy()
    reconciler = bench.reconciler()
    async with bench.running(reconciler):
        await reconciler.gate.finish_migrations(1.0)
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "in-flight-limit")

    lrp = bench.lrp(app)
    assert lrp is not None
    assert lrp.root_fs == "docker://registry.example.com/team/app#1"


async def test_finishing_waits_for_what_is_under_way(bench: Bench) -> None:
    app = await bench.app_with_copy()
    await bench.claimed()
    bench.lose_stops()
    reconciler = bench.reconciler()
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "instances-stopping")
        finishing = asyncio.create_task(reconciler.gate.finish_migrations(5.0))
        bench.end_instances()
        await finishing

    assert await bench.store.journal.list_migrations() == ()
    lrp = bench.lrp(app)
    assert lrp is not None
    assert lrp.root_fs.startswith("docker://cache.example:8080/")


async def test_a_removal_that_takes_effect_after_its_answer_was_lost_costs_no_definition(
    bench: Bench,
) -> None:
    app = await bench.app_with_copy()
    lrp = bench.lrp(app)
    assert lrp is not None
    bench.bbs.faults.order(Fault.DROP_BEFORE, "/v1/desired_lrp/remove")
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "removal-unconfirmed")
        assert len(await bench.store.journal.list_migrations()) == 1

        desired.remove(bench.bbs.state, app.process_guid)
        bench.queue.add(ProcessGuid(app.process_guid))
        async with asyncio.timeout(60):
            while bench.lrp(app) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

        bench.passed = PhaseLimits().unknown + 1
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated")
    after = bench.lrp(app)
    assert after is not None
    assert after.root_fs.startswith("docker://cache.example:8080/")


async def test_a_removal_that_never_took_effect_is_begun_anew_when_that_is_sure(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.bbs.faults.order(Fault.DROP_BEFORE, "/v1/desired_lrp/remove")
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "removal-unconfirmed")
        bench.passed = PhaseLimits().unknown + 1
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated")


async def test_a_bbs_that_is_not_active_has_removed_nothing(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.bbs.faults.order(Fault.UNAVAILABLE, "/v1/desired_lrp/remove")
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated")


async def test_an_lrp_on_a_copy_that_is_known_gets_its_lost_record_again(bench: Bench) -> None:
    """The database was lost, and the copy was adopted: the counts of operators must not leave it out."""
    app = await bench.app_with_copy()
    guid = ProcessGuid(app.process_guid)
    async with bench.running(bench.reconciler()):
        bench.queue.add(guid)
        await bench.reason(app, "migrated")
        await bench.store.records.forget_lrps([guid])
        bench.queue.add(guid)
        await bench.reason(app, "already-cached")


async def test_an_lrp_whose_old_instance_stays_is_desired_again_all_the_same(bench: Bench) -> None:
    """Its stop was lost, and it may not have a bridge: what it serves is left to it."""
    app = await bench.app_with_copy()
    await bench.claimed()
    bench.cell.lost_stops = 1
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "instances-stopping")
        assert bench.lrp(app) is None
        bench.passed = PhaseLimits().missing + 1
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "starting")
        assert bench.rootfs(app).startswith(FROM_CACHE)

        for row in bench.bbs.state.rows():
            row.state = "RUNNING"
        bench.passed += PhaseLimits().stop + 1
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "waiting-until-stopped", "already-cached")

    assert [row.state for row in bench.bbs.state.rows()] == ["RUNNING"]
    assert bench.cell.stop_requests[app.process_guid] == 1, "that of the removal"


async def test_rows_without_a_container_are_retired_at_once(bench: Bench) -> None:
    """A removal that raced a crash left one; no convergence removes it here."""
    app = await bench.app_with_copy(instances=2)
    await bench.claimed()
    bench.lose_stops()
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "instances-stopping")
        for row in bench.bbs.state.rows():
            row.state = "UNCLAIMED"
            row.actual_lrp_instance_key.Clear()
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "migrated")

    indices = sorted(row.actual_lrp_key.index for row in bench.bbs.state.rows())
    assert indices == [0, 1]


async def test_an_app_that_its_owner_deleted_while_nobody_ran_stays_deleted(bench: Bench) -> None:
    app = await bench.app_with_copy()
    await bench.claimed()
    bench.lose_stops()
    async with bench.running(bench.reconciler()):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "instances-stopping")
    bench.end_instances()
    guid = ProcessGuid(app.process_guid)
    await bench.cloud.delete(app)
    await bench.cloud.sync()

    bench.queue = WorkQueue()
    again = bench.reconciler(run_id="run-2")
    await again.recover()
    async with bench.running(again):
        await bench.reason(app, "waiting-for-cloud-controller")
        assert guid not in bench.bbs.state.desired
        bench.passed = 181.0
        bench.bbs.state.domains["cf-apps"] += 200 * 10**9  # its owner goes on syncing
        bench.queue.add(guid)
        await bench.reason(app, "removed-by-owner", "not-desired")
    assert guid not in bench.bbs.state.desired


async def test_what_a_journal_in_memory_would_lose_is_desired_when_the_process_ends(
    bench: Bench, tmp_path: Path
) -> None:
    """Also when the BBS fails at first, and with instance rows left."""
    async with open_store(f"sqlite:///{tmp_path}/other/cache.db", journal_key=None, run_id="run-1") as store:
        bench.store = store
        apps = [await bench.app_with_copy(f"web-{n}") for n in range(3)]
        await bench.claimed()
        bench.lose_stops()
        reconciler = bench.reconciler()
        async with bench.running(reconciler):
            for app in apps:
                bench.queue.add(ProcessGuid(app.process_guid))
            for app in apps:
                await bench.reason(app, "instances-stopping")
        bench.bbs.faults.order(Fault.UNAVAILABLE, "/v1/desired_lrp/desire.r2", calls=2)

        await reconciler.desire_removed_lrps()

    for app in apps:
        lrp = bench.lrp(app)
        assert lrp is not None
        assert lrp.root_fs.startswith("docker://cache.example:8080/")


@pytest.mark.parametrize("is_turned_back", [True, False], ids=["turned back", "restored"])
async def test_what_was_on_its_way_to_its_source_is_desired_from_there_when_the_process_ends(
    bench: Bench,
    tmp_path: Path,
    is_turned_back: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """Cells could not pull its copy, or an operator wanted it back."""
    async with open_store(f"sqlite:///{tmp_path}/other/cache.db", journal_key=None, run_id="run-1") as store:
        bench.store = store
        app = await bench.app_with_copy()
        lrp = await bench.client.find_desired_lrp(ProcessGuid(app.process_guid))
        assert lrp is not None
        guid = await store.records.reserve_guid(CONTENT)
        source = OriginalSource(lrp.process_guid, guid, lrp.rootfs, needs_credentials=False, credentials=None)
        await store.original_sources.save_original_source(source)
        removed = Migration(
            lrp.process_guid,
            guid,
            Phase.REMOVED,
            replace(lrp, rootfs=CACHE.rootfs(guid)),
            rounds=1,
            run_id="run-1",
            started_at=0.0,
            goal=Goal.SOURCE,
            way_back=Pull(lrp.rootfs, lrp.credentials) if is_turned_back else None,
        )
        await store.journal.save_migration(removed)
        desired.remove(bench.bbs.state, app.process_guid)

        await bench.reconciler().desire_removed_lrps()

    after = bench.lrp(app)
    assert after is not None
    assert after.root_fs == FROM_SOURCE
    login = ("robot", "source-password") if is_turned_back else ("", "")
    assert (after.image_username, after.image_password) == login


async def test_a_journal_row_of_another_key_is_said_and_kept(
    bench: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/keys/cache.db"
    app = await bench.app_with_copy()
    lrp = await bench.client.find_desired_lrp(ProcessGuid(app.process_guid))
    assert lrp is not None
    row = Migration(lrp.process_guid, CacheGuid("g"), Phase.REMOVED, lrp, 1, "run-0", 0.0)
    async with open_store(url, journal_key=Fernet.generate_key(), run_id="run-0") as store:
        await store.journal.save_migration(row)
    async with open_store(url, journal_key=Fernet.generate_key(), run_id="run-1") as store:
        bench.store = store
        await bench.reconciler().recover()

    assert f"the migration of {app.process_guid} is encrypted with another key" in capsys.readouterr().out


@dataclass
class Stagings:
    """What Cloud Controller says that apps are started from."""

    known: dict[str, CurrentStaging]

    async def find_current_staging(self, app_guid: AppGuid) -> CurrentStaging | None:
        return self.known.get(app_guid)


class TestMissedStagings:
    """The event stream has begun anew, so that a staging of any app may have been missed."""

    async def app(self, bench: Bench) -> App:
        app = await bench.app_with_copy()
        bench.coverage.restart()
        return app

    def staged(self, bench: Bench, app: App, requester: str) -> None:
        lrp = bench.lrp(app)
        assert lrp is not None
        source = source_from_rootfs(Rootfs(lrp.root_fs))
        bench.stagings = Stagings({app.guid: CurrentStaging(source, requester, time.time())})

    async def test_Y3_an_app_that_is_started_from_the_staging_that_is_known_asks_no_source(  # noqa: N802 - row Y3
        self, bench: Bench
    ) -> None:
        app = await self.app(bench)
        self.staged(bench, app, f"task:{app.guid}")

        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "migrated")

        assert bench.requests.taken == []

    async def test_Y4_an_app_that_went_back_to_an_earlier_staging_gets_what_was_staged_then(  # noqa: N802 - row Y4
        self, bench: Bench
    ) -> None:
        app = await self.app(bench)
        earlier = await bench.store.records.reserve_guid(CONTENT)
        await self.staged_again(bench, app)
        self.staged(bench, app, f"task:{app.guid}")

        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "migrated")

        assert bench.rootfs(app) == CACHE.rootfs(earlier).uri

    async def staged_again(self, bench: Bench, app: App) -> None:
        """Save that the app was staged once more, when its tag had moved to other content."""
        records, content = bench.store.records, Digest("sha256", "cd" * 32)
        binding = await records.find_binding(f"task:{app.guid}")
        assert binding is not None
        job = CacheJob(JobId("later"), binding.source, JobState.COPYING, Reason.STAGING_TASK, 1.0, 1.0)
        await records.add_job(job, replace(binding, requester="task:later", staged_at=2, job_id=job.job_id))
        guid = await records.reserve_guid(content)
        copy = CachedImage(guid, binding.source, content, content, content, 1, 1.0, 1.0)
        await records.finish_job(replace(job, state=JobState.CACHED, cache_guid=guid), copy, ())
        bench.registry.held.add(CACHE.image(guid))

    @pytest.mark.parametrize("says", ["of a staging that was missed", "nothing"])
    async def test_otherwise_its_source_is_asked(self, bench: Bench, says: str) -> None:
        app = await self.app(bench)
        if says == "nothing":
            bench.stagings = Stagings({})
        else:
            self.staged(bench, app, "task:missed")

        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "waiting-for-copy")

        assert [request.reason for request in bench.requests.taken] == ["staging-may-have-been-missed"]


class TestCopiesToVerify:
    """Instances crashed from a copy: nobody else is moved to it before every byte was read back."""

    async def test_one_that_is_whole_is_read_once_and_used(self, bench: Bench) -> None:
        apps = [await bench.app_with_copy(f"web-{n}") for n in range(3)]
        guid = await bench.store.records.reserve_guid(CONTENT)
        await bench.store.records.mark_for_verification(guid, 1.0)
        async with bench.running(bench.reconciler()):
            for app in apps:
                bench.queue.add(ProcessGuid(app.process_guid))
            for app in apps:
                await bench.reason(app, "migrated")

        assert bench.registry.read == [CACHE.image(guid)]
        image = await bench.store.records.find_image(guid)
        assert image is not None
        assert image.needs_verification_since == 0.0

    async def test_one_that_is_damaged_is_copied_anew_and_the_lrp_not_touched(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        guid = await bench.store.records.reserve_guid(CONTENT)
        await bench.store.records.mark_for_verification(guid, 1.0)
        bench.registry.damaged.add(CACHE.image(guid))
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "copy-corrupt")
            for _ in range(5):  # each look would read all of it
                bench.queue.add(ProcessGuid(app.process_guid))
                await asyncio.sleep(0.05)

        assert len(bench.registry.read) == 1
        assert [request.reason for request in bench.requests.taken] == ["copy-vanished"]
        lrp = bench.lrp(app)
        assert lrp is not None
        assert lrp.root_fs == "docker://registry.example.com/team/app#1"
        image = await bench.store.records.find_image(guid)
        assert image is not None
        assert image.needs_verification_since == 1.0, "still suspect until it was read back well"


FROM_SOURCE = "docker://registry.example.com/team/app#1"
FROM_CACHE = "docker://cache.example:8080/"


class Leaving(OperatorControl):
    """An operator who goes away as soon as a pass has seen what was asked for."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        order = super().order_of(process_guid)
        self.withdraw_order(process_guid)
        return order


class Pinning(OperatorControl):
    """An operator who pins an app when a pass has just looked whether it is pinned."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        was_pinned = super().is_pinned(app_guid)
        self._pinned.add(app_guid)
        return was_pinned


class Late(OperatorControl):
    """An operator who asks for something when a pass has just looked whether somebody did."""

    def __init__(self, bench: Bench, process_guid: ProcessGuid, watch: OrderWatch) -> None:
        super().__init__(bench.store.operations)
        self._process_guid, self._watch, self._has_asked = process_guid, watch, False

    def is_pinned(self, app_guid: AppGuid) -> bool:
        if not self._has_asked:
            self._has_asked = True
            self.place_order(self._process_guid, Order(Goal.CACHE, since=time.time()), self._watch)
        return super().is_pinned(app_guid)


UNREACHABLE = (
    "failed to create container: running image plugin create: fetching image reference: creating image: "
    'creating image source: pinging container registry cache.example:8080: Get "https://cache.example:8080/v2/": '
    "dial tcp 10.0.0.9:8080: connect: connection refused\n: exit status 1"
)


class TestCellsThatCannotPullACopy:
    """Each attempt costs the app a start, so there are three within an hour."""

    def refuse_copies(self, bench: Bench) -> None:
        bench.cell.settings.crash_reason = lambda lrp: (
            UNREACHABLE if lrp.root_fs.startswith(FROM_CACHE) else ""
        )

    async def test_an_app_that_is_starting_is_back_on_its_source_and_runs(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        self.refuse_copies(bench)
        async with bench.running(bench.reconciler()):
            watch = bench.order(app)

            assert await watch.end() == "not-pulled"
            await bench.reason(app, "waiting-until-stopped", "circuit-breaker-open")
            async with asyncio.timeout(10):
                while [row.state for row in bench.bbs.state.rows()] != ["RUNNING"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        lrp = bench.lrp(app)
        assert lrp is not None
        assert lrp.root_fs == FROM_SOURCE
        assert (lrp.image_username, lrp.image_password) == ("robot", "source-password")
        assert await bench.store.journal.list_migrations() == ()
        record = await bench.store.records.find_lrp(ProcessGuid(app.process_guid))
        assert record is not None
        assert record.cache_guid is None, "it never ran from there"
        assert watch.reported[-1][2].startswith("cells cannot pull from its copy: ")

    async def test_an_app_that_runs_from_its_copy_goes_back_once_its_instances_fail(
        self, bench: Bench
    ) -> None:
        app = await bench.app_with_copy()
        bench.may_bridge = True
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "migrated")
            await bench.control.pin([AppGuid(app.guid)])  # so that it is not migrated again
            self.refuse_copies(bench)
            bench.cell.crash(app.process_guid, 0)
            async with asyncio.timeout(10):
                while not any(UNREACHABLE in row.crash_reason for row in bench.bbs.state.rows()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "pinned-to-source")

        assert bench.rootfs(app) == FROM_SOURCE
        assert await bench.store.journal.list_migrations() == ()


class GatedQueue(WorkQueue[ProcessGuid]):
    """A queue that gives keys only while its gate is open, and remembers which it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.given = asyncio.Event(), list[ProcessGuid]()
        self.gate.set()

    async def take(self) -> ProcessGuid:
        await self.gate.wait()
        self.given.append(await super().take())
        return self.given[-1]


async def test_Y15_an_app_whose_migration_fails_once_does_not_queue_behind_all_that_wait(  # noqa: N802 - row Y15
    bench: Bench,
) -> None:
    app, others = await bench.app_with_copy(), [ProcessGuid(f"other-{n}") for n in range(3)]
    bench.queue = queue = GatedQueue()

    def fail_while_others_come() -> None:
        bench.registry.meanwhile = lambda: None
        queue.gate.clear()
        for other in others:
            queue.add(other)
        raise Unavailable("registry", "503", "later")

    bench.registry.meanwhile = fail_while_others_come
    async with bench.running(bench.reconciler(), loops=1):
        queue.add(ProcessGuid(app.process_guid))
        async with asyncio.timeout(60):
            while len(queue) < 4:  # noqa: ASYNC110 - until its back-off is over
                await asyncio.sleep(0.01)
        queue.gate.set()
        await bench.reason(app, "migrated")

    assert queue.given[:2] == [app.process_guid, app.process_guid]


class TestOperators:
    """Who pauses the daemon, holds apps, and gives orders for single LRPs."""

    async def test_while_paused_nothing_is_moved(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "paused")

        assert bench.rootfs(app) == FROM_SOURCE
        assert await bench.store.journal.list_migrations() == ()

    async def test_while_paused_no_copy_is_asked_for(self, bench: Bench) -> None:
        app = bench.cloud.create("web", Image("registry.example.com/team/app:1", "robot", "source-password"))
        app.droplet = app.package
        await bench.cloud.start_app(app)
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "paused")

        assert bench.requests.taken == []

    async def test_a_migration_that_was_begun_is_finished_although_paused(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        await bench.claimed()
        bench.lose_stops()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "instances-stopping")
            await bench.control.pause()
            bench.end_instances()
            await bench.reason(app, "migrated")

        assert bench.rootfs(app).startswith(FROM_CACHE)

    async def test_an_order_that_is_withdrawn_while_it_is_looked_at_begins_nothing(
        self, bench: Bench
    ) -> None:
        app = await bench.app_with_copy()
        bench.control = Leaving(bench.store.operations)
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            bench.order(app)
            await bench.reason(app, "paused")

        assert bench.rootfs(app) == FROM_SOURCE
        assert await bench.store.journal.list_migrations() == ()

    async def test_after_a_pause_it_goes_on(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "paused")
            await bench.control.resume()
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "migrated")

    async def test_an_order_is_carried_out_although_paused_and_is_gone_then(self, bench: Bench) -> None:
        app, other = await bench.app_with_copy("web"), await bench.app_with_copy("other")
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            watch = bench.order(app)
            bench.queue.add(ProcessGuid(other.process_guid))

            assert await watch.end() == "migrated"
            await bench.reason(other, "paused")

        assert bench.rootfs(app).startswith(FROM_CACHE)
        assert bench.rootfs(other) == FROM_SOURCE
        assert bench.control.order_of(ProcessGuid(app.process_guid)) is None
        assert {guid for guid, _, _ in watch.reported} == {app.process_guid}

    async def test_its_watch_hears_of_every_step(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        await bench.claimed()
        bench.lose_stops()
        async with bench.running(bench.reconciler()):
            watch = bench.order(app)
            await bench.reason(app, "instances-stopping")
            assert bench.control.order_of(ProcessGuid(app.process_guid)) is not None
            bench.end_instances()
            await watch.end()

        reasons = [reason for _, reason, _ in watch.reported]
        assert reasons[:2] == ["prepared", "removed"]
        assert "instances-stopping" in reasons
        assert reasons[-1] == "migrated"

    async def test_an_order_for_what_has_changed_since_leaves_it_alone_and_says_so(
        self, bench: Bench
    ) -> None:
        app = await bench.app_with_copy()
        async with bench.running(bench.reconciler()):
            watch = bench.order(app, rootfs=Rootfs("docker:///team/app#0"))

            assert await watch.end() == "plan-is-stale"

        assert bench.control.order_of(ProcessGuid(app.process_guid)) is None
        assert FROM_SOURCE in watch.reported[-1][2]

    async def test_an_order_asks_for_a_copy_that_is_run_although_paused(self, bench: Bench) -> None:
        app = bench.cloud.create("web", Image("registry.example.com/team/app:1", "robot", "source-password"))
        app.droplet = app.package
        await bench.cloud.start_app(app)
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            bench.order(app)
            await bench.reason(app, "waiting-for-copy")

        assert [request.is_ordered for request in bench.requests.taken] == [True]

    async def test_an_order_tries_again_what_somebody_had_put_back(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        guid = ProcessGuid(app.process_guid)
        record = LrpRecord(
            guid, AppGuid(app.guid), FROM_SOURCE, None, MAX_ROUNDS, Reason.REVERTED_EXTERNALLY, time.time()
        )
        await bench.store.records.save_lrp(record)
        bench.passed = 1.0
        async with bench.running(bench.reconciler()):
            assert await bench.order(app).end() == "migrated"

        found = await bench.store.records.find_lrp(guid)
        assert found is not None
        assert found.rounds == 1

    async def test_an_order_survives_a_migration_that_was_only_prepared(self, bench: Bench) -> None:
        """The registry did not answer before anything was done: it is called off and planned anew."""
        app = await bench.app_with_copy()
        lrp = await bench.client.find_desired_lrp(ProcessGuid(app.process_guid))
        assert lrp is not None
        guid = await bench.store.records.reserve_guid(CONTENT)
        prepared = Migration(lrp.process_guid, guid, Phase.PREPARED, lrp, 1, "run-1", 0.0)
        await bench.store.journal.save_migration(prepared)
        async with bench.running(bench.reconciler()):
            watch = bench.order(app)

            assert await watch.end() == "migrated"

        assert watch.reported[0][1] == "cancelled"

    async def test_an_app_that_is_held_stays_on_its_source(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        await bench.control.pin([AppGuid(app.guid)])
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "pinned-to-source")

        assert bench.rootfs(app) == FROM_SOURCE

    async def test_one_that_is_pinned_after_a_pass_has_looked_stays_there_too(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        bench.control = Pinning(bench.store.operations)
        await bench.control.load(start_paused=False)
        await bench.control.resume()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "pinned-to-source")

        assert bench.rootfs(app) == FROM_SOURCE
        assert await bench.store.journal.list_migrations() == ()

    async def test_the_end_of_the_migration_that_it_interrupts_does_not_end_an_order(
        self, bench: Bench
    ) -> None:
        app = await bench.app_with_copy()
        await bench.claimed()
        bench.lose_stops()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "instances-stopping")
            await bench.control.pin([AppGuid(app.guid)])
            watch = bench.order(app, Goal.SOURCE)
            bench.end_instances()

            assert await watch.end() == "restored"

        assert watch.reported[-2][1:] == (
            Reason.RESTORE_REQUESTED,
            "the migration that was under way has ended: restored",
        )
        assert bench.rootfs(app) == FROM_SOURCE

    async def test_an_app_goes_back_to_its_source_and_stays_there(self, bench: Bench) -> None:
        app = await bench.app_with_copy()
        bench.may_bridge = True  # it runs from its copy by then
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "migrated")
            await bench.control.pin([AppGuid(app.guid)])

            assert await bench.order(app, Goal.SOURCE).end() == "restored"
            await bench.reason(app, "pinned-to-source")

        lrp = bench.lrp(app)
        assert lrp is not None
        assert lrp.root_fs == FROM_SOURCE
        assert (lrp.image_username, lrp.image_password) == ("robot", "source-password")

    @pytest.mark.parametrize(("configured", "wished"), [(10, 1), (1, 10), (1, None)])
    async def test_no_more_are_moved_at_a_time_than_the_lower_of_both_limits(
        self, bench: Bench, configured: int, wished: int | None
    ) -> None:
        apps = [await bench.app_with_copy(f"web-{n}") for n in range(3)]
        await bench.claimed()
        bench.lose_stops()
        bench.control.max_in_flight = wished
        async with bench.running(bench.reconciler(max_in_flight=configured)):
            watches = [bench.order(app) for app in apps]
            for app in apps:
                await bench.reason(app, "instances-stopping", "in-flight-limit")
            assert len(await bench.store.journal.list_migrations()) == 1
            bench.end_instances()
            for watch in watches:
                assert await watch.end() == "migrated"

    async def test_a_place_that_a_withdrawn_order_does_not_take_goes_to_the_next(self, bench: Bench) -> None:
        """Those that were withdrawn stand first in the line."""
        first, *gone, last = [await bench.app_with_copy(f"web-{n}") for n in range(5)]
        await bench.claimed()
        await bench.control.pause()
        bench.lose_stops()
        async with bench.running(bench.reconciler(max_in_flight=1)):
            begun = bench.order(first)
            await bench.reason(first, "instances-stopping")
            for app in gone:
                bench.order(app)
                await bench.reason(app, "in-flight-limit")
            for app in gone:
                bench.control.withdraw_order(ProcessGuid(app.process_guid))
            waiting = bench.order(last)
            await bench.reason(last, "in-flight-limit")
            bench.end_instances()

            assert await begun.end() == "migrated"
            assert await waiting.end() == "migrated"

        assert [bench.rootfs(app) for app in gone] == [FROM_SOURCE] * 3

    async def test_a_pass_that_knew_nothing_of_an_order_does_not_end_it(self, bench: Bench) -> None:
        app, watch = await bench.app_with_copy(), OrderWatch()
        bench.control = Late(bench, ProcessGuid(app.process_guid), watch)
        await bench.control.pause()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "paused")
            assert watch.reported == []
            bench.queue.add(ProcessGuid(app.process_guid))

            assert await watch.end() == "migrated"

    async def test_a_copy_that_is_evicted_while_a_pass_begins_is_not_moved_to(self, bench: Bench) -> None:
        """Its record goes first; the pass writes its row, and then looks whether the copy is still known."""
        app = await bench.app_with_copy()
        lrp = await bench.client.find_desired_lrp(ProcessGuid(app.process_guid))
        (image,) = await bench.store.records.list_images()
        assert lrp is not None
        observed = Observed(lrp.process_guid, time.time(), 0.0, "run-1", lrp=lrp, image=image)
        await bench.store.records.drop_image(image.cache_guid)

        outcome = await bench.applies(BeginMigration(lrp, image, 1), observed)

        assert outcome.reason == "waiting-for-copy"
        assert bench.rootfs(app) == FROM_SOURCE
        assert await bench.store.journal.list_migrations() == ()

    async def test_a_registry_that_does_not_answer_uses_up_no_rounds(self, bench: Bench) -> None:
        """Nobody undid anything."""
        app = await bench.app_with_copy()
        failures = [Unavailable("registry", "503", "later") for _ in range(4)]

        def fail() -> None:
            if failures:
                raise failures.pop()

        bench.registry.meanwhile = fail
        async with bench.running(bench.reconciler()):
            watch = bench.order(app)

            assert await watch.end() == "migrated"

        reasons = [reason for _, reason, _ in watch.reported]
        assert reasons.count("check-failed") == 4
        record = await bench.store.records.find_lrp(ProcessGuid(app.process_guid))
        assert record is not None
        assert record.rounds == 1


LRPS = 30
UPDATE = "/v1/desired_lrp/update"
NEW_PULL = Credentials("puller", Secret("another-password"))


class CellsThatCannotPull(NullCanaryLoop):
    """Cells of which a canary has shown that they cannot pull."""

    def is_refuted(self, _placement_tags: frozenset[str], _login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        return True

    def why_not(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> str | None:
        return f"authentication required, {sorted(placement_tags)}, {login}"


class TestAnotherLogin:
    """The config has another login than when the app was migrated."""

    async def migrated(self, bench: Bench) -> App:
        """Let an app run from its copy with the former login."""
        app = await bench.app_with_copy()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "migrated")
        bench.queue, bench.pull_credentials = WorkQueue(), NEW_PULL
        return app

    def password(self, bench: Bench, app: App) -> str:
        lrp = bench.lrp(app)
        assert lrp is not None
        return lrp.image_password

    async def test_it_is_updated_in_place_and_counted_until_then(self, bench: Bench) -> None:
        app = await self.migrated(bench)
        reconciler = bench.reconciler(run_id="run-2")
        await bench.control.pause()
        async with bench.running(reconciler):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "paused")
            assert reconciler.gate.logins.outdated == 1
            await bench.control.resume()
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "login-updated")

        assert self.password(bench, app) == "another-password"
        assert reconciler.gate.logins.outdated == 0
        assert bench.bbs.requests["/v1/desired_lrp/update"] == 1

    async def test_a_migration_that_the_former_config_began_ends_with_the_present_login(
        self, bench: Bench
    ) -> None:
        app = await bench.app_with_copy()
        bench.cell.start_gate.clear()
        async with bench.running(bench.reconciler()):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "starting")
        assert self.password(bench, app) == "cache-password"

        bench.queue, bench.pull_credentials = WorkQueue(), NEW_PULL
        again = bench.reconciler(run_id="run-2")
        await again.recover()
        bench.cell.start_gate.set()
        async with bench.running(again):
            await bench.reason(app, "login-updated")

        assert self.password(bench, app) == "another-password"

    async def test_an_app_that_is_refused_goes_back_to_its_source_if_the_new_login_is_refused_too(
        self, bench: Bench
    ) -> None:
        app = await self.migrated(bench)
        bench.pulls = CellsThatCannotPull()
        await bench.control.pin([AppGuid(app.guid)])  # so that it is not migrated again
        bench.cell.settings.crash_reason = refused
        bench.cell.crash(app.process_guid, 0)
        async with asyncio.timeout(10):
            while not any(row.crash_reason == REFUSED for row in bench.bbs.state.rows()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with bench.running(bench.reconciler(run_id="run-2")):
            bench.queue.add(ProcessGuid(app.process_guid))
            await bench.reason(app, "pinned-to-source")

        assert bench.rootfs(app) == FROM_SOURCE
        assert self.password(bench, app) == "source-password"
        assert bench.bbs.requests["/v1/desired_lrp/update"] == 0

    async def test_many_are_updated_once_with_few_requests(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first pass of each waits for its turn, the second one updates it and reads it back."""
        monkeypatch.setattr(login_renewal, "MISSED_AFTER", 60.0)  # however busy the machine is
        like = bench.lrp(await bench.app_with_copy())
        assert like is not None
        guids = [ProcessGuid(f"p-{number}") for number in range(LRPS)]
        guid = await bench.store.records.reserve_guid(CONTENT)
        for each in guids:
            lrp = DesiredLRP.FromString(like.SerializeToString())
            lrp.process_guid, lrp.instances, lrp.root_fs = each, 0, CACHE.rootfs(guid).uri
            lrp.image_username, lrp.image_password = "puller", "cache-password"
            desired.desire(bench.bbs.state, lrp)
            source = OriginalSource(
                each, guid, Rootfs(FROM_SOURCE), needs_credentials=False, credentials=None
            )
            await bench.store.original_sources.save_original_source(source)
        bench.pull_credentials = NEW_PULL
        bench.bbs.requests.clear()
        async with bench.running(bench.reconciler()):
            for each in guids:
                bench.queue.add(each)
            async with asyncio.timeout(30 + LRPS / 5):
                while bench.bbs.requests[UPDATE] < LRPS:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        assert bench.bbs.requests[UPDATE] == LRPS
        assert sum(bench.bbs.requests.values()) <= 7 * LRPS, bench.bbs.requests


REFUSED = (
    "failed to create container: running image plugin create: fetching image reference: creating image: "
    "creating image source: reading manifest latest in cache.example:8080/g: authentication required\n"
    ": exit status 1"
)


def refused(lrp: DesiredLRP) -> str:
    """Let cells be refused by the private registry."""
    return REFUSED if lrp.root_fs.startswith(FROM_CACHE) else ""
