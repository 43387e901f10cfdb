"""Writes the record of a change of a droplet: as it begins, and as the droplet shows that it was made."""

from dataclasses import replace

from reconcile.droplet_actions import ObservedDroplet
from reconcile.droplet_choice import still_counts
from reconcile.droplets import Droplet, DropletPhase, DropletRecord
from reconcile.migration_choice import ROUNDS_FORGOTTEN_AFTER
from reconcile.reasons import Reason
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories


def rounds_before(observed: ObservedDroplet) -> int:
    """Count the changes of a droplet to its copy that somebody has reverted lately."""
    record, droplet = observed.record, observed.droplet
    if record is None or (droplet is not None and record.target == droplet.image):
        return 0
    counts = still_counts(observed, record.updated_at, for_seconds=ROUNDS_FORGOTTEN_AFTER)
    return record.rounds if counts else 0


def patch_begun(
    observed: ObservedDroplet, droplet: Droplet, image: CachedImage, text: str, registry: str
) -> DropletRecord:
    """Write the record of a patch that is to be sent: the original text is that of the first one."""
    record, now = observed.record, observed.now
    begun = DropletRecord(
        droplet.guid,
        droplet.app_guid,
        observed.build_guid,
        original=droplet.image or "",
        username=observed.username,
        cache_guid=image.cache_guid,
        registry=registry,
        target=text,
        phase=DropletPhase.PATCHING,
        reason=Reason.PATCHING_DROPLET,
        created_at=now,
        updated_at=now,
        attempts=1,
    )
    if record is None:
        return begun
    is_again = record.phase is DropletPhase.PATCHING and record.target == text
    return replace(
        begun,
        build_guid=observed.build_guid or record.build_guid,
        original=record.original if record.target else begun.original,
        username=observed.username or record.username,
        created_at=record.created_at,
        attempts=record.attempts + 1 if is_again else 1,
        rounds=rounds_before(observed),
    )


def noted_as_patched(
    observed: ObservedDroplet,
    record: DropletRecord,
    droplet: Droplet,
    guid: CacheGuid,
    cache: CacheRepositories,
) -> DropletRecord:
    """Note that a droplet names a copy, whoever wrote that."""
    return replace(
        record,
        cache_guid=guid,
        registry=cache.address,
        target=droplet.image or record.target,
        phase=DropletPhase.PATCHED,
        reason=Reason.DROPLET_PATCHED,
        detail="",
        rounds=record.rounds + 1 if record.phase is DropletPhase.PATCHING else record.rounds,
        attempts=0,
        not_before=0.0,
        updated_at=observed.now,
    )


def noted_as_restored(record: DropletRecord, now: float) -> DropletRecord:
    """Note that a droplet has its original text, whoever wrote that."""
    return replace(
        record,
        phase=DropletPhase.RESTORED,
        reason=Reason.RESTORED,
        detail="" if record.phase is not DropletPhase.RESTORING else record.detail,
        attempts=0,
        rounds=0,
        not_before=0.0,
        updated_at=now,
    )
