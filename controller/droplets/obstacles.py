"""Says why no droplet may name a copy now, although the copy is there."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from controller.app_placements import AppPlacements
from reconcile.droplet_actions import Leave
from reconcile.lrps import AppGuid
from reconcile.protocol import FAILURES
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from reconcile.references import CacheGuid

ANY_USERNAME = "unknown"
"""Stands for the login of a source registry of which only that there is one is known."""

NOT_FROM_COPY = FAILURES | {Reason.COPY_CORRUPT, Reason.IMAGE_NOT_STARTED}
"""Reasons for which an LRP that was to run from a copy stays on its source."""

CANNOT_START = frozenset(
    {
        Reason.NOT_PULLED,
        Reason.COPY_NOT_PULLED,
        Reason.NOT_STARTED,
        Reason.IMAGE_NOT_STARTED,
        Reason.COPY_CORRUPT,
    }
)
"""Those of `NOT_FROM_COPY` by which nothing starts from the copy, whatever room cells have."""


@dataclass(frozen=True, slots=True)
class NamingCandidate:
    """A droplet that may come to name a copy.

    Attributes:
        username: Of the login at the source registry; any name where only that there is one is known.
        placement_tags: Of its staging; None where these are not known.
    """

    app_guid: AppGuid
    cache_guid: CacheGuid
    username: str
    placement_tags: frozenset[str] | None


class PatchedRegistry(Protocol):
    """The private registry, as far as it keeps copies from being used."""

    def why_not_migrate(self) -> str | None:
        """Say why nothing may be moved to a copy now; None while nothing is known against it."""


class CopyBreakers(Protocol):
    """The migrations that have failed."""

    def why_not_use(self, cache_guid: CacheGuid) -> tuple[Reason, str] | None:
        """Say why nothing more may start from a copy now, since migrations failed; None when it may."""


class ProvenPulls(Protocol):
    """Whether cells can pull a copy with the login that Cloud Controller gives them for the source."""

    def why_not(self, placement_tags: frozenset[str], username: str) -> str | None:
        """Say why cells are not known to; None when they are. Whoever asks has them asked."""


class RecordedLrps(Protocol):
    """What the last pass over each LRP came to."""

    async def list_lrps_of_app(self, app_guid: AppGuid) -> tuple[LrpRecord, ...]:
        """List the records of one app's LRPs, by process GUID."""


@dataclass(frozen=True, slots=True)
class DropletObstacles:
    """What speaks against naming a copy in a droplet.

    Attributes:
        registry: The private registry.
        breakers: The migrations that have failed.
        pulls: Whether cells can pull.
        lrps: The records of LRPs.
        placements: Where apps run.
    """

    registry: PatchedRegistry
    breakers: CopyBreakers
    pulls: ProvenPulls
    lrps: RecordedLrps
    placements: AppPlacements

    def ask_ahead(self) -> None:
        """Have cells show that they can pull before the first droplet waits for it."""
        for username in ("", ANY_USERNAME):
            self.pulls.why_not(frozenset(), username)

    async def find(self, candidate: NamingCandidate) -> Leave | None:
        """Say why a droplet may not name its copy now; None when nothing speaks against it."""
        unhealthy = self.registry.why_not_migrate()
        if unhealthy is not None:
            return Leave(Reason.CACHE_REGISTRY_UNHEALTHY, unhealthy)
        failed = self.breakers.why_not_use(candidate.cache_guid)
        if failed is not None:
            return Leave(*failed)
        tags = candidate.placement_tags
        tags = self.placements.tags_of(candidate.app_guid) if tags is None else tags
        problem = self.pulls.why_not(tags, candidate.username)
        if problem is not None:
            return Leave(Reason.DROPLET_PULLS_NOT_PROVEN, problem)
        return await self._find_end(candidate.app_guid, candidate.cache_guid, NOT_FROM_COPY)

    async def find_failure(self, app_guid: AppGuid, cache_guid: CacheGuid) -> Leave | None:
        """Say why an LRP of an app could not start from a copy, and went back; None when none failed."""
        return await self._find_end(app_guid, cache_guid, CANNOT_START)

    async def _find_end(
        self, app_guid: AppGuid, cache_guid: CacheGuid, ends: Collection[Reason]
    ) -> Leave | None:
        """Find an LRP that is on its source for a reason: a restart from the copy would fail as well."""
        for record in await self.lrps.list_lrps_of_app(app_guid):
            if record.cache_guid == cache_guid and record.reason in ends:
                return Leave(record.reason, f"{record.process_guid}: {record.detail}".removesuffix(": "))
        return None
