"""Carries out one action and returns its outcome.

Every step can be repeated, and a journal row is written before the effect that it names. An LRP is observed
once more directly before its removal: an instance that started or ended since the first observation prevents
the removal.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    RemoveOrphanedBridge,
    Skip,
    VerifyImage,
)
from reconcile.bridges import BRIDGE_DOMAIN, BRIDGE_DOMAIN_TTL, bridge_of
from reconcile.decide import request_of_lrp
from reconcile.errors import Conflict, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.facts import Facts
from reconcile.lrps import ActualLrp, Presence, ProcessGuid, Pull
from reconcile.observe import observe_migrating
from reconcile.observed import Observed
from reconcile.ports import (
    Bridges,
    CacheRequests,
    CellPulls,
    ImageEngine,
    Instances,
    Journal,
    Lrps,
    OriginalSources,
    Verifier,
)
from reconcile.protocol import LONGEST_RETRY, SHORTEST_RETRY, may_remove, removing
from reconcile.reasons import Reason
from reconcile.records import CachedImage, Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.references import CacheGuid, CacheRepositories
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    PhaseLimits,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    UpdateBridge,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an action.

    Attributes:
        reason: For log, metrics and record.
        detail: One line for people; never holds credentials.
        retry_after: Seconds after which the next pass is due; None when only a change calls for one.
        cache_guid: The cached image that the LRP runs from now; None when the action did not bring it there.
        rounds: Migrations of the LRP that have begun; None where none is open.
        ended: The migration that has ended with this action; None for none.
    """

    reason: Reason
    detail: str = ""
    retry_after: float | None = None
    cache_guid: CacheGuid | None = None
    rounds: int | None = None
    ended: Migration | None = None


class ActionCopyRecords(Protocol):
    """The records of copies, as far as actions change them."""

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read a finished copy."""

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Mark a copy as needing verification, since instances crashed from it."""


@dataclass(frozen=True, slots=True)
class ActionPorts:
    """The ports that actions have effects through."""

    lrps: Lrps
    bridges: Bridges
    instances: Instances
    journal: Journal
    original_sources: OriginalSources
    images: ActionCopyRecords
    engine: ImageEngine
    verifier: Verifier
    requests: CacheRequests
    pulls: CellPulls
    cache: CacheRepositories
    limits: PhaseLimits = PhaseLimits()  # noqa: RUF009 - a frozen value


