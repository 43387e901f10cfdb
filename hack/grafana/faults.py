"""The faults that two instances of the daemon can meet, each for the length of a block."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

from hack.grafana.scene import Scene
from tests.daemon.environment import Registry
from tests.daemon.instances import Instance
from tests.simulators import images
from tests.simulators.capi import faults as capi_faults
from tests.simulators.cell_network import Refused
from tests.simulators.certificates import LOOPBACK_NAMES
from tests.simulators.registry.faults import Fault, Refuse
from tests.simulators.tcp_proxy import TcpProxy

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
    proxies = [each.to_locket for each in scene.instances.all]
    with _cut(proxies):
        await scene.sees("sum(docker_cache_lock_held) == 0")
        yield
    await scene.sees("sum(docker_cache_lock_held) == 1")


@asynccontextmanager
async def _database_away(scene: Scene) -> AsyncIterator[None]:
    proxies = [each.to_database for each in scene.instances.all]
    with _cut(proxies):
        await scene.sees("docker_cache_database_unavailable_since_timestamp_seconds > 0")
        yield
    await scene.sees("max(docker_cache_database_unavailable_since_timestamp_seconds) == 0")


@contextmanager
def _cut(proxies: Sequence[TcpProxy]) -> Iterator[None]:
    for proxy in proxies:
        proxy.cut()
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.mend()


@asynccontextmanager
async def _circuit_open(scene: Scene) -> AsyncIterator[None]:
    cache, settings = scene.env.cache.address, scene.env.cell.settings
    before = settings.crash_reason
    settings.crash_reason = lambda lrp: "no such file" if cache in lrp.root_fs else ""
    try:
        await scene.start_app("failing")
        await scene.sees("docker_cache_circuit_breaker_open == 1")
        yield
    finally:
        settings.crash_reason = before
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
class Scenario:
    """A fault, and the rows of the dashboard that show it.

    Attributes:
        story: What happens, for people.
        meet: Causes the fault until the block ends; the block begins when Prometheus shows the fault.
        rows: The first words of the rows that are shown beside the overview; all of them if none is named.
        settled: What the dashboard says once all has settled, however long that takes on a busy machine.
    """

    story: str
    meet: Callable[[Scene], AbstractAsyncContextManager[None]]
    rows: tuple[str, ...]
    settled: str = ""


_SOURCES, _PRIVATE, _COPIES = "What breaks", "Can cells", "What is being copied"
_MIGRATIONS, _DROPLETS, _DAEMON, _LOGS = "What is being migrated", "Does Cloud", "Is the daemon", "Do app"

FAULTS: Mapping[str, Scenario] = {
    "none": Scenario("Nothing is wrong.", _nothing, (), "Nothing that the daemon can tell is wrong"),
    "source-down": Scenario("The source registry answers 502.", _source_down, (_SOURCES,)),
    "private-registry-down": Scenario(
        "The private registry answers 503.", _private_registry_down, (_PRIVATE,)
    ),
    "private-registry-full": Scenario(
        "The private registry's disk is full.", _private_registry_full, (_PRIVATE, _COPIES)
    ),
    "copies-deleted": Scenario(
        "Somebody deletes a copy, while the disk is full.", _copies_deleted, (_PRIVATE,)
    ),
    "copies-lost": Scenario(
        "A copy is deleted, and its source is gone too.", _copies_lost, (_PRIVATE, _MIGRATIONS)
    ),
    "cells-cannot-pull": Scenario(
        "Cells do not reach the private registry.", _cells_cannot_pull, (_PRIVATE,)
    ),
    "bbs-away": Scenario("The BBS is gone.", _bbs_away, (_DAEMON,)),
    "lease-lost": Scenario("Locket is gone, so that nobody is active.", _lease_lost, (_DAEMON,)),
    "database-away": Scenario("The database does not answer.", _database_away, (_DAEMON,)),
    "circuit-open": Scenario("Apps crash when they run from their copies.", _circuit_open, (_MIGRATIONS,)),
    "certificate-ends": Scenario("A certificate ends in nine days.", _certificate_ends, (_DAEMON,)),
    "cloud-controller-away": Scenario("Cloud Controller fails.", _cloud_controller_away, (_DROPLETS,)),
    "agent-away": Scenario("The Loggregator agent is gone.", _agent_away, (_LOGS,)),
    "paused": Scenario("An operator paused the daemon, and an app is pushed.", _paused, (_MIGRATIONS,)),
    "config-refused": Scenario(
        "The config file is broken when the daemon is to read it again.", _config_refused, (_DAEMON,)
    ),
    "source-limits": Scenario(
        "The source registry refuses requests: too many.", _source_limits, (_SOURCES, _COPIES)
    ),
    "instance-down": Scenario(
        "The active instance is killed, and the other one takes over.", _instance_down, (_DAEMON,)
    ),
    "all-down": Scenario("All instances are killed.", _all_down, (_DAEMON,)),
}
"""Name to scenario, in the order in which they happen."""
