"""LRPs and droplets go back to where they came from when the private registry is gone, and return when it is back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.recipes import Image
from tests.simulators.registry import BasicLogin, Refuse

SAMPLE = images.image([images.layer(1000, 1)])


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        faulty_source=True,
        faulty_cache=True,
        start_delay=0.05,
        pulls=False,
        sync_interval=30.0,
        converge_interval=1.0,
    ) as opened:
        opened.connect_cloud_controller()
        opened.settings |= {"sync_interval": "1s", "restore_after": "2s", "droplet_sync_interval": "2s"}
        yield opened


@pytest.mark.thorough
@pytest.mark.slow
async def test_what_runs_goes_back_with_its_login_while_the_registry_is_gone_and_returns_after_that(
    env: Environment,
) -> None:
    reference = await asyncio.to_thread(env.source.push, "team/web", "1", SAMPLE)
    env.source.faults.login = BasicLogin({"robot": "source-password"})
    app = env.cloud.create("web", Image(reference, "robot", "source-password"))
    app.droplet, app.instances = app.package, 2
    assert app.current is not None
    app.current.created_at -= 3600
    await env.cloud.start_app(app)
    source = env.bbs.state.desired[app.process_guid].root_fs
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    await until(lambda: env.running_from(app, source) == 2)

    def is_at_rest() -> bool:
        return not any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired)

    def names_copy() -> bool:
        return app.droplet is not None and app.droplet.text.startswith(f"{env.cache.address}/")

    with invariants.watching():
        daemon = await env.started_daemon()
        await until(lambda: env.is_from_cache(app) and is_at_rest() and names_copy())
        assert env.bbs.state.desired[app.process_guid].image_username == ""

        for method in ("GET", "HEAD"):
            env.cache.faults.fail(method, ".", Refuse(503), times=None)
        await daemon.logged("reachability.started-restoring")
        await until(lambda: not env.is_from_cache(app) and env.lrp(app) is not None and is_at_rest())
        lrp = env.bbs.state.desired[app.process_guid]
        assert (lrp.root_fs, lrp.image_username, lrp.image_password) == (source, "robot", "source-password")
        await until(lambda: env.running_from(app, source) == 2 and app.droplet == app.package)

        env.cache.faults.faults.clear()
        await daemon.logged("reachability.stopped-restoring")
        await until(lambda: env.is_from_cache(app) and is_at_rest() and names_copy())
    invariants.check_end()
    assert invariants.violations == []
