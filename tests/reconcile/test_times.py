"""What becomes of times that a clock has noted which was ahead, and was set right since."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.actions import BeginMigration, CacheImage
from reconcile.decide import decide
from reconcile.errors import ErrorCode
from reconcile.eviction import EvictionVerdict, decide_eviction
from reconcile.migration_choice import rounds_before
from reconcile.migrations import Phase
from reconcile.missing_copies import RepairStep, next_repair, source_was_asked
from reconcile.protocol import next_step
from reconcile.reasons import Reason
from reconcile.records import JobState
from reconcile.steps import Enter
from reconcile.times import LONGEST_WAIT, age_of, is_recent, seconds_until
from reconcile.usage import Usage
from tests.reconcile.protocol_samples import LIMITS, ROW, TARGET
from tests.reconcile.test_decide import BRIDGING, IMAGE, JOB, NOW, READY, RECORD, RULES

AHEAD = NOW + 10 * 365 * 86_400.0
times = st.floats(0, 1e11)


def test_a_due_time_that_is_farther_away_than_any_wait_is_none() -> None:
    assert seconds_until(NOW + 5, NOW) == 5
    assert seconds_until(NOW - 5, NOW) == 0
    assert seconds_until(NOW + LONGEST_WAIT, NOW) == LONGEST_WAIT
    assert seconds_until(AHEAD, NOW) == 0
    assert seconds_until(NOW + 61, NOW, longest=60) == 0


@given(times, times, st.floats(0, 1e6))
def test_no_age_is_negative_and_no_wait_longer_than_the_longest(
    at: float, now: float, longest: float
) -> None:
    assert age_of(at, now) >= 0
    assert 0 <= seconds_until(at, now, longest=longest) <= longest
    assert not (at > now and is_recent(at, now, longest))


@pytest.mark.parametrize("ahead", [1.0, 3600.0, AHEAD - NOW])
def test_a_job_that_was_put_off_while_the_clock_was_ahead_is_due(ahead: float) -> None:
    put_off = replace(JOB, updated_at=NOW + ahead, not_before=NOW + ahead + 300)

    assert put_off.seconds_until_due(NOW + ahead) == 300
    assert put_off.seconds_until_due(NOW + ahead + 299) == 1
    assert put_off.seconds_until_due(NOW) == 0


def test_a_job_that_was_put_off_for_years_by_any_other_mistake_is_due() -> None:
    assert replace(JOB, updated_at=NOW, not_before=AHEAD).seconds_until_due(NOW) == 0
    assert replace(JOB, not_before=None).seconds_until_due(NOW) == 0


@pytest.mark.parametrize("code", [ErrorCode.GAVE_UP, "MANIFEST_UNKNOWN"])
def test_a_repair_that_failed_in_the_future_is_requested_again(code: str) -> None:
    failed = replace(JOB, state=JobState.FAILED, cache_guid=None, failure=f"{code}: x", updated_at=AHEAD)
    assert next_repair(failed, now=NOW) is RepairStep.REQUEST


def test_a_migration_or_a_copy_that_failed_in_the_future_is_tried_again() -> None:
    failed = replace(RECORD, reason=Reason.BRIDGE_CRASHED, rounds=3, updated_at=AHEAD)
    job = replace(JOB, state=JobState.FAILED, cache_guid=None, failure="DENIED: no", updated_at=AHEAD)

    assert isinstance(decide(replace(READY, record=failed), BRIDGING), BeginMigration)
    assert rounds_before(replace(READY, record=failed)) == 0
    assert isinstance(decide(replace(READY, job=job, image=None), RULES), CacheImage)


def test_a_source_that_was_asked_in_the_future_is_asked_again() -> None:
    asked = replace(RECORD, reason=Reason.COPY_AND_SOURCE_LOST, updated_at=AHEAD)
    assert source_was_asked(replace(READY, record=asked)) is None


def verdict(unused_since: float, created_at: float) -> tuple[EvictionVerdict, float]:
    image = replace(IMAGE, created_at=created_at)
    found = decide_eviction(image, Usage(NOW), unused_since=unused_since, grace=600.0, twin=None)
    return found.verdict, found.deletable_from


def test_a_copy_that_is_unused_since_the_future_waits_for_the_grace_and_no_longer() -> None:
    assert verdict(AHEAD, NOW - 9_000) == (EvictionVerdict.TOO_SOON, NOW + 600.0)
    assert verdict(NOW - 601, AHEAD) == (EvictionVerdict.DELETABLE, 0.0)
    assert verdict(NOW - 601, NOW - 1)[0] is EvictionVerdict.TOO_SOON


ROWS = {
    "started_at": replace(ROW, started_at=AHEAD),
    "entered_at": replace(ROW, entered_at=AHEAD),
    "retired_at": replace(ROW, retired_at=AHEAD),
    "drained_at": replace(ROW, drained_at=AHEAD),
    "drain_sent_at": replace(ROW, drain_sent_at=AHEAD),
    "routed_at": replace(ROW, routed_at=AHEAD),
    "unknown_until": replace(ROW, unknown_until=AHEAD),
    "synced_by": replace(ROW, synced_by=AHEAD),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("phase", Phase)
def test_an_open_migration_waits_anew_from_now_for_what_waits_since_the_future(
    name: str, phase: Phase
) -> None:
    row = replace(ROWS[name], phase=phase)

    step = next_step(row, replace(READY, lrp=row.original).world, target=TARGET, limits=LIMITS)

    assert isinstance(step, Enter)
    longest = LIMITS.unknown if name in {"unknown_until", "synced_by"} else 0.0
    assert getattr(step.migration, name) == NOW + longest
    assert step.migration.phase is phase
    assert step.migration.not_after(NOW, longest=LIMITS.unknown) == step.migration, "only once"
