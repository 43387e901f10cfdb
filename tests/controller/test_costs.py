"""What one app that is stuck costs in a minute: calls of the BBS, stops at the cell, requests of registries, lines.

All loops of the daemon run, over a simulated BBS with a cell, a real store, and registries that only count. The
bounds are far below what a loop without pauses makes of a minute, and above what a fast machine needs.
"""

import asyncio
import gc
import io
import json
import sqlite3
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from controller.assembly import DaemonLoops, OpenResources, assemble
from controller.bbs.client import BbsClient, open_bbs
from controller.certificate_ends import CertificateEnds
from controller.config import Config
from controller.control import OperatorControl
from controller.database_watch import DatabaseWatch
from controller.health import HealthStates
from controller.process import Process
from controller.progress import Progress
from controller.store.availability import Availability
from controller.store.opening import Store
from controller.store_marker import StoreMarker
from controller.transport import client_tls
from controller.workqueue import WorkQueue
from protos.bbs.actual_lrp_pb2 import ActualLRPKey
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from reconcile.bridges import BRIDGE_DOMAIN, bridge_of
from reconcile.copying_ports import (
    CheckDepth,
    CopiedImage,
    IndexContents,
    OpenUpload,
    ResolvedImage,
    Signatures,
    SourceContent,
    TargetState,
)
from reconcile.errors import DockerCacheError, NotFound, RateLimited, Unavailable
from reconcile.lrps import Credentials, ProcessGuid
from reconcile.migrations import Migration, Phase
from reconcile.notes import CopyNote
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.steps import PhaseLimits
from reconcile.trust import Reader
from tests.controller.fast_loop import run_fast
from tests.simulators.bbs import Bbs, actual, desired, serve_bbs
from tests.simulators.cell import SimulatedCell, TaskResult
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.cloud_controller import App, CloudController, InProcess
from tests.simulators.recipes import Image
from tests.stores import open_store

CACHE_ADDRESS = "cache.example:8080"
FROM_CACHE = f"docker://{CACHE_ADDRESS}/"
REMOVE = "/v1/desired_lrp/remove"
RETIRE = "/v1/actual_lrps/retire"
LOST = 1_000_000
"""Stop requests that get lost: all."""
EPOCH = 1.7e9
GUID = "11111111-1111-4111-8111-111111111111"
LIMITS = PhaseLimits()
MINUTE = 60.0
PATIENCE = 1200.0  # seconds of the fast clock that only a failure waits


class CountedRegistries:
    """An engine over two registries that hold what they should, and count what they are asked."""

    def __init__(self) -> None:
        self.source_requests = 0
        self.cache_requests = 0
        self.source_problem: DockerCacheError | None = None
        self.cache_problem: DockerCacheError | None = None
        self.copies = 0
        self.keeps = True
        self._held: dict[ImageReference, Digest] = {}

    def progress(self, target: ImageReference) -> Progress | None:
        return None

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        return ()

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        self.cache_requests += 1
        return True

    async def resolve(
        self,
        source: ImageReference,
        credentials: Credentials | None,
        *,
        indexes: IndexContents | None = None,
    ) -> ResolvedImage:
        self.source_requests += 1
        if self.source_problem is not None:
            raise self.source_problem
        content = Digest("sha256", str(source).encode().hex()[-64:].zfill(64))
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
        self.source_requests += 1
        await self.is_present(target, image.platform_digest)
        self.copies += 1
        if self.keeps:
            self._held[target] = image.platform_digest
        return CopiedImage(image.platform_digest, 10, 10, ())

    async def show(self, image: ResolvedImage, credentials: Credentials | None, reader: Reader) -> int:
        raise NotImplementedError

    async def copy_signatures(
        self, image: ResolvedImage, target: ImageReference, credentials: Credentials | None, reader: Reader
    ) -> Signatures:
        return Signatures.SKIPPED

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        self.cache_requests += 1
        if self.cache_problem is not None:
            raise self.cache_problem
        return self._held.get(target) == digest

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        del depth
        return "" if await self.is_present(target, digest) else "its manifest"

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        await self.is_present(target, digest)

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        raise NotImplementedError

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


