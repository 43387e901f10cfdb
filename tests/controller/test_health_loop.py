"""When the private registry is probed, and what operators hear of the health of registries."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from controller.health import HealthStates
from controller.health_loop import (
    INTERVAL,
    LISTING_INTERVAL,
    PUSH_INTERVAL,
    QUIET,
    SUSPECT_INTERVAL,
    HealthLoop,
)
from controller.process import Process
from reconcile.errors import DockerCacheError, ErrorCode, Unavailable
from reconcile.health import Exchange, Failure, RegistryUse
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, parse_image_reference
from tests.controller.store.samples import digest, image

pytestmark = pytest.mark.looptime

CACHE, SOURCE = "cache.example:8080", "source.example"
EPOCH = 1_000_000.0
GONE = Unavailable("registry", ErrorCode.CONNECTION, "refused")
FULL = Unavailable("registry", ErrorCode.DISK_FULL, "no space left on device")


@dataclass
class Scene:
    """A private registry, the records of its copies, and who waits for it."""

    states: HealthStates
    process: Process
    pull_problem: DockerCacheError | None = None
    push_problem: DockerCacheError | None = None
    images: tuple[CachedImage, ...] = field(
        default_factory=lambda: (image(CacheGuid("g"), platform=digest(1)),)
    )
    probes: list[tuple[float, str]] = field(default_factory=list)
    listings: int = 0
    served: int = 0
    loop: HealthLoop = field(init=False)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Run the loop, and let it look once."""
        self.tasks.append(asyncio.create_task(self.loop.run()))
        await asyncio.sleep(0.1)

    async def list_images(self) -> tuple[CachedImage, ...]:
        self.listings += 1
        return self.images

    async def pull(self, copy: CacheGuid | None) -> None:
        self.probes.append((self.process.monotonic(), "other" if copy is None else "newest"))
        self.ask(CACHE, RegistryUse.PULL, self.pull_problem, repository=str(copy))

    async def push(self) -> None:
        self.probes.append((self.process.monotonic(), "push"))
        self.ask(CACHE, RegistryUse.PUSH, self.push_problem, stored=64)

    def ask(
        self,
        registry: str,
        use: RegistryUse,
        problem: DockerCacheError | None,
        *,
        repository: str = "a",
        stored: int | None = None,
    ) -> None:
        exchange = Exchange(registry, repository, use)
        if problem is None:
            self.states.answered(exchange, stored)
        else:
            self.states.failed(exchange, Failure(problem))

    def note_served_pulls(self) -> None:
        self.served += 1

    def gauge(self, name: str, **labels: str) -> float | None:
        return self.process.metrics.registry.get_sample_value(f"docker_cache_{name}", labels)


def now() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    process = Process("run", clock=lambda: EPOCH + now(), monotonic=now)
    process.metrics.registries.configure(CACHE, ())
    made = Scene(HealthStates(CACHE, clock=now), process)
    made.loop = HealthLoop(made.states, made, made, process=process)
    made.loop.of_served_pulls.append(made.note_served_pulls)
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


