"""Cells that cannot pull from the private registry: nothing is moved there, and everybody can see why."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reconcile.canary import CANARY_DOMAIN, TASK_IMAGE
from tests.contracts.distribution import free_port
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.operator import Operator, running_apps
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.cell_network import Hangs, Refused
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

SAMPLE = images.image([images.layer(20_000, n) for n in range(2)])


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version, start_delay=0.1, cells=3) as opened:
        opened.settings["metrics_address"] = f"127.0.0.1:{free_port()}"
        yield opened


async def not_proven(env: Environment) -> float:
    """Read the metric that an alert looks at."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{env.settings['metrics_address']}/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("docker_cache_cells_not_proven ")]
    return float(line.split()[1])


async def one_canary_more(daemon: DaemonProcess) -> None:
    """Wait for the end of the next canary."""
    await daemon.next_line(lambda line: line["message"].startswith("docker-cache.canary."), within=90)


async def runs_from_copy(env: Environment, app: App) -> None:
    """Wait until all of an app's instances run from its copy."""
    rootfs = await env.replaced(app)
    await until(lambda: env.running_from(app, rootfs) == app.instances)


def canaries(env: Environment) -> list[str]:
    """What there is of canaries in the BBS."""
    state = env.bbs.state
    lrps = [guid for guid, lrp in state.desired.items() if lrp.domain == CANARY_DOMAIN]
    return [*lrps, *(guid for guid, task in state.tasks.items() if task.domain == CANARY_DOMAIN)]


async def test_no_app_is_moved_while_cells_cannot_pull_and_all_are_when_they_are_mended(
    env: Environment,
) -> None:
    env.impose(env.cache, Refused())
    running = await running_apps(env, "one", "two")
    daemon = await env.started_daemon()
    refusal = await daemon.logged("canary.cells-cannot-pull")
    assert refusal["level"] == "error"
    assert "connection refused" in refusal["data"]["error"]

    pushed = await env.push_app("three", Image(env.source.push("team/three", "1", SAMPLE)))
    await daemon.logged("cacher.cached-image", count=2)
    for app in (*running, pushed):
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="cells-not-proven")
    await one_canary_more(daemon)

    assert not any(env.is_from_cache(app) for app in (*running, pushed))
    assert await not_proven(env) == 1
    operator = Operator(env)
    (cells,) = (await operator.runs("status")).row["cells"]
    assert (cells["state"], cells["placement_tags"]) == ("refuted", [])
    assert "connection refused" in cells["detail"]
    said = (await operator.reads("status")).out
    assert "CANNOT PULL" in said
    rows = (await operator.runs("apps")).rows
    assert {row["reason"] for row in rows} == {"cells-not-proven"}
    assert all("connection refused" in row["detail"] for row in rows)
    plan = await operator.reads("reconcile")
    assert "NOT NOW: cells cannot pull from the private registry" in plan.out

    env.mend(env.cache)

    for app in (*running, pushed):
        await runs_from_copy(env, app)
    assert await not_proven(env) == 0
    assert (await operator.runs("status")).row["cells"][0]["state"] == "proven"
    await until(lambda: canaries(env) == [])


async def test_an_order_that_waits_for_cells_that_cannot_pull_ends_and_says_so(env: Environment) -> None:
    env.settings["start_paused"] = True
    env.impose(env.cache, Refused())
    (app,) = await running_apps(env, "one")
    await env.started_daemon()
    assert canaries(env) == [], "a paused daemon starts nothing by itself"

    applied = await Operator(env).runs("reconcile", "--apply", "--yes")

    assert applied.status == 5
    assert applied.rows[-1]["reason"] == "cells-not-proven"
    assert "connection refused" in applied.rows[-1]["detail"]
    assert not env.is_from_cache(app)


