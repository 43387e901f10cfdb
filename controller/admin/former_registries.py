"""Reports the private registries that were used before the present one."""

from collections.abc import Mapping

from protos.admin import admin_pb2 as pb
from reconcile.hosts import canonical_host
from reconcile.references import CacheRepositories


def former_registries(
    cache: CacheRepositories, stored: Mapping[str, tuple[int, int]], lrps: Mapping[str, int]
) -> list[pb.FormerRegistry]:
    """Write each other registry that records, LRPs or the config name.

    Args:
        cache: The present registry.
        stored: Address to copies and bytes.
        lrps: Address to the number of LRPs that run from there.
    """
    configured = {canonical_host(each.address) for each in cache.former}
    elsewhere = {canonical_host(registry): measure for registry, measure in stored.items() if registry}
    running = {canonical_host(registry): count for registry, count in lrps.items()}
    addresses = {*configured, *elsewhere, *running} - {canonical_host(cache.address)}
    return [
        pb.FormerRegistry(
            address=address,
            configured=address in configured,
            images=elsewhere.get(address, (0, 0))[0],
            image_bytes=elsewhere.get(address, (0, 0))[1],
            lrps=running.get(address, 0),
        )
        for address in sorted(addresses)
    ]