def lines(output: str, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    return [line for line in found if line["message"] == f"docker-cache.health.{event}"]


async def test_a_private_registry_that_is_well_is_asked_for_its_newest_copy_twice_a_minute(
    scene: Scene,
) -> None:
    await scene.start()
    await asyncio.sleep(10 * 60.0 + 1.0)

    assert {what for _, what in scene.probes} == {"newest"}
    assert len(scene.probes) == 10 * 60 / INTERVAL + 1
    assert scene.loop.unhealthy == ()
    assert scene.gauge("registry_up", registry=CACHE, side="private", use="pull") == 1


async def test_without_a_copy_it_is_not_asked_before_something_fails(scene: Scene) -> None:
    await scene.start()
    scene.images = ()
    scene.probes.clear()
    await asyncio.sleep(10 * INTERVAL)
    assert scene.probes == []

    scene.ask(CACHE, RegistryUse.PULL, GONE)
    scene.pull_problem = GONE
    await asyncio.sleep(4 * SUSPECT_INTERVAL)
    assert {what for _, what in scene.probes} == {"other"}
    assert [each.registry for each in scene.loop.unhealthy] == [CACHE]


async def test_one_that_does_not_answer_is_known_soon_and_said_once(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    await scene.start()
    await asyncio.sleep(1.0)
    scene.pull_problem = GONE
    await asyncio.sleep(INTERVAL + 15.0)

    (unhealthy,) = scene.loop.unhealthy
    assert (unhealthy.registry, unhealthy.use, unhealthy.is_private) == (CACHE, RegistryUse.PULL, True)
    assert unhealthy.since == pytest.approx(EPOCH + INTERVAL, abs=2.0)
    assert scene.gauge("registry_up", registry=CACHE, side="private", use="pull") == 0
    assert scene.gauge("registry_up", registry=CACHE, side="private", use="push") == 1
    assert scene.states.why_not_migrate() is not None

    await asyncio.sleep(600.0)
    scene.pull_problem = None
    await asyncio.sleep(2 * SUSPECT_INTERVAL)

    assert scene.loop.unhealthy == ()
    assert scene.served == 1
    output = capsys.readouterr().out
    (said,), (well,) = lines(output, "registry-unhealthy"), lines(output, "registry-became-healthy")
    assert (said["level"], well["level"]) == ("error", "info")
    assert said["data"] == {
        "registry": CACHE,
        "side": "private",
        "use": "pull",
        "reason": "no-answer",
        "detail": "it does not answer",
        "error": "refused",
    }
    assert well["data"]["unhealthy-for-s"] == pytest.approx(615.0, abs=10.0)


async def test_nobody_is_woken_who_did_not_wait(scene: Scene) -> None:
    await scene.start()
    scene.pull_problem = GONE
    await asyncio.sleep(INTERVAL + 30.0)
    assert scene.loop.unhealthy

    scene.pull_problem = None
    await asyncio.sleep(30.0)
    assert scene.served == 0


async def test_lrps_that_were_kept_for_a_moment_are_let_go_too(scene: Scene) -> None:
    await scene.start()
    await asyncio.sleep(1.0)
    scene.ask(CACHE, RegistryUse.PULL, Unavailable("registry", ErrorCode.CERTIFICATE, "expired"))
    assert scene.states.why_not_migrate() is not None
    scene.ask(CACHE, RegistryUse.PULL, None)
    await asyncio.sleep(SUSPECT_INTERVAL + 1.0)

    assert scene.served == 1


async def test_a_full_one_is_pushed_to_now_and_then_until_it_has_room(scene: Scene) -> None:
    await scene.start()
    await asyncio.sleep(1.0)
    scene.push_problem = FULL
    scene.ask(CACHE, RegistryUse.PUSH, FULL)
    await asyncio.sleep(10 * PUSH_INTERVAL)

    pushes = [at for at, what in scene.probes if what == "push"]
    assert len(pushes) in {10, 11}
    assert [each.failing.fault.words for each in scene.loop.unhealthy] == ["its disk is full"]
    assert scene.states.why_not_migrate() is None, "it still serves pulls"

    scene.push_problem = None
    await asyncio.sleep(PUSH_INTERVAL + SUSPECT_INTERVAL)
    assert scene.loop.unhealthy == ()
    before = len(scene.probes)
    await asyncio.sleep(SUSPECT_INTERVAL * 4)
    assert "push" not in {what for _, what in scene.probes[before:]}


class TestSources:
    """Source registries: whoever pushes an app names them."""

    async def fail(self, scene: Scene, source: str = SOURCE) -> None:
        for _ in range(4):
            scene.ask(source, RegistryUse.PULL, GONE)
            await asyncio.sleep(SUSPECT_INTERVAL)

    async def test_one_that_nobody_has_copied_from_is_not_mentioned(
        self, scene: Scene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await scene.start()
        await self.fail(scene, "no-such-host.example")

        assert scene.loop.unhealthy == ()
        assert scene.gauge("unhealthy_sources") == 0
        assert lines(capsys.readouterr().out, "registry-unhealthy") == []

    async def test_the_copies_are_not_listed_for_it_again_and_again(self, scene: Scene) -> None:
        await scene.start()
        await self.fail(scene, "no-such-host.example")
        before = scene.listings
        await asyncio.sleep(10 * LISTING_INTERVAL)

        assert scene.listings - before <= 10 + 10 * LISTING_INTERVAL / INTERVAL

    async def test_one_that_a_copy_is_from_is(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        await scene.start()
        source = parse_image_reference(f"{SOURCE}/a/b:1")
        scene.images = (replace(scene.images[0], source=source),)
        await self.fail(scene)

        (unhealthy,) = scene.loop.unhealthy
        assert (unhealthy.registry, unhealthy.is_private) == (SOURCE, False)
        assert scene.gauge("unhealthy_sources") == 1
        assert [line["level"] for line in lines(capsys.readouterr().out, "registry-unhealthy")] == ["error"]
        assert "push" not in {what for _, what in scene.probes}
        assert scene.states.why_not_migrate() is None

    async def test_one_that_comes_and_goes_is_mentioned_now_and_then(
        self, scene: Scene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await scene.start()
        began = scene.process.monotonic()
        while scene.process.monotonic() < began + 3 * QUIET:
            scene.ask(SOURCE, RegistryUse.PULL, None)
            await asyncio.sleep(2 * SUSPECT_INTERVAL)
            await self.fail(scene)

        output = capsys.readouterr().out
        said, well = lines(output, "registry-unhealthy"), lines(output, "registry-became-healthy")
        assert len(said) in {3, 4}
        assert len(well) in {len(said), len(said) - 1}

    async def test_the_private_registry_comes_first_and_then_what_has_lasted_longest(
        self, scene: Scene
    ) -> None:
        await scene.start()
        for source in ("b.example", "a.example"):
            scene.ask(source, RegistryUse.PULL, None)
            await self.fail(scene, source)
        scene.push_problem = FULL
        scene.ask(CACHE, RegistryUse.PUSH, FULL)
        await asyncio.sleep(SUSPECT_INTERVAL)

        assert [each.registry for each in scene.loop.unhealthy] == [CACHE, "b.example", "a.example"]
