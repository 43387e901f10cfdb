"""Why instances do not run is told wherever a person looks: in listings, in results of plans, and in the log."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRPUpdate
from reconcile.canary import DISK_MB
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX
from tests.daemon.operator import Operator, running_apps
from tests.simulators.bbs import Version, desired
from tests.simulators.cloud_controller import App

pytestmark = pytest.mark.thorough

NO_ROOM = "bridge: no cell has room: insufficient resources: disk"
NOT_PULLED = (
    "failed to create container: running image plugin create: fetching image reference: creating image: "
    "creating image source: reading manifest 1 in registry.example/team/web: manifest unknown\n: exit status 1"
)
FROM_SOURCE = "bridge: cells cannot pull from its source: reading manifest 1 in registry.example/team/web: "
EXITED = "APP/PROC/WEB: Exited with status 3"
FAILED = 5


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.05,
        pulls=False,
        sync_interval=30.0,
        converge_interval=1.0,
    ) as opened:
        opened.settings |= {"sync_interval": "1s"}
        yield opened


async def listed(env: Environment) -> dict[str, object]:
    (row,) = (await Operator(env).runs("apps")).rows
    return {name: row[name] for name in ("state", "reason", "detail", "running")}


def has_no_bridge(env: Environment) -> bool:
    return not any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired)


async def on_its_copy(env: Environment) -> tuple[App, DaemonProcess]:
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await until(lambda: has_no_bridge(env))
    return web, daemon


async def test_a_bridge_that_finds_no_room_says_so_while_it_waits_and_when_it_is_given_up(
    env: Environment,
) -> None:
    env.settings |= {"bridge_timeout": "3s"}
    (web,) = await running_apps(env, "web")
    lrp = env.lrp(web)
    assert lrp is not None
    env.cell.settings.disk_mb = 2 * lrp.disk_mb + DISK_MB  # what the app takes itself, and a canary
    daemon = await env.started_daemon()

    waiting = await daemon.logged("reconciler.reconciled", reason="bridging", detail=NO_ROOM)
    ended = await daemon.logged("reconciler.reconciled", reason="bridge-timeout")
    seen = await listed(env)
    status = (await Operator(env).runs("status")).row
    assert waiting["data"]["process-guid"] == web.process_guid
    (failed,) = daemon.named("reconciler.failed-to-migrate")
    assert failed["data"]["detail"] == NO_ROOM, "it is said once, at its end"
    assert ended["data"]["detail"] == NO_ROOM
    assert seen == {"state": "failed", "reason": "bridge-timeout", "detail": NO_ROOM, "running": 2}
    assert status["circuit_breaker"]["last"] == f"{web.process_guid}: bridge-timeout {NO_ROOM}"

    applied = await Operator(env).runs("reconcile", "--apply", "--yes")
    told = [(row["reason"], row["detail"]) for row in applied.rows if "detail" in row]
    assert ("bridging", NO_ROOM) in told
    assert told[-1] == ("bridge-timeout", NO_ROOM)
    assert not env.is_from_cache(web)


@pytest.mark.long
async def test_an_open_migration_is_listed_with_what_its_bridge_waits_for(env: Environment) -> None:
    (web,) = await running_apps(env, "web")
    lrp = env.lrp(web)
    assert lrp is not None
    env.cell.settings.disk_mb = 2 * lrp.disk_mb + DISK_MB  # room for a canary
    daemon = await env.started_daemon()

    await daemon.logged("reconciler.reconciled", reason="bridging", detail=NO_ROOM)
    assert await listed(env) == {"state": "migrating", "reason": "bridging", "detail": NO_ROOM, "running": 2}

    env.cell.settings.disk_mb = 1048576
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated", detail="")


async def test_a_failed_restore_says_that_its_source_failed_and_stays_visible_until_the_next(
    env: Environment,
) -> None:
    web, daemon = await on_its_copy(env)
    operator = Operator(env)
    env.cell.settings.crash_reason = lambda lrp: NOT_PULLED if env.source.address in lrp.root_fs else ""

    failed = await operator.runs("restore", "--app", "web", "--yes")

    assert failed.status == FAILED
    assert failed.rows[-1]["reason"] == "bridge-crashed"
    assert failed.rows[-1]["detail"] == f"{FROM_SOURCE}manifest unknown"
    await until(lambda: has_no_bridge(env))
    expected = {
        "state": "failed",
        "reason": "bridge-crashed",
        "detail": f"{FROM_SOURCE}manifest unknown",
        "running": 2,
    }
    assert await listed(env) == expected
    await daemon.stop()
    await env.started_daemon()
    assert await listed(env) == expected, "also after a restart"
    assert env.is_from_cache(web)

    env.cell.settings.crash_reason = lambda _lrp: ""
    again = await operator.runs("restore", "--app", "web", "--yes")
    assert (again.status, again.rows[-1]["reason"]) == (0, "restored")
    assert (await listed(env))["reason"] == "pinned-to-source"


async def test_an_app_that_crashes_from_its_copy_is_not_called_cached(env: Environment) -> None:
    web, _ = await on_its_copy(env)
    assert (await listed(env))["state"] == "cached"
    env.cell.settings.crash_reason = lambda _lrp: EXITED

    env.cell.crash(web.process_guid, 0, EXITED)
    await until(lambda: [row.state for row in env.rows(web)] == ["CRASHED", "RUNNING"])
    one = await listed(env)
    env.cell.crash(web.process_guid, 1, EXITED)
    await until(lambda: [row.state for row in env.rows(web)] == ["CRASHED", "CRASHED"])
    none = await listed(env)

    assert (one["state"], one["running"]) == ("cached", 1)
    assert one["detail"] == f"crashed from its copy: {EXITED} (1 of 2 instances)"
    assert (none["state"], none["reason"], none["running"]) == ("waiting", "not-running", 0)
    assert none["detail"] == f"crashed from its copy: {EXITED}"


async def test_an_app_on_its_copy_without_wanted_instances_is_not_called_cached(env: Environment) -> None:
    web, _ = await on_its_copy(env)
    desired.update(env.bbs.state, web.process_guid, DesiredLRPUpdate(instances=0))
    await until(lambda: env.rows(web) == [])

    assert await listed(env) == {"state": "waiting", "reason": "no-instances", "detail": "", "running": 0}
