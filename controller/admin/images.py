"""Deletes copies that nothing runs from, and reads copies back; both for operators."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.admin.survey import SurveyScan
from controller.verifier import Reader
from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.images import CacheGuid, CacheRepositories, Digest, ImageReference, Rootfs
from reconcile.lrps import ProcessGuid, SchedulingInfo
from reconcile.ports import Journal
from reconcile.records import CachedImage


class Records(Protocol):
    """The images of the store."""

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read a finished copy."""

    async def drop_image(self, cache_guid: CacheGuid) -> tuple[Digest, ...]:
        """Forget a finished copy, and tell which blobs it held."""

    async def keep_image(self, image: CachedImage, blobs: Iterable[Digest]) -> None:
        """Save a finished copy with the blobs that it holds."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies."""

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Note that a copy is not what it should be; at 0 that it is."""


class Registry(Reader, Protocol):
    """The private registry."""

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest."""


class Bbs(Protocol):
    """The BBS, as far as it is listed."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> SurveyScan[SchedulingInfo]:
        """List the light views of the desired LRPs of one domain, or all when it is empty."""


class Makers(Protocol):
    """Those who make copies."""

    def content_lock(self, platform_digest: Digest) -> asyncio.Lock:
        """Give what is held by whoever makes or deletes the copy of some content."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where copies lie, and who puts them there."""

    registry: Registry
    cache: CacheRepositories
    makers: Makers


class Images:
    """What operators do with single copies."""

    def __init__(self, records: Records, journal: Journal, bbs: Bbs, shelf: Shelf) -> None:
        self._records, self._journal, self._bbs = records, journal, bbs
        self._registry, self._cache, self._makers = shelf.registry, shelf.cache, shelf.makers

    async def find(self, cache_guid: CacheGuid) -> CachedImage:
        """Read a copy's record.

        Raises:
            NotFound: `no-such-image`.
        """
        image = await self._records.find_image(cache_guid)
        if image is None:
            raise NotFound("admin", "no-such-image", f"there is no cached image {cache_guid}")
        return image

    async def users(self, image: CachedImage) -> Sequence[ProcessGuid]:
        """Name the LRPs of every domain that are desired from a copy, or on their way from or to it.

        Raises:
            Invalid: `unreadable-lrps`: any of them may use it.
        """
        moving = [
            row.process_guid
            for row in await self._journal.list_migrations()
            if row.cache_guid == image.cache_guid
        ]
        scan = self._bbs.list_scheduling_infos("", docker_only=True)
        using = [info.process_guid async for info in scan if self._is_from(info.rootfs, image)]
        if scan.skipped:
            raise Invalid("bbs", "unreadable-lrps", f"{scan.skipped} LRPs cannot be read: any may use it")
        return sorted({*moving, *using})

    def _is_from(self, rootfs: Rootfs, image: CachedImage) -> bool:
        """Whether a rootfs names a copy in any way: by tag or digest, with a login or not."""
        text = rootfs.uri.lower()
        names = (image.cache_guid.lower(), image.digest.hex)
        return self._cache.address.lower() in text and any(name in text for name in names)

    async def evict(self, cache_guid: CacheGuid) -> CachedImage:
        """Delete a copy from the private registry and the store.

        It is forgotten first, and then it is looked once more whether it is used: a pass that migrations an
        LRP writes its row first, and then looks whether the copy is still known. So one sees the other.

        Raises:
            NotFound: `no-such-image`.
            Conflict: `image-in-use`.
            Invalid: The registry does not delete, or it is not known who uses it.
        """
        image = await self.find(cache_guid)
        await self._refuse_if_used(image)
        async with self._makers.content_lock(image.platform_digest):
            blobs = await self._records.drop_image(cache_guid)
            try:
                await self._refuse_if_used(image)
                await self._delete(image)
            except BaseException:
                await self._records.keep_image(image, blobs)
                raise
        return image

    async def _refuse_if_used(self, image: CachedImage) -> None:
        if await self._journal.list_undecryptable():
            raise Invalid("admin", "journal-unreadable", "an open migration that cannot be read may use it")
        await self._refuse_if_shared(image)
        users = await self.users(image)
        if users:
            named = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
            raise Conflict(
                "admin", "image-in-use", f"{image.cache_guid} is what these LRPs run from: {named}"
            )

    async def _refuse_if_shared(self, image: CachedImage) -> None:
        """Refuse what would take another copy with it: a manifest is deleted by digest, with all its tags."""
        repository = self._cache.image(image.cache_guid).repository
        for other in await self._records.list_images():
            is_other = other.cache_guid != image.cache_guid and other.digest == image.digest
            if is_other and self._cache.image(other.cache_guid).repository == repository:
                raise Conflict(
                    "admin", "image-shared", f"{other.cache_guid} is the same manifest in the same repository"
                )

    async def _delete(self, image: CachedImage) -> None:
        target = self._cache.image(image.cache_guid)
        try:
            await self._registry.delete_copy(target, image.digest)
        except NotFound:
            return  # it was deleted there already
        except Invalid as error:
            raise Invalid(
                error.system,
                error.code,
                f"{target} cannot be deleted: {error.detail}; let the registry delete "
                "(REGISTRY_STORAGE_DELETE_ENABLED=true), and try again",
            ) from error

    async def verify(self, image: CachedImage, *, now: float) -> str:
        """Read a copy back, and say what is wrong with it; "" when it is whole.

        A damaged one is suspect from now on: no other app is moved to it.

        Raises:
            DockerCacheError: It could not be read, so nothing is known.
        """
        target = self._cache.image(image.cache_guid)
        try:
            await self._registry.read_back(target, image.digest)
        except (Invalid, NotFound) as error:
            await self._records.mark_for_verification(image.cache_guid, now)
            return str(error)
        await self._records.mark_for_verification(image.cache_guid, 0.0)
        return ""
