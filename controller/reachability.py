"""Decides when LRPs are restored to their sources, since the private registry cannot be reached.

A registry that was unreachable for long enough must be reachable for as long before LRPs are migrated to it
again: a registry that comes and goes moves no LRP to and fro.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from controller.process import Process
from reconcile.records import CachedImage

log = structlog.get_logger(scope="reachability")

LOOKS = 10
"""Looks in the time after which the mode changes."""


class WatchedRegistry(Protocol):
    """The private registry, as far as its health decides about the mode."""

    @property
    def serves_pulls(self) -> bool:
        """Whether it has answered the last probe, whatever it said, or a pull since then."""


class MigratedImages(Protocol):
    """The copies, without which no LRP runs from the registry."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""


class Reachability:
    """The mode of a daemon that restores LRPs while the private registry is unreachable.

    Args:
        restore_after: Seconds that the registry must be unreachable, or reachable again, to change the mode.
    """

    def __init__(
        self, registry: WatchedRegistry, images: MigratedImages, *, restore_after: float, process: Process
    ) -> None:
        self._registry, self._images = registry, images
        self._restore_after, self._process = restore_after, process
        self._is_restoring = False
        self._differs_since: float | None = None
        self.of_changes: list[Callable[[], None]] = []
        """Are told of each change of the mode."""

    @property
    def is_restoring(self) -> bool:
        """Whether LRPs are migrated back to their sources."""
        return self._is_restoring

    async def run(self) -> None:
        """Look at the registry's health forever."""
        while True:
            self._update_mode(is_reachable=await self._is_reachable())
            await asyncio.sleep(self._restore_after / LOOKS)

    async def _is_reachable(self) -> bool:
        return self._registry.serves_pulls or not await self._images.list_images()

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
            for listener in self.of_changes:
                listener()


class NullMode:
    """The mode of a daemon that never restores LRPs by itself."""

    is_restoring = False