class NoNotes:
    """The notes in the private registry, which are written once for each copy and cost no stuck app anything."""

    has_keys = False

    async def write(self, note: CopyNote) -> None:
        raise NotImplementedError

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        raise NotImplementedError

    async def find_digest(self, guid: CacheGuid) -> Digest | None:
        raise NotImplementedError

    async def find(self, guid: CacheGuid, digest: Digest) -> CopyNote | None:
        raise NotImplementedError

    async def list_blobs(self, guid: CacheGuid, digest: Digest) -> dict[Digest, int]:
        raise NotImplementedError

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        raise NotImplementedError


class UnwatchedDatabase:
    """A database in memory, which nobody asks whether it is there."""

    name = "memory"
    is_shared = False

    def __init__(self) -> None:
        self.availability = Availability()

    async def probe(self) -> None:
        raise NotImplementedError


class Unprobed:
    """A private registry that nobody probes: the loop that does is not run here."""

    async def pull(self, copy: CacheGuid | None) -> None:
        raise NotImplementedError

    async def push(self) -> None:
        raise NotImplementedError


class CountingCell(SimulatedCell):
    """A cell that counts what it is asked to stop."""

    stops = 0

    def stop_lrp(self, key: ActualLRPKey, instance_guid: str) -> None:
        """Take a stop request."""
        self.stops += 1
        super().stop_lrp(key, instance_guid)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a minute costs, or may cost."""

    bbs: int
    stops: int
    source: int
    cache: int
    lines: int

    def __str__(self) -> str:
        return (
            f"{self.bbs} calls to the BBS, {self.stops} stop requests, {self.source} requests at the source "
            f"and {self.cache} at the private registry, {self.lines} log lines"
        )

    def exceeds(self, bound: "Cost") -> bool:
        """Whether anything is above its bound."""
        return any(getattr(self, name) > getattr(bound, name) for name in self.__slots__)


@dataclass
class Scene:
    """All loops of a daemon at work, and what they reach."""

    bbs: Bbs
    cell: CountingCell
    cloud: CloudController
    store: Store
    registries: CountedRegistries
    control: OperatorControl
    config: Config
    client: BbsClient
    limits: PhaseLimits = LIMITS
    output: io.StringIO = field(default_factory=io.StringIO)
    queue: WorkQueue[ProcessGuid] = field(init=False)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Run all loops of a daemon."""
        loop = asyncio.get_running_loop()
        process = Process("run", clock=lambda: EPOCH + loop.time(), monotonic=loop.time)
        health = HealthStates(self.config.cache_registry.address)
        opened = OpenResources(
            store=self.store,
            bbs=self.client,
            engine=self.registries,
            canary_images=None,
            notes=NoNotes(),
            process=process,
            control=self.control,
            health=health,
            probe=Unprobed(),
            store_marker=StoreMarker(
                self.client, self.store.store_id, metrics=process.metrics, clock=loop.time
            ),
            database_watch=DatabaseWatch(UnwatchedDatabase(), process),
            certificates=CertificateEnds((), process=process),
        )
        loops = assemble(self.config, opened, limits=self.limits)
        self.queue = loops.queue
        self.tasks.append(asyncio.create_task(self._run(loops), name="daemon"))

    async def _run(self, loops: DaemonLoops) -> None:
        await loops.recover()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(loops.watcher.run())
                group.create_task(loops.reconciler.keep_bridges_fresh())
                group.create_task(loops.presence.run())
                group.create_task(loops.unknown_copies.run())
                for _ in range(loops.cacher.slots):
                    group.create_task(loops.cacher.run())
                for _ in range(self.config.workers):
                    group.create_task(loops.reconciler.run())
        finally:
            loops.close()

    async def stop(self) -> None:
        """End what was started."""
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert not any(task.done() for task in self.tasks), "the daemon has ended"
                await asyncio.sleep(0.1)

    async def running_app(self, name: str = "web", *, instances: int = 2) -> App:
        """Start an app that was never staged, and wait until it runs from its source."""
        app = self.cloud.create(name, Image(f"registry.example.com/team/{name}:1"))
        app.droplet, app.instances = app.package, instances
        await self.cloud.start_app(app)
        await self.until(lambda: self.states(app.process_guid) == ["RUNNING"] * instances)
        return app

    def states(self, process_guid: str) -> list[str]:
        """Give the states of an LRP's instance rows."""
        return [row.state for row in self.bbs.state.actual.get(process_guid, {}).values()]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All log lines."""
        return [json.loads(line) for line in self.output.getvalue().splitlines()]

    def logged(self, message: str, *, task_guid: str | None = None) -> int:
        """Count the log lines of a message, those about one task if it is named."""
        return sum(
            line["message"] == f"docker-cache.{message}"
            and task_guid in {None, line["data"].get("task-guid")}
            for line in self.lines
        )

    async def reason(self, app: App, *reasons: str) -> None:
        """Wait until the last pass over an app came to one of some reasons."""
        async with asyncio.timeout(PATIENCE):
            while True:
                record = await self.store.records.find_lrp(ProcessGuid(app.process_guid))
                if record is not None and record.reason in reasons:
                    return
                await asyncio.sleep(0.1)

    async def claimed_app(self) -> App:
        """Start an app, and wait until its instances are claimed."""
        app = self.cloud.create("web", Image("registry.example.com/team/web:1"))
        app.droplet = app.package
        await self.cloud.start_app(app)
        await self.until(lambda: self.states(app.process_guid) == ["CLAIMED"])
        return app

    def rootfs(self, app: App) -> str:
        """Give what an app's LRP is desired from; empty while it is not desired."""
        lrp = self.bbs.state.desired.get(app.process_guid)
        return "" if lrp is None else lrp.root_fs

    def bridge_states(self, app: App) -> list[str]:
        """Give the states of the rows of an app's bridge."""
        return self.states(bridge_of(ProcessGuid(app.process_guid)))

    def count(self) -> Cost:
        """Count what was asked and written until now."""
        return Cost(
            sum(self.bbs.requests.values()),
            self.cell.stops,
            self.registries.source_requests,
            self.registries.cache_requests,
            sum(line["level"] != "debug" for line in self.lines),
        )

    async def cost_of_a_minute(self) -> Cost:
        """Let a minute pass, and count what was asked and written in it."""
        before = self.count()
        await asyncio.sleep(MINUTE)
        after = self.count()
        return Cost(*(getattr(after, name) - getattr(before, name) for name in Cost.__slots__))


