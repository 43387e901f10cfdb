"""Carries out one action and returns its outcome.

Every step can be repeated, and a journal row is written before the effect that it names. An LRP is observed
once more directly before its removal: an instance that started or ended since the first observation prevents
the removal.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    GiveRoutesBack,
    RemoveOrphanedBridge,
    Skip,
    VerifyImage,
)
from reconcile.bridges import BRIDGE_DOMAIN, BRIDGE_DOMAIN_TTL, bridge_of
from reconcile.decide import request_of_lrp
from reconcile.errors import Conflict, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.facts import Facts
from reconcile.instances import failure_of_pull, met_pull_failure, without_container
from reconcile.lrps import ActualLrp, ActualLrpState, Presence, ProcessGuid, Pull
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
from reconcile.protocol import LONGEST_RETRY, SHORTEST_RETRY, may_remove, row_of_removal
from reconcile.reasons import Reason
from reconcile.records import CachedImage, Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.references import CacheGuid, CacheRepositories
from reconcile.start_failures import StartFailure
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
    TurnBack,
    UpdateBridge,
    UpdateRoutes,
)
from reconcile.stop_requests import StopRequests

_SUSPECTS_COPY = frozenset(
    {
        Reason.BRIDGE_CRASHED,
        Reason.COPY_NOT_PULLED,
        Reason.NOT_STARTED,
        Reason.IMAGE_NOT_STARTED,
        Reason.PROCESS_EXITED,
    }
)
"""Ends that make a copy suspect: it is read back before another LRP is migrated to it."""

_ON_COPY = frozenset({Reason.MIGRATED, Reason.PROCESS_EXITED, Reason.NO_ROOM, Reason.NO_INSTANCES})
"""Ends at which the LRP is desired from its copy."""


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
    """The ports that actions have effects through.

    Attributes:
        stops: The instances that were retired lately; whoever reads events asks it which are expected.
    """

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
    stops: StopRequests = field(default_factory=StopRequests)


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
            return await _retire(action, observed, ports)
        case RemoveOrphanedBridge(process_guid, reason):
            with suppress(NotFound):
                await ports.lrps.remove_desired_lrp(process_guid)
            return Outcome(reason, retry_after=LONGEST_RETRY)
        case GiveRoutesBack(process_guid, routes, reason):
            with suppress(NotFound):
                await ports.lrps.update_routes(process_guid, routes)
            return Outcome(reason, "gave the app itself its routes back", retry_after=LONGEST_RETRY)
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
        ended=action.ended,
        detail=action.detail,
        way_back=_way_back_of(action, observed),
    )
    await ports.journal.save_migration(row)
    if action.ended is not None:
        await _note_failure(row, failure_of_pull(observed.instances), observed, ports)
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


def _way_back_of(action: BeginMigration, observed: Observed) -> Pull | None:
    source = observed.original_source
    if action.ended is None or source is None:
        return None
    return Pull(source.rootfs, source.credentials)


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
        case Enter():
            return await _enter_next(action.step, observed, ports)
        case DesireBridge() | UpdateBridge() | RemoveBridge() as step:
            return await _change_bridge(step, action.target, ports)
        case UpdateRoutes():
            return await _update_routes(action.step, ports)
        case RemoveOriginal(row):
            return await _remove(row, observed, facts, ports)
        case TurnBack():
            return await _turn_back(action.step, observed, facts, ports)
        case DesireOriginal(row):
            return await _desire(row, action.target, observed, ports)
        case RetireInstances() as retire:
            return await _retire(retire, observed, ports)
        case Close(row, reason):
            return await _close(row, reason, observed, ports)


async def _change_bridge(
    step: DesireBridge | UpdateBridge | RemoveBridge, target: Pull, ports: ActionPorts
) -> Outcome:
    row = step.migration
    bridge = bridge_of(row.process_guid)
    match step:
        case DesireBridge():
            await ports.bridges.upsert_domain(BRIDGE_DOMAIN, ttl=BRIDGE_DOMAIN_TTL)
            with suppress(Conflict):
                await ports.bridges.desire_another(
                    row.original, bridge, BRIDGE_DOMAIN, target, instances=step.instances
                )
        case UpdateBridge():
            with suppress(NotFound):
                await ports.bridges.update_from(bridge, step.definition)
        case RemoveBridge():
            with suppress(NotFound):
                await ports.lrps.remove_desired_lrp(bridge)
    return Outcome(step.reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)


async def _update_routes(step: UpdateRoutes, ports: ActionPorts) -> Outcome:
    row = step.migration
    await ports.journal.save_migration(row)
    with suppress(NotFound):
        await ports.lrps.update_routes(row.process_guid, step.routes)
    return Outcome(step.reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)


async def _enter_next(step: Enter, observed: Observed, ports: ActionPorts) -> Outcome:
    if step.failure is not None:
        await _note_failure(step.migration, step.failure, observed, ports)
    return await _enter(step.migration, ports)


async def _enter(row: Migration, ports: ActionPorts) -> Outcome:
    await ports.journal.save_migration(row)
    return Outcome(row.phase.reason, retry_after=0.0, rounds=row.rounds)


async def _close(row: Migration, reason: Reason, observed: Observed, ports: ActionPorts) -> Outcome:
    if reason in _SUSPECTS_COPY and row.goal is Goal.CACHE:
        await ports.images.mark_for_verification(row.cache_guid, observed.now)
    if reason is Reason.MIGRATED:
        await _note_starts(row, observed, ports)
    await ports.journal.delete_migration(row.process_guid)
    is_on_copy = reason in _ON_COPY
    return Outcome(
        reason,
        row.detail,
        retry_after=None if is_on_copy and observed.order is None else 0.0,
        cache_guid=row.cache_guid if is_on_copy else None,
        rounds=row.rounds - 1 if reason is Reason.CANCELLED else row.rounds,
        ended=row,
    )


async def _note_starts(row: Migration, observed: Observed, ports: ActionPorts) -> None:
    """Note the cells that run instances from the copy, and that another could not pull it."""
    tags = row.original.placement_tags
    for each in (*observed.instances, *observed.bridge_instances):
        is_new = each.instance_guid not in row.instance_guids
        if each.state is ActualLrpState.RUNNING and each.cell_id and is_new:
            ports.pulls.note_success(each.cell_id, tags)
    new = [each for each in observed.instances if each.instance_guid not in row.instance_guids]
    await _note_failure(row, met_pull_failure(new), observed, ports)


async def _turn_back(step: TurnBack, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    row = step.migration
    await _note_failure(row, step.failure, observed, ports)
    if row.phase in {Phase.REMOVED, Phase.BRIDGING}:
        return await _enter(row, ports)
    return await _remove(row, observed, facts, ports)


async def _note_failure(
    row: Migration, failure: StartFailure | None, observed: Observed, ports: ActionPorts
) -> None:
    """Note what a failed start from a copy speaks against: cells and registry, or the copy."""
    if failure is not None and failure.is_pull_failure:
        ports.pulls.note_failure("", row.original.placement_tags, failure)  # a crashed row names no cell
    if row.ended in _SUSPECTS_COPY:
        await ports.images.mark_for_verification(row.cache_guid, observed.now)


async def _remove(before: Migration, observed: Observed, facts: Facts, ports: ActionPorts) -> Outcome:
    """Remove the original, after its row was written and it was observed once more."""
    guid = before.process_guid
    row = row_of_removal(before, observed.world, ports.limits)
    await ports.journal.save_migration(row)
    seen = await observe_migrating(row, observed, facts)
    if not may_remove(row, seen.world):
        return await _cancel(before, Reason.INSTANCES_CHANGED, observed, ports)
    newest = row_of_removal(before, seen.world, ports.limits)
    if newest != row:  # it was scaled, has other routes or other instances now
        row = newest
        await ports.journal.save_migration(row)
    try:
        await ports.lrps.remove_desired_lrp(guid)
    except NotFound:
        # Its owner removed it since the last observation: it must not be desired again.
        return await _cancel(before, Reason.REMOVED_BY_OWNER, observed, ports)
    except Unavailable as error:
        if error.may_have_happened:
            return Outcome(Reason.REMOVAL_UNCONFIRMED, str(error), retry_after=0.0, rounds=row.rounds)
        await _cancel(before, Reason.NOT_REMOVED, observed, ports)
        raise
    return await _enter(replace(row, phase=Phase.REMOVED, unknown_until=0.0), ports)


async def _cancel(
    row: Migration, reason: Reason, observed: Observed, ports: ActionPorts, *, detail: str = ""
) -> Outcome:
    """Cancel a removal: go back to the row from before, or end a migration that has just begun."""
    before = observed.migration
    if before is not None and reason is not Reason.BBS_REFUSED_DEFINITION:
        await ports.journal.save_migration(before)
        return Outcome(reason, detail, retry_after=0.0, rounds=row.rounds)
    await ports.journal.delete_migration(row.process_guid)
    rounds = row.rounds if reason is Reason.BBS_REFUSED_DEFINITION else row.rounds - 1  # nobody reverted it
    return Outcome(reason, detail, retry_after=0.0, rounds=rounds, ended=row)


async def _retire(action: RetireInstances, observed: Observed, ports: ActionPorts) -> Outcome:
    if action.migration is not None:
        await ports.journal.save_migration(action.migration)
    for row in action.instances:
        await _retire_one(row, observed.now, ports)
    if without_container(action.instances):  # the BBS deletes their rows at once
        return Outcome(action.reason, retry_after=SHORTEST_RETRY)
    return Outcome(action.reason, "their stop requests were lost: retired", retry_after=LONGEST_RETRY)


async def _retire_one(instance: ActualLrp, now: float, ports: ActionPorts) -> None:
    """Retire an instance, unless an earlier request to stop it may still take effect."""
    is_due = ports.stops.is_due(instance, now, repeat_after=ports.limits.stop)
    if instance.presence is not Presence.ORDINARY or not is_due:
        return
    ports.stops.note(instance, now)
    try:
        await ports.instances.retire_actual_lrp(
            instance.process_guid, index=instance.index, domain=instance.domain
        )
    except NotFound:
        ports.stops.note_gone(instance)


async def _desire(row: Migration, target: Pull, observed: Observed, ports: ActionPorts) -> Outcome:
    original = row.original
    try:
        await ports.lrps.desire_lrp(original, target.rootfs, target.credentials)
    except Conflict:
        return Outcome(Reason.CHANGED_BY_CLOUD_CONTROLLER, retry_after=0.0, rounds=row.rounds)
    except Invalid as refusal:
        # The BBS accepted the old definition before: desire it again rather than lose the LRP.
        await ports.lrps.desire_lrp(original, original.rootfs, original.credentials)
        if not row.has_bridge:
            return await _cancel(row, Reason.BBS_REFUSED_DEFINITION, observed, ports, detail=refusal.detail)
        return await _enter(
            replace(row, phase=Phase.STARTING, ended=Reason.BBS_REFUSED_DEFINITION, entered_at=observed.now),
            ports,
        )
    # An LRP that is missing from now on was removed by its owner, however soon.
    await ports.journal.save_migration(replace(row, phase=Phase.STARTING, entered_at=observed.now))
    return Outcome(Reason.DESIRE_UNCONFIRMED, retry_after=0.0, rounds=row.rounds)
