"""What a chaos run lets a private registry lose: copies and their blobs, whatever else it holds."""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.daemon.chaos.faults import Fault
from tests.daemon.chaos.losses import CopiesDeleted, LayersDeleted
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import PATIENCE
from tests.daemon.downtime import Downtime
from tests.daemon.environment import open_environment
from tests.daemon.invariants import Invariants
from tests.simulators import images

GUID = "5b2b7a48-6b0e-4d5c-9e2a-0d7c8a1f4b6e"
LOSSES: list[tuple[Callable[[Scene, random.Random], Fault], str]] = [
    (CopiesDeleted, "copies deleted"),
    (LayersDeleted, "blobs lost"),
]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_environment(tmp_path, start_delay=0.0, faulty_source=True, faulty_cache=True) as env:
        invariants = Invariants(env.bbs, env.cells, env.cloud)
        downtime = Downtime(invariants, source=env.source.address, cache=env.cache.address, patience=PATIENCE)
        yield Scene(env, random.Random(1), invariants, downtime)


@pytest.mark.parametrize(("fault", "name"), LOSSES)
async def test_a_copy_is_lost(
    scene: Scene, fault: Callable[[Scene, random.Random], Fault], name: str
) -> None:
    scene.env.cache.push(GUID, "latest", images.image([images.layer(1000, 1)]))

    await fault(scene, random.Random(1)).act()

    assert scene.happened == {name: 1}


@pytest.mark.parametrize(("fault", "name"), LOSSES)
async def test_a_repository_with_nothing_but_a_note_is_no_copy(
    scene: Scene, fault: Callable[[Scene, random.Random], Fault], name: str
) -> None:
    """A copy may be deleted just before its note is written."""
    scene.env.cache.push(GUID, "latest.note", images.image([images.layer(1000, 1)]))

    await fault(scene, random.Random(1)).act()

    assert scene.happened[name] == 0