async def test_cells_that_hang_are_found_out_by_time(env: Environment) -> None:
    env.settings["canary_timeout"] = "1s"
    env.impose(env.cache, Hangs())
    daemon = await env.started_daemon()

    refusal = await daemon.logged("canary.cells-cannot-pull")

    assert "neither ran nor failed within 1 s" in refusal["data"]["error"]
    env.mend(env.cache)
    await daemon.logged("canary.cells-can-pull")


async def test_no_copy_is_listed_or_verified_for_a_canary(env: Environment) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    await env.push_app("web", Image(env.source.push("team/web", "1", SAMPLE)))
    await daemon.logged("cacher.cached-image")
    operator = Operator(env)

    rows = (await operator.runs("images")).rows
    verified = (await operator.runs("verify")).rows

    assert len(rows) == len(verified) == 1
    assert str(TASK_IMAGE) not in str(rows) + str(verified)


async def test_canaries_of_a_daemon_that_was_killed_are_removed_by_the_next(env: Environment) -> None:
    for cell in env.cells:
        cell.task_gate.clear()
    daemon = await env.start_daemon()
    await until(lambda: len(canaries(env)) == 1)
    (left,) = canaries(env)
    await daemon.kill()
    for cell in env.cells:
        cell.task_gate.set()

    daemon = await env.start_daemon()

    await daemon.logged("canary.cells-can-pull")
    assert left not in canaries(env)


async def test_a_canary_ends_with_its_daemon(env: Environment) -> None:
    for cell in env.cells:
        cell.task_gate.clear()
    daemon = await env.started_daemon()
    await until(lambda: len(canaries(env)) == 1)

    assert await daemon.stop() == 0

    assert canaries(env) == []


async def test_the_doctor_shows_the_answer_of_each_cell(env: Environment) -> None:
    env.cells[2].settings.placement_tags = ("segment",)
    env.write_config()

    well = await Operator(env).runs("doctor", "--cells")

    answers = [row for row in well.rows if row["check"] == "cells-pull"]
    assert [row["level"] for row in answers] == ["ok"] * 3
    assert [row["text"] for row in answers] == [
        f"cell cell-{n} in zone z1 pulled from {env.cache.address}" for n in (1, 2, 3)
    ]

    env.impose(env.cache, Refused(), env.cells[1])
    ill = await Operator(env).runs("doctor", "--cells")

    (problem,) = [row for row in ill.rows if row["check"] == "cells-pull" and row["level"] == "problem"]
    assert ill.status == 5
    assert problem["text"].startswith(f"cell cell-2 in zone z1 cannot pull from {env.cache.address}: ")
    assert "connection refused" in problem["text"]
    assert "firewall" in problem["advice"]
    assert canaries(env) == []


async def test_a_doctor_that_is_ended_leaves_nothing_behind(env: Environment) -> None:
    for cell in env.cells:
        cell.start_gate.clear()
    env.write_config()
    program = await env.start("doctor", "--cells", "--config", str(env.config_path))
    await until(lambda: len(canaries(env)) == 1)

    program.send_signal(signal.SIGTERM)

    assert await program.wait() == 5
    assert canaries(env) == []


async def test_an_isolation_segment_whose_cells_cannot_pull_holds_nobody_else_up(env: Environment) -> None:
    shared, apart = await running_apps(env, "shared", "apart", instances=1)
    env.bbs.state.desired[apart.process_guid].PlacementTags.append("segment")
    env.cells[2].settings.placement_tags = ("segment",)
    env.impose(env.cache, Refused(), env.cells[2])

    daemon = await env.started_daemon()

    await env.replaced(shared)
    await daemon.logged("canary.cells-cannot-pull", placement_tags=["segment"])
    await daemon.logged("reconciler.reconciled", process_guid=apart.process_guid, reason="cells-not-proven")
    cells = (await Operator(env).runs("status")).row["cells"]
    assert [(each["placement_tags"], each["state"]) for each in cells] == [
        ([], "proven"),
        (["segment"], "refuted"),
    ]
    env.mend(env.cache)
    await env.replaced(apart)
