"""When LRPs go back to their sources; how they do is tested with the whole process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.health import HealthStates
from controller.health_loop import HealthLoop
from controller.process import Process
from controller.reachability import LOOKS, Reachability
from reconcile.errors import Denied, DockerCacheError, Unavailable
from reconcile.health import Exchange, Failure, RegistryUse
from reconcile.records import CachedImage
from reconcile.references import CacheGuid
from tests.controller.store.samples import digest, image

pytestmark = pytest.mark.looptime

CACHE = "cache.example:8080"
RESTORE_AFTER = 600.0
GONE = Unavailable("registry", "connection", "refused")


@dataclass
class PrivateRegistry:
    """A registry that is probed, and a store of which only one image is asked."""

    health: HealthStates = field(init=False)
    problem: DockerCacheError | None = None
    images: tuple[CachedImage, ...] = field(
        default_factory=lambda: (image(CacheGuid("g"), platform=digest(1)),)
    )

    async def list_images(self) -> tuple[CachedImage, ...]:
        return self.images

    async def pull(self, copy: CacheGuid | None) -> None:
        exchange = Exchange(CACHE, "other" if copy is None else copy, RegistryUse.PULL)
        if self.problem is None:
            self.health.answered(exchange, None)
        else:
            self.health.probe_failed(exchange, Failure(self.problem))

    async def push(self) -> None:
        raise NotImplementedError


@asynccontextmanager
async def watching(registry: PrivateRegistry) -> AsyncIterator[Reachability]:
    """Watch a registry in virtual time."""
    process = Process("run", monotonic=asyncio.get_running_loop().time)
    registry.health = HealthStates(CACHE, clock=process.monotonic)
    probes = HealthLoop(registry.health, registry, registry, process=process, look_interval=5.0)
    watch = Reachability(registry.health, registry, restore_after=RESTORE_AFTER, process=process)
    tasks = [asyncio.create_task(each.run()) for each in (probes, watch)]
    yield watch
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def directions(registry: PrivateRegistry, *problems: DockerCacheError | None) -> list[bool]:
    """Let each problem last for so long as decides, and tell the direction after each."""
    found = []
    async with watching(registry) as watch:
        for problem in problems:
            registry.problem = problem
            await asyncio.sleep(RESTORE_AFTER + 2 * RESTORE_AFTER / LOOKS)
            found.append(watch.is_restoring)
    return found


async def test_a_registry_that_is_gone_for_long_enough_turns_the_direction_and_its_return_does_too() -> None:
    assert await directions(PrivateRegistry(), None, GONE, GONE, None) == [False, True, True, False]


async def test_each_change_of_the_mode_is_told_once() -> None:
    registry = PrivateRegistry()
    reported = list[bool]()
    async with watching(registry) as watch:
        watch.of_changes.append(lambda: reported.append(watch.is_restoring))
        for problem in (None, GONE, GONE, None, None):
            registry.problem = problem
            await asyncio.sleep(RESTORE_AFTER + 2 * RESTORE_AFTER / LOOKS)

    assert reported == [True, False]


async def test_one_that_answers_is_there_whatever_it_says() -> None:
    assert await directions(PrivateRegistry(), Denied("registry", "DENIED", "no")) == [False]


async def test_without_an_image_nothing_depends_on_it() -> None:
    assert await directions(PrivateRegistry(images=()), GONE) == [False]


async def test_one_that_comes_and_goes_moves_nobody() -> None:
    registry = PrivateRegistry()
    async with watching(registry) as watch:
        for n in range(40):
            registry.problem = GONE if n % 2 else None
            await asyncio.sleep(RESTORE_AFTER / 2)
            assert not watch.is_restoring


async def test_what_fails_for_tenants_alone_sends_nobody_back_while_probes_are_answered() -> None:
    """The registry answers probes; whatever else is asked of it ends as if it were gone."""
    registry = PrivateRegistry()
    async with watching(registry) as watch:
        for _ in range(int(3 * RESTORE_AFTER)):
            registry.health.failed(Exchange(CACHE, "tenant", RegistryUse.PULL), Failure(GONE))
            await asyncio.sleep(1.0)
            assert not watch.is_restoring
