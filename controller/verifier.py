"""Reads copies that need verification back from the private registry, each for one caller at a time."""

import asyncio
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from reconcile.errors import Invalid, NotFound
from reconcile.ports import ImageRecords
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference

log = structlog.get_logger(scope="verifier")


class CopyReader(Protocol):
    """Reads whole copies from the private registry."""

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy and compare it with its digests.

        Raises:
            Invalid: The content differs from its digest.
            NotFound: A manifest or a blob is missing.
        """


class CopyVerifier:
    """Verifies copies, and records those that are as they should be as verified."""

    def __init__(self, reader: CopyReader, images: ImageRecords, cache: CacheRepositories) -> None:
        self._reader, self._images, self._cache = reader, images, cache
        self._locks: WeakValueDictionary[CacheGuid, asyncio.Lock] = WeakValueDictionary()

    async def verify(self, image: CachedImage) -> bool:
        """Whether every byte of a copy is in the private registry; if so, it no longer needs verification."""
        lock = self._locks.setdefault(image.cache_guid, asyncio.Lock())
        async with lock:
            current = await self._images.find_image(image.cache_guid)
            if current is not None and not current.needs_verification_since:
                return True  # another caller has read it meanwhile
            target = self._cache.image(image.cache_guid)
            try:
                await self._reader.read_back(target, image.digest)
            except (Invalid, NotFound) as error:
                log.error("found-corrupt-copy", cache_image=str(target), error=str(error))  # noqa: TRY400
                return False
            await self._images.mark_for_verification(image.cache_guid, 0.0)
            log.info("verified-copy", cache_image=str(target))
            return True
