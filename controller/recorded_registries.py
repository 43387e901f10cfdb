"""Notices that records name another private registry than the config does."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from reconcile.references import CacheRepositories

log = structlog.get_logger(scope="daemon")


class MeasuredImages(Protocol):
    """The records of copies."""

    async def measure_images(self) -> Mapping[str, tuple[int, int]]:
        """Count the finished copies and their bytes, by the address of the registry that holds them."""


def others(recorded: Iterable[str], cache: CacheRepositories) -> list[str]:
    """List the recorded registries that are neither the present one nor among the former ones."""
    known = (cache, *cache.former)
    return sorted(
        address for address in recorded if address and not any(each.is_at(address) for each in known)
    )


def advice_about(address: str, copies: int, cache: CacheRepositories) -> str:
    """Say what to configure for a recorded registry that the config does not name."""
    return (
        f"{copies} copies were made in {address}, and cache_registry.address is {cache.address}: "
        f"list {address} in former_cache_registries, and apps that run from there are migrated; until then "
        "they stay"
    )


async def warn_of_other_registries(records: MeasuredImages, cache: CacheRepositories) -> None:
    """Log each recorded registry that the config does not name, and what to do about it."""
    stored = await records.measure_images()
    for address in others(stored, cache):
        log.error(
            "registry-not-configured",
            registry=address,
            detail=advice_about(address, stored[address][0], cache),
        )
