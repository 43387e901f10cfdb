"""Apps that are just being migrated take an order to go back, and an order to go to their copies, like others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.operator import Operator, running_apps
from tests.daemon.programs import Program
from tests.simulators.bbs import Fault, Version
from tests.simulators.cell import Instance
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

PENDING = 2
REMOVE = "/v1/desired_lrp/remove"
LIMITS = {"unknown": 25.0, "missing": 60.0, "leftover": 60.0}
"""Long enough for an app to stay in its phase until an operator comes."""


class Holds:
    """The processes that cells do not start, or do not end, for now.

    Attributes:
        starts: Process GUIDs, each with whether it runs from its copy.
        ends: Process GUIDs.
        holds_all: Whether no process is started.
    """

    def __init__(self, env: Environment) -> None:
        self.starts = set[tuple[str, bool]]()
        self.ends = set[str]()
        self.holds_all = False
        self._address = env.cache.address
        env.cell.settings.begin_process, env.cell.settings.end_process = self._begin, self._end

    async def _begin(self, instance: Instance) -> None:
        key = (instance.key.process_guid, self._address in instance.rootfs)
        await until(lambda: not self.holds_all and key not in self.starts)

    async def _end(self, instance: Instance) -> None:
        await until(lambda: instance.key.process_guid not in self.ends)

    def let_go(self) -> None:
        """Let all go on."""
        self.starts.clear()
        self.ends.clear()


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.05,
        pulls=False,
        converge_interval=1.0,
        limits=LIMITS,
    ) as opened:
        opened.settings |= {"sync_interval": "1s", "route_propagation_delay": "3s", "max_in_flight": 20}
        yield opened


@pytest.fixture
def holds(env: Environment) -> Holds:
    return Holds(env)


def bridge_of(app: App) -> str:
    return f"{BRIDGE_PREFIX}{app.process_guid}"


def bridges(env: Environment) -> list[str]:
    return [guid for guid in env.bbs.state.desired if guid.startswith(BRIDGE_PREFIX)]


async def reaches(daemon: DaemonProcess, app: App, reason: str) -> None:
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason=reason)


async def migrated(env: Environment, daemon: DaemonProcess, *apps: App) -> None:
    """Wait until apps run from their copies, and nothing of their migrations is left."""
    for app in apps:
        await env.replaced(app)
        await reaches(daemon, app, "migrated")
    await until(lambda: not bridges(env))


async def claimed_app(env: Environment, holds: Holds, name: str) -> App:
    """Have an app whose instances take their time to start from its source."""
    reference = f"{env.source.address}/team/web:1"
    app = env.cloud.create(name, Image(reference))
    app.droplet, app.instances = app.package, 1
    holds.holds_all = True
    await env.cloud.start_app(app)
    holds.starts.add((app.process_guid, False))  # it has its process GUID since it was started
    holds.holds_all = False
    await until(lambda: [row.state for row in env.rows(app)] == ["CLAIMED"])
    return app


async def start_command(env: Environment, *arguments: str) -> Program:
    """Start a command with the daemon's config file."""
    command, *rest = arguments
    return await env.start(command, "-o", "json", "--config", str(env.config_path), *rest)


def is_at_source(env: Environment, app: App) -> bool:
    """Whether all of an app's instances run from its source, and it has no bridge."""
    source = f"docker://{env.source.address}/team/web#1"
    lrp = env.lrp(app)
    is_desired = lrp is not None and lrp.root_fs == source
    return (
        is_desired and env.running_from(app, source) == app.instances and bridge_of(app) not in bridges(env)
    )


