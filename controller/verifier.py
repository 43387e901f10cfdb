"""Reads suspect copies back from the private registry, each by one caller at a time."""

import asyncio
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from reconcile.errors import Invalid, NotFound
from reconcile.images import CacheGuid, CacheRepositories, Digest, ImageReference
from reconcile.ports import ImageRecords
from reconcile.records import CachedImage

log = structlog.get_logger(scope="verifier")


class Reader(Protocol):
    """Reads a copy back whole."""

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy and hash it.

        Raises:
            Invalid: It is not what it should be.
            NotFound: Something of it is missing.
        """


class ReadBack:
    """Takes the suspicion from copies that are whole."""

    def __init__(self, reader: Reader, images: ImageRecords, cache: CacheRepositories) -> None:
        self._reader, self._images, self._cache = reader, images, cache
        self._running: WeakValueDictionary[CacheGuid, asyncio.Lock] = WeakValueDictionary()

    async def verify(self, image: CachedImage) -> bool:
        """Whether every byte of a copy is in the private registry; one that is loses its suspicion."""
        turn = self._running.setdefault(image.cache_guid, asyncio.Lock())
        async with turn:
            now = await self._images.find_image(image.cache_guid)
            if now is not None and not now.needs_verification_since:
                return True  # somebody else has read it meanwhile
            target = self._cache.image(image.cache_guid)
            try:
                await self._reader.read_back(target, image.digest)
            except (Invalid, NotFound) as error:
                log.error("found-damaged-copy", cache_image=str(target), error=str(error))  # noqa: TRY400
                return False
            await self._images.mark_for_verification(image.cache_guid, 0.0)
            log.info("verified-copy", cache_image=str(target))
            return True
