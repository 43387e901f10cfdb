"""What an operator reads at the level info: the start and the end in order, and one line for each copy and migration."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.distribution import free_port
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX
from tests.daemon.operator import Operator
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators.bbs import Fault
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.simulators.registry.faults import Stall

KEYS = ["timestamp", "level", "source", "message", "data"]


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, start_delay=0.1, converge_interval=1.0, faulty_source=True
    ) as opened:
        opened.settings |= {"log_level": "info", "sync_interval": "1s"}
        yield opened


async def running_app(env: Environment, name: str, *, instances: int) -> App:
    sample = images.image([images.layer(1000 + instances, 7)])
    reference = await asyncio.to_thread(env.source.push, f"team/{name}", "1", sample)
    app = env.cloud.create(name, Image(reference))
    app.droplet, app.instances = app.package, instances
    await env.cloud.start_app(app)
    await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * instances)
    return app


async def speak_plainly(address: str) -> None:
    """Annoy a server that wants TLS, of which gRPC's core has much to say."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.read()
    writer.close()


def events(daemon: DaemonProcess, *left_out: str) -> list[str]:
    names = [line["message"].removeprefix("docker-cache.") for line in daemon.lines]
    return [name for name in names if name not in left_out]


async def test_a_rollout_is_one_line_for_each_copy_and_each_migration(env: Environment) -> None:
    """And nothing that gRPC's core says to standard error, which is read here with the rest."""
    env.start = start_interpreter
    apps = [await running_app(env, name, instances=count) for name, count in (("web", 3), ("api", 1))]
    env.settings |= {"start_paused": True, "metrics_address": f"127.0.0.1:{free_port()}"}
    daemon = await env.started_daemon()
    waiting = await daemon.logged("control.waiting-for-resume")
    await speak_plainly(env.settings["admin_address"])
    await Operator(env).runs("resume")
    for app in apps:
        await daemon.logged("reconciler.migrated", app=app.owner.app_name)
    await until(lambda: not any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired))
    assert await daemon.stop() == 0

    assert waiting["data"] == {"lrps": 2, "copies": 0}
    assert daemon.text.count("waiting-for-resume") == 1
    assert all(list(json.loads(line)) == KEYS for line in daemon.text.splitlines())
    assert {line["level"] for line in daemon.lines} == {"info"}
    for app, count in zip(apps, (3, 1), strict=True):
        owner = {"app": app.owner.app_name, "space": app.owner.space_name, "app-guid": app.guid}
        (copied,) = daemon.named("cacher.cached-image", app_guid=app.guid)
        (migrated,) = daemon.named("reconciler.migrated", app_guid=app.guid)
        assert owner.items() <= copied["data"].items()
        assert owner.items() <= migrated["data"].items()
        assert copied["data"]["organization"] == migrated["data"]["organization"] == app.owner.org_name
        assert migrated["data"]["comes-from"] == copied["data"]["source-image"] == app.package.text
        assert migrated["data"]["goes-to"] == copied["data"]["cache-image"]
        assert migrated["data"]["bytes"] == copied["data"]["bytes"] > 1000
        assert (migrated["data"]["strategy"], migrated["data"]["goal"]) == ("bridge", "cache")
        assert (migrated["data"]["instances"], migrated["data"]["lowest-instances"]) == (count, count)
        assert 0 < migrated["data"]["duration-s"] < 60
        assert sum(app.process_guid in line for line in daemon.text.splitlines()) == 1
    assert events(daemon, "cacher.cached-image", "reconciler.migrated", "watcher.listed-bbs") == [
        "daemon.starting",
        "daemon.found-doubtful-setting",
        "daemon.serving",
        "admin.serving",
        "daemon.became-active",
        "control.paused",
        "store-marker.marked-store",
        "daemon.started",
        "watcher.subscribed-to-bbs-events",
        "control.waiting-for-resume",
        "control.resumed",
        "admin.finished-call",
        "canary.cells-can-pull",
        "daemon.received-signal",
        "daemon.stopping",
        "daemon.loops-ended",
        "admin.stopped-serving",
        "daemon.stopped",
    ]


PHASES = [
    "bridging",
    *(pytest.param(each, marks=pytest.mark.long) for each in ("bridged", "removed", "starting")),
]


@pytest.mark.parametrize("phase", PHASES)
async def test_a_signal_ends_it_in_time_whatever_is_under_way_and_the_next_one_continues(
    env: Environment, phase: str
) -> None:
    """A copy whose source has stopped sending, and a migration whose BBS has stopped answering."""
    env.settings |= {"log_level": "debug", "registry_timeout": "1h", "min_rate_window": "1h"}
    app = await running_app(env, "web", instances=2)
    slow = images.image([images.layer(5000, 8)])
    env.source.faults.fail("GET", slow.layers[0].digest, Stall(1000), times=1)
    if phase == "bridging":
        env.cell.start_gate.clear()
    daemon = await env.start_daemon()
    await daemon.logged("watcher.subscribed-to-bbs-events")
    staged = env.cloud.create("slow", Image(env.source.push("team/slow", "1", slow)))
    await env.cloud.stage(staged)
    await asyncio.to_thread(env.source.faults.wait_for_stall)
    # The pass that desires the LRP tells that it starts: its instances may run before the next one.
    reason = "desire-unconfirmed" if phase == "starting" else phase
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason=reason)
    env.bbs.faults.order(Fault.HANG, calls=1000)

    assert await daemon.stop() == 0
    assert "ended-by-force" not in daemon.text
    (left,) = daemon.named("reconciler.left-migrations-open")
    assert left["data"]["process-guids"] == [app.process_guid]
    env.bbs.faults.clear()
    env.cell.start_gate.set()
    again = await env.start_daemon()
    ended = await again.logged("reconciler.migrated", app_guid=app.guid)
    await again.logged("cacher.cached-image", app_guid=staged.guid)
    assert ended["data"]["lowest-instances"] == 2


async def test_a_second_signal_ends_it_at_once(env: Environment) -> None:
    app = await running_app(env, "web", instances=1)
    env.cell.start_gate.clear()
    daemon = await env.start_daemon()
    await until(lambda: BRIDGE_PREFIX + app.process_guid in env.bbs.state.desired)
    daemon._program.send_signal(signal.SIGTERM)
    await daemon.logged("daemon.received-signal", signal="SIGTERM")
    daemon._program.send_signal(signal.SIGTERM)

    assert await daemon.ended() == -signal.SIGTERM
    assert not daemon.named("reconciler.left-migrations-open"), "it waited for the migration"
