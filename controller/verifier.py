"""Reads copies that need verification back from the private registry, each once and few at a time.

A large copy takes long to read, and whoever waits for it does nothing else. So nobody waits for what another
caller reads, or while as many copies are being read as may be.
"""

from typing import Protocol

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
    """Verifies copies, and records those that are as they should be as verified.

    Args:
        reader: Reads copies.
        images: Their records.
        cache: Their names.
        at_a_time: Copies that are read at the same time.
    """

    def __init__(
        self, reader: CopyReader, images: ImageRecords, cache: CacheRepositories, *, at_a_time: int = 4
    ) -> None:
        self._reader, self._images, self._cache = reader, images, cache
        self._at_a_time = at_a_time
        self._being_read: set[CacheGuid] = set()

    async def verify(self, image: CachedImage) -> bool | None:
        """Whether every byte of a copy is in the private registry; if so, it no longer needs verification.

        None when that cannot be said now: somebody else reads it, or enough others are being read.
        """
        guid = image.cache_guid
        if guid in self._being_read or len(self._being_read) >= self._at_a_time:
            return None
        self._being_read.add(guid)
        try:
            return await self._verify(image)
        finally:
            self._being_read.discard(guid)

    async def _verify(self, image: CachedImage) -> bool:
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
        log.debug("verified-copy", cache_image=str(target))
        return True
