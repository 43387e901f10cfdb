"""What is written down of answers, of failures, and of droplets that are left."""

from dataclasses import replace

import pytest

from reconcile.droplet_actions import Leave, ObservedDroplet, RestoreDroplet
from reconcile.droplet_decisions import decide_droplet
from reconcile.droplet_outcomes import (
    FIRST_WAIT,
    LONGEST_WAIT,
    RETRY_REFUSED,
    after_answer,
    after_failure,
    after_leaving,
)
from reconcile.droplets import LATE_EFFECT, DropletPhase, DropletRecord
from reconcile.errors import Conflict, Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.policy import Policy
from reconcile.reasons import Reason
from tests.reconcile.droplet_samples import (
    ADDRESS,
    ORIGINAL,
    OTHER,
    PATCHED,
    RULES,
    STAGED_NOW,
    TARGET,
    droplet,
    record,
)
from tests.reconcile.test_decide import NOW

PATCHING = replace(record(DropletPhase.PATCHING, reason=Reason.PATCHING_DROPLET), attempts=2, not_before=7.0)
RESTORING = replace(record(DropletPhase.RESTORING, reason=Reason.RESTORING_DROPLET, rounds=2), attempts=1)


def test_an_answer_with_the_text_settles_a_patch() -> None:
    after = after_answer(PATCHING, droplet(TARGET), NOW)

    assert (after.phase, after.reason) == (DropletPhase.PATCHED, Reason.DROPLET_PATCHED)
    assert (after.attempts, after.not_before, after.updated_at) == (0, 0.0, NOW)
    assert after.rounds == PATCHING.rounds + 1


def test_an_answer_with_the_original_text_settles_a_restore_and_its_rounds() -> None:
    after = after_answer(RESTORING, droplet(ORIGINAL), NOW)

    assert (after.phase, after.reason) == (DropletPhase.RESTORED, Reason.RESTORED)
    assert (after.attempts, after.rounds) == (0, 0)


def test_an_answer_with_another_text_settles_nothing() -> None:
    after = after_answer(PATCHING, droplet(OTHER), NOW)

    assert (after.phase, after.reason) == (DropletPhase.PATCHING, Reason.PATCH_UNCONFIRMED)
    assert after.not_before > NOW, "an API that answers well and changes nothing is not asked over and over"


@pytest.mark.parametrize(
    ("error", "reason", "wait"),
    [
        (Unavailable("cloud-controller", "timeout", "no answer"), Reason.PATCH_UNCONFIRMED, 2 * FIRST_WAIT),
        (
            Unavailable("cloud-controller", "connection", "refused", may_have_happened=False),
            Reason.CLOUD_CONTROLLER_UNAVAILABLE,
            2 * FIRST_WAIT,
        ),
        (
            RateLimited("cloud-controller", "rate", "429", retry_after=900.0, may_have_happened=False),
            Reason.CLOUD_CONTROLLER_UNAVAILABLE,
            900.0,
        ),
        (Denied("cloud-controller", "scope", "403"), Reason.CLOUD_CONTROLLER_DENIED, LONGEST_WAIT),
        (NotFound("cloud-controller", "10010", "404"), Reason.DROPLET_GONE, 2 * FIRST_WAIT),
        (Invalid("cloud-controller", "10008", "422"), Reason.CLOUD_CONTROLLER_REFUSED, RETRY_REFUSED),
        (Conflict("cloud-controller", "x", "409"), Reason.CHECK_FAILED, 2 * FIRST_WAIT),
    ],
)
def test_a_failure_is_tried_again_in_its_time_and_changes_no_phase(
    error: DockerCacheError, reason: Reason, wait: float
) -> None:
    after = after_failure(PATCHING, error, NOW)

    assert (after.phase, after.reason, after.not_before) == (DropletPhase.PATCHING, reason, NOW + wait)
    assert after.original == PATCHING.original
    assert after.detail == str(error)


def test_waits_grow_up_to_the_longest() -> None:
    error = Unavailable("cloud-controller", "timeout", "no answer")
    waits = [
        after_failure(replace(PATCHING, attempts=n), error, NOW).not_before - NOW
        for n in (1, 2, 3, 4, 50, 1000)
    ]

    assert waits == [5.0, 10.0, 20.0, 40.0, LONGEST_WAIT, LONGEST_WAIT]


def test_a_droplet_that_was_left_gets_a_record_of_why() -> None:
    leave = Leave(Reason.DENIED)
    left = after_leaving(STAGED_NOW, leave, RULES)

    assert left is not None
    assert (left.phase, left.reason, left.original) == (DropletPhase.LEFT, Reason.DENIED, ORIGINAL)
    assert (left.target, left.cache_guid, left.may_name_copy) == ("", None, False)
    assert after_leaving(replace(STAGED_NOW, record=left), leave, RULES) is None


@pytest.mark.parametrize(
    "observed",
    [
        replace(STAGED_NOW, droplet=None),
        replace(STAGED_NOW, droplet=droplet(None)),
        replace(STAGED_NOW, droplet=droplet("user:pw@registry.example/a/b")),
        replace(STAGED_NOW, droplet=droplet(TARGET)),
    ],
)
def test_no_record_is_made_without_an_original_text(observed: ObservedDroplet) -> None:
    assert after_leaving(observed, Leave(Reason.NOT_CACHEABLE), RULES) is None


