"""Decides what is recorded of an LRP after a pass over it, for operators and for later passes."""

from dataclasses import replace

from reconcile.apply import Outcome
from reconcile.lrps import DesiredLrp
from reconcile.missing_copies import ASK_SOURCE_AGAIN
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from reconcile.references import CacheGuid

UNREMARKABLE = frozenset({Reason.NOT_DOCKER, Reason.ALREADY_CACHED, Reason.OTHER_DOMAIN, Reason.NOT_DESIRED})
"""Reasons that are not worth a record of an LRP that has none, unless it runs from a copy that is known."""


def record_to_save(observed: Observed, outcome: Outcome) -> LrpRecord | None:
    """Return the record of an LRP after a pass; None if it says nothing new, or nothing worth a first record.

    The record of an LRP that is gone stays until a sweep deletes it: it counts how often the LRP's owner
    has reverted a migration, also by deleting the LRP in between.
    """
    before, is_on_copy = observed.record, observed.current_copy is not None
    record = _record_after(observed, outcome)
    if record is None or (before is None and outcome.reason in UNREMARKABLE and not is_on_copy):
        return None
    if before is None or replace(before, updated_at=observed.now) != record:
        return record
    is_asked_anew = outcome.reason is Reason.COPY_AND_SOURCE_LOST and is_on_copy
    return record if is_asked_anew and _is_old(before, observed.now) else None


def _record_after(observed: Observed, outcome: Outcome) -> LrpRecord | None:
    before, lrp = _record_before(observed), _lrp_of(observed)
    if lrp is None:
        return before and replace(
            before, reason=outcome.reason, detail=outcome.detail, updated_at=observed.now
        )
    return LrpRecord(
        process_guid=observed.process_guid,
        app_guid=lrp.app_guid,
        rootfs=str(lrp.rootfs),
        cache_guid=outcome.cache_guid
        or (before.cache_guid if before else None)
        or _left_copy(observed, outcome),
        rounds=outcome.rounds if outcome.rounds is not None else (before.rounds if before else 0),
        reason=outcome.reason,
        detail=outcome.detail,
        updated_at=observed.now,
    )


def _record_before(observed: Observed) -> LrpRecord | None:
    """Return the record of an LRP, with 0 rounds if an operator has asked for another attempt since."""
    before, order = observed.record, observed.order
    if before is not None and order is not None and before.updated_at < min(order.since, observed.now):
        return replace(before, rounds=0)
    return before


def _lrp_of(observed: Observed) -> DesiredLrp | None:
    """Return the LRP as it is desired, or as it was before its migration removed it."""
    migration = observed.migration
    return observed.lrp or (None if migration is None else migration.original)


def _left_copy(observed: Observed, outcome: Outcome) -> CacheGuid | None:
    """Return the copy that an LRP leaves by a migration that begins now; its owner may have desired it so."""
    copy = observed.current_copy
    begins = observed.migration is None and outcome.rounds is not None
    return copy.cache_guid if begins and copy is not None else None


def _is_old(record: LrpRecord, now: float) -> bool:
    """Whether a record is so old, or by a clock so wrong, that this pass has asked the source anew."""
    return not 0 <= now - record.updated_at < ASK_SOURCE_AGAIN