@asynccontextmanager
async def opened_scene(certificates: Certificates, directory: Path) -> AsyncIterator[Scene]:
    """Start everything but the daemon."""
    pair, loop = certificates.client, asyncio.get_running_loop()
    config = Config.model_validate(
        {
            "bbs_address": "https://bbs.example:8889",
            "bbs_ca_cert_file": str(certificates.ca),
            "bbs_client_cert_file": str(pair.certificate),
            "bbs_client_key_file": str(pair.key),
            "database_url": f"sqlite:///{directory}/store/cache.db",
            "cache_registry": {"address": CACHE_ADDRESS},
            "max_consecutive_failures": 1,
            "max_in_flight": 1,
        }
    )
    async with (
        serve_bbs(certificates, now=lambda: int((EPOCH + loop.time()) * 1e9), converge_interval=30.0) as bbs,
        CountingCell(bbs) as cell,
        CloudController(InProcess(bbs), interval=30.0) as cloud,
        open_store(config.database_url, journal_key=Fernet.generate_key(), run_id="run") as store,
        open_bbs(
            bbs.url,
            tls=client_tls(certificates.ca, cert_file=pair.certificate, key_file=pair.key),
            timeout=PATIENCE,
        ) as client,
    ):
        scene = Scene(
            bbs, cell, cloud, store, CountedRegistries(), OperatorControl(store.operations), config, client
        )
        await scene.control.load(start_paused=False)
        with redirect_stdout(scene.output):
            try:
                yield scene
            finally:
                await scene.stop()


