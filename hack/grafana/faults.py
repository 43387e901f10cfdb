"""Lets two instances of the daemon meet one fault after the other, and shows the dashboard in each.

Both have a real Prometheus on them, a PostgreSQL database and a lock in Locket. A person looks at what is
shown: does it say what is wrong, and what it costs?
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hack.alerts import JOB, RULES
from hack.grafana.description import read_description
from hack.grafana.panels import grafana_document
from hack.grafana.prometheus import Prometheus, run_prometheus
from hack.grafana.queries import written_out
from hack.grafana.text import Sight, show
from tests import databases
from tests.contracts.distribution import free_port
from tests.daemon.environment import Environment, Registry, open_environment
from tests.daemon.instances import Instance, Instances, open_instances
from tests.daemon.operator import Operator, running_apps
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators.capi import faults as capi_faults
from tests.simulators.cell_network import Refused
from tests.simulators.certificates import LOOPBACK_NAMES
from tests.simulators.locket import Way
from tests.simulators.loggregator import Agent, serve_agent
from tests.simulators.recipes import Image
from tests.simulators.registry.faults import Fault, Refuse

PATIENCE = 200.0
"""Seconds within which the dashboard must see a fault."""
SETTLES = 18.0
"""Seconds in which what follows from a fault shows as well: some gauges are computed every 15 s."""
_NO_SPACE = {
    "code": "UNKNOWN",
    "message": "unknown error",
    "detail": {
        "DriverName": "filesystem",
        "Enclosed": {"Op": "write", "Path": "/data/docker/registry/v2/x/startedat", "Err": 28},
    },
}
_FULL = Refuse(500, json.dumps({"errors": [_NO_SPACE]}).encode())
"""What the CNCF registry answers when its disk is full."""
_READS, _WRITES = ("GET", "HEAD"), ("POST", "PUT", "PATCH")


@dataclass
class Scene:
    """Two instances with all around them, and the Prometheus that scrapes them."""

    env: Environment
    instances: Instances
    agent: Agent
    prometheus: Prometheus

    async def sees(self, expr: str) -> None:
        """Wait until an expression of the description has a series.

        Raises:
            TimeoutError: The dashboard never saw the fault.
        """
        filled = written_out(expr).replace("$job", JOB).replace("$platform", ".*")
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(self.prometheus.ask, filled, time.time()):  # noqa: ASYNC110 - it sets no event here
                await asyncio.sleep(0.25)

    async def runs(self, command: str, *arguments: str) -> None:
        """Give the active instance a command."""
        await Operator((await self.instances.active()).env).runs(command, *arguments)

    def push(self, name: str) -> str:
        """Have an image in the source registry."""
        return self.env.source.push(f"team/{name}", "1", images.image([images.layer(2000, name)]))

    async def start_app(self, name: str) -> None:
        """Have an app that nobody has seen being staged."""
        app = self.env.cloud.create(name, Image(await asyncio.to_thread(self.push, name)))
        app.droplet, app.instances = app.package, 1
        await self.env.cloud.start_app(app)

    async def guid_of(self, image: str) -> str:
        """Name the repository of the copy of an image."""
        rows = (await Operator((await self.instances.active()).env).runs("images")).rows
        return next(str(row["cache_guid"]) for row in rows if f"/{image}:" in row["source"])


def _reload(instance: Instance) -> None:
    """Let a daemon take up what its settings are now."""
    instance.env.write_config()
    instance.daemon.signal_reload()


@contextmanager
def _broken(registry: Registry, methods: Sequence[str], refusal: Refuse) -> Iterator[None]:
    faults = [Fault(method, "/v2/", refusal, times=None) for method in methods]
    registry.faults.faults.extend(faults)
    try:
        yield
    finally:
        for fault in faults:
            fault.times = 0


@asynccontextmanager
async def _nothing(scene: Scene) -> AsyncIterator[None]:
    await scene.sees("docker_cache_migrations_in_flight")
    yield


@asynccontextmanager
async def _source_down(scene: Scene) -> AsyncIterator[None]:
    with _broken(scene.env.source, _READS, Refuse(502, b"<html>Bad Gateway</html>")):
        await scene.runs("cache", scene.push("other"))
        await scene.sees('docker_cache_registry_up{side="source"} == 0')
        yield
    await scene.sees('min(docker_cache_registry_up{side="source"}) == 1')


@asynccontextmanager
async def _source_limits(scene: Scene) -> AsyncIterator[None]:
    reference = scene.push("limited")
    limits = {"Retry-After": "5", "RateLimit-Limit": "100;w=10", "RateLimit-Remaining": "0;w=10"}
    with _broken(scene.env.source, _READS, Refuse(429, b"slow", limits)):
        await scene.runs("cache", reference)
        await scene.sees('sum(docker_cache_registry_errors_total{side="source",kind="rate-limited"}) > 0')
        yield


@asynccontextmanager
async def _private_registry_down(scene: Scene) -> AsyncIterator[None]:
    with _broken(scene.env.cache, (*_READS, *_WRITES), Refuse(503, b"<html>maintenance</html>")):
        await scene.sees('docker_cache_registry_up{side="private",use="pull"} == 0')
        yield
    await scene.sees('min(docker_cache_registry_up{side="private"}) == 1')


@asynccontextmanager
async def _private_registry_full(scene: Scene) -> AsyncIterator[None]:
    with _broken(scene.env.cache, _WRITES, _FULL):
        await scene.runs("cache", scene.push("more"))
        await scene.sees('docker_cache_registry_up{side="private",use="push"} == 0')
        yield
    await scene.sees('min(docker_cache_registry_up{side="private"}) == 1')


@asynccontextmanager
async def _copies_deleted(scene: Scene) -> AsyncIterator[None]:
    with _broken(scene.env.cache, _WRITES, _FULL):
        await _delete(scene.env.cache, await scene.guid_of("team/web"), "latest")
        await scene.sees("docker_cache_copies_incomplete > 0")
        yield
    await scene.sees("max(docker_cache_copies_incomplete) == 0")


@asynccontextmanager
async def _copies_lost(scene: Scene) -> AsyncIterator[None]:
    source = scene.env.source
    manifest = await _delete(source, "team/web", "1")
    try:
        await _delete(scene.env.cache, await scene.guid_of("team/web"), "latest")
        await scene.sees("docker_cache_copies_lost > 0")
        yield
    finally:
        await asyncio.to_thread(source.push_manifest, "team/web", "1", manifest)
    await scene.runs("cache", f"{source.address}/team/web:1")
    await scene.sees("max(docker_cache_copies_incomplete) == 0")


async def _delete(registry: Registry, repository: str, tag: str) -> images.Blob:
    manifest = await asyncio.to_thread(registry.pull_manifest, repository, tag)
    assert manifest is not None
    await asyncio.to_thread(registry.lose_manifest, repository, manifest.digest)
    return manifest


@asynccontextmanager
async def _cells_cannot_pull(scene: Scene) -> AsyncIterator[None]:
    scene.env.impose(scene.env.cache, Refused())
    try:
        active = await scene.instances.active()
        await active.kill()  # the next active one asks its cells anew
        await active.start()
        await scene.sees("docker_cache_cells_not_proven > 0")
        yield
    finally:
        scene.env.mend(scene.env.cache)
    await scene.sees("max(docker_cache_cells_not_proven) == 0")


@asynccontextmanager
async def _bbs_away(scene: Scene) -> AsyncIterator[None]:
    await scene.env.bbs.stop_listening()
    try:
        await scene.sees("holds(DockerCacheBbsNotListed) > 0")
        yield
    finally:
        await scene.env.bbs.start_listening()
    await scene.sees("min(docker_cache_bbs_stream_connected) == 1")


@asynccontextmanager
async def _lease_lost(scene: Scene) -> AsyncIterator[None]:
    ways = [each.to_locket for each in scene.instances.all]
    with _cut(ways):
        await scene.sees("sum(docker_cache_lock_held) == 0")
        yield
    await scene.sees("sum(docker_cache_lock_held) == 1")


@asynccontextmanager
async def _database_away(scene: Scene) -> AsyncIterator[None]:
    ways = [each.to_database for each in scene.instances.all]
    with _cut(ways):
        await scene.sees("docker_cache_database_unavailable_since_timestamp_seconds > 0")
        yield
    await scene.sees("max(docker_cache_database_unavailable_since_timestamp_seconds) == 0")


@contextmanager
def _cut(ways: Sequence[Way]) -> Iterator[None]:
    for way in ways:
        way.cut()
    try:
        yield
    finally:
        for way in ways:
            way.mend()


@asynccontextmanager
async def _circuit_open(scene: Scene) -> AsyncIterator[None]:
    cache, cell = scene.env.cache.address, scene.env.cell
    cell.settings.crash_reason = lambda lrp: "no such file" if cache in lrp.root_fs else ""
    try:
        await scene.start_app("failing")
        await scene.sees("docker_cache_circuit_breaker_open == 1")
        yield
    finally:
        cell.settings.crash_reason = None
        await scene.runs("reset-circuit-breaker")
    await scene.sees("max(docker_cache_circuit_breaker_open) == 0")


@asynccontextmanager
async def _certificate_ends(scene: Scene) -> AsyncIterator[None]:
    active = await scene.instances.active()
    pair = scene.env.certificates.authority.server(*LOOPBACK_NAMES, file="ends-soon", days=9)
    before = dict(active.env.settings)
    active.env.settings |= {
        "admin_server_cert_file": str(pair.certificate),
        "admin_server_key_file": str(pair.key),
    }
    try:
        _reload(active)
        await scene.sees("docker_cache_certificate_end_timestamp_seconds - time() < 864000")
        yield
    finally:
        active.env.settings |= before
        _reload(active)
    ends = "docker_cache_certificate_end_timestamp_seconds and on (instance) docker_cache_ready == 1"
    await scene.sees(f"min({ends}) - time() > 864000")


@asynccontextmanager
async def _cloud_controller_away(scene: Scene) -> AsyncIterator[None]:
    faults = scene.env.capi.api.faults
    faults.order("*", "", capi_faults.fail(), times=1000)
    try:
        await scene.sees("docker_cache_cloud_controller_failing_since_timestamp_seconds > 0")
        yield
    finally:
        faults.clear()
    await scene.sees("max(docker_cache_cloud_controller_failing_since_timestamp_seconds) == 0")


@asynccontextmanager
async def _agent_away(scene: Scene) -> AsyncIterator[None]:
    await scene.agent.stop()
    try:
        await scene.runs("cache", scene.push("logged"))
        await scene.sees("docker_cache_loggregator_agent_up == 0")
        yield
    finally:
        await scene.agent.start()
    await scene.sees("docker_cache_loggregator_agent_up == 1")


@asynccontextmanager
async def _paused(scene: Scene) -> AsyncIterator[None]:
    await scene.runs("pause")
    try:
        await scene.start_app("waiting")
        await scene.sees('docker_cache_lrps{state="waiting"} > 0')
        yield
    finally:
        await scene.runs("resume")
    await scene.sees("max(docker_cache_paused) == 0")


@asynccontextmanager
async def _config_refused(scene: Scene) -> AsyncIterator[None]:
    active = await scene.instances.active()
    active.env.config_path.write_text("{")
    active.daemon.signal_reload()
    try:
        await scene.sees("docker_cache_config_last_reload_successful == 0")
        yield
    finally:
        _reload(active)
    well = "docker_cache_config_last_reload_successful and on (instance) docker_cache_ready == 1"
    await scene.sees(f"min({well}) == 1")


@asynccontextmanager
async def _instance_down(scene: Scene) -> AsyncIterator[None]:
    active = await scene.instances.active()
    await active.kill()
    try:
        await scene.instances.active(but=active)
        await scene.sees("sum(docker_cache_lock_held) == 1 and sum(up) == 1")
        yield
    finally:
        await active.start()
    await scene.sees("sum(up) == 2")


@asynccontextmanager
async def _all_down(scene: Scene) -> AsyncIterator[None]:
    for instance in scene.instances.all:
        await instance.kill()
    try:
        await scene.sees("sum(up) == 0")
        yield
    finally:
        for instance in scene.instances.all:
            await instance.start()
    await scene.sees("sum(up) == 2 and sum(docker_cache_lock_held) == 1")


@dataclass(frozen=True, slots=True)
class Met:
    """A fault, and where the dashboard tells more of it.

    Attributes:
        story: What happens, for people.
        rows: The first words of the rows that are shown beside the overview; all of them if none is named.
    """

    story: str
    meet: Callable[[Scene], AbstractAsyncContextManager[None]]
    rows: tuple[str, ...]


_SOURCES, _PRIVATE, _COPIES = "What breaks", "Can cells", "What is being copied"
_MIGRATIONS, _DROPLETS, _DAEMON, _LOGS = "What is being migrated", "Does Cloud", "Is the daemon", "Do app"

FAULTS: Mapping[str, Met] = {
    "none": Met("Nothing is wrong.", _nothing, ()),
    "source-down": Met("The source registry answers 502.", _source_down, (_SOURCES,)),
    "private-registry-down": Met("The private registry answers 503.", _private_registry_down, (_PRIVATE,)),
    "private-registry-full": Met(
        "The private registry's disk is full.", _private_registry_full, (_PRIVATE, _COPIES)
    ),
    "copies-deleted": Met("Somebody deletes a copy, while the disk is full.", _copies_deleted, (_PRIVATE,)),
    "copies-lost": Met(
        "A copy is deleted, and its source is gone too.", _copies_lost, (_PRIVATE, _MIGRATIONS)
    ),
    "cells-cannot-pull": Met("Cells do not reach the private registry.", _cells_cannot_pull, (_PRIVATE,)),
    "bbs-away": Met("The BBS is gone.", _bbs_away, (_DAEMON,)),
    "lease-lost": Met("Locket is gone, so that nobody is active.", _lease_lost, (_DAEMON,)),
    "database-away": Met("The database does not answer.", _database_away, (_DAEMON,)),
    "circuit-open": Met("Apps crash when they run from their copies.", _circuit_open, (_MIGRATIONS,)),
    "certificate-ends": Met("A certificate ends in nine days.", _certificate_ends, (_DAEMON,)),
    "cloud-controller-away": Met("Cloud Controller fails.", _cloud_controller_away, (_DROPLETS,)),
    "agent-away": Met("The Loggregator agent is gone.", _agent_away, (_LOGS,)),
    "paused": Met("An operator paused the daemon, and an app is pushed.", _paused, (_MIGRATIONS,)),
    "config-refused": Met(
        "The config file is broken when the daemon is to read it again.", _config_refused, (_DAEMON,)
    ),
    "source-limits": Met(
        "The source registry refuses requests: too many.", _source_limits, (_SOURCES, _COPIES)
    ),
    "instance-down": Met(
        "The active instance is killed, and the other one takes over.", _instance_down, (_DAEMON,)
    ),
    "all-down": Met("All instances are killed.", _all_down, (_DAEMON,)),
}
"""In the order in which they are met."""


async def meet(directory: Path, names: Sequence[str], report: Callable[[str], None]) -> list[str]:
    """Meet faults one after the other, and report what the dashboard shows in each.

    Returns:
        The names of those that it never saw, or whose end it never saw.
    """
    unseen = list[str]()
    async with _scene(directory) as scene:
        for name in names:
            begun, met = time.time(), FAULTS[name]
            try:
                async with met.meet(scene):
                    await asyncio.sleep(SETTLES)
                    shown = await asyncio.to_thread(_shown, scene.prometheus, met.rows, begun)
                    report(f"######## {name}: {met.story}\n\n{shown}")
            except (TimeoutError, AssertionError):
                report(f"######## {name}: {met.story}\n\nIt was not seen, or not its end.\n")
                unseen.append(name)
    return unseen


def _shown(prometheus: Prometheus, rows: Sequence[str], begun: float) -> str:
    document, now = grafana_document(read_description()), time.time()
    sight = Sight(prometheus, JOB, now, max(20.0, now - begun + 5.0))
    return show(document, sight, rows=(document["panels"][0]["title"], *rows) if rows else ())


@asynccontextmanager
async def _scene(directory: Path) -> AsyncIterator[Scene]:
    url = await asyncio.to_thread(databases.empty_database, "postgresql", "dashboard")
    async with AsyncExitStack() as stack:
        env = await stack.enter_async_context(
            open_environment(
                directory,
                start_delay=0.1,
                faulty_source=True,
                faulty_cache=True,
                sync_interval=5.0,
                converge_interval=1.0,
                start=start_interpreter,
            )
        )
        agent = await stack.enter_async_context(serve_agent(env.certificates))
        env.settings |= {
            "sync_interval": "1s",
            "registry_timeout": "2s",
            "copy_check_interval": "2s",
            "droplet_sync_interval": "2s",
            "max_consecutive_failures": 1,
        }
        env.tell_of_cloud_controller()
        env.tell_of_loggregator(agent)
        instances = await stack.enter_async_context(open_instances(env, url, 2))
        for instance in instances.all:
            instance.env.settings["metrics_address"] = f"127.0.0.1:{free_port()}"
            await instance.start()
            await instances.active()
        targets = {each.name: each.env.settings["metrics_address"] for each in instances.all}
        prometheus = stack.enter_context(
            run_prometheus(directory / "prometheus", targets, job=JOB, rules=RULES)
        )
        scene = Scene(env, instances, agent, prometheus)
        await _apps(scene)
        yield scene


async def _apps(scene: Scene) -> None:
    """Have two apps run from copies, and one that an operator pinned to its source."""
    apps = await running_apps(scene.env, "web", "shop", "pinned")
    for app in apps:
        await scene.env.replaced(app)
    await scene.sees("sum(docker_cache_migrations_in_flight) == 0")
    await scene.runs("restore", "--app", "pinned", "--yes")
    await scene.sees("sum(docker_cache_source_lrps) == 1")
