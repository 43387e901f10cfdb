"""Converts what may be deleted, and what was deleted, to messages of the admin API."""

from types import MappingProxyType

from controller.admin.copies import EvictedCopy
from controller.admin.reason_names import named
from protos.admin import admin_pb2 as pb
from reconcile.errors import DockerCacheError
from reconcile.eviction import EvictionDecision, EvictionVerdict
from reconcile.references import CacheRepositories

EVICTION_VERDICT_NAMES = MappingProxyType({each: named("EVICTION_VERDICT", each) for each in EvictionVerdict})


def planned_eviction_message(
    name: str, decision: EvictionDecision, cache: CacheRepositories
) -> pb.PlannedEviction:
    """Write whether a copy may be deleted."""
    image = decision.image
    return pb.PlannedEviction(
        name=name,
        cache_guid=image.cache_guid,
        source=str(image.source),
        url=str(cache.image(image.cache_guid)),
        bytes=image.size,
        verdict=EVICTION_VERDICT_NAMES[decision.verdict],
        detail=decision.detail,
        deletable_from=decision.deletable_from,
        unused_since=decision.unused_since,
    )


def unknown_eviction_message(name: str, error: DockerCacheError) -> pb.PlannedEviction:
    """Write that a name means no copy, or several."""
    return pb.PlannedEviction(name=name, verdict=pb.EVICTION_VERDICT_NOT_FOUND, detail=str(error))


def evicted_message(evicted: EvictedCopy, cache: CacheRepositories) -> pb.EvictedCopy:
    """Write what came of the deletion of a copy."""
    image, error = evicted.image, evicted.error
    return pb.EvictedCopy(
        url=str(cache.image(image.cache_guid)),
        bytes=image.size,
        cache_guid=image.cache_guid,
        deleted=error is None,
        error="" if error is None else str(error),
    )
