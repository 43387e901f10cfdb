"""Decides about an LRP that runs from its copy: whether all that it needs is there, or it goes back.

Of one that Cloud Controller desired from the copy no migration is open. It is on probation all the same,
until an instance runs.
"""

from dataclasses import replace

from reconcile.actions import Action, BeginMigration, Skip, UpdateLogin
from reconcile.instances import failure_of, failure_of_pull, is_any_running
from reconcile.logins import foreign_login, keeps_source_login, renew_login, renew_refused_login
from reconcile.lrps import DesiredLrp, source_of
from reconcile.migration_choice import (
    FAILED_RESTORES,
    RETRY_RESTORE_AFTER,
    rounds_before,
    still_counts,
    strategy_of,
)
from reconcile.migrations import Goal
from reconcile.missing_copies import going_back, must_go_back, source_was_asked, while_copy_is_incomplete
from reconcile.observed import Observed, Rules
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from reconcile.references import image_from_rootfs
from reconcile.start_failures import Blame

_LEFT_ON_COPY = frozenset({Reason.PROCESS_EXITED, Reason.NO_ROOM, Reason.NO_INSTANCES})
"""Ends of a migration whose LRP is desired from its copy and does not run, for a reason of its own."""

_NOT_SEEN_RUNNING = frozenset({Reason.NOT_RUNNING, Reason.LOGIN_UPDATED})
"""Outcomes of passes over an LRP that Cloud Controller has just desired from its copy."""

_LONGEST_LOOK = 20.0
"""Seconds between two looks at an LRP on probation, at most."""

_SOURCE_LOGIN = "its cells pull with the login of its source, until it is desired again"


