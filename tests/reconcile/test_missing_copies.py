"""What becomes of a copy of which something is missing, and of an LRP that runs from it."""

from dataclasses import replace

import pytest

from reconcile.actions import BeginMigration, CacheImage, Skip
from reconcile.decide import decide
from reconcile.lrps import ActualLrp, Credentials, Secret
from reconcile.migrations import Goal, OriginalSource, Strategy
from reconcile.missing_copies import (
    LOOK_AGAIN,
    RETRY_LOST,
    RETRY_UNREACHABLE,
    SUSPICION_LASTS,
    RepairSource,
    RepairStep,
    next_repair,
    repair_sources,
    seen,
)
from reconcile.observed import Observed
from reconcile.reasons import AppState, Reason
from reconcile.records import CacheJob, CopyCheck, JobId, JobState
from reconcile.references import parse_image_reference
from reconcile.steps import RetireInstances
from tests.reconcile.protocol_samples import EXITED, NO_SUCH_COPY, UNREACHABLE, crashed
from tests.reconcile.test_decide import (
    BRIDGING,
    DIGEST,
    GUID,
    IMAGE,
    LRP,
    NOW,
    PROCESS,
    READY,
    RECORD,
    RULES,
    RUNNING,
    SOURCE,
)

COPY = replace(LRP, rootfs=RULES.cache.rootfs(GUID), credentials=RULES.pull_credentials)
ORIGINAL = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)
MISSING = replace(IMAGE, missing_since=NOW - 60, missing="its manifest (MANIFEST_UNKNOWN)")
LOST = replace(MISSING, lost_since=NOW - 10)
ON_COPY = replace(
    READY,
    lrp=COPY,
    instances=(RUNNING,),
    original_source=ORIGINAL,
    record=RECORD,
    current_copy=replace(IMAGE, verified_at=NOW - 50),
)


def failed_pull(at: float = NOW - 5, index: int = 1, text: str = NO_SUCH_COPY) -> ActualLrp:
    return replace(crashed(text, index), since=at)


class TestAnLrpOnAnIncompleteCopy:
    def test_one_that_runs_stays_and_is_not_called_cached(self) -> None:
        action = decide(replace(ON_COPY, current_copy=MISSING), BRIDGING)

        assert action == Skip(Reason.COPY_INCOMPLETE, MISSING.missing, LOOK_AGAIN)
        assert Reason.COPY_INCOMPLETE.state is not AppState.CACHED

    def test_one_that_runs_stays_although_another_instance_cannot_start(self) -> None:
        observed = replace(ON_COPY, current_copy=MISSING, instances=(RUNNING, failed_pull(NOW - 600)))

        assert decide(observed, BRIDGING) == Skip(Reason.COPY_INCOMPLETE, MISSING.missing, LOOK_AGAIN)

    def test_one_that_is_down_goes_to_its_source_if_that_has_the_image(self) -> None:
        observed = replace(ON_COPY, current_copy=MISSING, instances=(failed_pull(),))

        action = decide(observed, BRIDGING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy, action.asks_source) == (Goal.SOURCE, Strategy.RECREATE, True)

    def test_one_whose_copy_is_lost_goes_back_behind_a_bridge_if_its_source_has_the_image(self) -> None:
        action = decide(replace(ON_COPY, current_copy=LOST), BRIDGING)

        assert isinstance(action, BeginMigration)
        assert (action.goal, action.strategy) == (Goal.SOURCE, Strategy.BRIDGE)
        assert (action.reason, action.asks_source, action.detail) == (Reason.COPY_LOST, True, LOST.missing)

    def test_one_that_may_have_no_bridge_stays_while_it_runs(self) -> None:
        action = decide(replace(ON_COPY, current_copy=LOST), RULES)

        assert isinstance(action, Skip)
        assert action.reason is Reason.WAITING_UNTIL_STOPPED

    def test_one_whose_source_is_not_known_is_reported(self) -> None:
        action = decide(replace(ON_COPY, current_copy=LOST, original_source=None), BRIDGING)

        assert isinstance(action, Skip)
        assert action.reason is Reason.COPY_AND_SOURCE_LOST
        assert action.reason.state is AppState.FAILED

    def test_nothing_moves_during_a_pause(self) -> None:
        action = decide(replace(ON_COPY, current_copy=LOST, is_paused=True), BRIDGING)

        assert isinstance(action, Skip)
        assert action.reason is Reason.PAUSED


