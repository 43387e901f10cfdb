"""What is recorded of an LRP after a pass."""

from dataclasses import replace

import pytest

from reconcile.apply import Outcome
from reconcile.lrp_records import UNREMARKABLE, record_to_save
from reconcile.migrations import Goal
from reconcile.missing_copies import ASK_SOURCE_AGAIN
from reconcile.observed import Observed
from reconcile.orders import Order
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from tests.reconcile.test_decide import GUID, IMAGE, NOW, READY

SEEN = replace(READY, record=None)
COPY_LOST = Outcome(Reason.COPY_AND_SOURCE_LOST, "tell its developer")


def record_after(outcome: Outcome, seen: Observed = SEEN) -> LrpRecord:
    record = record_to_save(seen, outcome)
    assert record is not None
    return record


def seen_before(outcome: Outcome, seconds: float, *, seen: Observed = SEEN) -> Observed:
    """An LRP of which a pass recorded an outcome some seconds ago."""
    record = replace(record_after(outcome, seen), updated_at=NOW - seconds)
    return replace(seen, record=record)


@pytest.mark.parametrize("reason", sorted(UNREMARKABLE))
def test_of_an_lrp_that_needs_nothing_nothing_is_recorded_unless_its_copy_is_known(reason: Reason) -> None:
    assert record_to_save(SEEN, Outcome(reason)) is None
    assert record_after(Outcome(reason), replace(SEEN, current_copy=IMAGE)).reason is reason


def test_the_same_outcome_is_recorded_once() -> None:
    skipped = Outcome(Reason.WAITING_FOR_COPY, "queued")

    assert record_to_save(seen_before(skipped, 5.0), skipped) is None
    assert record_after(replace(skipped, detail="2 of 3"), seen_before(skipped, 5.0)).detail == "2 of 3"


@pytest.mark.parametrize(("seconds", "is_saved"), [(1.0, False), (ASK_SOURCE_AGAIN + 1, True), (-5.0, True)])
def test_of_a_lost_copy_it_says_when_the_source_was_last_asked(seconds: float, *, is_saved: bool) -> None:
    before = seen_before(COPY_LOST, seconds, seen=replace(SEEN, current_copy=IMAGE))

    assert (record_to_save(before, COPY_LOST) is not None) is is_saved


def test_rounds_last_until_an_operator_asks_for_another_attempt() -> None:
    tried = seen_before(Outcome(Reason.REVERTED_EXTERNALLY, rounds=3), 60.0)
    later = Outcome(Reason.WAITING_FOR_COPY)

    assert record_after(later, tried).rounds == 3
    assert record_after(later, replace(tried, order=Order(Goal.CACHE, since=NOW - 1))).rounds == 0
    assert record_after(later, replace(tried, order=Order(Goal.CACHE, since=NOW - 90))).rounds == 3


def test_an_lrp_that_is_gone_keeps_its_record_with_the_reason() -> None:
    tried = seen_before(Outcome(Reason.MIGRATED, rounds=1, cache_guid=GUID), 60.0)
    gone = record_after(Outcome(Reason.NOT_DESIRED), replace(tried, lrp=None))

    assert (gone.reason, gone.rounds, gone.cache_guid) == (Reason.NOT_DESIRED, 1, GUID)
    assert record_to_save(replace(SEEN, lrp=None), Outcome(Reason.NOT_DESIRED)) is None


def test_one_whose_owner_desired_it_from_its_copy_keeps_that_when_it_leaves_it() -> None:
    leaving = replace(SEEN, current_copy=IMAGE)

    assert record_after(Outcome(Reason.RESTORE_REQUESTED, rounds=1), leaving).cache_guid == IMAGE.cache_guid
    assert record_after(Outcome(Reason.RESTORE_REQUESTED), leaving).cache_guid is None
