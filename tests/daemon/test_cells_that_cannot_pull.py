"""Pushes while cells cannot pull from the private registry: apps run from their sources, and move when they can.

Before the first canary, and when the way is lost later, so that only an app's own start can tell.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.contracts.distribution import free_port
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.daemon.operator import Operator
from tests.daemon.pushes import all_on_copies, figures_of, staged, staged_and_cached
from tests.daemon.start_watch import StartWatch, failed_creations, process_starts, stop_requests
from tests.simulators.bbs import Version
from tests.simulators.cell_network import Condition, ErrorResponse, Refused, UnknownAuthority
from tests.simulators.cloud_controller import App

pytestmark = pytest.mark.thorough

APPS, FEWER_APPS = 20, 8
CELLS = 3
START_DELAY = 1.0
"""Seconds from a pull to RUNNING: most apps are found while they start, as they are in production."""
AT_REST = {"cells-not-proven", "migrated", "already-cached"}


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=START_DELAY,
        cells=CELLS,
        sync_interval=30.0,
        converge_interval=30.0,
    ) as opened:
        opened.settings["metrics_address"] = f"127.0.0.1:{free_port()}"
        yield opened


async def metric(env: Environment, name: str) -> float:
    """Read a metric that an alert looks at."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{env.settings['metrics_address']}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def last_reason(daemon: DaemonProcess, app: App) -> str:
    """Tell what came of the last pass over an app; empty before the first one."""
    lines = daemon.named("reconciler.reconciled", process_guid=app.process_guid)
    return str(lines[-1]["data"]["reason"]) if lines else ""


def is_on_source(env: Environment, app: App) -> bool:
    """Whether all of an app's instances run from its source."""
    lrp = env.lrp(app)
    is_from_source = lrp is not None and not env.is_from_cache(app)
    return is_from_source and lrp is not None and env.running_from(app, lrp.root_fs) == app.instances


@pytest.mark.slow
@pytest.mark.parametrize("count", [FEWER_APPS, pytest.param(APPS, marks=pytest.mark.long)])
async def test_pushed_apps_never_leave_their_source_while_no_canary_has_passed(
    env: Environment, count: int, record_property: Callable[[str, object], None]
) -> None:
    env.impose(env.cache, Refused())
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-cannot-pull")
    watch, operator = StartWatch(env), Operator(env)
    invariants = Invariants(env.bbs, env.cells, env.cloud)
    with watch.watching(), invariants.watching():
        apps = await asyncio.gather(*(staged(env, f"web-{n}") for n in range(count)))
        await asyncio.gather(*map(watch.start, apps))
        await daemon.logged("cacher.cached-image", count=count)
        for app in apps:
            await daemon.logged(
                "reconciler.reconciled", process_guid=app.process_guid, reason="cells-not-proven"
            )
        await until(lambda: all(is_on_source(env, app) for app in apps))

        rows = (await operator.runs("apps")).rows
        assert Counter(row["reason"] for row in rows) == {"cells-not-proven": count}
        assert {row["state"] for row in rows} == {"pending"}
        assert all("connection refused" in row["detail"] for row in rows)
        assert await metric(env, "docker_cache_cells_not_proven") == 1
        assert "CANNOT PULL" in (await operator.reads("status")).out
        assert [watch.of(app).moves for app in apps] == [["source"]] * count
        assert [process_starts(env, app) for app in apps] == [Counter(source=1)] * count
        assert stop_requests(env, *apps) == 0
        figures = figures_of(watch, apps)

        env.mend(env.cache)
        await all_on_copies(env, apps)

    assert invariants.violations == []
    assert await metric(env, "docker_cache_cells_not_proven") == 0
    record_property(
        "figures", f"{figures}; after the cells were mended all {count} were migrated by themselves"
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """How cells lose the private registry, how many of them, what they say, and how many apps meet that."""

    condition: Condition
    said: str
    cells: int = CELLS
    apps: int = FEWER_APPS


KINDS = {
    "refused for some apps": Kind(Refused(), "connection refused"),
    "refused": Kind(Refused(), "connection refused", apps=APPS),
    "unknown CA": Kind(UnknownAuthority(), "This registry is insecure"),
    "login refused": Kind(ErrorResponse(401), "authentication required"),
    "fails": Kind(ErrorResponse(500), "500 Internal Server Error"),
    "refused on one of three cells": Kind(Refused(), "connection refused", cells=1, apps=APPS),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name if name == "refused for some apps" else pytest.param(name, marks=pytest.mark.long)
        for name in KINDS
    ],
)
async def test_pushed_apps_are_back_on_their_source_after_the_first_failed_pull(
    env: Environment, name: str, record_property: Callable[[str, object], None]
) -> None:
    """The canary had passed, so that only the apps' own starts can tell."""
    kind = KINDS[name]
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    watch, operator = StartWatch(env), Operator(env)
    invariants = Invariants(env.bbs, env.cells, env.cloud)
    with watch.watching(), invariants.watching():
        apps = await asyncio.gather(*(staged_and_cached(env, daemon, f"web-{n}") for n in range(kind.apps)))
        first, others = apps[:2], apps[2:]
        for app in first:
            await watch.start(app)
        await all_on_copies(env, first)

        env.impose(env.cache, kind.condition, *env.cells[: kind.cells])
        await asyncio.gather(*map(watch.start, others))
        await daemon.logged("canary.cells-cannot-pull")
        await until(lambda: all(last_reason(daemon, app) in AT_REST for app in others))
        await until(lambda: all(is_on_source(env, app) or env.is_from_cache(app) for app in others))

        failed = [app for app in others if watch.of(app).failed_at is not None]
        assert failed_creations(env), "the canary knew it before any app"
        rows = {row["process_guid"]: row for row in (await operator.runs("apps")).rows}
        for app in others:
            row = rows[app.process_guid]
            assert row["state"] == ("cached" if env.is_from_cache(app) else "pending"), row
            assert row["running"] == 1
        said_of = [rows[app.process_guid] for app in failed if not env.is_from_cache(app)]
        assert [row for row in said_of if kind.said not in row["detail"]] == []
        assert await metric(env, "docker_cache_cells_not_proven") == 1
        status = (await operator.runs("status")).row
        assert status["cells"][0]["state"] == "refuted"
        assert kind.said in status["cells"][0]["detail"]
        figures = (
            f"{figures_of(watch, others)}; {failed_creations(env)} failed creations, "
            f"{stop_requests(env, *others)} stop requests, "
            f"reasons {dict(Counter(rows[app.process_guid]['reason'] for app in others))}, "
            f"migrations {'set aside' if daemon.named('reconciler.set-migrations-aside') else 'go on'}"
        )
        if kind.cells == CELLS:
            assert daemon.named("reconciler.set-migrations-aside"), "all are of one organization"
            assert await metric(env, "docker_cache_migrations_set_aside") >= 1

        env.mend(env.cache)
        await all_on_copies(env, apps)

    assert invariants.violations == []
    assert await metric(env, "docker_cache_circuit_breaker_open") == 0
    assert await metric(env, "docker_cache_migrations_set_aside") == 0
    assert await metric(env, "docker_cache_cells_not_proven") == 0
    record_property(
        "figures", f"{figures}; all {kind.apps} were migrated by themselves after the cells were mended"
    )