def decide_on_copy(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action:
    """Decide about an LRP that runs from its copy: the first question that has an answer decides."""
    return (
        _renew_refused_login(observed, lrp, rules)
        or while_copy_is_incomplete(observed)
        or _put_back(observed, lrp, rules)
        or _leave_lost_copy(observed, lrp, rules)
        or renew_login(observed, lrp, rules)
        or _failed_restore(observed, lrp)
        or _not_running(observed, lrp)
        or _end_probation(observed, lrp, rules)
        or _unknown(observed, lrp, rules)
        or _with_source_login(observed)
        or foreign_login(lrp, rules)
        or Skip(Reason.ALREADY_CACHED, _known_copy_used(observed, lrp))
    )


def _known_copy_used(observed: Observed, lrp: DesiredLrp) -> str:
    """Say that the LRP got a copy that its source did not confirm; empty when it did."""
    record = observed.record
    if record is None or record.rootfs != str(lrp.rootfs):
        return ""
    return record.detail if record.detail.startswith(Reason.SOURCE_UNREACHABLE_KNOWN_COPY_USED) else ""


def _renew_refused_login(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action | None:
    """Give the configured login to an LRP that cells cannot pull with its own, rather than restore it.

    It is restored after all when a canary has shown that cells cannot pull with the configured one either.
    """
    action = renew_refused_login(observed, lrp, rules)
    if not isinstance(action, UpdateLogin | BeginMigration):
        return None
    back = _put_back(observed, lrp, rules)
    return replace(action, instead=back if isinstance(back, BeginMigration) else None)


def _with_source_login(observed: Observed) -> Skip | None:
    """Say that an LRP runs from its copy with the login of its source; None when it has another."""
    return Skip(Reason.ALREADY_CACHED, _SOURCE_LOGIN) if keeps_source_login(observed) else None


def restore(observed: Observed, lrp: DesiredLrp, rules: Rules) -> BeginMigration | Skip:
    """Decide how an LRP goes back to its source, unless its owner has desired it from the copy too often.

    Cloud Controller does so when it misses the LRP while the app's droplet names the copy still.
    """
    action, record = _way_back(observed, lrp, rules), observed.record
    if record is None or isinstance(action, Skip):
        return action
    was_reverted = record.reason is Reason.CHANGED_BY_CLOUD_CONTROLLER and record.rootfs == str(lrp.rootfs)
    rounds = rounds_before(observed) + 1 if was_reverted else 1
    if rounds > MAX_ROUNDS:
        return Skip(Reason.REVERTED_EXTERNALLY, f"its owner desired it from its copy {MAX_ROUNDS} times")
    return replace(action, rounds=rounds)


def _way_back(observed: Observed, lrp: DesiredLrp, rules: Rules) -> BeginMigration | Skip:
    """Decide how an LRP goes back to its source, if that is known and did not fail lately."""
    original_source = observed.original_source
    if original_source is None:
        detail = "this program did not migrate it, or the record of it is gone: `rebuild` looks for it"
        return Skip(Reason.SOURCE_UNKNOWN, detail)
    if original_source.needs_credentials and original_source.credentials is None:
        return Skip(
            Reason.SOURCE_CREDENTIALS_UNKNOWN,
            "credentials are kept only with a journal key, and are lost with the database",
        )
    record = observed.record
    if (
        record is not None
        and _is_failed_restore(record, lrp)
        and still_counts(observed, record.updated_at, for_seconds=RETRY_RESTORE_AFTER)
    ):
        return Skip(record.reason, record.detail)
    how = strategy_of(observed, lrp, image_from_rootfs(original_source.rootfs).canonical(), rules)
    if isinstance(how, Skip):
        return how
    reason = Reason.REGISTRY_UNREACHABLE if observed.order is None else Reason.RESTORE_REQUESTED
    return BeginMigration(lrp, None, 1, Goal.SOURCE, how, reason=reason)


def _put_back(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action | None:
    """Restore an LRP to its source since cells cannot pull its copy any more; None when they can."""
    failure = failure_of_pull(observed.instances)
    if failure is None or observed.original_source is None:
        return None
    if observed.is_paused and observed.order is None:
        return Skip(Reason.PAUSED, failure.detail)
    action = _way_back(observed, lrp, rules)
    if not isinstance(action, BeginMigration):
        return action
    ended = Reason.COPY_NOT_PULLED if failure.blame is Blame.COPY else Reason.NOT_PULLED
    rounds = max(1, rounds_before(observed))  # a migration that is put back stays one of them
    return replace(
        action,
        rounds=rounds,
        reason=ended,
        ended=ended,
        detail=failure.detail,
        asks_source=failure.blame is Blame.COPY,
    )


def leave_failing_former(observed: Observed, lrp: DesiredLrp, rules: Rules) -> BeginMigration | None:
    """Restore an LRP to its source since cells cannot pull its copy in a former registry; None when they can.

    Or while it cannot go back. What runs of it serves on until a bridge does. Its owner may desire it from
    there again as long as its droplet names that copy: nothing counts how often.
    """
    failure = failure_of_pull(observed.instances)
    if observed.former_copy is None or failure is None:
        return None
    action = _way_back(observed, lrp, rules)
    if not isinstance(action, BeginMigration):
        return None
    return replace(
        action,
        rounds=max(1, rounds_before(observed)),
        reason=Reason.RUNS_FROM_FORMER_REGISTRY,
        detail=failure.detail,
        asks_source=True,
        is_urgent=not is_any_running(observed.instances),
    )


def _leave_lost_copy(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action | None:
    """Restore an LRP to its source since its copy is incomplete for good; None when it is not."""
    if not must_go_back(observed):
        return None
    if observed.is_paused and observed.order is None:
        return Skip(Reason.PAUSED, "its copy is incomplete, and cannot be sent again")
    asked = source_was_asked(observed)
    if asked is not None:
        return asked
    return going_back(restore(observed, lrp, rules), observed)


def _end_probation(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Action | None:
    """Restore an LRP of which no instance has run since it was desired from the copy; None when one has.

    A cell that is given no bytes of a layer says nothing at all. What fails by itself fails anywhere.
    """
    record, source = observed.record, observed.original_source
    is_new = record is None or (record.reason in _NOT_SEEN_RUNNING and record.rootfs == str(lrp.rootfs))
    if source is None or not is_new or observed.order is not None or observed.is_paused:
        return None
    is_at_rest = lrp.instances == 0 or not observed.instances
    if is_at_rest or is_any_running(observed.instances) or failure_of(observed.instances) is not None:
        return None
    if any(each.placement_error for each in observed.instances):
        return None
    waited = 0.0
    if record is not None and record.reason is Reason.NOT_RUNNING:  # since then, by the daemon's own clock
        waited = max(0.0, observed.now - record.updated_at)
    left = rules.limits.start - waited
    if left > 0:
        return Skip(Reason.NOT_RUNNING, retry_after=min(left, _LONGEST_LOOK, max(1.0, waited)))
    action = _way_back(observed, lrp, rules)
    if isinstance(action, Skip):
        return action
    return replace(action, reason=Reason.NOT_STARTED, ended=Reason.NOT_STARTED)


def _failed_restore(observed: Observed, lrp: DesiredLrp) -> Skip | None:
    """Return why an LRP could not be restored to its source and runs from its copy; None for no such failure.

    It stays visible until something else is asked for.
    """
    record = observed.record
    if record is None or observed.order is not None or not _is_failed_restore(record, lrp):
        return None
    return Skip(record.reason, record.detail)


def _is_failed_restore(record: LrpRecord, lrp: DesiredLrp) -> bool:
    """Whether an LRP could not be restored to its source, and still runs from what it ran from then."""
    return record.reason in FAILED_RESTORES and record.rootfs == str(lrp.rootfs)


def _not_running(observed: Observed, lrp: DesiredLrp) -> Skip | None:
    """Return why an LRP was left on its copy although it did not run; None when it may run by now."""
    record = observed.record
    if record is None or record.reason not in _LEFT_ON_COPY or record.rootfs != str(lrp.rootfs):
        return None
    was_scaled = record.reason is Reason.NO_INSTANCES and lrp.instances > 0
    if was_scaled or is_any_running(observed.instances) or observed.order is not None:
        return None
    return Skip(record.reason, record.detail)


def _unknown(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Skip | None:
    """Return that the copy of an LRP is not known; None when it is, or when its rootfs names no copy."""
    if observed.current_copy is not None or rules.cache.guid_of(source_of(lrp)) is None:
        return None
    if observed.original_source is not None:
        return Skip(Reason.COPY_UNKNOWN, f"it ran from {observed.original_source.rootfs} before")
    return Skip(Reason.COPY_UNKNOWN, "`rebuild` looks for its source")