def test_a_record_of_a_droplet_never_written_into_follows_its_text() -> None:
    left = after_leaving(STAGED_NOW, Leave(Reason.WAITING_FOR_COPY), RULES)
    changed = after_leaving(
        replace(STAGED_NOW, droplet=droplet(OTHER), record=left), Leave(Reason.COPY_FAILED), RULES
    )

    assert changed is not None
    assert changed.original == OTHER


def test_a_droplet_that_names_its_copy_stays_patched_whatever_it_waits_for() -> None:
    for leave in (Leave(Reason.PAUSED), Leave(Reason.COPY_INCOMPLETE, "a blob")):
        after = after_leaving(PATCHED, leave, RULES)
        assert after is not None
        assert (after.phase, after.reason, after.detail) == (DropletPhase.PATCHED, leave.reason, leave.detail)
        assert after.may_name_copy
    assert after_leaving(PATCHED, Leave(Reason.DROPLET_PATCHED), RULES) is None


def test_a_droplet_that_waited_for_its_next_request_does_not_wait_when_the_daemon_goes_on() -> None:
    """The record names the pause, and nothing says any more what the wait was for."""
    refused = after_failure(RESTORING, Denied("cloud-controller", "scope", "403"), NOW)
    pinned = replace(PATCHED, record=refused, is_pinned=True)
    assert decide_droplet(pinned, RULES) == Leave(refused.reason, refused.detail, LONGEST_WAIT)

    paused = after_leaving(pinned, Leave(Reason.PAUSED), RULES)

    assert paused is not None
    assert isinstance(decide_droplet(replace(pinned, record=paused), RULES), RestoreDroplet)


def test_a_registry_that_is_not_configured_any_more_holds_a_copy_all_the_same() -> None:
    rules = replace(RULES, cache=replace(RULES.cache, address="new-cache.example:8080", former=()))

    after = after_leaving(PATCHED, Leave(Reason.REGISTRY_NOT_CONFIGURED), rules)

    assert after is not None
    assert after.phase is DropletPhase.PATCHED


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        (Reason.PINNED_TO_SOURCE, DropletPhase.RESTORED),
        (Reason.FELL_BACK_TO_SOURCE, DropletPhase.RESTORED),
        (Reason.RESTORED, DropletPhase.RESTORED),
        (Reason.IMAGE_CHANGED_EXTERNALLY, DropletPhase.LEFT),
        (Reason.REVERTED_EXTERNALLY, DropletPhase.LEFT),
        (Reason.PAUSED, DropletPhase.LEFT),
    ],
)
def test_a_droplet_that_names_no_copy_any_more_is_not_patched(reason: Reason, phase: DropletPhase) -> None:
    after = after_leaving(replace(STAGED_NOW, record=record()), Leave(reason), RULES)

    assert after is not None
    assert (after.phase, after.original, after.target) == (phase, ORIGINAL, TARGET)


def test_a_patch_that_may_take_effect_yet_is_not_written_off() -> None:
    pinned = replace(STAGED_NOW, record=replace(PATCHING, updated_at=NOW - 10))
    assert after_leaving(pinned, Leave(Reason.PATCH_UNCONFIRMED), RULES) is None

    waiting = replace(pinned, now=NOW + LATE_EFFECT)
    assert after_leaving(waiting, Leave(PATCHING.reason), RULES) is None, "it is sent again in its time"
    denied = replace(pinned, now=NOW + LATE_EFFECT)
    after = after_leaving(denied, Leave(Reason.DENIED), RULES)
    assert after is not None
    assert after.phase is DropletPhase.LEFT


def test_an_expired_droplet_needs_its_copy_no_longer() -> None:
    expired = replace(PATCHED, droplet=droplet(TARGET, state="EXPIRED"))

    after = after_leaving(expired, Leave(Reason.DROPLET_NOT_STAGED, "EXPIRED"), RULES)

    assert after is not None
    assert (after.phase, after.may_name_copy) == (DropletPhase.LEFT, False)


def test_a_droplet_that_is_not_shown_keeps_its_phase() -> None:
    gone = replace(PATCHED, droplet=None)
    after = after_leaving(gone, Leave(Reason.DROPLET_GONE), RULES)

    assert after is not None
    assert (after.phase, after.reason, after.updated_at) == (DropletPhase.PATCHED, Reason.DROPLET_GONE, NOW)
    assert after_leaving(replace(gone, record=after), Leave(Reason.DROPLET_GONE), RULES) is None


@pytest.mark.parametrize(
    ("known", "needs"),
    [
        (record(DropletPhase.PATCHED), True),
        (record(DropletPhase.PATCHING), True),
        (record(DropletPhase.RESTORING), True),
        (record(DropletPhase.RESTORED), True),
        (replace(record(DropletPhase.RESTORED), updated_at=NOW - LATE_EFFECT - 1), False),
        (replace(record(DropletPhase.PATCHED), cache_guid=None), False),
    ],
)
def test_a_copy_stays_while_a_droplet_may_come_to_name_it(known: DropletRecord, *, needs: bool) -> None:
    assert known.needs_copy(NOW) is needs


def test_a_refusal_by_policy_leads_to_the_same_record_each_time() -> None:
    rules = replace(RULES, policy=Policy(deny=("registry.example.com/*",)))
    action = decide_droplet(STAGED_NOW, rules)
    assert isinstance(action, Leave)
    left = after_leaving(STAGED_NOW, action, rules)
    again = replace(STAGED_NOW, record=left, now=NOW + 600)

    assert decide_droplet(again, rules) == action
    assert after_leaving(again, action, rules) is None
    assert ADDRESS not in (left.original if left is not None else "")
