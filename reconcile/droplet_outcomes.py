"""Writes what became of a decision into a droplet's record: an answer, a failure, or that it was left."""

from dataclasses import replace

from reconcile.droplet_actions import Leave, ObservedDroplet
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import LATE_EFFECT, Droplet, DropletPhase, DropletRecord
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.observed import Rules
from reconcile.reasons import Reason
from reconcile.times import is_recent

FIRST_WAIT, LONGEST_WAIT = 5.0, 600.0
"""Seconds between a request that failed and the next one, doubled each time."""

RETRY_REFUSED = 3600.0
"""Seconds after which a text that was refused is sent again."""

_RESTORED = frozenset({Reason.RESTORED, Reason.PINNED_TO_SOURCE, Reason.FELL_BACK_TO_SOURCE})


def after_answer(record: DropletRecord, answer: Droplet, now: float) -> DropletRecord:
    """Note what Cloud Controller answered to a patch, or to writing the original text.

    Args:
        record: As it was saved before the request.
        answer: The droplet as it is since.
        now: UTC seconds since 1970.
    """
    is_restore = record.phase is DropletPhase.RESTORING
    if answer.image != (record.original if is_restore else record.target):
        return replace(
            record,
            reason=Reason.PATCH_UNCONFIRMED,
            detail="it holds another text",
            not_before=now + _wait_after(record),
            updated_at=now,
        )
    return replace(
        record,
        phase=DropletPhase.RESTORED if is_restore else DropletPhase.PATCHED,
        reason=Reason.RESTORED if is_restore else Reason.DROPLET_PATCHED,
        detail=record.detail if is_restore else "",
        attempts=0,
        rounds=0 if is_restore else record.rounds + 1,
        not_before=0.0,
        updated_at=now,
    )


def after_failure(record: DropletRecord, error: DockerCacheError, now: float) -> DropletRecord:
    """Note that a request failed; its phase stays, and reading the droplet shows whether it took effect."""
    wait = _wait_after(record)
    match error:
        case Unavailable():
            reason = (
                Reason.PATCH_UNCONFIRMED if error.may_have_happened else Reason.CLOUD_CONTROLLER_UNAVAILABLE
            )
            wait = max(wait, error.retry_after or 0.0)
        case Denied():
            reason, wait = Reason.CLOUD_CONTROLLER_DENIED, LONGEST_WAIT
        case NotFound():
            reason = Reason.DROPLET_GONE
        case Invalid():
            reason, wait = Reason.CLOUD_CONTROLLER_REFUSED, RETRY_REFUSED
        case _:
            reason = Reason.CHECK_FAILED
    return replace(record, reason=reason, detail=str(error), not_before=now + wait, updated_at=now)


def _wait_after(record: DropletRecord) -> float:
    doublings: int = min(max(record.attempts - 1, 0), 16)
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << doublings))


def after_leaving(observed: ObservedDroplet, leave: Leave, rules: Rules) -> DropletRecord | None:
    """Note why a droplet was left; None when that is known already, or is nothing to keep.

    What the droplet holds decides the phase: only one that names no private registry of ours is `left`. What
    is left for another reason than its last request is tried at once when that reason goes, as after a pause:
    until when it waited is of a failure that the record does not name any more.
    """
    record, droplet, now = observed.record, observed.droplet, observed.now
    if droplet is None:
        if record is None or record.reason is leave.reason:
            return None
        return replace(record, reason=leave.reason, detail=leave.detail, updated_at=now)
    named = image_of_text(droplet.image)
    is_ours = named is not None and (rules.cache.owns(named) or _is_target(record, droplet))
    if record is None:
        return None if named is None or is_ours else _left(observed, droplet, leave)
    if not record.target and not is_ours and named is not None:
        record = replace(record, original=droplet.image or record.original)
    phase = record.phase
    if not droplet.is_staged or not is_ours:
        phase = _phase_on_source(record, leave, now)
    if phase is DropletPhase.PATCHING and not is_ours:  # since when, its time says
        return None
    if phase is record.phase and leave.reason is record.reason:
        return None
    return replace(
        record,
        username=record.username or observed.username,
        phase=phase,
        reason=leave.reason,
        detail=leave.detail,
        not_before=record.not_before if leave.reason is record.reason else 0.0,
        updated_at=now,
    )


def _is_target(record: DropletRecord | None, droplet: Droplet) -> bool:
    return record is not None and bool(record.target) and record.target == droplet.image


def _phase_on_source(record: DropletRecord, leave: Leave, now: float) -> DropletPhase:
    """Say how far a droplet has come that names no copy, and is left there."""
    is_late = is_recent(record.updated_at, now, LATE_EFFECT)
    if record.phase is DropletPhase.PATCHING and (is_late or leave.reason is record.reason):
        return record.phase  # a request may still take effect, or is sent again in its time
    return DropletPhase.RESTORED if record.target and leave.reason in _RESTORED else DropletPhase.LEFT


def _left(observed: ObservedDroplet, droplet: Droplet, leave: Leave) -> DropletRecord:
    """Write the record of a droplet into which nothing was ever written."""
    return DropletRecord(
        droplet.guid,
        droplet.app_guid,
        observed.build_guid,
        original=droplet.image or "",
        username=observed.username,
        cache_guid=None,
        registry="",
        target="",
        phase=DropletPhase.LEFT,
        reason=leave.reason,
        detail=leave.detail,
        created_at=observed.now,
        updated_at=observed.now,
    )
