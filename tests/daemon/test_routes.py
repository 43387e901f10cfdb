"""Requests to an app that is migrated with a bridge under load: what its removals cut, and moments without a backend."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.simulators import images
from tests.simulators.app_processes import AppProcesses
from tests.simulators.bbs import Version
from tests.simulators.cell import Sigterm
from tests.simulators.cloud_controller import App
from tests.simulators.http_load import Counts, Load, load_on
from tests.simulators.recipes import Image
from tests.simulators.router import Ending, Router

pytestmark = pytest.mark.thorough

SAMPLE = images.image([images.layer(1000, 1)])


@pytest.fixture
def limits(limits: Mapping[str, float]) -> Mapping[str, float]:
    """Leave the wait for requests in flight as long as it is in a real migration."""
    return {name: seconds for name, seconds in limits.items() if name != "drain"}


@pytest.fixture
async def env(version: Version, limits: Mapping[str, float], tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.05,
        pulls=False,
        sync_interval=10.0,  # longer than processes take to end, as a real one
        converge_interval=1.0,
        limits=limits,
    ) as opened:
        opened.settings |= {"sync_interval": "1s", "route_propagation_delay": "1s"}
        yield opened


async def running_app(env: Environment, router: Router, instances: int) -> App:
    """Start an app from its source, and wait until the router knows all of its instances."""
    reference = await asyncio.to_thread(env.source.push, "team/web", "1", SAMPLE)
    app = env.cloud.create("web", Image(reference))
    app.droplet, app.instances = app.package, instances
    await env.cloud.start_app(app)
    await until(lambda: len(router.backends(app.hostnames[0])) == instances)
    return app


def is_migrated(env: Environment, app: App) -> bool:
    has_bridge = any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired)
    has_rows = any(row.actual_lrp_key.process_guid.startswith(BRIDGE_PREFIX) for row in env.bbs.state.rows())
    return env.is_from_cache(app) and not has_bridge and not has_rows


async def migrated_under_load(env: Environment, sigterm: Sigterm, instances: int) -> tuple[App, Counts]:
    """Let the daemon migrate an app, and count what became of the requests to it."""
    env.cell.settings.on_sigterm, env.cell.settings.stop_delay = lambda _lrp: sigterm, 1.0
    async with Router(env.bbs, AppProcesses([env.cell])) as router:
        app = await running_app(env, router, instances)
        invariants = Invariants(env.bbs, [env.cell], env.cloud)
        with invariants.watching():
            async with load_on(router, app.hostnames[0], Load()) as counts:
                await env.started_daemon()
                await until(lambda: is_migrated(env, app))
        assert invariants.violations == []
        assert len(invariants.bridges) == 1
    return app, counts


@pytest.mark.parametrize("instances", [1, 2])
async def test_an_app_that_dies_on_sigterm_loses_nothing_at_the_removal_of_its_bridge(
    env: Environment, instances: int
) -> None:
    """Its routes go first. At the removal of the original those are cut that it has in flight."""
    app, counts = await migrated_under_load(env, Sigterm.DIES, instances)

    assert counts.failed_by(BRIDGE_PREFIX + app.process_guid) == 0, str(counts)
    assert counts.failed_by(app.process_guid) == len(counts.failures), str(counts)
    assert {failure.ending for failure in counts.failures} <= {Ending.CUT}


@pytest.mark.parametrize("sigterm", [Sigterm.FINISHES, Sigterm.SERVES_ON])
async def test_an_app_that_ends_in_good_order_loses_nothing(env: Environment, sigterm: Sigterm) -> None:
    _, counts = await migrated_under_load(env, sigterm, instances=2)

    assert counts.failures == [], str(counts)
