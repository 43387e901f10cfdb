"""Notices that records name another private registry than the config does."""

from collections.abc import Iterable

from reconcile.references import CacheRepositories


def others(recorded: Iterable[str], cache: CacheRepositories) -> list[str]:
    """List the recorded registries that are neither the present one nor among the former ones."""
    known = (cache, *cache.former)
    return sorted(
        address for address in recorded if address and not any(each.is_at(address) for each in known)
    )


def made_in(address: str, copies: int) -> str:
    """Say how many copies were made in a registry."""
    return f"{copies:,} {'copy was' if copies == 1 else 'copies were'} made in {address}"


def advice_about(address: str, copies: int, cache: CacheRepositories) -> str:
    """Say what to configure for a recorded registry that the config does not name."""
    return (
        f"{made_in(address, copies)}, and cache_registry.address is {cache.address}: "
        f"list {address} in former_cache_registries, and apps that run from there are migrated; until then "
        "they stay"
    )
