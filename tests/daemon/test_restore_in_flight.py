"""Apps that are just being migrated take an order to go back, and an order to go to their copies, like others."""

import asyncio
import json
import signal
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

pytestmark = pytest.mark.thorough

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


async def migrated_but(env: Environment, daemon: DaemonProcess, *apps: App, left: str) -> None:
    """Wait as `migrated`, while one bridge stays."""
    for app in apps:
        await env.replaced(app)
        await reaches(daemon, app, "migrated")
    await until(lambda: bridges(env) == [left])


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


async def running_app(env: Environment, name: str, *, instances: int = 1) -> App:
    """Have another app run from the image that the source registry has."""
    app = env.cloud.create(name, Image(f"{env.source.address}/team/web:1"))
    app.droplet, app.instances = app.package, instances
    await env.cloud.start_app(app)
    await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * instances)
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


async def started(env: Environment, holds: Holds) -> DaemonProcess:
    """Start a daemon, let it migrate an app, and pause it."""
    (first,) = await running_apps(env, "first", instances=1)
    daemon = await env.started_daemon()
    await migrated(env, daemon, first)
    await Operator(env).runs("pause")
    assert not holds.starts
    return daemon


async def app_in(env: Environment, daemon: DaemonProcess, app: App, reason: str) -> App:
    """Let the daemon work until an app is in a phase."""
    await Operator(env).runs("resume")
    await reaches(daemon, app, reason)
    await Operator(env).runs("pause")
    return app


async def interrupt_twice(program: Program) -> None:
    """Press Ctrl-C twice once a command has reported an app on its way, and wait for its end."""
    assert program.stdout is not None
    async for line in program.stdout:
        if json.loads(line).get("state") == "migrating":
            break
    program.send_signal(signal.SIGINT)
    assert program.stderr is not None
    await program.stderr.readline()
    program.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        await program.wait()


class TestAllApps:
    @pytest.mark.long
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
        assert {planned[app.owner.app_name] for app in cached} == {"restore-requested"}
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
            app = apps[name] = await running_app(env, name, instances=instances)
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


