"""A daemon that is killed while a pushed app is on probation, served by a stopgap, or turned back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.pushes import all_on_copies, staged_and_cached
from tests.daemon.start_watch import StartWatch
from tests.simulators.bbs import Version
from tests.simulators.cell_network import ErrorResponse, Hangs


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.2, cells=3, sync_interval=30.0, converge_interval=5.0
    ) as opened:
        opened.settings["start_timeout"] = "5s"
        yield opened


@pytest.mark.long
async def test_on_probation_it_goes_on_and_is_cached_when_it_runs(env: Environment) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web")
    for cell in env.cells:
        cell.start_gate.clear()
    watch = StartWatch(env)
    with watch.watching():
        start = await watch.start(app)
        await until(lambda: start.moves == ["source", "copy"])
        await daemon.kill()
        again = await env.start_daemon()
        line = await again.logged("reconciler.resuming-migration", process_guid=app.process_guid)
        assert line["data"]["phase"] in {"removed", "starting"}
        for cell in env.cells:
            cell.start_gate.set()
        await again.logged("reconciler.reconciled", process_guid=app.process_guid, reason="migrated")
        await all_on_copies(env, [app])

    assert start.moves == ["source", "copy"]
    assert start.down == 0.0


@pytest.mark.long
async def test_on_probation_a_pull_that_fails_meanwhile_turns_it_back(env: Environment) -> None:
    """It fails while no daemon runs, and the BBS waits half a minute before it is started again."""
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web")
    env.impose(env.cache, Hangs())
    for cell in env.cells:
        cell.start_gate.clear()  # or on a busy machine it runs from its source before it is moved
    watch = StartWatch(env)
    with watch.watching():
        start = await watch.start(app)
        await until(lambda: start.moves == ["source", "copy"])
        for cell in env.cells:
            cell.start_gate.set()
        await daemon.kill()
        env.impose(env.cache, ErrorResponse(500))
        await until(lambda: [row.state for row in env.rows(app)] == ["CRASHED"])
        again = await env.start_daemon()
        await again.logged("reconciler.resuming-migration", process_guid=app.process_guid)
        await again.logged("reconciler.reconciled", process_guid=app.process_guid, reason="not-pulled")
        await until(lambda: start.back_at is not None)
        env.mend(env.cache)
        await all_on_copies(env, [app])

    assert start.moves[:3] == ["source", "copy", "source"]
    assert start.down == 0.0


async def test_a_stopgap_serves_on_and_goes_when_the_app_serves_itself(env: Environment) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web", instances=2)
    env.impose(env.source, Hangs())
    watch, invariants = StartWatch(env), Invariants(env.bbs, env.cells, env.cloud)
    with watch.watching(), invariants.watching():
        start = await watch.start(app)
        await daemon.logged(
            "reconciler.reconciled", process_guid=app.process_guid, reason="old-instances-left"
        )
        await daemon.kill()
        again = await env.start_daemon()
        await again.logged("reconciler.resuming-migration", process_guid=app.process_guid, phase="starting")
        await again.logged(
            "reconciler.reconciled", process_guid=app.process_guid, reason="old-instances-left"
        )
        assert BRIDGE_PREFIX + app.process_guid in env.bbs.state.desired
        env.mend(env.source)
        await again.logged("reconciler.reconciled", process_guid=app.process_guid, reason="migrated")
        await all_on_copies(env, [app])

    assert start.served_from == "copy"
    assert start.down == 0.0
    assert invariants.violations == []


@pytest.mark.long
async def test_turned_back_it_stays_on_its_source(env: Environment) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web", instances=2)
    env.impose(env.cache, Hangs())
    watch, invariants = StartWatch(env), Invariants(env.bbs, env.cells, env.cloud)
    with watch.watching(), invariants.watching():
        for cell in env.cells:
            cell.start_gate.clear()
        start = await watch.start(app)
        await until(lambda: start.moves == ["source", "copy"])
        for cell in env.cells:
            cell.start_gate.set()
        await until(lambda: start.moves == ["source", "copy", "source"])
        await daemon.kill()
        again = await env.start_daemon()
        await again.logged("reconciler.resuming-migration", process_guid=app.process_guid)
        await until(lambda: start.served_at is not None)
        env.mend(env.cache)
        await again.logged("reconciler.reconciled", process_guid=app.process_guid, reason="not-started")
        lrp = env.lrp(app)
        assert lrp is not None
        await until(lambda: env.running_from(app, lrp.root_fs) == app.instances)

    assert start.served_from == "source"
    assert start.moves[-1] == "source"
    assert not env.is_from_cache(app)
    assert start.down == 0.0
    assert invariants.violations == []
