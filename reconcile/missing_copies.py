"""Decides what becomes of a copy of which something is missing in the private registry, and of its LRPs.

What is missing is sent again under the GUID and the digest that the copy has, so that no LRP is changed. Only
where that is impossible do LRPs go back to their sources; and where these have the image no longer, they stay
and keep what they run for as long as it runs.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from reconcile.actions import BeginMigration, Skip
from reconcile.errors import ErrorCode
from reconcile.instances import failure_of_pull, is_any_running
from reconcile.lrps import ActualLrp, ActualLrpState, Credentials
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, CopyCheck, JobState
from reconcile.references import ImageReference
from reconcile.start_failures import Blame
from reconcile.steps import RetireInstances
from reconcile.times import is_recent

SUSPICION_LASTS = 60.0
"""Seconds that an LRP stays on its copy after a failed pull, if others serve: the copy is checked."""

LOOK_AGAIN = 20.0
"""Seconds between two passes over an LRP whose copy is suspect or incomplete."""

RETRY_UNREACHABLE = 300.0
"""Seconds after which a repair that its source did not answer is tried again."""

ASK_SOURCE_AGAIN = 300.0
"""Seconds until a source that has an image no longer is asked again."""

RETRY_LOST = 3600.0
"""Seconds after which a repair that was impossible is tried again."""


def seen(check: CopyCheck, missing: str, *, now: float, with_blobs: bool) -> CopyCheck:
    """Note what a check has found missing, or that nothing was.

    A check that did not look at the blobs says nothing about blobs that were missing before.
    """
    if not missing and check.missing_since and not with_blobs:
        return replace(check, checked_at=now)
    return replace(
        check,
        checked_at=now,
        blobs_checked_at=now if with_blobs else check.blobs_checked_at,
        missing_since=(check.missing_since or now) if missing else 0.0,
        missing=missing,
        lost_since=check.lost_since if missing else 0.0,
    )


class RepairStep(StrEnum):
    """What is to be done next for a copy of which something is missing."""

    REQUEST = "request"
    """Have it sent again."""
    WAIT = "wait"
    """A job sends it, or was impossible lately."""
    LOST = "lost"
    """It cannot be sent again from there: ask another source of it, or let its LRPs go back."""


def next_repair(job: CacheJob | None, *, now: float) -> RepairStep:
    """Decide about a copy that is incomplete by what became of the last job that was to repair it."""
    if job is None or job.state is JobState.CACHED:
        return RepairStep.REQUEST
    if job.is_open:
        return RepairStep.WAIT
    if job.failure_code == ErrorCode.CREDENTIALS_LOST:
        return RepairStep.REQUEST
    if job.failure_code == ErrorCode.GAVE_UP:  # neither said that it is gone
        return RepairStep.WAIT if is_recent(job.updated_at, now, RETRY_UNREACHABLE) else RepairStep.REQUEST
    return RepairStep.LOST if is_recent(job.updated_at, now, RETRY_LOST) else RepairStep.REQUEST


@dataclass(frozen=True, slots=True)
class RepairSource:
    """Where a copy may be sent from again: an image by digest, and the login for it."""

    image: ImageReference
    credentials: Credentials | None = None


def repair_sources(copy: CachedImage, known: tuple[RepairSource, ...]) -> tuple[RepairSource, ...]:
    """List where a copy may be sent from again, the likeliest first, each pinned by its digest.

    Args:
        copy: The copy.
        known: What LRPs that run from it ran from before, each with its login.
    """
    own = copy.source.repository
    ordered = sorted(known, key=lambda each: (each.image.repository != own, each.credentials is None))
    pinned = (
        replace(each, image=each.image.at(copy.platform_digest))
        for each in (*ordered, RepairSource(copy.source))
    )
    found: list[RepairSource] = []
    for each in pinned:
        if each not in found:
            found.append(each)
    return tuple(found)


def while_copy_is_incomplete(observed: Observed) -> Skip | RetireInstances | None:
    """Decide about an LRP whose copy is suspect, incomplete or repaired; None when it may go back or stay.

    Instances that run are never touched.
    """
    copy, rows = observed.current_copy, observed.instances
    if copy is None:
        return None
    if copy.missing_since:
        if copy.lost_since:
            return None
        is_down = failure_of_pull(rows) is not None and not is_any_running(rows)
        return (
            None
            if is_down and observed.original_source
            else Skip(Reason.COPY_INCOMPLETE, copy.missing, LOOK_AGAIN)
        )
    failed = tuple(row for row in rows if is_pull_of_copy_failed(row))
    crashed = (row for row in failed if row.state is ActualLrpState.CRASHED)
    mended = tuple(row for row in crashed if 0 < row.since < copy.verified_at)
    if mended and observed.order is None and not observed.is_paused:
        return RetireInstances(mended, Reason.COPY_REPAIRED)
    newest = max((row.since for row in failed), default=0.0)
    # An instance may have failed after the pass had begun, and the clocks of BBS and daemon differ.
    if is_any_running(rows) and abs(observed.now - newest) < SUSPICION_LASTS:
        failure = failure_of_pull(failed)
        detail = "" if failure is None else failure.detail
        return Skip(Reason.COPY_INCOMPLETE, f"perhaps; cells say: {detail}", LOOK_AGAIN)
    return None


def is_pull_of_copy_failed(row: ActualLrp) -> bool:
    """Whether an instance does not run because the registry lacked something of its image."""
    failure = failure_of_pull((row,))
    return failure is not None and failure.blame is Blame.COPY


def must_go_back(observed: Observed) -> bool:
    """Whether the copy that an LRP runs from is incomplete for good."""
    copy = observed.current_copy
    return copy is not None and bool(copy.missing_since) and bool(copy.lost_since)


def source_was_asked(observed: Observed) -> Skip | None:
    """Return why an LRP stays whose source had the image no longer when it was asked; None to ask again."""
    record = observed.record
    if record is None or record.reason is not Reason.COPY_AND_SOURCE_LOST or observed.order is not None:
        return None
    left = record.updated_at + ASK_SOURCE_AGAIN - observed.now
    return Skip(record.reason, record.detail, max(left, 1.0)) if 0 < left <= ASK_SOURCE_AGAIN else None


def going_back(action: BeginMigration | Skip, observed: Observed) -> BeginMigration | Skip:
    """Turn the decision to restore an LRP into that for one whose copy is lost: its source is asked first."""
    copy = observed.current_copy
    detail = "" if copy is None else copy.missing
    if isinstance(action, Skip):
        if action.reason in {Reason.SOURCE_UNKNOWN, Reason.SOURCE_CREDENTIALS_UNKNOWN}:
            return Skip(Reason.COPY_AND_SOURCE_LOST, f"{detail}; {action.detail}")
        return action
    return replace(action, reason=Reason.COPY_LOST, detail=detail, asks_source=True)
