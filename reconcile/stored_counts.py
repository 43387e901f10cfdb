"""What is counted in the store, for metrics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconcile.migrations import Phase
from reconcile.reasons import Reason
from reconcile.records import JobState
from reconcile.references import CacheRepositories


@dataclass(frozen=True, slots=True)
class Group:
    """Records that are in one state.

    Attributes:
        count: How many they are.
        since: When the oldest began, in UTC seconds since 1970.
    """

    count: int
    since: float


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """What the store holds at one moment; a state that nothing is in is missing.

    Attributes:
        copies: Copies, and their bytes, by the address of the registry that holds them.
        needing_verification: Copies that are read back before another LRP is migrated to them.
    """

    lrps: Mapping[Reason, int]
    jobs: Mapping[JobState, Group]
    migrations: Mapping[Phase, Group]
    copies: Mapping[str, tuple[int, int]]
    needing_verification: int


def copies_in(cache: CacheRepositories, stored: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Count the copies and the bytes in the present registry, from those by the registry of their records."""
    here = [stored[registry] for registry in addresses_of(cache, stored)]
    return sum(count for count, _ in here), sum(size for _, size in here)


def addresses_of(cache: CacheRepositories, registries: Iterable[str]) -> tuple[str, ...]:
    """List those addresses in records that are of the present registry."""
    return tuple(registry for registry in registries if not registry or cache.is_at(registry))
