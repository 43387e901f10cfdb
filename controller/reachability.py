"""Watches whether the private registry can be reached, and decides when LRPs go back to their sources.

A registry that was gone for long enough must be back for as long before LRPs are moved to it again:
one that comes and goes moves nobody to and fro.
"""

import asyncio
from typing import Protocol

import structlog

from controller.process import Process
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.images import CacheRepositories, Digest, ImageReference
from reconcile.records import CachedImage

log = structlog.get_logger(scope="reachability")

PROBES = 10
"""Questions asked in the time that decides."""


class Registry(Protocol):
    """The private registry, as far as it is asked."""

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether it serves a digest under the target's tag right now."""


class Images(Protocol):
    """What to ask it for."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""


class Reachability:
    """Asks the private registry for an image now and then.

    Args:
        restore_after: Seconds that it must be unreachable, or reachable again, to change the direction.
    """

    def __init__(
        self,
        registry: Registry,
        images: Images,
        cache: CacheRepositories,
        *,
        restore_after: float,
        process: Process,
    ) -> None:
        self._registry, self._images, self._cache = registry, images, cache
        self._restore_after, self._process = restore_after, process
        self._is_restoring = False
        self._since: float | None = None

    @property
    def is_restoring(self) -> bool:
        """Whether LRPs are moved back to their sources."""
        return self._is_restoring

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            self._note(is_there=await self._asks())
            await asyncio.sleep(self._restore_after / PROBES)

    async def _asks(self) -> bool:
        images = await self._images.list_images()
        if not images:
            return True  # nothing runs from it
        newest = images[-1]
        try:
            await self._registry.is_present(self._cache.image(newest.cache_guid), newest.digest)
        except Unavailable as error:
            log.info("failed-to-reach-cache-registry", error=str(error))
            return False
        except DockerCacheError:
            return True  # it answers
        return True

    def _note(self, *, is_there: bool) -> None:
        now = self._process.monotonic()
        if is_there is not self._is_restoring:  # as it was
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= self._restore_after:
            self._is_restoring, self._since = not is_there, None
            log.error("changed-direction", restoring=self._is_restoring, after_s=self._restore_after)


class NullMode:
    """Always to the cached images."""

    is_restoring = False
