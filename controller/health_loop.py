"""Probes the private registry, and logs when a registry becomes unhealthy and when it is well again.

Sources are never probed. One that only whoever pushed an app has named is mentioned only if it has served an
image before: anybody can name a host that does not exist.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from controller.health import MOST_SOURCES, HealthStates
from controller.process import Process
from reconcile.health import Failing, RegistryUse
from reconcile.hosts import canonical_host
from reconcile.records import CachedImage
from reconcile.references import CacheGuid
from reconcile.times import age_of

log = structlog.get_logger(scope="health")

INTERVAL = 30.0
"""Seconds between two probes of a private registry that is well."""

SUSPECT_INTERVAL = 5.0
"""Seconds between two looks at what is known, and between two probes while the last request has failed."""

PUSH_INTERVAL = 60.0
"""Seconds between two pushes to a registry that is known not to take any."""

LISTING_INTERVAL = 60.0
"""Seconds between two listings of copies that look for the registries they came from."""

QUIET = 600.0
"""Seconds within which a source that comes and goes is mentioned once."""


class Probe(Protocol):
    """Asks the private registry; whoever keeps its health learns how that ended."""

    async def pull(self, copy: CacheGuid | None) -> None:
        """Look a copy up; None looks up one that may not exist."""

    async def push(self) -> None:
        """Upload a small blob."""


class HealthImages(Protocol):
    """The copies: the private registry is asked for the newest, and their sources are known."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""


@dataclass(frozen=True, slots=True)
class UnhealthyRegistry:
    """A registry that is unhealthy for one use.

    Attributes:
        since: UTC seconds since 1970.
    """

    registry: str
    use: RegistryUse
    is_private: bool
    since: float
    failing: Failing

    @property
    def key(self) -> tuple[str, RegistryUse]:
        """What tells it from others."""
        return self.registry, self.use

    @property
    def side(self) -> str:
        """Which of the two sides it is on, for the log."""
        return "private" if self.is_private else "source"


class HealthLoop:
    """Looks at the health of registries at an interval.

    Args:
        states: The health, as requests show it.
        probe: Of the private registry.
        images: The copies.
        process: Clock and metrics.
        look_interval: Seconds between two looks.
    """

    def __init__(
        self,
        states: HealthStates,
        probe: Probe,
        images: HealthImages,
        *,
        process: Process,
        look_interval: float = SUSPECT_INTERVAL,
    ) -> None:
        self._states, self._probe, self._images = states, probe, images
        self._process, self._look_interval = process, look_interval
        self._unhealthy: dict[tuple[str, RegistryUse], UnhealthyRegistry] = {}
        self._mentioned: OrderedDict[tuple[str, RegistryUse], float] = OrderedDict()
        self._reported: set[tuple[str, RegistryUse]] = set()
        self._sources_of_copies: frozenset[str] = frozenset()
        self._next_pull = self._next_push = self._next_listing = 0.0
        self.of_served_pulls: list[Callable[[], None]] = []
        """Are told when the private registry serves pulls again for which somebody has waited."""
        metrics = process.metrics
        metrics.registries.unhealthy_sources.set_function(self._count_sources)

    @property
    def unhealthy(self) -> tuple[UnhealthyRegistry, ...]:
        """The registries that are unhealthy, the private one first, then the one that is so longest."""
        return tuple(
            sorted(
                self._unhealthy.values(), key=lambda each: (not each.is_private, each.since, each.registry)
            )
        )

    async def run(self) -> None:
        """Look forever."""
        while True:
            await self._probe_if_due()
            await self._review()
            await asyncio.sleep(self._look_interval)

    async def _probe_if_due(self) -> None:
        now, private = self._process.monotonic(), self._states.private
        if private.pull.is_suspect or not self._states.serves_pulls or now >= self._next_pull:
            images = await self._images.list_images()
            self._next_pull = now + INTERVAL
            if images:
                await self._probe.pull(images[-1].cache_guid)
            # It may be this image alone.
            if self._states.private.pull.is_suspect or not self._states.serves_pulls:
                await self._probe.pull(None)
        if not private.push.is_suspect:
            self._next_push = 0.0
        elif private.push.unhealthy is None or now >= self._next_push:
            self._next_push = now + PUSH_INTERVAL
            await self._probe.push()

    async def _review(self) -> None:
        found = await self._find_unhealthy()
        for key, unhealthy in found.items():
            if key not in self._unhealthy:
                self._report(unhealthy)
        for key, unhealthy in self._unhealthy.items():
            if key not in found:
                self._report_well(unhealthy)
        before = self._unhealthy
        self._unhealthy = {
            key: replace(each, since=before[key].since) if key in before else each
            for key, each in found.items()
        }
        self._process.metrics.registries.show(
            {key: each.failing.fault for key, each in self._unhealthy.items()}
        )
        if self._states.take_kept_lrps():
            for listener in self.of_served_pulls:
                listener()

    async def _find_unhealthy(self) -> dict[tuple[str, RegistryUse], UnhealthyRegistry]:
        sides = [(self._states.private_name, self._states.private, True)]
        sides += [(name, health, False) for name, health in self._states.sources.items()]
        found = {}
        for name, health, is_private in sides:
            for use in RegistryUse:
                failing = health.of(use).unhealthy
                if failing is None or not (is_private or await self._is_known(name)):
                    continue
                since = self._process.clock() - (self._process.monotonic() - failing.since)
                found[name, use] = UnhealthyRegistry(name, use, is_private, since, failing)
        return found

    async def _is_known(self, source: str) -> bool:
        if self._states.is_known(source) or source in self._sources_of_copies:
            return True
        now = self._process.monotonic()
        if now < self._next_listing:
            return False
        self._next_listing = now + LISTING_INTERVAL
        images = await self._images.list_images()
        self._sources_of_copies = frozenset(canonical_host(image.source.domain) for image in images)
        return source in self._sources_of_copies

    def _report(self, unhealthy: UnhealthyRegistry) -> None:
        if not self._is_worth_mentioning(unhealthy):
            return
        self._mentioned[unhealthy.key] = self._process.monotonic()
        self._mentioned.move_to_end(unhealthy.key)
        if len(self._mentioned) > MOST_SOURCES:
            self._mentioned.popitem(last=False)
        self._reported.add(unhealthy.key)
        log.error(
            "registry-unhealthy",
            registry=unhealthy.registry,
            side=unhealthy.side,
            use=unhealthy.use,
            reason=unhealthy.failing.fault,
            detail=unhealthy.failing.fault.words,
            error=unhealthy.failing.said,
        )

    def _is_worth_mentioning(self, unhealthy: UnhealthyRegistry) -> bool:
        mentioned = self._mentioned.get(unhealthy.key)
        return unhealthy.is_private or mentioned is None or self._process.monotonic() - mentioned >= QUIET

    def _report_well(self, before: UnhealthyRegistry) -> None:
        if before.key not in self._reported:
            return
        self._reported.remove(before.key)
        log.info(
            "registry-became-healthy",
            registry=before.registry,
            side=before.side,
            use=before.use,
            unhealthy_for_s=round(age_of(before.since, self._process.clock()), 1),
        )

    def _count_sources(self) -> int:
        return len({each.registry for each in self._unhealthy.values() if not each.is_private})
