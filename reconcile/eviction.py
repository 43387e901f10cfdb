"""Decides which copies may be deleted: those that nothing uses now, and that nothing has used for a while.

Two looks at what uses them, which lie apart in time, must agree.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from reconcile.errors import Invalid
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories
from reconcile.usage import Usage, used_by


class EvictionVerdict(StrEnum):
    """Whether a copy may be deleted."""

    DELETABLE = "deletable"
    IN_USE = "in-use"
    """Something uses it, or may soon need it."""
    TOO_SOON = "too-soon"
    """Nothing uses it now, but it is not known for long enough that nothing does."""
    SHARED = "shared"
    """Another copy is the same manifest in the same repository: both would be deleted."""
    UNKNOWN = "unknown"
    """What uses it could not be found out."""


@dataclass(frozen=True, slots=True)
class EvictionDecision:
    """Whether one copy may be deleted, and if not, why not.

    Attributes:
        detail: Why it may not be deleted, one line for people; empty when it may.
        deletable_from: When it may be deleted unless it is used by then, UTC seconds since 1970; 0 when that
            is not known, since it is used.
        unused_since: Since when it was seen unused, UTC seconds since 1970; 0 when it was not.
        problem: Why its use is unknown.
    """

    image: CachedImage
    verdict: EvictionVerdict
    detail: str = ""
    deletable_from: float = 0.0
    unused_since: float = 0.0
    problem: Invalid | None = None

    @property
    def is_deletable(self) -> bool:
        """Whether the copy may be deleted."""
        return self.verdict is EvictionVerdict.DELETABLE


def decide_eviction(
    image: CachedImage, usage: Usage, *, unused_since: float, grace: float, twin: CacheGuid | None
) -> EvictionDecision:
    """Decide whether a copy may be deleted.

    Args:
        image: The copy.
        usage: What uses copies now.
        unused_since: Since when it was seen unused; 0 when the present look is the first that sees it so.
        grace: Seconds for which it must have been unused.
        twin: Another copy that is the same manifest in the same repository.
    """
    users = usage.users.get(image.cache_guid, ())
    if users:
        return EvictionDecision(image, EvictionVerdict.IN_USE, used_by(users))
    if usage.problem is not None:
        detail, verdict = str(usage.problem), EvictionVerdict.UNKNOWN
        return EvictionDecision(image, verdict, detail, unused_since=unused_since, problem=usage.problem)
    if twin is not None:
        detail = f"{twin} is the same manifest in the same repository"
        return EvictionDecision(image, EvictionVerdict.SHARED, detail, unused_since=unused_since)
    copied = image.created_at if image.created_at <= usage.at else 0.0  # by a clock that was set back since
    begun = max(min(unused_since or usage.at, usage.at), copied)
    if usage.at - begun < grace:
        what = "copied" if begun == image.created_at else "first seen unused"
        detail = f"{what} {max(usage.at - begun, 0.0):.0f} s ago; {grace:.0f} s are required"
        return EvictionDecision(
            image, EvictionVerdict.TOO_SOON, detail, deletable_from=begun + grace, unused_since=unused_since
        )
    return EvictionDecision(image, EvictionVerdict.DELETABLE, unused_since=unused_since)


def find_twins(images: Iterable[CachedImage], cache: CacheRepositories) -> dict[CacheGuid, CacheGuid]:
    """Name for each copy another one that is the same manifest in the same repository, if there is one."""
    twins: dict[CacheGuid, CacheGuid] = {}
    first: dict[tuple[str, str], CacheGuid] = {}
    for image in images:
        manifest = cache.image(image.cache_guid).repository, str(image.digest)
        other = first.setdefault(manifest, image.cache_guid)
        if other != image.cache_guid:
            twins[image.cache_guid] = other
            twins.setdefault(other, image.cache_guid)
    return twins