class TestAllApps:
    async def test_restore_takes_twenty_apps_back_of_which_ten_are_on_their_way_to_their_copies(
        self, env: Environment, holds: Holds
    ) -> None:
        operator = Operator(env)
        cached = await running_apps(env, *(f"cached-{n}" for n in range(10)), instances=1)
        daemon = await env.started_daemon()
        await migrated(env, daemon, *cached)
        in_flight = await self._in_flight(env, holds, daemon)
        invariants = Invariants(env.bbs, [env.cell], env.cloud)

        with invariants.watching():
            restoring = asyncio.create_task(operator.runs("restore", "--all", "--yes"))
            while (await operator.runs("status")).row["pinned_apps"] < 20:
                assert not restoring.done(), restoring.result().err
            holds.let_go()
            restored = await restoring

        assert restored.status == 0, restored.err
        planned = {row["app_name"]: row["reason"] for row in restored.kind("migration")}
        assert len(planned) == 20
        assert {name: planned[name] for name in in_flight} == {
            name: name.partition("-")[2] for name in in_flight
        }
        assert set(planned[app.owner.app_name] for app in cached) == {"restore-requested"}
        last = restored.rows[-1]
        assert (last["done"], last["total"], last["reason"]) == (20, 20, "restored")
        over = [row for row in restored.rows if row.get("state") in {"done", "skipped", "failed"}]
        assert {row["reason"] for row in over} == {"restored"}
        apps = [*cached, *in_flight.values()]
        assert [app.owner.app_name for app in apps if not is_at_source(env, app)] == []
        assert (await operator.runs("status")).row["pinned_apps"] == 20
        assert {row["reason"] for row in (await operator.runs("apps")).rows} <= {
            "restored",
            "pinned-to-source",
        }
        assert (await operator.runs("migrations")).rows == []
        invariants.check_end()
        assert invariants.violations == []

    async def _in_flight(self, env: Environment, holds: Holds, daemon: DaemonProcess) -> dict[str, App]:
        """Bring ten apps on their way, and stop each in the phase that its name ends with."""
        operator, apps = Operator(env), dict[str, App]()

        async def running(name: str, instances: int = 2) -> App:
            (app,) = await running_apps_more(env, name, instances=instances)
            apps[name] = app
            return app

        async def claimed(name: str) -> App:
            app = apps[name] = await claimed_app(env, holds, name)
            return app

        await operator.runs("pause")
        removings = [await running("bridge-removing"), await claimed("recreate-removing")]
        env.bbs.faults.order(Fault.DROP_BEFORE, REMOVE, calls=2)
        await operator.runs("resume")
        for app in removings:
            await reaches(daemon, app, "removal-unconfirmed")

        await operator.runs("pause")
        holds.starts.add((bridge_of(await running("bridge-bridging")), True))
        bridged = await running("bridge-bridged")
        holds.starts.add((bridge_of(bridged), True))
        holds.ends.add((await running("bridge-removed")).process_guid)
        holds.starts.add(((await running("bridge-starting", 3)).process_guid, True))
        holds.ends.add(bridge_of(await running("bridge-removing-bridge")))
        removed = await claimed("recreate-removed")  # its stopgap is not started
        holds.ends.add(removed.process_guid)
        holds.starts.add((bridge_of(removed), True))
        holds.starts.add(((await claimed("recreate-starting")).process_guid, True))
        stopgap = await claimed("stopgap-starting")  # it waits for the end of an old instance
        holds.ends.add(stopgap.process_guid)
        await operator.runs("resume")

        await reaches(daemon, removed, "instances-stopping")
        await reaches(daemon, apps["recreate-starting"], "starting")
        await reaches(daemon, stopgap, "old-instances-left")
        await reaches(daemon, apps["bridge-removed"], "instances-stopping")
        await reaches(daemon, apps["bridge-starting"], "starting")
        await reaches(daemon, apps["bridge-removing-bridge"], "removing-bridge")
        await reaches(daemon, apps["bridge-bridging"], "bridging")
        holds.starts.discard((bridge_of(bridged), True))
        await reaches(daemon, bridged, "bridged")
        return apps


async def running_apps_more(env: Environment, name: str, *, instances: int) -> list[App]:
    """Have another app run from the image that the source registry has."""
    app = env.cloud.create(name, Image(f"{env.source.address}/team/web:1"))
    app.droplet, app.instances = app.package, instances
    await env.cloud.start_app(app)
    await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * instances)
    return [app]