async def instances_that_never_stop(scene: Scene) -> None:
    await scene.running_app()
    scene.cell.lost_stops = LOST
    scene.start()
    await scene.until(lambda: scene.bbs.requests[RETIRE] > 0)


async def left_instances_that_never_stop(scene: Scene) -> None:
    """They run on under the new definition, and are known by their GUIDs alone."""
    scene.limits = replace(LIMITS, leftover=5.0)
    app = await scene.running_app(instances=1)
    scene.cell.lost_stops = LOST
    scene.start()
    await scene.until(lambda: scene.rootfs(app).startswith(FROM_CACHE))


async def a_bridge_without_room(scene: Scene) -> None:
    app = await scene.running_app()
    scene.cell.settings.memory_mb = 1
    scene.start()
    await scene.until(lambda: scene.bridge_states(app) == ["UNCLAIMED"] * 2)


async def a_bridge_whose_pull_hangs(scene: Scene) -> None:
    app = await scene.running_app()
    scene.cell.start_gate.clear()
    scene.start()
    await scene.until(lambda: scene.bridge_states(app) == ["CLAIMED"] * 2)


async def an_app_whose_pull_hangs(scene: Scene) -> None:
    """It was removed while its instance was claimed, and the stop waits for the end of the pull."""
    scene.cell.start_gate.clear()
    scene.cell.lost_stops = LOST
    app = await scene.claimed_app()
    scene.start()
    await scene.until(lambda: app.process_guid not in scene.bbs.state.desired)


async def a_copy_that_failed(scene: Scene) -> None:
    scene.registries.source_problem = NotFound("registry", "MANIFEST_UNKNOWN", "no such image")
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "copy-failed")


async def a_dead_source(scene: Scene) -> None:
    scene.registries.source_problem = Unavailable("registry", "unreachable", "connection refused")
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "waiting-for-copy")


async def a_source_that_says_at_once(scene: Scene) -> None:
    """A registry that limits the rate, and names no time to wait."""
    scene.registries.source_problem = RateLimited("registry", "TOOMANYREQUESTS", "slow down", 0.0)
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "waiting-for-copy")


async def a_dead_private_registry(scene: Scene) -> None:
    scene.registries.cache_problem = Unavailable("registry", "unreachable", "connection refused")
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "waiting-for-copy")


async def a_private_registry_that_dies_after_the_copy(scene: Scene) -> None:
    scene.control.max_in_flight = 0
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "in-flight-limit")
    scene.registries.cache_problem = Unavailable("registry", "unreachable", "connection refused")
    scene.control.max_in_flight = None
    scene.queue.add(ProcessGuid(app.process_guid))
    await scene.until(lambda: scene.logged("reconciler.failed-to-reconcile") > 0)


async def a_private_registry_that_keeps_nothing(scene: Scene) -> None:
    scene.registries.keeps = False
    await scene.running_app()
    scene.start()
    await scene.until(lambda: scene.registries.copies > 1)


async def a_failed_staging_while_others_are_migrated(scene: Scene) -> None:
    await a_bridge_whose_pull_hangs(scene)
    await a_failed_staging(scene)


async def a_failed_staging_while_the_circuit_is_open(scene: Scene) -> None:
    await an_open_circuit(scene)
    await a_failed_staging(scene)


