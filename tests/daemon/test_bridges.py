"""Apps that run are moved without a moment in which they have fewer instances than before."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.recipes import Image

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])


@pytest.fixture(params=list(Version))
async def env(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=request.param,
        start_delay=0.05,
        pulls=False,
        sync_interval=1.0,
        converge_interval=1.0,
    ) as opened:
        yield opened


async def test_200_running_apps_are_moved_and_no_instance_is_missed(
    env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    chance = random.Random(4)
    apps = [
        await env.push_app(f"app-{n}", Image(reference), instances=chance.randint(1, 5)) for n in range(200)
    ]
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    await until(lambda: sum(invariants.serving().values()) == sum(app.instances for app in apps))
    with invariants.watching():
        daemon = await env.started_daemon()
        await until(lambda: all(env.is_from_cache(app) for app in apps), seconds=120)
        await until(lambda: not any(guid.startswith("docker-cache") for guid in env.bbs.state.desired))
    invariants.check_end()
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what a reader of the test's output wants to see
            f"\n{len(apps)} apps with {sum(app.instances for app in apps)} instances moved, "
            f"{len(invariants.bridges)} bridges, {invariants.looks} looks, "
            f"lowest surplus {min(invariants.lowest.values())}"
        )

    assert invariants.violations == []
    assert min(invariants.lowest.values()) == 0
    assert len(invariants.bridges) == len(apps)
    await daemon.stop()
