"""Watches whether the private registry can be reached, and decides when LRPs are restored to their sources.

A registry that was unreachable for long enough must be reachable for as long before LRPs are migrated to it
again: a registry that comes and goes moves no LRP to and fro.
"""

import asyncio
from typing import Protocol

import structlog

from controller.process import Process
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.records import CachedImage
from reconcile.references import CacheRepositories, Digest, ImageReference

log = structlog.get_logger(scope="reachability")

PROBES = 10
"""Probes in the time after which the mode changes."""


class ProbedRegistry(Protocol):
    """The private registry, as far as it is probed."""

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether it serves a digest under the target's tag right now."""


class ProbedImages(Protocol):
    """The copies, one of which a probe asks for."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""


class Reachability:
    """The mode of a daemon that restores LRPs while the private registry is unreachable.

    Args:
        restore_after: Seconds that the registry must be unreachable, or reachable again, to change the mode.
    """

    def __init__(
        self,
        registry: ProbedRegistry,
        images: ProbedImages,
        cache: CacheRepositories,
        *,
        restore_after: float,
        process: Process,
    ) -> None:
        self._registry, self._images, self._cache = registry, images, cache
        self._restore_after, self._process = restore_after, process
        self._is_restoring = False
        self._differs_since: float | None = None

    @property
    def is_restoring(self) -> bool:
        """Whether LRPs are migrated back to their sources."""
        return self._is_restoring

    async def run(self) -> None:
        """Probe the registry forever."""
        while True:
            self._update_mode(is_reachable=await self._probe())
            await asyncio.sleep(self._restore_after / PROBES)

    async def _probe(self) -> bool:
        images = await self._images.list_images()
        if not images:
            return True  # no LRP runs from the registry
        newest = images[-1]
        try:
            await self._registry.is_present(self._cache.image(newest.cache_guid), newest.digest)
        except Unavailable as error:
            log.info("failed-to-reach-cache-registry", error=str(error))
            return False
        except DockerCacheError:
            return True  # any answer proves that it is reachable
        return True

    def _update_mode(self, *, is_reachable: bool) -> None:
        now = self._process.monotonic()
        if is_reachable is not self._is_restoring:  # the mode fits already
            self._differs_since = None
            return
        self._differs_since = now if self._differs_since is None else self._differs_since
        if now - self._differs_since >= self._restore_after:
            self._is_restoring, self._differs_since = not is_reachable, None
            if is_reachable:
                log.info("stopped-restoring", reachable_for_s=self._restore_after)
            else:
                log.error("started-restoring", unreachable_for_s=self._restore_after)


class NullMode:
    """The mode of a daemon that never restores LRPs by itself."""

    is_restoring = False