async def a_failed_staging_while_paused(scene: Scene) -> None:
    await a_paused_daemon(scene)
    await a_failed_staging(scene)


async def a_failed_staging(scene: Scene) -> None:
    """An app that was staged well and started is staged again, without success."""
    app = scene.cloud.create("staged", Image("registry.example.com/team/staged:1"))
    app.droplet = app.package
    first = await scene.cloud.stage(app)
    await scene.until(lambda: scene.logged("watcher.requested-copy", task_guid=first) > 0)
    scene.cell.settings.task_result = lambda _: TaskResult(failed=True, failure_reason="no")
    scene.cell.task_gate.clear()
    second = await scene.cloud.stage(app)
    await scene.until(lambda: scene.logged("watcher.requested-copy", task_guid=second) > 0)
    scene.cell.task_gate.set()
    await scene.until(lambda: scene.logged("watcher.dropped-binding") > 0)
    await scene.cloud.start_app(app)


async def a_paused_daemon(scene: Scene) -> None:
    await scene.control.pause()
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "paused")


async def an_open_circuit(scene: Scene) -> None:
    scene.cell.settings.crash_reason = lambda lrp: "no" if lrp.root_fs.startswith(FROM_CACHE) else ""
    await scene.running_app("first")
    scene.start()
    await scene.until(lambda: scene.logged("reconciler.opened-circuit-breaker") > 0)
    app = await scene.running_app()
    await scene.reason(app, "circuit-breaker-open")


async def a_row_left_by_a_removal_that_raced_a_crash(scene: Scene) -> None:
    scene.cell.start_gate.clear()
    app = await scene.claimed_app()

    def race(path: str, _: bytes) -> None:
        if path == REMOVE:
            scene.bbs.callers.remove(race)
            (row,) = scene.bbs.state.actual[app.process_guid].values()
            scene.bbs.state.events.emit(actual.unclaim(scene.bbs.state, row))

    scene.bbs.callers.append(race)
    scene.start()
    await scene.until(lambda: scene.bbs.requests[REMOVE] > 0)


async def an_orphaned_bridge_in_use(scene: Scene) -> None:
    scene.cell.settings.memory_mb *= 2
    app = await scene.running_app()
    bridge = DesiredLRP()
    bridge.CopyFrom(scene.bbs.state.desired[app.process_guid])
    bridge.process_guid, bridge.domain = bridge_of(ProcessGuid(app.process_guid)), BRIDGE_DOMAIN
    bridge.root_fs = f"{FROM_CACHE}guid#latest"
    desired.desire(scene.bbs.state, bridge)
    await scene.until(lambda: scene.bridge_states(app) == ["RUNNING"] * 2)
    await scene.cloud.delete(app)
    scene.start()
    await scene.until(lambda: scene.logged("reconciler.checked-orphaned-bridge") > 0)


async def a_row_of_another_journal_key(scene: Scene) -> None:
    app = await scene.running_app()
    lrp = await scene.client.find_desired_lrp(ProcessGuid(app.process_guid))
    assert lrp is not None
    row = Migration(lrp.process_guid, CacheGuid(GUID), Phase.BRIDGING, lrp, 1, "other-run", EPOCH)
    await scene.store.journal.save_migration(row)
    path = scene.config.database_url.removeprefix("sqlite:///")
    await asyncio.to_thread(overwrite_definitions, path)
    scene.start()
    await scene.until(lambda: scene.logged("reconciler.failed-to-reconcile") > 0)