class TestOneApp:
    @pytest.mark.long
    async def test_an_lrp_whose_copy_does_not_start_is_restored_while_its_bridge_serves(
        self, env: Environment, holds: Holds
    ) -> None:
        """Its migration would wait for the copy as long as the bridge serves more."""
        daemon = await started(env, holds)
        app = await running_app(env, "web", instances=2)
        holds.starts.add((app.process_guid, True))
        await app_in(env, daemon, app, "starting")
        invariants = Invariants(env.bbs, [env.cell], env.cloud)

        with invariants.watching():
            restored = await Operator(env).runs("restore", "--app", "web", "--yes")

        assert restored.status == 0, restored.err
        assert restored.rows[-1]["reason"] == "restored"
        assert is_at_source(env, app)
        assert invariants.violations == []

    @pytest.mark.long
    async def test_a_plan_in_a_file_holds_for_an_app_that_has_moved_on(
        self, env: Environment, holds: Holds
    ) -> None:
        """One that was on its way, and one that was to stay on its source, are on their copies by now."""
        daemon, operator, file = await started(env, holds), Operator(env), env.directory / "plan.jsonl"
        moving = await running_app(env, "moving")
        holds.starts.add((bridge_of(moving), True))
        await app_in(env, daemon, moving, "bridging")
        staying, slow = await running_app(env, "staying"), await running_app(env, "slow")

        apps = ("--app", "moving", "--app", "staying", "--app", "slow")
        planned = await operator.runs("restore", *apps, "--out", str(file))
        holds.let_go()
        holds.starts.add((bridge_of(slow), True))
        await operator.runs("resume")
        await migrated_but(env, daemon, moving, staying, left=bridge_of(slow))
        applied = await operator.runs("restore", "--apply", str(file), "--yes")

        assert planned.status == PENDING
        assert [(row["app_name"], row["reason"]) for row in planned.kind("migration")] == [
            ("moving", "bridging")
        ]
        assert {row["app_name"] for row in planned.kind("pin")} == {"staying", "slow"}
        assert applied.status == 0, applied.err
        last = applied.rows[-1]
        assert (last["done"], last["total"], last["reason"]) == (3, 3, "restored")
        assert all(is_at_source(env, app) for app in (moving, staying, slow))
        assert (await operator.runs("status")).row["pinned_apps"] == 3

    @pytest.mark.slow
    async def test_a_restore_that_nobody_waits_for_any_more_is_finished(
        self, env: Environment, holds: Holds
    ) -> None:
        """Ctrl-C leaves what was accepted to the daemon: the app is pinned, and follows its migration back."""
        daemon, operator = await started(env, holds), Operator(env)
        app = await running_app(env, "web")
        holds.ends.add(bridge_of(app))
        await app_in(env, daemon, app, "removing-bridge")

        await interrupt_twice(await start_command(env, "restore", "--app", "web", "--yes"))
        pinned = (await operator.runs("status")).row["pinned_apps"]
        holds.let_go()

        await reaches(daemon, app, "restored")
        assert pinned == 1
        await until(lambda: is_at_source(env, app))
        assert (await operator.runs("status")).row["pinned_apps"] == 1

    @pytest.mark.long
    async def test_a_daemon_that_is_killed_meanwhile_turns_the_app_round_when_it_starts_again(
        self, env: Environment, holds: Holds
    ) -> None:
        """The order ends with the process; the pin does not."""
        daemon, operator = await started(env, holds), Operator(env)
        app = await running_app(env, "web")
        env.bbs.faults.order(Fault.DROP_BEFORE, REMOVE)
        await app_in(env, daemon, app, "removal-unconfirmed")

        restoring = await start_command(env, "restore", "--app", "web", "--yes")
        while not (await operator.runs("status")).row["pinned_apps"]:
            assert restoring.returncode is None
        await daemon.kill()
        assert await restoring.wait() != 0
        again = await env.started_daemon()

        await reaches(again, app, "cancelled")
        await operator.runs("resume")
        await reaches(again, app, "pinned-to-source")
        assert is_at_source(env, app)

    @pytest.mark.long
    async def test_reconcile_waits_for_the_end_of_a_restore_and_migrates_the_app_again(
        self, env: Environment, holds: Holds
    ) -> None:
        daemon, operator = await started(env, holds), Operator(env)
        app = await running_app(env, "web")
        await operator.runs("resume")
        await migrated(env, daemon, app)
        holds.starts.add((bridge_of(app), False))
        await interrupt_twice(await start_command(env, "restore", "--app", "web", "--yes"))
        invariants = Invariants(env.bbs, [env.cell], env.cloud)

        pinned = await operator.runs("reconcile", "--app", "web")
        with invariants.watching():
            reconciling = asyncio.create_task(
                operator.runs("reconcile", "--app", "web", "--include-pinned", "--apply", "--yes")
            )
            while (await operator.runs("status")).row["pinned_apps"]:
                assert not reconciling.done(), reconciling.result().err
            holds.let_go()
            reconciled = await reconciling

        assert [row["reason"] for row in pinned.kind("skipped")] == ["pinned-to-source"]
        assert [row["reason"] for row in reconciled.kind("migration")] == ["bridging"]
        assert reconciled.status == 0, reconciled.err
        assert reconciled.rows[-1]["reason"] == "migrated"
        assert "runs-from-source" in [row.get("reason") for row in reconciled.rows]
        assert env.is_from_cache(app)
        assert bridges(env) == []
        assert invariants.violations == []


@pytest.mark.long
async def test_an_open_circuit_breaker_does_not_keep_apps_from_their_sources(
    env: Environment, holds: Holds
) -> None:
    """It opens because copies fail, which is when an operator wants the apps back."""
    env.settings |= {"max_consecutive_failures": 1}
    daemon, operator = await started(env, holds), Operator(env)
    await running_app(env, "bad")
    env.cell.settings.crash_reason = lambda lrp: "broken" if lrp.domain == "docker-cache-bridge" else ""
    await operator.runs("resume")
    await daemon.logged("reconciler.opened-circuit-breaker")
    env.cell.settings.crash_reason = lambda _: ""

    restored = await operator.runs("restore", "--app", "first", "--yes")

    assert restored.status == 0, restored.err
    assert restored.kind("plan")[0]["obstacles"] == []
    assert (await operator.runs("status")).row["circuit_breaker"]["open"] is True
