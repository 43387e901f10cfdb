"""Long runs of whatever may happen to droplets: what must always be so, and what must be so in the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from controller.droplets.sweep import RECHECK_INTERVAL
from reconcile.droplets import DropletGuid
from reconcile.errors import Denied, RateLimited
from reconcile.lrps import AppGuid
from tests.controller.droplets.conftest import INTERVAL, NOW, Scene, guid_of, text_of
from tests.controller.droplets.memory_api import NO_ANSWER

pytestmark = pytest.mark.looptime

STEPS = 120
PROBLEMS = (
    NO_ANSWER,
    RateLimited("cloud-controller", "429", "later", retry_after=60.0),
    Denied("capi", "scope", "x"),
)


@dataclass
class Run:
    """One run.

    Attributes:
        texts: What each droplet was staged with.
        foreign: Those into which somebody else wrote another image.
    """

    scene: Scene
    chance: random.Random
    texts: dict[DropletGuid, str] = field(default_factory=dict)
    foreign: set[DropletGuid] = field(default_factory=set)
    staged: int = 0

    async def stage(self) -> None:
        """Let an app be staged, with a copy that is in time or late."""
        self.staged += 1
        number, app_guid = self.staged, AppGuid(f"app-{self.chance.randint(1, 4)}")
        text = f"registry.example.com/team/{app_guid}:{number}"
        guid = await self.scene.staged(number, text=text, app_guid=app_guid)
        self.texts[guid] = text
        job = await self.scene.requested(number, text=text, app_guid=app_guid)
        if self.chance.random() < 0.5:
            await self.scene.cached(job, number)
        if self.chance.random() < 0.8:  # the removal of its task may be missed
            self.scene.droplets.note_removed_task(self.scene.task(number))
        if self.scene.records.jobs[job.job_id].is_open:
            await asyncio.sleep(self.chance.choice([0.0, 5.0]))
            await self.scene.cached(job, number)
            self.scene.droplets.job_ended(app_guid)

    async def pin(self) -> None:
        """Pin an app, or unpin it."""
        app_guid = AppGuid(f"app-{self.chance.randint(1, 4)}")
        self.scene.platform.pinned ^= {app_guid}
        self.scene.droplets.look_at_app(app_guid)

    async def turn(self) -> None:
        """Change the mode, or pause."""
        platform = self.scene.platform
        if self.chance.random() < 0.5:
            platform.is_restoring = not platform.is_restoring
        else:
            platform.is_paused = not platform.is_paused
        self.scene.droplets.look_at_all()

    async def fail(self) -> None:
        """Let Cloud Controller fail in some way, or in none any more."""
        api = self.scene.api
        api.problem = self.chance.choice([None, None, *PROBLEMS])
        api.refusal = self.chance.choice([None, None, *PROBLEMS])
        api.loses_answers = self.chance.random() < 0.3

    async def lose(self) -> None:
        """Let a copy be lost, or be whole again."""
        images = self.scene.records.images
        if not images:
            return
        guid = self.chance.choice(sorted(images))
        at = 0.0 if images[guid].missing_since else self.scene.now
        images[guid] = replace(images[guid], missing_since=at, lost_since=at)
        self.scene.droplets.look_at_copy(guid)

    async def interfere(self) -> None:
        """Write another image into a droplet, as another tool does."""
        droplets = sorted(self.scene.api.droplets)
        if droplets and self.chance.random() < 0.3:
            guid = self.chance.choice(droplets)
            self.foreign.add(guid)
            self.scene.api.write(guid, "other.example.com/web:1")

    async def restart(self) -> None:
        """Begin anew in the middle of whatever goes on."""
        await self.scene.restart()

    async def check(self) -> None:
        """Check what must always be so."""
        for record in self.scene.records.droplets.values():
            if record.target:
                assert record.original == self.texts[record.droplet_guid]
        for guid, droplet in self.scene.api.droplets.items():
            names_copy = droplet.image != self.texts[guid] and guid not in self.foreign
            assert not names_copy or self.scene.records.droplets[guid].target == droplet.image


def check_writes(scene: Scene) -> None:
    """Let each write of a copy's name be checked: the copy is there, and nobody wants the source."""
    write = scene.api.write

    def checked(guid: DropletGuid, image: str) -> None:
        copies = {text_of(number): guid_of(number) for number in range(1, STEPS)}
        if image in copies:
            assert not scene.records.images[copies[image]].missing_since
            assert not scene.platform.is_paused
            assert scene.records.droplets[guid].target == image
        write(guid, image)

    scene.api.write = checked  # type: ignore[method-assign] # in the moment of the effect


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_no_original_is_lost_and_all_comes_right_in_the_end(
    scene: Scene, seed: int
) -> None:
    run = Run(scene, random.Random(seed))
    check_writes(scene)
    scene.start()
    steps: list[Callable[[], Awaitable[None]]] = [run.stage, run.stage, run.pin, run.turn, run.fail]
    steps += [run.lose, run.interfere, run.restart]
    for _ in range(STEPS):
        await run.chance.choice(steps)()
        await asyncio.sleep(run.chance.choice([0.0, 0.05, 1.0, 60.0]))
        await run.check()

    api, platform = scene.api, scene.platform
    api.problem = api.refusal = None
    api.loses_answers = platform.is_paused = platform.is_restoring = False
    platform.pinned.clear()
    for guid, image in scene.records.images.items():
        scene.records.images[guid] = replace(image, missing_since=0.0, lost_since=0.0)
    scene.droplets.look_at_all()
    await asyncio.sleep(2 * RECHECK_INTERVAL + 2 * INTERVAL)
    await run.check()

    left = {guid: api.image_of(guid) for guid in run.texts if guid not in run.foreign}
    expected = {guid: text_of(int(guid.removeprefix("droplet-"))) for guid in left}
    assert left == expected
    assert scene.now > NOW
