"""Apps that do not run from their copies for reasons of their own: each is told, none is called cached."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRPUpdate
from reconcile.canary import DISK_MB
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.operator import Operator
from tests.daemon.pushes import all_on_copies, staged_and_cached
from tests.daemon.start_watch import StartWatch, process_starts, stop_requests
from tests.simulators.bbs import Version, desired
from tests.simulators.cell_failures import exited, no_such_program
from tests.simulators.cell_network import Refused
from tests.simulators.cloud_controller import App

pytestmark = pytest.mark.thorough

APPS = 4


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.5, cells=2, sync_interval=None, converge_interval=30.0
    ) as opened:
        opened.settings |= {"max_consecutive_failures": 2, "start_timeout": "60s"}
        yield opened


def exits(env: Environment) -> None:
    for cell in env.cells:
        cell.settings.crash_reason = lambda _lrp: f"APP/PROC/WEB: {exited(3)}"


def cannot_be_executed(env: Environment) -> None:
    for cell in env.cells:
        cell.settings.crash_reason = lambda _lrp: no_such_program("/nope")


def finds_no_room(env: Environment) -> None:
    """Leave room for a canary."""
    for cell in env.cells:
        cell.settings.disk_mb = DISK_MB + 1


def is_scaled_to_nothing(env: Environment) -> None:
    """Let instances start late, so that the owner is faster."""
    for cell in env.cells:
        cell.start_gate.clear()


@dataclass(frozen=True, slots=True)
class Case:
    """Why an app does not run, and what is told of it.

    Attributes:
        start_timeout: Short only where nothing but time tells that no instance starts.
    """

    befalls: Callable[[Environment], None]
    reason: str
    state: str
    says: str
    ends_on: str = "copy"
    start_timeout: str = "60s"


CASES = {
    "exits": Case(exits, "process-exited", "waiting", "Exited with status 3"),
    "cannot be executed": Case(
        cannot_be_executed, "image-not-started", "failed", "no such file or directory", ends_on="source"
    ),
    "finds no room": Case(
        finds_no_room, "no-room", "waiting", "insufficient resources: disk", start_timeout="3s"
    ),
    "is scaled to nothing": Case(is_scaled_to_nothing, "no-instances", "waiting", ""),
}


@pytest.mark.parametrize("name", CASES)
async def test_an_app_that_does_not_run_is_not_called_cached_and_opens_no_circuit(
    env: Environment, name: str, record_property: Callable[[str, object], None]
) -> None:
    case = CASES[name]
    env.settings["start_timeout"] = case.start_timeout
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    apps = [await staged_and_cached(env, daemon, f"web-{n}") for n in range(APPS)]
    case.befalls(env)
    watch = StartWatch(env)
    with watch.watching():
        for app in apps:
            await watch.start(app)
            if case.befalls is is_scaled_to_nothing:
                await env.replaced(app)
                desired.update(env.bbs.state, app.process_guid, DesiredLRPUpdate(instances=0))
        for app in apps:
            await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason=case.reason)
        rows = (await Operator(env).runs("apps")).rows
        moves = [watch.of(app).moves[-1] for app in apps]

    record_property(
        "figures",
        f"{case.reason}: definitions {', '.join(watch.of(apps[0]).moves)}, "
        f"process starts {dict(process_starts(env, apps[0]))}, {stop_requests(env, apps[0])} stop requests",
    )
    assert {(row["state"], row["reason"], row["running"]) for row in rows} == {(case.state, case.reason, 0)}
    assert all(case.says in row["detail"] for row in rows), rows
    assert moves == [case.ends_on] * APPS
    assert not daemon.named("reconciler.opened-circuit-breaker")
    status = (await Operator(env).runs("status")).row
    assert not status["circuit_breaker"]["open"]
    assert status["circuit_breaker"]["failures"] == 0
    assert status["apps_by_state"] == {case.state: APPS}


async def test_an_app_whose_next_instance_cannot_be_pulled_goes_back_by_a_bridge_and_loses_nothing(
    env: Environment, record_property: Callable[[str, object], None]
) -> None:
    """Cells have lost the way to the private registry since it was migrated."""
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web", instances=2)
    watch, invariants = StartWatch(env), Invariants(env.bbs, env.cells, env.cloud)
    with watch.watching(), invariants.watching():
        start = await watch.start(app)
        await all_on_copies(env, [app])
        earlier = set(invariants.bridges)  # it may have run before the daemon looked
        env.impose(env.cache, Refused())
        crash(env, invariants, app, index=1)
        await until(lambda: start.back_at is not None)
        await until(lambda: is_served_from_source(env, app))
        await daemon.logged("canary.cells-cannot-pull")
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="cells-not-proven")
        (row,) = (await Operator(env).runs("apps")).rows
        assert (row["state"], row["running"]) == ("pending", 2)
        assert len(invariants.bridges - earlier) == 1
        figures = f"both instances run from the source {start.seconds_back:.2f} s after the first failed pull"

        env.mend(env.cache)
        await all_on_copies(env, [app])

    record_property(
        "figures", f"{figures}, {start.down:.2f} s without any; migrated again when cells were mended"
    )
    assert start.down == 0.0
    assert invariants.violations == []


def crash(env: Environment, invariants: Invariants, app: App, *, index: int) -> None:
    invariants.will_crash(app.process_guid)
    for cell in env.cells:
        for instance in list(cell.instances.values()):
            if (instance.key.process_guid, instance.key.index) == (app.process_guid, index):
                cell.crash(app.process_guid, index)


def is_served_from_source(env: Environment, app: App) -> bool:
    lrp = env.lrp(app)
    is_bridged = BRIDGE_PREFIX + app.process_guid in env.bbs.state.desired
    return lrp is not None and not is_bridged and env.running_from(app, lrp.root_fs) == app.instances
