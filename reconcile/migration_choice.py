"""Chooses how an LRP may be migrated now, and tells which of its earlier attempts still count."""

from reconcile.actions import Skip
from reconcile.bridges import can_have_bridge
from reconcile.instances import failure_of_pull, is_any_running, needed
from reconcile.lrps import DesiredLrp
from reconcile.migrations import Strategy
from reconcile.observed import Observed, Rules
from reconcile.policy import MigrateRunning
from reconcile.protocol import FAILURES, MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from reconcile.references import ImageReference
from reconcile.times import is_recent

ROUNDS_FORGOTTEN_AFTER = 3600.0
"""Seconds without a migration after which the rounds before it no longer count."""

RETRY_FAILED_AFTER = 3600.0
"""Seconds after which a failed copy or migration is tried again."""

RETRY_RESTORE_AFTER = 300.0
"""Seconds after which an LRP that could not be restored to its source is restored again."""

FAILED_RESTORES = frozenset(
    {
        Reason.BRIDGE_CRASHED,
        Reason.BRIDGE_TIMEOUT,
        Reason.BBS_REFUSED_DEFINITION,
        Reason.REVERTED_EXTERNALLY,
    }
)
"""Failures that leave an LRP on what it ran from: on its copy when it was to be restored to its source."""

_RETRIED_LATER = (FAILURES - {Reason.NOT_PULLED}) | {Reason.COPY_CORRUPT, Reason.IMAGE_NOT_STARTED}
"""Ends after which an LRP stays as it is for a while.

The others wait for what failed to be mended. When that does not help three times, the LRP stays as well.
"""


def strategy_of(observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules) -> Strategy | Skip:
    """Choose how an LRP may be migrated now, as its order demands."""
    how = due_strategy(observed, lrp, source, rules)
    if observed.order is None or isinstance(how, Skip) or observed.order.strategy in {None, how}:
        return how
    return Skip(Reason.PLAN_IS_STALE, f"it would be migrated by {how} now, not by {observed.order.strategy}")


def due_strategy(
    observed: Observed, lrp: DesiredLrp, source: ImageReference, rules: Rules
) -> Strategy | Skip:
    """Choose how an LRP may be migrated now, whatever its order demands."""
    if not is_any_running(observed.instances):
        return Strategy.RECREATE
    if rules.running.of(lrp, source) is MigrateRunning.NEVER:
        return Skip(Reason.WAITING_UNTIL_STOPPED, "migrate_running is never")
    if not rules.may_bridge:
        return Skip(Reason.WAITING_UNTIL_STOPPED, "a migration while it runs needs journal_key_file")
    if not can_have_bridge(lrp.process_guid):
        return Skip(Reason.WAITING_UNTIL_STOPPED, "its process GUID is too long for the name of a bridge")
    if needed(lrp, observed.instances) == 0:
        return Skip(Reason.WAITING_UNTIL_STOPPED, "its last instances are being stopped")
    return Strategy.BRIDGE


def still_counts(observed: Observed, at: float, *, for_seconds: float) -> bool:
    """Whether a failure at some time is recent; one from before the order does not count."""
    if observed.order is not None and at < min(observed.order.since, observed.now):
        return False
    return is_recent(at, observed.now, for_seconds)


def rounds_before(observed: Observed) -> int:
    """Count the migrations that have begun lately."""
    record = observed.record
    if record is None or not still_counts(observed, record.updated_at, for_seconds=ROUNDS_FORGOTTEN_AFTER):
        return 0
    return record.rounds


def failed_lately(observed: Observed) -> Skip | None:
    """Return how an LRP's last migration has failed, if it is too early to try again; None when it is not."""
    record = observed.record
    if record is None:
        return None
    is_last = record.reason in _RETRIED_LATER or (
        record.reason is Reason.NOT_PULLED and rounds_before(observed) >= MAX_ROUNDS
    )
    if is_last and still_counts(observed, record.updated_at, for_seconds=_retried_after(observed, record)):
        return Skip(record.reason, record.detail)
    return None


def _retried_after(observed: Observed, record: LrpRecord) -> float:
    """Return the seconds after which an LRP is migrated again whose last migration has failed.

    Of one that cells cannot pull from its former copy that may have been its way back to its source, which
    would keep it from its new copy for as long as it fails.
    """
    is_failing = observed.former_copy is not None and failure_of_pull(observed.instances) is not None
    may_be_way_back = is_failing and record.reason in FAILED_RESTORES
    return RETRY_RESTORE_AFTER if may_be_way_back else RETRY_FAILED_AFTER
