"""Two daemons with stores of their own on one BBS: one works, the other changes nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.contracts.distribution import free_port
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX
from tests.daemon.operator import Operator, running_apps
from tests.simulators.bbs import Version
from tests.simulators.bbs.desired import desire

REFUSED = 4
MARKER = "docker-cache-store-"


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.1, pulls=False, sync_interval=30.0, converge_interval=1.0
    ) as opened:
        opened.settings |= {"sync_interval": "1s"}
        yield opened


@pytest.fixture
async def second(env: Environment) -> AsyncIterator[Environment]:
    """Has a config and a store of its own, and all else in common."""
    directory = env.directory / "second"
    directory.mkdir()
    own = {
        "database_url": f"sqlite:///{directory}/store/docker-cache.db",
        "admin_address": f"127.0.0.1:{free_port()}",
        "healthcheck_address": f"127.0.0.1:{free_port()}",
    }
    other = replace(env, directory=directory, settings=env.settings | own, _daemons=[])
    yield other
    await other.close()


def stores_on(env: Environment) -> list[str]:
    """List the ids of the stores that are marked on the BBS."""
    fresh = env.bbs.state.fresh_domains()
    return [each.removeprefix(MARKER) for each in fresh if each.startswith(MARKER)]


async def health(env: Environment, check: str) -> httpx.Response:
    """Ask a daemon's health checks."""
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://{env.settings['healthcheck_address']}/{check}")


def leave_bridge(env: Environment, lrp: DesiredLRP) -> str:
    """Have a bridge that is in nobody's journal, and that its app does not need."""
    bridge = DesiredLRP()
    bridge.CopyFrom(lrp)
    bridge.process_guid, bridge.domain = BRIDGE_PREFIX + lrp.process_guid, "docker-cache-bridge"
    desire(env.bbs.state, bridge)
    return bridge.process_guid


@pytest.mark.thorough
async def test_the_second_daemon_stands_by_until_the_first_is_gone_for_two_minutes(
    env: Environment, second: Environment
) -> None:
    (web,) = await running_apps(env, "web")
    first = await env.started_daemon()
    await env.replaced(web)
    await first.logged("reconciler.reconciled", reason="migrated")
    (active,) = stores_on(env)
    await first.kill()

    second.write_config()
    direct = await Operator(second).runs("restore", "--all", "--yes", "--direct")
    standby = await second.start_daemon()
    said = await standby.logged("store-marker.standing-by-for-other-store")
    lrp = env.lrp(web)
    assert lrp is not None
    bridge = leave_bridge(env, lrp)
    doctor = await Operator(second).runs("doctor")
    status = await Operator(second).reads("status")
    ready = await health(second, "ready")
    alive = await health(second, "ping")

    assert said["data"]["other-stores"] == [active]
    assert direct.status == REFUSED, direct.err
    assert active in direct.err
    assert stores_on(env) == [active]
    assert [active in row["text"] for row in doctor.rows if row["check"] == "other-stores"] == [True]
    assert f"is not ready: a daemon with another store works on this BBS: {active}" in status.out
    assert (ready.status_code, active in ready.text, alive.status_code) == (503, True, 200)
    assert not standby.named("daemon.started")
    assert bridge in env.bbs.state.desired
    assert env.is_from_cache(web)

    env.forget_stores()
    await standby.logged("store-marker.marked-store")
    await until(lambda: bridge not in env.bbs.state.desired)
    assert (await health(second, "ready")).status_code == 200
    (now_active,) = stores_on(env)
    assert now_active != active

    back = await env.start_daemon()
    await back.logged("store-marker.standing-by-for-other-store", store_id=active)
    assert stores_on(env) == [now_active]
    assert (await Operator(second).runs("status")).row["store_id"] == now_active

    await standby.stop()
    await back.logged("store-marker.marked-store")
