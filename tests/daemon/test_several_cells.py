"""The environment of several cells: each pulls for itself, and is cut off from a registry for itself."""

from pathlib import Path

import pytest

from tests.daemon.environment import open_environment, until
from tests.simulators import images
from tests.simulators.cell_network import Refused, Slow
from tests.simulators.recipes import Image

pytestmark = pytest.mark.usefixtures("servers")

SAMPLE = images.image([images.layer(20_000, n) for n in range(2)])


async def test_cells_have_stores_and_ways_of_their_own(tmp_path: Path) -> None:
    async with open_environment(tmp_path, start_delay=0.0, cells=3) as env:
        app = env.cloud.create("web", Image(env.source.push("team/web", "1", SAMPLE)))
        app.droplet, app.instances = app.package, 3
        env.impose(env.source, Slow(seconds=0.05))
        await env.cloud.start_app(app)
        await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * 3)

        assert env.cell is env.cells[0]
        assert [len(cell.store.held) for cell in env.cells] == [2, 2, 2]
        lrp = env.lrp(app)
        assert lrp is not None
        assert env.running_from(app, lrp.root_fs) == 3
        assert [cell.network.requests(env.source.address, "layer") for cell in env.cells] == [2, 2, 2]


async def test_one_of_three_cells_that_cannot_pull_fails_alone(tmp_path: Path) -> None:
    async with open_environment(tmp_path, start_delay=0.0, cells=3) as env:
        env.impose(env.source, Refused(), env.cells[2])
        app = env.cloud.create("web", Image(env.source.push("team/web", "1", SAMPLE)))
        app.droplet, app.instances = app.package, 3
        await env.cloud.start_app(app)
        await until(lambda: bool(env.cells[2].problems))
        assert "connection refused" in env.cells[2].problems[0]

        env.mend(env.source)
        env.bbs.state.crash_backoff = 0.0
        await until(lambda: not any(row.state in {"CLAIMED", "UNCLAIMED"} for row in env.rows(app)))
        await env.bbs.converge()
        await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * 3)
