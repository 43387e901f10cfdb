"""Finds through Cloud Controller what apps ran from before their droplets named a copy.

A droplet keeps its package, which holds what the user pushed. The records of droplets know it too, as far as
they were not lost; then nobody is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.droplet_uses import NamedCopy
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import DropletRecord, Package, PackageGuid
from reconcile.lrps import AppGuid
from reconcile.references import CacheGuid, CacheRepositories, ImageReference


@dataclass(frozen=True, slots=True)
class AppSource:
    """What an app was pushed from, and whether its registry needs a login."""

    source: ImageReference
    needs_login: bool


class ListedNamedCopies(Protocol):
    """The droplets that name copies."""

    async def list_named(self) -> tuple[NamedCopy, ...]:
        """List anew the droplets that name copies; none without a Cloud Controller."""


class DropletRecordsOfCopy(Protocol):
    """The records of droplets."""

    async def list_droplets_of_copy(self, cache_guid: CacheGuid) -> tuple[DropletRecord, ...]:
        """List the records with a copy in whatever phase, the newest first."""


class Packages(Protocol):
    """Cloud Controller, as far as it knows what users pushed."""

    async def find_package(self, guid: PackageGuid) -> Package | None:
        """Read one package."""


class DropletSources:
    """What apps were pushed from whose droplets name a copy; one rebuild uses it.

    Args:
        droplets: Those that name copies.
        records: Of the store.
        packages: None where no Cloud Controller is configured.
        cache: The names of copies.
    """

    def __init__(
        self,
        droplets: ListedNamedCopies,
        records: DropletRecordsOfCopy,
        packages: Packages | None,
        *,
        cache: CacheRepositories,
    ) -> None:
        self._droplets, self._records, self._packages, self._cache = droplets, records, packages, cache
        self._named: Mapping[CacheGuid, list[NamedCopy]] | None = None

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        """List anew the copies in the present private registry that droplets name.

        Raises:
            DockerCacheError: Cloud Controller does not list its droplets.
        """
        self._named = None
        named = dict[CacheGuid, list[NamedCopy]]()
        for each in await self._droplets.list_named():
            image = image_of_text(each.image)
            guid = None if image is None else self._cache.guid_of(image)
            if guid is not None:
                named.setdefault(guid, []).append(each)
        self._named = named
        return tuple(sorted(named))

    async def find(self, guid: CacheGuid) -> dict[AppGuid, AppSource]:
        """Find the sources of the apps whose droplets name a copy, each by the app's newest droplet.

        Raises:
            DockerCacheError: Cloud Controller does not say what was pushed.
        """
        found = dict[AppGuid, AppSource]()
        for record in await self._records.list_droplets_of_copy(guid):
            self._add(found, record.app_guid, record.original, needs_login=bool(record.username))
        if self._packages is None or self._named is None:
            return found
        for named in self._named.get(guid, ()):
            if named.app_guid in found or named.package_guid is None:
                continue
            package = await self._packages.find_package(named.package_guid)
            if package is not None and package.is_docker:
                self._add(found, named.app_guid, package.image, needs_login=bool(package.username))
        return found

    def _add(
        self, found: dict[AppGuid, AppSource], app_guid: AppGuid, text: str | None, *, needs_login: bool
    ) -> None:
        source = image_of_text(text)
        if source is not None and not self._cache.owns(source):
            found.setdefault(app_guid, AppSource(source, needs_login))
