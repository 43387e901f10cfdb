"""Carries out one action and tells what came of it.

Every step can be repeated, and what is read before a removal is read here, just before
it: an instance that began to run after the observation stops a replacement.
"""

from dataclasses import dataclass, replace

from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.images import CacheGuid, CacheRepositories
from reconcile.lrps import ActualLrpState, Credentials
from reconcile.plan import (
    LOOK_AGAIN,
    Action,
    BeginReplacement,
    CacheImage,
    CloseReplacement,
    DesireFromCache,
    Forget,
    LeaveAlone,
    LookAgain,
    Observed,
)
from reconcile.ports import CacheRequests, Engine, Journal, Lrps
from reconcile.records import CacheRequest, Phase, Replacement, origin_of_lrp


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an action.

    Attributes:
        reason: A constant for log, metrics and record.
        detail: One line for people; never holds credentials.
        look_again: Seconds after which to look again; None when only a change calls for it.
        cache_guid: Set when the LRP runs from this cached image now.
        rounds: Replacements of the LRP that were begun, when this action begins one.
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
        case DesireFromCache(replacement):
            return await _desire(replacement, targets)
        case CloseReplacement(replacement, reason, cache_guid):
            await targets.journal.delete_replacement(replacement.process_guid)
            look_again = None if cache_guid is not None else 0.0
            return Outcome(reason, look_again=look_again, cache_guid=cache_guid)


async def _begin(action: BeginReplacement, observed: Observed, targets: Targets) -> Outcome:
    guid = action.lrp.process_guid
    replacement = Replacement(
        process_guid=guid,
        cache_guid=action.image.cache_guid,
        phase=Phase.PREPARED,
        original=action.lrp,
        rounds=action.rounds,
        run_id=observed.run_id,
        started_at=observed.now,
    )
    await targets.journal.save_replacement(replacement)
    problem = await _reason_not_to_remove(action, observed, targets)
    if problem is not None:
        await targets.journal.delete_replacement(guid)
        return problem
    lrp = await targets.lrps.find_desired_lrp(guid)
    if lrp is None or lrp.rootfs != action.lrp.rootfs:
        await targets.journal.delete_replacement(guid)
        return Outcome("changed-meanwhile", look_again=0.0)
    # The newest version goes into the journal: its owner may have scaled it since the observation.
    await targets.journal.save_replacement(replace(replacement, phase=Phase.REMOVING, original=lrp))
    try:
        await targets.lrps.remove_desired_lrp(guid)
    except NotFound:
        # Its owner removed it in this very moment: nothing of it may come back.
        await targets.journal.delete_replacement(guid)
        return Outcome("owner-removed-it", look_again=0.0)
    return Outcome("waiting: instances-stopping", look_again=0.0, rounds=action.rounds)


async def _reason_not_to_remove(
    action: BeginReplacement, observed: Observed, targets: Targets
) -> Outcome | None:
    image = action.image
    if not await targets.engine.is_present(targets.cache.image(image.cache_guid), image.digest):
        staged_at = int(observed.now * 1e9)
        await targets.requests.request(
            CacheRequest(
                app_guid=action.lrp.app_guid,
                source=image.source if observed.binding is None else observed.binding.source,
                origin=origin_of_lrp(action.lrp.process_guid, staged_at),
                staged_at=staged_at,
                reason="copy-vanished",
                credentials=action.lrp.credentials,
            )
        )
        return Outcome("waiting: caching", f"{image.cache_guid} vanished from the private registry")
    instances = await targets.lrps.list_actual_lrps(action.lrp.process_guid)
    if any(instance.state is ActualLrpState.RUNNING for instance in instances):
        return Outcome("waiting: running")
    return None


async def _desire(replacement: Replacement, targets: Targets) -> Outcome:
    rootfs = targets.cache.rootfs(replacement.cache_guid)
    try:
        await targets.lrps.desire_lrp(replacement.original, rootfs, targets.pull_credentials)
    except Conflict:
        return Outcome("owner-was-faster", look_again=0.0)
    except Invalid as refusal:
        # The BBS took this very definition once: give it back rather than lose it.
        original = replacement.original
        await targets.lrps.desire_lrp(original, original.rootfs, original.credentials)
        return Outcome("bbs-refused-rewrite", refusal.detail, look_again=LOOK_AGAIN)
    return Outcome("waiting: replaced-unconfirmed", look_again=0.0)