def overwrite_definitions(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE migrations SET original = ?", (b"of another key",))
        connection.commit()


async def streams_that_end_at_once(scene: Scene) -> None:
    scene.control.max_in_flight = 0
    app = await scene.running_app()
    scene.start()
    await scene.reason(app, "in-flight-limit")
    scene.tasks.append(asyncio.create_task(end_streams(scene)))


async def end_streams(scene: Scene) -> None:
    while True:
        for stream in scene.bbs.streams:
            stream.end()
        await asyncio.sleep(0.5)


@contextmanager
def leaving_half_open_connections() -> Iterator[None]:
    """Collect connections that were cancelled in their TLS handshake: httpcore leaves them to the collector.

    One stream that ends cancels the other, which may be connecting again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


Kind = Callable[[Scene], Awaitable[None]]

BOUNDS: dict[Kind, Cost] = {
    instances_that_never_stop: Cost(bbs=150, stops=14, source=0, cache=0, lines=20),
    left_instances_that_never_stop: Cost(bbs=150, stops=10, source=0, cache=0, lines=20),
    a_bridge_without_room: Cost(bbs=260, stops=0, source=0, cache=0, lines=5),
    a_bridge_whose_pull_hangs: Cost(bbs=260, stops=0, source=0, cache=0, lines=5),
    an_app_whose_pull_hangs: Cost(bbs=260, stops=20, source=0, cache=4, lines=25),
    a_copy_that_failed: Cost(bbs=15, stops=0, source=0, cache=0, lines=2),
    a_dead_source: Cost(bbs=15, stops=0, source=8, cache=0, lines=12),
    a_source_that_says_at_once: Cost(bbs=15, stops=0, source=8, cache=0, lines=12),
    a_dead_private_registry: Cost(bbs=15, stops=0, source=16, cache=8, lines=12),
    a_private_registry_that_dies_after_the_copy: Cost(bbs=40, stops=0, source=0, cache=12, lines=14),
    a_private_registry_that_keeps_nothing: Cost(bbs=40, stops=0, source=16, cache=24, lines=30),
    a_failed_staging_while_others_are_migrated: Cost(bbs=280, stops=0, source=2, cache=2, lines=12),
    a_failed_staging_while_the_circuit_is_open: Cost(bbs=40, stops=0, source=2, cache=2, lines=12),
    a_failed_staging_while_paused: Cost(bbs=30, stops=0, source=0, cache=0, lines=6),
    a_paused_daemon: Cost(bbs=15, stops=0, source=0, cache=0, lines=2),
    an_open_circuit: Cost(bbs=20, stops=0, source=0, cache=0, lines=3),
    a_row_left_by_a_removal_that_raced_a_crash: Cost(bbs=150, stops=6, source=0, cache=2, lines=20),
    an_orphaned_bridge_in_use: Cost(bbs=40, stops=0, source=0, cache=0, lines=6),
    a_row_of_another_journal_key: Cost(bbs=15, stops=0, source=0, cache=0, lines=12),
    streams_that_end_at_once: Cost(bbs=80, stops=0, source=0, cache=0, lines=70),
}
"""What a minute may cost with each kind of stuck app. Two sweeps and the sync of the bridges' domain are in it."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


IN_EACH_RUN = (
    instances_that_never_stop,
    a_bridge_without_room,
    an_app_whose_pull_hangs,
    a_source_that_says_at_once,
    a_private_registry_that_keeps_nothing,
    a_failed_staging_while_the_circuit_is_open,
    a_row_left_by_a_removal_that_raced_a_crash,
)
"""The kinds that stormed a cell or a registry once; the others run in the long check."""


@pytest.mark.parametrize(
    "kind",
    [kind if kind in IN_EACH_RUN else pytest.param(kind, marks=pytest.mark.long) for kind in BOUNDS],
    ids=lambda kind: kind.__name__,
)
def test_a_minute_of_a_stuck_app_is_cheap(
    servers: None,
    kind: Kind,
    certificates: Certificates,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    async def measure() -> Cost:
        async with opened_scene(certificates, tmp_path) as scene:
            await kind(scene)
            return await scene.cost_of_a_minute()

    with leaving_half_open_connections():
        cost = run_fast(measure())
    record_property("figures", str(cost))

    assert not cost.exceeds(BOUNDS[kind]), f"{cost}; at most {BOUNDS[kind]}"
