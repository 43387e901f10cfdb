"""What reasons say, and that each state that the protocol knows has its reason."""

import pytest

from reconcile.migrations import Phase
from reconcile.protocol import FAILURES
from reconcile.reasons import AppState, Reason, reason_from_text


@pytest.mark.parametrize("reason", Reason)
def test_a_meaning_is_one_line_that_goes_on_after_the_reason(reason: Reason) -> None:
    assert reason.meaning.splitlines() == [reason.meaning.strip()]
    assert not reason.meaning.endswith(".")


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_saved_as_its_text_and_read_again(reason: Reason) -> None:
    assert reason_from_text(reason.value) is reason
    assert str(reason) == reason.value


def test_a_reason_that_this_version_does_not_know_is_decided_anew() -> None:
    assert reason_from_text("of-a-later-version").state is AppState.PENDING


@pytest.mark.parametrize("reason", sorted(FAILURES | {Reason.COPY_CORRUPT}))
def test_what_is_not_tried_again_at_once_reads_as_failed(reason: Reason) -> None:
    assert reason.state is AppState.FAILED


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_of_a_migration_is_a_reason_of_an_lrp_that_is_being_migrated(phase: Phase) -> None:
    assert Reason(phase).state is AppState.MIGRATING


def test_an_lrp_that_was_migrated_reads_as_cached() -> None:
    assert Reason.MIGRATED.state is AppState.CACHED