async def apply(action: Action, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Carry out an action that was decided on an observation."""
    match action:
        case Skip(reason, detail):
            return Outcome(reason, detail)
        case Forget(reason):
            return Outcome(reason)
        case CacheImage(request):
            job = await ports.requests.request(request)
            return Outcome(Reason.WAITING_FOR_COPY, f"requested a copy: {request.reason}, job {job.job_id}")
        case VerifyImage():
            return await _verify(action, observed, ports)
        case BeginMigration():
            return await _begin(action, observed, facts, ports)
        case RetireInstances():
            return await _retire(action, ports)
        case RemoveOrphanedBridge(process_guid, reason):
            with suppress(NotFound):
                await ports.lrps.remove_desired_lrp(process_guid)
            return Outcome(reason, retry_after=LONGEST_RETRY)
        case Continue():
            return await _continue(action, observed, facts, ports)


async def _verify(action: VerifyImage, observed: Observed, ports: ActionPorts) -> Outcome:
    if await ports.verifier.verify(action.image):
        return Outcome(Reason.COPY_VERIFIED, retry_after=0.0)
    await _request_again(action.lrp.process_guid, action.image, observed, ports)
    corrupt = ports.cache.image(action.image.cache_guid)
    return Outcome(Reason.COPY_CORRUPT, f"{corrupt} is corrupt: requested what is missing")


async def _request_again(
    guid: ProcessGuid, image: CachedImage, observed: Observed, ports: ActionPorts
) -> Outcome:
    if observed.lrp is not None:
        source = image.source if observed.binding is None else observed.binding.source
        request = request_of_lrp(observed, observed.lrp, source, reason=Reason.COPY_VANISHED)
        await ports.requests.request(request)
    await ports.journal.delete_migration(guid)
    vanished = f"{ports.cache.image(image.cache_guid)} vanished from the private registry"
    return Outcome(Reason.WAITING_FOR_COPY, vanished)


async def _begin(action: BeginMigration, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    guid, image = action.lrp.process_guid, action.image
    cache_guid = _cache_guid_of(action, observed)
    row = Migration(
        process_guid=guid,
        cache_guid=cache_guid,
        phase=Phase.PREPARED,
        original=action.lrp,
        rounds=action.rounds,
        run_id=observed.run_id,
        started_at=observed.now,
        goal=action.goal,
        strategy=action.strategy,
        entered_at=observed.now,
    )
    await ports.journal.save_migration(row)
    if image is not None:
        try:
            has_copy = await _has_copy(image, ports)
        except DockerCacheError:
            await ports.journal.delete_migration(guid)  # nothing has begun
            raise
        if not has_copy:
            return await _request_again(guid, image, observed, ports)
        lrp = action.lrp
        login = lrp.credentials
        await ports.original_sources.save_original_source(
            OriginalSource(guid, cache_guid, lrp.rootfs, login is not None, login)
        )
    if action.strategy is Strategy.BRIDGE:
        return await _enter(replace(row, phase=Phase.BRIDGING), ports)
    return await _remove(row, observed, facts, ports)


async def _has_copy(image: CachedImage, ports: ActionPorts) -> bool:
    """Whether a copy is still recorded, now that the row shows that it is used, and still in the registry."""
    if await ports.images.find_image(image.cache_guid) is None:  # an operator evicts it now
        return False
    return await ports.engine.is_present(ports.cache.image(image.cache_guid), image.digest)


def _cache_guid_of(action: BeginMigration, observed: Observed) -> CacheGuid:
    if action.image is not None:
        return action.image.cache_guid
    if observed.original_source is None:
        raise AssertionError("the original source is known before an LRP is restored to it")
    return observed.original_source.cache_guid


async def _continue(action: Continue, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    match action.step:
        case RetryLater(reason, seconds):
            return Outcome(reason, retry_after=seconds)
        case Enter(row):
            return await _enter(row, ports)
        case DesireBridge(row, reason):
            await ports.bridges.upsert_domain(BRIDGE_DOMAIN, ttl=BRIDGE_DOMAIN_TTL)
            with suppress(Conflict):
                await ports.bridges.desire_another(
                    row.original, bridge_of(row.process_guid), BRIDGE_DOMAIN, action.target
                )
            return Outcome(reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)
        case UpdateBridge(row, definition, reason):
            with suppress(NotFound):
                await ports.bridges.update_from(bridge_of(row.process_guid), definition)
            return Outcome(reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)
        case RemoveOriginal(row):
            return await _remove(row, observed, facts, ports)
        case DesireOriginal(row):
            return await _desire(row, action.target, observed, ports)
        case RetireInstances() as retire:
            return await _retire(retire, ports)
        case RemoveBridge(row, reason):
            with suppress(NotFound):
                await ports.lrps.remove_desired_lrp(bridge_of(row.process_guid))
            return Outcome(reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)
        case Close(row, reason):
            return await _close(row, reason, observed, ports)


async def _enter(row: Migration, ports: ActionPorts) -> Outcome:
    await ports.journal.save_migration(row)
    return Outcome(row.phase.reason, retry_after=0.0, rounds=row.rounds)


async def _close(row: Migration, reason: Reason, observed: Observed, ports: ActionPorts) -> Outcome:
    if reason is Reason.BRIDGE_CRASHED and row.goal is Goal.CACHE:
        await ports.images.mark_for_verification(row.cache_guid, observed.now)
    await ports.journal.delete_migration(row.process_guid)
    is_migrated = reason is Reason.MIGRATED
    return Outcome(
        reason,
        retry_after=None if is_migrated else 0.0,
        cache_guid=row.cache_guid if is_migrated else None,
        rounds=row.rounds - 1 if reason is Reason.CANCELLED else row.rounds,
        ended=row,
    )


async def _remove(before: Migration, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Remove the original, after its row was written and it was observed once more."""
    guid = before.process_guid
    row = removing(before, observed.world, ports.limits)
    await ports.journal.save_migration(row)
    seen = await observe_migrating(row, observed, facts)
    if not may_remove(row, seen.world):
        return await _cancel(before, Reason.INSTANCES_CHANGED, ports)
    newest = removing(before, seen.world, ports.limits)
    if newest != row:  # it was scaled, has other routes or other instances now
        row = newest
        await ports.journal.save_migration(row)
    try:
        await ports.lrps.remove_desired_lrp(guid)
    except NotFound:
        # Its owner removed it since the last observation: it must not be desired again.
        return await _cancel(before, Reason.REMOVED_BY_OWNER, ports)
    except Unavailable as error:
        if error.may_have_happened:
            return Outcome(Reason.REMOVAL_UNCONFIRMED, str(error), retry_after=0.0, rounds=row.rounds)
        await _cancel(before, Reason.NOT_REMOVED, ports)
        raise
    return await _enter(replace(row, phase=Phase.REMOVED, unknown_until=0.0), ports)


async def _cancel(row: Migration, reason: Reason, ports: ActionPorts, *, detail: str = "") -> Outcome:
    """Cancel a removal: with a bridge go back to the row from before, without one end the migration."""
    if row.strategy is Strategy.BRIDGE:
        await ports.journal.save_migration(row)
        return Outcome(reason, detail, retry_after=0.0, rounds=row.rounds)
    await ports.journal.delete_migration(row.process_guid)
    rounds = row.rounds if reason is Reason.BBS_REFUSED_DEFINITION else row.rounds - 1  # nobody reverted it
    return Outcome(reason, detail, retry_after=0.0, rounds=rounds, ended=row)


async def _retire(action: RetireInstances, ports: ActionPorts) -> Outcome:
    for instance in action.instances:
        await _retire_one(instance, ports)
    return Outcome(action.reason, "their stop requests were lost: retired", retry_after=LONGEST_RETRY)


async def _retire_one(instance: ActualLrp, ports: ActionPorts) -> None:
    if instance.presence is Presence.ORDINARY:
        with suppress(NotFound):
            await ports.instances.retire_actual_lrp(
                instance.process_guid, index=instance.index, domain=instance.domain
            )


async def _desire(row: Migration, target: Pull, observed: Observed, ports: ActionPorts) -> Outcome:
    original = row.original
    try:
        await ports.lrps.desire_lrp(original, target.rootfs, target.credentials)
    except Conflict:
        return Outcome(Reason.CHANGED_BY_CLOUD_CONTROLLER, retry_after=0.0, rounds=row.rounds)
    except Invalid as refusal:
        # The BBS accepted the old definition before: desire it again rather than lose the LRP.
        await ports.lrps.desire_lrp(original, original.rootfs, original.credentials)
        if row.strategy is Strategy.RECREATE:
            return await _cancel(row, Reason.BBS_REFUSED_DEFINITION, ports, detail=refusal.detail)
        return await _enter(
            replace(row, phase=Phase.STARTING, ended=Reason.BBS_REFUSED_DEFINITION, entered_at=observed.now),
            ports,
        )
    return Outcome(Reason.DESIRE_UNCONFIRMED, retry_after=0.0, rounds=row.rounds)