class TestAnLrpOnASuspectCopy:
    @pytest.mark.parametrize("at", [NOW - 5, NOW + 0.1], ids=["before", "since the pass began"])
    def test_while_others_serve_the_copy_is_looked_at_first(self, at: float) -> None:
        action = decide(replace(ON_COPY, instances=(RUNNING, failed_pull(at))), BRIDGING)

        assert isinstance(action, Skip)
        assert (action.reason, action.retry_after) == (Reason.COPY_INCOMPLETE, LOOK_AGAIN)

    @pytest.mark.parametrize("later", [0.01, SUSPICION_LASTS - 1])
    def test_that_is_so_for_an_instance_that_failed_after_the_pass_had_begun(self, later: float) -> None:
        action = decide(replace(ON_COPY, instances=(RUNNING, failed_pull(NOW + later))), BRIDGING)

        assert isinstance(action, Skip)
        assert action.reason is Reason.COPY_INCOMPLETE

    def test_a_clock_that_is_far_ahead_makes_no_suspicion_last(self) -> None:
        observed = replace(ON_COPY, instances=(RUNNING, failed_pull(NOW + 2 * SUSPICION_LASTS)))

        assert isinstance(decide(observed, BRIDGING), BeginMigration)

    def test_a_copy_that_is_there_and_cannot_be_pulled_is_left_after_a_while(self) -> None:
        observed = replace(ON_COPY, instances=(RUNNING, failed_pull()), now=NOW + SUSPICION_LASTS + 1)
        observed = replace(observed, current_copy=replace(IMAGE, verified_at=NOW - 600))

        action = decide(observed, BRIDGING)

        assert isinstance(action, BeginMigration)
        assert (action.reason, action.asks_source) == (Reason.COPY_NOT_PULLED, True)

    def test_a_registry_that_cannot_be_reached_is_left_at_once_and_the_source_is_not_asked(self) -> None:
        action = decide(replace(ON_COPY, instances=(RUNNING, failed_pull(text=UNREACHABLE))), BRIDGING)

        assert isinstance(action, BeginMigration)
        assert (action.reason, action.asks_source) == (Reason.NOT_PULLED, False)

    def test_instances_that_failed_before_the_repair_are_started_anew(self) -> None:
        failed = failed_pull(NOW - 100)

        action = decide(replace(ON_COPY, instances=(RUNNING, failed)), BRIDGING)

        assert action == RetireInstances((failed,), Reason.COPY_REPAIRED)

    @pytest.mark.parametrize("instances", [(RUNNING,), (RUNNING, failed_pull(NOW - 100, text=EXITED))])
    def test_other_instances_are_left_alone(self, instances: tuple[ActualLrp, ...]) -> None:
        assert decide(replace(ON_COPY, instances=instances), BRIDGING) == Skip(Reason.ALREADY_CACHED)


def test_an_lrp_on_its_source_is_not_migrated_to_an_incomplete_copy_and_asks_for_the_rest() -> None:
    action = decide(replace(READY, image=MISSING), BRIDGING)

    assert isinstance(action, CacheImage)
    assert (action.reason, action.request.source) == (Reason.COPY_VANISHED, SOURCE)


# What was seen


def test_what_is_missing_is_missing_since_it_was_first_seen() -> None:
    first = seen(CopyCheck(GUID), "its manifest", now=NOW, with_blobs=True)
    later = seen(first, "1 of 4 blobs", now=NOW + 60, with_blobs=True)

    assert (first.missing_since, first.missing) == (NOW, "its manifest")
    assert (later.missing_since, later.missing, later.checked_at) == (NOW, "1 of 4 blobs", NOW + 60)


@pytest.mark.parametrize(("with_blobs", "is_missing"), [(True, False), (False, True)])
def test_only_a_look_at_the_blobs_says_that_they_are_there_again(
    with_blobs: bool,  # noqa: FBT001 - a parameter of pytest
    is_missing: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    before = CopyCheck(GUID, missing_since=NOW - 5, missing="1 of 4 blobs", lost_since=NOW - 2, noted_at=7.0)

    after = seen(before, "", now=NOW, with_blobs=with_blobs)

    assert bool(after.missing_since) is bool(after.missing) is bool(after.lost_since) is is_missing
    assert after.noted_at == 7.0


# Repairs


def job(state: JobState, failure: str = "", *, age: float = 10.0) -> CacheJob:
    return CacheJob(JobId("j"), SOURCE, state, Reason.REPAIRING_COPY, NOW - 100, NOW - age, failure=failure)


@pytest.mark.parametrize(
    ("last", "step"),
    [
        (None, RepairStep.REQUEST),
        (job(JobState.CACHED), RepairStep.REQUEST),
        (job(JobState.QUEUED), RepairStep.WAIT),
        (job(JobState.COPYING), RepairStep.WAIT),
        (job(JobState.FAILED, "MANIFEST_UNKNOWN: gone"), RepairStep.LOST),
        (job(JobState.FAILED, "DENIED: no"), RepairStep.LOST),
        (job(JobState.FAILED, "MANIFEST_UNKNOWN: gone", age=RETRY_LOST + 1), RepairStep.REQUEST),
        (job(JobState.FAILED, "credentials-lost: x"), RepairStep.REQUEST),
        (job(JobState.FAILED, "gave-up: after 12 attempts"), RepairStep.WAIT),
        (job(JobState.FAILED, "gave-up: after 12 attempts", age=RETRY_UNREACHABLE + 1), RepairStep.REQUEST),
    ],
)
def test_a_source_that_does_not_answer_has_lost_nothing(last: CacheJob | None, step: RepairStep) -> None:
    assert next_repair(last, now=NOW) is step


def test_a_copy_is_sent_again_from_what_its_apps_ran_from_with_their_logins() -> None:
    elsewhere = parse_image_reference("mirror.example.com/app:2").canonical()
    login = Credentials("robot", Secret("pw"))

    sources = repair_sources(
        IMAGE, (RepairSource(elsewhere), RepairSource(SOURCE), RepairSource(SOURCE, login))
    )

    assert sources == (
        RepairSource(SOURCE.at(DIGEST), login),
        RepairSource(SOURCE.at(DIGEST)),
        RepairSource(elsewhere.at(DIGEST)),
    )


def test_an_observation_without_a_record_of_the_copy_decides_as_before() -> None:
    observed: Observed = replace(ON_COPY, current_copy=None, instances=(RUNNING, failed_pull()))

    assert isinstance(decide(observed, BRIDGING), BeginMigration)
