"""Carries out one action and tells what came of it.

Every step can be repeated, and what is read before a removal is read here, just before
it: an instance that began to run after the observation stops a replacement.
"""

from contextlib import suppress
from dataclasses import dataclass, replace

from reconcile.errors import Conflict, Invalid, NotFound, Unavailable
from reconcile.images import CacheGuid, CacheRepositories
from reconcile.lrps import ActualLrpState, Credentials, Presence, ProcessGuid
from reconcile.plan import (
    LONGEST_LOOK_AGAIN,
    LOOK_AGAIN,
    UNKNOWN_FOR,
    Action,
    BeginReplacement,
    CacheImage,
    CloseReplacement,
    DesireFromCache,
    Forget,
    KeepNewest,
    LeaveAlone,
    LookAgain,
    Observed,
    RetireInstances,
    request_of_lrp,
)
from reconcile.ports import CacheRequests, Engine, Instances, Journal, Lrps
from reconcile.records import Phase, Replacement


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action.

    Attributes:
        reason: A constant for log, metrics and record.
        detail: One line for people; never holds credentials.
        look_again: Seconds after which to look again; None when only a change calls for it.
        cache_guid: Set when the LRP runs from this cached image now.
        rounds: Replacements of the LRP that were begun, where one is open.
    """

    reason: str
    detail: str = ""
    look_again: float | None = None
    cache_guid: CacheGuid | None = None
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """What actions reach.

    Attributes:
        pull_credentials: What cells need to pull from the private registry; None when nothing.
    """

    lrps: Lrps
    instances: Instances
    journal: Journal
    engine: Engine
    requests: CacheRequests
    cache: CacheRepositories
    pull_credentials: Credentials | None = None


async def apply(action: Action, observed: Observed, targets: Targets) -> Outcome:
    """Carry out an action that was planned on an observation."""
    match action:
        case LeaveAlone(reason, detail):
            return Outcome(reason, detail)
        case LookAgain(reason, seconds):
            return Outcome(reason, look_again=seconds)
        case Forget(reason):
            return Outcome(reason)
        case CacheImage(request):
            job = await targets.requests.request(request)
            return Outcome("waiting: caching", f"asked for a copy: {request.reason}, job {job.job_id}")
        case BeginReplacement():
            return await _begin(action, observed, targets)
        case RetireInstances():
            return await _retire(action, targets)
        case KeepNewest(replacement, seconds, reason):
            await targets.journal.save_replacement(replacement)
            return Outcome(reason, look_again=seconds, rounds=replacement.rounds)
        case DesireFromCache(replacement):
            return await _desire(replacement, targets)
        case CloseReplacement(replacement, reason, cache_guid):
            await targets.journal.delete_replacement(replacement.process_guid)
            look_again = None if cache_guid is not None else 0.0
            return Outcome(reason, look_again=look_again, cache_guid=cache_guid, rounds=replacement.rounds)


async def _begin(action: BeginReplacement, observed: Observed, targets: Targets) -> Outcome:
    """Remove an LRP; the instances are looked at last, right before the removal."""
    guid, image = action.lrp.process_guid, action.image
    replacement = Replacement(
        process_guid=guid,
        cache_guid=image.cache_guid,
        phase=Phase.PREPARED,
        original=action.lrp,
        rounds=action.rounds,
        run_id=observed.run_id,
        started_at=observed.now,
    )
    await targets.journal.save_replacement(replacement)
    if not await targets.engine.is_present(targets.cache.image(image.cache_guid), image.digest):
        return await _ask_again(action, observed, targets)
    lrp = await targets.lrps.find_desired_lrp(guid)
    if lrp is None or lrp.rootfs != action.lrp.rootfs:
        return await _call_off(guid, Outcome("changed-meanwhile", look_again=0.0), targets)
    # The newest version goes into the journal: its owner may have scaled it since the observation.
    replacement = replace(
        replacement, phase=Phase.REMOVING, original=lrp, unknown_until=observed.now + UNKNOWN_FOR
    )
    await targets.journal.save_replacement(replacement)
    instances = await targets.instances.list_actual_lrps(guid)
    if any(instance.state is ActualLrpState.RUNNING for instance in instances):
        return await _call_off(guid, Outcome("waiting: running"), targets)
    return await _remove(replacement, targets)


async def _remove(replacement: Replacement, targets: Targets) -> Outcome:
    guid = replacement.process_guid
    try:
        await targets.lrps.remove_desired_lrp(guid)
    except NotFound:
        # Its owner removed it in this very moment: nothing of it may come back.
        return await _call_off(guid, Outcome("owner-removed-it", look_again=0.0), targets)
    except Unavailable as error:
        if error.may_have_happened:
            return Outcome("waiting: removal-unknown", str(error), look_again=0.0, rounds=replacement.rounds)
        await targets.journal.delete_replacement(guid)
        raise
    await targets.journal.save_replacement(replace(replacement, phase=Phase.REMOVED, unknown_until=0.0))
    return Outcome("waiting: instances-stopping", look_again=0.0, rounds=replacement.rounds)


async def _call_off(guid: ProcessGuid, outcome: Outcome, targets: Targets) -> Outcome:
    await targets.journal.delete_replacement(guid)
    return outcome


async def _ask_again(action: BeginReplacement, observed: Observed, targets: Targets) -> Outcome:
    image = action.image
    source = image.source if observed.binding is None else observed.binding.source
    request = request_of_lrp(action.lrp, source, observed.binding, reason="copy-vanished")
    await targets.requests.request(request)
    vanished = f"{targets.cache.image(image.cache_guid)} vanished from the private registry"
    return await _call_off(action.lrp.process_guid, Outcome("waiting: caching", vanished), targets)


async def _retire(action: RetireInstances, targets: Targets) -> Outcome:
    for row in action.instances:
        if row.presence is Presence.ORDINARY:
            with suppress(NotFound):
                await targets.instances.retire_actual_lrp(
                    row.process_guid, index=row.index, domain=row.domain
                )
    return Outcome(action.reason, "their stops were lost: retired", look_again=LONGEST_LOOK_AGAIN)


async def _desire(replacement: Replacement, targets: Targets) -> Outcome:
    rootfs = targets.cache.rootfs(replacement.cache_guid)
    try:
        await targets.lrps.desire_lrp(replacement.original, rootfs, targets.pull_credentials)
    except Conflict:
        return Outcome("owner-was-faster", look_again=0.0, rounds=replacement.rounds)
    except Invalid as refusal:
        # The BBS took this very definition once: give it back rather than lose it.
        original = replacement.original
        await targets.lrps.desire_lrp(original, original.rootfs, original.credentials)
        return Outcome(
            "bbs-refused-rewrite", refusal.detail, look_again=LOOK_AGAIN, rounds=replacement.rounds
        )
    return Outcome("waiting: replaced-unconfirmed", look_again=0.0, rounds=replacement.rounds)
