"""Sources that never answer, with a copy at hand, while Cloud Controller syncs in the middle of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.pushes import all_on_copies, staged_and_cached
from tests.daemon.start_watch import StartWatch, process_starts, stop_requests
from tests.simulators.bbs import Version
from tests.simulators.cell_network import Hangs
from tests.simulators.cloud_controller import App

SYNCS = 10
"""Syncs while the pull from the source is stuck and the app is served."""


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.1, cells=3, converge_interval=2.0
    ) as opened:
        yield opened


def is_missing(env: Environment, app: App) -> bool:
    """Whether the app's LRP is not desired, and no bridge either."""
    return env.lrp(app) is None and bridge_of(app) not in env.bbs.state.desired


def is_bridged(env: Environment, app: App) -> bool:
    """Whether only its bridge is desired."""
    return env.lrp(app) is None and bridge_of(app) in env.bbs.state.desired


def is_served_by_bridge(env: Environment, app: App) -> bool:
    """Whether only its bridge is desired, and runs as many instances as wanted."""
    rows = env.bbs.state.actual.get(bridge_of(app), {}).values()
    return is_bridged(env, app) and sum(row.state == "RUNNING" for row in rows) >= app.instances


def bridge_of(app: App) -> str:
    return BRIDGE_PREFIX + app.process_guid


MOMENTS = {"removed": is_missing, "bridged": is_bridged, "served by the bridge": is_served_by_bridge}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "moment", [name if name == "bridged" else pytest.param(name, marks=pytest.mark.long) for name in MOMENTS]
)
async def test_a_push_whose_source_is_stuck_ends_on_its_copy_wherever_the_sync_falls(
    env: Environment, moment: str, record_property: Callable[[str, object], None]
) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web", instances=2)
    watch, invariants = StartWatch(env), Invariants(env.bbs, env.cells, env.cloud)
    syncs = list[asyncio.Task[None]]()

    def sync_in_the_middle() -> None:
        if not syncs and app.process_guid in watch.starts and MOMENTS[moment](env, app):
            syncs.append(asyncio.create_task(env.cloud.sync()))

    with watch.watching(), invariants.watching():
        env.impose(env.source, Hangs())
        env.bbs.state.events.observers.append(sync_in_the_middle)
        start = await watch.start(app)
        await until(lambda: bool(syncs) and env.is_from_cache(app) and start.served_at is not None)
        for _ in range(SYNCS):
            await asyncio.sleep(1.0)
            await env.cloud.sync()
            assert env.is_from_cache(app)
        assert bridge_of(app) in env.bbs.state.desired, "the pull is not over"

        env.mend(env.source)
        await all_on_copies(env, [app])

    lines = daemon.named("reconciler.reconciled", process_guid=app.process_guid)
    reasons = [line["data"]["reason"] for line in lines]
    rounds = start.moves.count("source")
    record_property(
        "figures",
        f"served after {start.seconds:.2f} s, {start.down:.2f} s down later, {rounds} rounds in {SYNCS + 1} syncs, "
        f"definitions {', '.join(start.moves)}, "
        f"process starts {dict(process_starts(env, app))}, {stop_requests(env, app)} stop requests",
    )
    assert invariants.violations == []
    assert start.served_from == "copy"
    assert start.down == 0.0
    assert rounds <= 2
    assert "reverted-externally" not in reasons
