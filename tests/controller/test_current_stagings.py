"""What Cloud Controller is asked about stagings, how often, and what is made of its answers."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace

import pytest

from controller.current_stagings import (
    ANSWER_WITHIN,
    AT_A_TIME,
    AT_ONCE,
    EVERY,
    GOOD_FOR,
    MOST_BUILDS,
    NEVER_AGAIN_FOR,
    NOT_AGAIN_FOR,
    CurrentStagings,
)
from reconcile.current_stagings import CurrentStaging
from reconcile.droplets import (
    Build,
    BuildGuid,
    BuildState,
    Droplet,
    DropletGuid,
    DropletPhase,
    DropletRecord,
)
from reconcile.errors import Denied, Invalid, Unavailable
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.references import CacheGuid, parse_image_reference

pytestmark = pytest.mark.looptime

APP = AppGuid("app-1")
SOURCE = parse_image_reference("registry.example/team/web:7").canonical()
COPY = "cache.example:8080/1b2f6a90-33c1-4b52-9d0e-0c8f6a3b7f10:latest"
DROPLET = Droplet(
    DropletGuid("d-1"),
    "STAGED",
    is_docker=True,
    image=str(SOURCE),
    app_guid=APP,
    package_guid=None,
    created_at=100.0,
    updated_at=100.0,
)
RECORD = DropletRecord(
    DROPLET.guid,
    APP,
    BuildGuid("b-1"),
    original=str(SOURCE),
    username="",
    cache_guid=CacheGuid("1b2f6a90-33c1-4b52-9d0e-0c8f6a3b7f10"),
    registry="cache.example:8080",
    target=COPY,
    phase=DropletPhase.PATCHED,
    reason=Reason.DROPLET_PATCHED,
    created_at=1.0,
    updated_at=1.0,
)


def build(number: int, droplet: str | None) -> Build:
    guid = None if droplet is None else DropletGuid(droplet)
    return Build(BuildGuid(f"b-{number}"), BuildState.STAGED, guid, APP, None, created_at=float(number))


@dataclass
class Api:
    """Cloud Controller, with the records of droplets.

    Attributes:
        requests: The requests so far, by what they ask for.
        slowness: Seconds that it takes to answer.
    """

    droplets: dict[str, Droplet] = field(default_factory=lambda: {APP: DROPLET})
    builds: list[Build] = field(default_factory=lambda: [build(1, "d-1")])
    record: DropletRecord | None = None
    problem: Exception | None = None
    slowness: float = 0.0
    requests: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def _answer(self, request: str) -> None:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.slowness)
        finally:
            self.running -= 1
        if self.problem is not None:
            raise self.problem

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        await self._answer(f"droplet of {app_guid}")
        return self.droplets.get(app_guid)

    async def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        await self._answer(f"builds of {', '.join(app_guids)}")
        for each in self.builds:
            yield each

    async def find_droplet(self, guid: DropletGuid) -> DropletRecord | None:
        assert guid == DROPLET.guid
        return self.record

    def stagings(self) -> CurrentStagings:
        return CurrentStagings(self, self, monotonic=asyncio.get_running_loop().time)


async def test_the_build_that_led_to_the_current_droplet_is_the_staging() -> None:
    api = Api(builds=[build(3, None), build(2, "d-2"), build(1, "d-1")])

    staging = await api.stagings().find_current_staging(APP)

    assert staging == CurrentStaging(SOURCE, "task:b-1", 100.0)
    assert api.requests == ["droplet of app-1", "builds of app-1"]


async def test_of_a_droplet_with_a_record_the_build_is_known_already() -> None:
    api = Api(record=RECORD)

    assert await api.stagings().find_current_staging(APP) == CurrentStaging(SOURCE, "task:b-1", 100.0)
    assert api.requests == ["droplet of app-1"]


async def test_of_a_droplet_that_names_its_copy_the_source_is_what_it_named_before() -> None:
    api = Api({APP: replace(DROPLET, image=COPY)}, record=RECORD)

    staging = await api.stagings().find_current_staging(APP)

    assert staging is not None
    assert staging.source == SOURCE


@pytest.mark.parametrize("image", [None, "", "registry.example/Team/Web:7", "docker://x/y"])
async def test_of_a_droplet_that_names_no_image_the_source_is_not_known(image: str | None) -> None:
    staging = await Api({APP: replace(DROPLET, image=image)}).stagings().find_current_staging(APP)

    assert staging is not None
    assert staging.source is None


@pytest.mark.parametrize("droplets", [{}, {APP: replace(DROPLET, is_docker=False)}])
async def test_an_app_without_a_droplet_of_docker_has_no_staging(droplets: dict[str, Droplet]) -> None:
    assert await Api(droplets).stagings().find_current_staging(APP) is None


async def test_the_build_of_a_copied_droplet_or_of_an_old_one_is_not_known() -> None:
    api = Api(builds=[build(number, f"other-{number}") for number in range(MOST_BUILDS + 1)])

    assert await api.stagings().find_current_staging(APP) == CurrentStaging(SOURCE, "", 100.0)


async def test_an_answer_is_good_for_some_seconds() -> None:
    api = Api(record=RECORD)
    stagings = api.stagings()
    for _ in range(3):
        await stagings.find_current_staging(APP)
        await asyncio.sleep(GOOD_FOR / 2 + 0.1)

    assert len(api.requests) == 2


@pytest.mark.parametrize(
    ("problem", "pause"),
    [
        (Unavailable("cloud-controller", "timeout", "x"), NOT_AGAIN_FOR),
        (Unavailable("cloud-controller", "CF-RateLimitExceeded", "x", retry_after=120.0), 120.0),
        (Denied("cloud-controller", "cloud-controller-scope-missing", "x"), NEVER_AGAIN_FOR),
        (Invalid("cloud-controller", "bad-answer", "x"), NOT_AGAIN_FOR),
    ],
)
async def test_while_it_does_not_answer_no_app_is_asked_for(problem: Exception, pause: float) -> None:
    api = Api(problem=problem)
    stagings = api.stagings()

    assert await stagings.find_current_staging(APP) is None
    await asyncio.sleep(pause - 1)
    assert await stagings.find_current_staging(AppGuid("app-2")) is None
    assert len(api.requests) == 1

    api.problem, api.record = None, RECORD
    await asyncio.sleep(2)
    assert await stagings.find_current_staging(APP) is not None


async def test_nobody_waits_long_for_one_that_hangs() -> None:
    api = Api(slowness=3600.0)
    begun = asyncio.get_running_loop().time()

    found = await api.stagings().find_current_stagings({AppGuid(f"app-{number}") for number in range(100)})

    assert found == {}
    assert asyncio.get_running_loop().time() - begun == pytest.approx(ANSWER_WITHIN)
    assert len(api.requests) == AT_A_TIME


async def test_of_many_apps_a_few_are_asked_for_at_the_same_time() -> None:
    droplets = {f"app-{number}": DROPLET for number in range(20)}
    api = Api(dict(droplets), record=RECORD, slowness=0.1)

    found = await api.stagings().find_current_stagings({*map(AppGuid, droplets), AppGuid("gone")})

    assert set(found) == set(droplets)
    assert api.most_running == AT_A_TIME


async def test_of_thousands_some_are_asked_for_and_the_others_have_their_sources_asked() -> None:
    droplets = {f"app-{number:04}": DROPLET for number in range(1000)}
    api = Api(dict(droplets), record=RECORD)
    stagings = api.stagings()
    rounds = 20
    for _ in range(rounds):
        await stagings.find_current_stagings({*map(AppGuid, droplets)})
        await asyncio.sleep(GOOD_FOR)

    assert len(api.requests) <= AT_ONCE + rounds * GOOD_FOR / EVERY
