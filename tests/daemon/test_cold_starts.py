"""A chaos run finds out what is called cached and cannot be started on a cell that holds nothing."""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.daemon.chaos.cold_starts import LONGEST_TIME, ColdStarts
from tests.daemon.chaos.password import want_logins
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import NOTICED_WITHIN, PATIENCE
from tests.daemon.downtime import Downtime
from tests.daemon.environment import Environment, open_environment
from tests.daemon.invariants import Invariants
from tests.simulators import images
from tests.simulators.recipes import Image

GUID = "5b2b7a48-6b0e-4d5c-9e2a-0d7c8a1f4b6e"
LOOKS = int(NOTICED_WITHIN / LONGEST_TIME) + 3


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_environment(tmp_path, start_delay=0.0, faulty_source=True, faulty_cache=True) as env:
        invariants = Invariants(env.bbs, env.cells, env.cloud)
        downtime = Downtime(invariants, source=env.source.address, cache=env.cache.address, patience=PATIENCE)
        yield Scene(env, random.Random(1), invariants, downtime)


async def app_from_copy(env: Environment) -> str:
    """Desire an app that runs from a copy, and give the process GUID of its LRP."""
    env.cache.push(GUID, "latest", images.image([images.layer(1000, 1)]))
    app = env.cloud.create("web", Image(f"{env.cache.address}/{GUID}:latest"))
    app.droplet = app.package
    await env.cloud.start_app(app)
    return app.process_guid


async def violations_after(scene: Scene, guid: str, looks: int) -> list[str]:
    """Look so often at an app that is called cached, each time as long after the last as counts."""
    starts = ColdStarts(scene)
    for number in range(looks):
        await starts.check([guid], number * LONGEST_TIME)
    return scene.invariants.violations


def lose_copy(env: Environment) -> None:
    env.cache.faults.store.repository(GUID).tags.clear()


def lose_layer(env: Environment) -> None:
    env.cache.lose_layers(GUID)


def lose_config(env: Environment) -> None:
    env.cache.lose_config(GUID)


def want_login(env: Environment) -> None:
    want_logins(env)


LOSSES: list[Callable[[Environment], None]] = [lose_copy, lose_layer, lose_config, want_login]


async def test_a_copy_that_is_there_can_be_started(scene: Scene) -> None:
    guid = await app_from_copy(scene.env)

    assert await violations_after(scene, guid, LOOKS) == []


@pytest.mark.parametrize("lose", LOSSES)
async def test_what_is_lost_may_not_be_called_cached_for_long(
    scene: Scene, lose: Callable[[Environment], None]
) -> None:
    guid = await app_from_copy(scene.env)
    lose(scene.env)

    assert await violations_after(scene, guid, LOOKS) == [
        f"{guid} is called cached, and a cell that holds nothing cannot start it"
    ]


async def test_what_was_just_lost_may_be_called_cached(scene: Scene) -> None:
    """The daemon looks at its times."""
    guid = await app_from_copy(scene.env)
    lose_copy(scene.env)

    assert await violations_after(scene, guid, 3) == []
