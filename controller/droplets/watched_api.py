"""Asks Cloud Controller, and keeps what it answers: nobody asks one that does not answer over and over."""

from collections.abc import AsyncIterator, Awaitable, Collection
from typing import Self, TypeVar

from controller.droplets.standing import ApiStanding
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplets import Build, BuildGuid, Droplet, DropletGuid, Package, PackageGuid
from reconcile.errors import Denied, DockerCacheError
from reconcile.lrps import AppGuid

T = TypeVar("T")


class WatchedApi:
    """Cloud Controller's API as the loops of droplets use it; each request waits until it may be sent.

    Args:
        api: Cloud Controller's.
        standing: What it last answered.
        writing: What it last answered to changes, for which a client needs more scopes than for reading.
    """

    def __init__(self, api: CloudControllerApi, standing: ApiStanding, writing: ApiStanding) -> None:
        self._api, self._standing, self._writing = api, standing, writing

    async def find_build(self, guid: BuildGuid) -> Build | None:
        """Read one build."""
        await self._admit()
        return await self._noted(self._api.find_build(guid))

    async def find_droplet(self, guid: DropletGuid) -> Droplet | None:
        """Read one droplet."""
        await self._admit()
        return await self._noted(self._api.find_droplet(guid))

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        """Read the droplet that an app is started from."""
        await self._admit()
        return await self._noted(self._api.find_current_droplet(app_guid))

    async def find_package(self, guid: PackageGuid) -> Package | None:
        """Read one package."""
        await self._admit()
        return await self._noted(self._api.find_package(guid))

    async def update_image(self, guid: DropletGuid, image: str) -> Droplet:
        """Write the image text of a droplet; whoever calls has asked whether anything may be written."""
        await self._admit()
        try:
            answer = await self._api.update_image(guid, image)
        except DockerCacheError as error:
            self._writing.note_failure(error)
            if not isinstance(error, Denied):  # who may not write may still read
                self._standing.note_failure(error)
            raise
        self._standing.note_answer()
        self._writing.note_answer()
        return answer

    async def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        """List the staged droplets of Docker, the newest first."""
        await self._admit()
        async for droplet in self._noted_items(self._api.list_droplets(app_guids=app_guids)):
            yield droplet

    async def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        """List the builds of some apps, the newest first."""
        await self._admit()
        async for build in self._noted_items(self._api.list_builds(app_guids)):
            yield build

    def background(self) -> Self:
        """Return the same API, whose requests wait for the background's share of the budget."""
        return type(self)(self._api.background(), self._standing, self._writing)

    async def _admit(self) -> None:
        """Wait until it may be asked; where it has just refused this client, say so again at once."""
        refusal = self._standing.refusal
        if refusal is not None:
            raise Denied(refusal.system, refusal.code, refusal.detail)
        await self._standing.wait()

    async def _noted(self, request: Awaitable[T]) -> T:
        try:
            answer = await request
        except DockerCacheError as error:
            self._standing.note_failure(error)
            raise
        self._standing.note_answer()
        return answer

    async def _noted_items(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        try:
            async for item in items:
                yield item
        except DockerCacheError as error:
            self._standing.note_failure(error)
            raise
        self._standing.note_answer()
