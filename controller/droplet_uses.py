"""Lists which droplets name copies, as Cloud Controller has them, whoever has written that.

The records of this program do not know all of them: Cloud Controller copies a droplet with its image, and a
database may have been lost.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from reconcile.droplets import Droplet, DropletGuid, DropletRecord, PackageGuid
from reconcile.errors import ErrorCode, Unavailable
from reconcile.lrps import AppGuid
from reconcile.references import CacheRepositories
from reconcile.usage import host_of_registry

LIST_WITHIN = 120.0
"""Seconds that a listing of all droplets may take."""

CONFIRMS_FOR = 600.0
"""Seconds for which the listing that copies are deleted by will do to confirm that: Cloud Controller makes
a droplet that names a copy of one that does, and that one was listed."""

MAY_BE_OLD = 3600.0
"""Seconds for which a listing will do where nothing is deleted: what this program writes is recorded."""


class ListedDroplets(Protocol):
    """Cloud Controller, as far as it lists droplets."""

    def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        """List the staged droplets of Docker, of some apps or of all."""


class RecordedDroplets(Protocol):
    """The records of droplets."""

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        """List all records."""


@dataclass(frozen=True, slots=True)
class NamedCopy:
    """A droplet whose image seems to be in a private registry of ours.

    Attributes:
        package_guid: What it was staged from; None for the copy of another droplet.
    """

    droplet_guid: DropletGuid
    image: str
    app_guid: AppGuid
    package_guid: PackageGuid | None


class DropletUses:
    """Which droplets name copies.

    Args:
        records: Of the store; they are there without a Cloud Controller too.
        api: None where no Cloud Controller is configured.
        background: The same API for listings that nobody waits for.
        cache: The addresses of private registries, present and former.
        monotonic: Gives seconds that only grow.
    """

    def __init__(
        self,
        records: RecordedDroplets,
        api: ListedDroplets | None,
        background: ListedDroplets | None,
        *,
        cache: CacheRepositories,
        monotonic: Callable[[], float],
    ) -> None:
        self._records, self._api, self._background = records, api, background
        self._monotonic = monotonic
        self._hosts = frozenset(host_of_registry(each.address) for each in (cache, *cache.former))
        self._listed: tuple[float, tuple[NamedCopy, ...]] | None = None

    async def list_records(self) -> tuple[DropletRecord, ...]:
        """List what is recorded of droplets."""
        return await self._records.list_droplets()

    async def list_named(self) -> tuple[NamedCopy, ...]:
        """List anew the droplets that name copies; none without a Cloud Controller.

        Raises:
            DockerCacheError: It does not list them, or not in time.
        """
        return () if self._api is None else await self._list(self._api)

    async def list_named_again(self) -> tuple[NamedCopy, ...]:
        """List the droplets that name copies where a listing for the same purpose was long ago.

        Raises:
            DockerCacheError: Cloud Controller does not list them, or not in time.
        """
        if self._listed is not None and self._monotonic() - self._listed[0] <= CONFIRMS_FOR:
            return self._listed[1]
        return await self.list_named()

    async def list_named_lately(self) -> tuple[NamedCopy, ...]:
        """List the droplets that name copies as they were an hour ago at most.

        Raises:
            DockerCacheError: Cloud Controller does not list them, or not in time.
        """
        if self._background is None:
            return ()
        if self._listed is not None and self._monotonic() - self._listed[0] <= MAY_BE_OLD:
            return self._listed[1]
        return await self._list(self._background)

    async def _list(self, api: ListedDroplets) -> tuple[NamedCopy, ...]:
        begun, found = self._monotonic(), list[NamedCopy]()
        try:
            async with asyncio.timeout(LIST_WITHIN):
                async for droplet in api.list_droplets():
                    if droplet.image is not None and self._may_name_copy(droplet.image):
                        found.append(
                            NamedCopy(droplet.guid, droplet.image, droplet.app_guid, droplet.package_guid)
                        )
        except TimeoutError:
            detail = f"droplets were not listed to the end within {LIST_WITHIN:g} s"
            raise Unavailable("cloud-controller", ErrorCode.TIMEOUT, detail) from None
        self._listed = begun, tuple(found)
        return self._listed[1]

    def _may_name_copy(self, image: str) -> bool:
        text = image.lower()
        return any(host in text for host in self._hosts)
