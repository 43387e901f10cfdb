"""A Cloud Controller in memory, as the loops of droplets see it, which counts what it is asked."""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from typing import Self

from reconcile.droplets import (
    STAGED,
    Build,
    BuildGuid,
    BuildState,
    Droplet,
    DropletGuid,
    Package,
    PackageGuid,
)
from reconcile.errors import DockerCacheError, NotFound, Unavailable
from reconcile.lrps import AppGuid

NO_ANSWER = Unavailable("cloud-controller", "timeout", "no answer", may_have_happened=True)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class MemoryApi:
    """Builds, droplets and packages.

    Attributes:
        problem: What each request is answered with.
        refusal: What each change is answered with.
        loses_answers: Whether changes take effect and are not answered.
        background_may_ask: Whether the background's share lets it ask for single droplets.
        asked: How often each call was made.
    """

    builds: dict[BuildGuid, Build] = field(default_factory=dict)
    droplets: dict[DropletGuid, Droplet] = field(default_factory=dict)
    packages: dict[PackageGuid, Package] = field(default_factory=dict)
    current: dict[AppGuid, DropletGuid] = field(default_factory=dict)
    problem: DockerCacheError | None = None
    refusal: DockerCacheError | None = None
    loses_answers: bool = False
    background_may_ask: asyncio.Event = field(default_factory=_set_event)
    is_background: bool = False
    asked: Counter[str] = field(default_factory=Counter)
    writes: list[tuple[DropletGuid, str]] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests were made in all."""
        return self.asked.total()

    def stage(self, number: int, app_guid: AppGuid, image: str, *, created_at: float) -> DropletGuid:
        """Let a staging end well."""
        build, droplet = BuildGuid(f"build-{number}"), DropletGuid(f"droplet-{number}")
        package = PackageGuid(f"package-{number}")
        self.packages[package] = Package(package, is_docker=True, image=image)
        self.builds[build] = Build(build, BuildState.STAGED, droplet, app_guid, package, created_at)
        self.droplets[droplet] = Droplet(
            droplet,
            STAGED,
            is_docker=True,
            image=image,
            app_guid=app_guid,
            package_guid=package,
            created_at=created_at,
            updated_at=created_at,
        )
        self.current[app_guid] = droplet
        return droplet

    def image_of(self, guid: DropletGuid) -> str | None:
        """Read the image text of a droplet."""
        return self.droplets[guid].image

    def write(self, guid: DropletGuid, image: str) -> None:
        """Write an image text, as another tool does."""
        self.droplets[guid] = replace(self.droplets[guid], image=image)

    def background(self) -> Self:
        view = copy.copy(self)
        view.is_background = True
        return view

    async def find_build(self, guid: BuildGuid) -> Build | None:
        self._ask("find_build")
        return self.builds.get(guid)

    async def find_droplet(self, guid: DropletGuid) -> Droplet | None:
        if self.is_background:
            await self.background_may_ask.wait()
        self._ask("find_droplet")
        return self.droplets.get(guid)

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        self._ask("find_current_droplet")
        return self.droplets.get(self.current.get(app_guid, DropletGuid("")))

    async def find_package(self, guid: PackageGuid) -> Package | None:
        self._ask("find_package")
        return self.packages.get(guid)

    async def update_image(self, guid: DropletGuid, image: str) -> Droplet:
        self._ask("update_image")
        if self.refusal is not None:
            raise self.refusal
        if guid not in self.droplets:
            raise NotFound("cloud-controller", "CF-ResourceNotFound", "Droplet not found")
        self.write(guid, image)
        self.writes.append((guid, image))
        if self.loses_answers:
            raise NO_ANSWER
        return self.droplets[guid]

    async def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        self._ask("list_droplets")
        for droplet in list(self.droplets.values()):
            if droplet.is_staged and (not app_guids or droplet.app_guid in app_guids):
                yield droplet

    async def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        self._ask("list_builds")
        for build in list(self.builds.values()):
            if build.app_guid in app_guids:
                yield build

    def _ask(self, call: str) -> None:
        self.asked[call] += 1
        if self.problem is not None:
            raise self.problem
