"""What operators' orders, pins and pauses change about the decision on one LRP; without any see `test_decide`."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.actions import Action, BeginMigration, CacheImage, Continue, Skip, VerifyImage
from reconcile.decide import decide
from reconcile.lrps import ActualLrpState, DesiredLrp, Pull
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.policy import MigrateRunning, Policy, RunningPolicy
from reconcile.protocol import FAILURES, MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, JobState
from reconcile.references import CacheGuid, Digest, Rootfs
from reconcile.steps import DesireBridge, Enter, RetireInstances
from tests.reconcile.test_decide import (
    BRIDGING,
    DIGEST,
    GUID,
    IMAGE,
    JOB,
    LRP,
    NOW,
    PROCESS,
    READY,
    RECORD,
    RULES,
    RUNNING,
    SOURCE,
    row,
)

MIGRATE = Order(Goal.CACHE, since=NOW - 10)
BACK = Order(Goal.SOURCE, since=NOW - 10)
MIGRATED = replace(LRP, credentials=None, rootfs=RULES.cache.rootfs(GUID))
ORIGINAL_SOURCE = OriginalSource(
    PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials
)
CACHED = replace(READY, lrp=MIGRATED, current_copy=IMAGE, original_source=ORIGINAL_SOURCE)
"""An LRP that runs from its copy."""
UNKNOWN = replace(READY, binding=None, job=None, image=None)
"""An LRP whose image nobody asked for yet."""
OPEN = Migration(
    PROCESS,
    GUID,
    Phase.BRIDGING,
    LRP,
    rounds=1,
    run_id="run-1",
    started_at=NOW - 1,
    entered_at=NOW - 1,
    strategy=Strategy.BRIDGE,
)


def decided(observed: Observed, order: Order | None = None, rules: Rules = RULES) -> Action:
    return decide(replace(observed, order=order), rules)


def reason_of(action: Action) -> str:
    assert isinstance(action, Skip), action
    return action.reason


def request_of(action: Action) -> CacheRequest:
    assert isinstance(action, CacheImage), action
    return action.request


class TestPause:
    def test_nothing_is_started(self) -> None:
        assert decided(replace(READY, is_paused=True)) == Skip(Reason.PAUSED)

    def test_no_copy_is_asked_for(self) -> None:
        assert decided(replace(UNKNOWN, is_paused=True)) == Skip(Reason.PAUSED)

    def test_nothing_is_migrated_back_to_its_source(self) -> None:
        gone = replace(CACHED, is_restoring=True, is_paused=True)

        assert decided(gone) == Skip(Reason.PAUSED)

    def test_a_migration_that_was_started_resumes(self) -> None:
        """An app must not be left between two definitions."""
        observed = replace(READY, instances=(RUNNING,), migration=OPEN, is_paused=True)

        action = decided(observed)

        assert isinstance(action, Continue)
        assert action.step == DesireBridge(OPEN, LRP.instances)

    def test_instances_of_a_definition_that_was_removed_are_retired_all_the_same(self) -> None:
        late = row(ActualLrpState.RUNNING, guid="old")
        observed = replace(READY, instances=(late,), stale=frozenset({"old"}), is_paused=True)

        assert isinstance(decided(observed), RetireInstances)

    def test_an_lrp_that_runs_from_its_copy_reads_as_before(self) -> None:
        assert decided(replace(CACHED, is_paused=True)) == Skip(Reason.ALREADY_CACHED)

    @pytest.mark.parametrize(
        ("lrp", "reason"),
        [
            (replace(LRP, rootfs=Rootfs("preloaded:cflinuxfs4")), "not-docker"),
            (replace(LRP, domain="other"), "other-domain"),
        ],
    )
    def test_what_is_ineligible_reads_as_before(self, lrp: DesiredLrp, reason: str) -> None:
        observed = replace(READY, lrp=lrp, is_paused=True)

        assert reason_of(decided(observed)) == reason

    def test_an_order_works_all_the_same(self) -> None:
        assert decided(replace(READY, is_paused=True), MIGRATE) == BeginMigration(LRP, IMAGE, rounds=1)

    def test_an_order_to_go_back_works_all_the_same(self) -> None:
        action = decided(replace(CACHED, is_paused=True), BACK)

        assert isinstance(action, BeginMigration)
        assert action.goal is Goal.SOURCE

    @pytest.mark.parametrize("state", [JobState.QUEUED, JobState.COPYING])
    def test_a_copy_that_is_waited_for_is_asked_for_by_the_order(self, state: JobState) -> None:
        """A job that nobody ordered waits for the end of the pause, and the order would with it."""
        job = replace(JOB, state=state, cache_guid=None)
        observed = replace(READY, job=job, image=None, is_paused=True)

        assert request_of(decided(observed, MIGRATE)).is_ordered

    def test_a_copy_that_is_waited_for_is_not_asked_for_when_none_was_to_be(self) -> None:
        job = replace(JOB, state=JobState.QUEUED, cache_guid=None)
        observed = replace(READY, job=job, image=None, is_paused=True)

        assert reason_of(decided(observed, replace(MIGRATE, only_cached=True))) == "waiting-for-copy"


class TestPin:
    PINNED = replace(READY, is_pinned=True)

    def test_an_lrp_on_its_source_stays_there(self) -> None:
        assert reason_of(decided(self.PINNED)) == "pinned-to-source"

    def test_no_copy_is_asked_for(self) -> None:
        assert reason_of(decided(replace(UNKNOWN, is_pinned=True))) == "pinned-to-source"

    def test_an_lrp_that_runs_from_its_copy_stays_there_too(self) -> None:
        """Only an order brings it back; a pin says what becomes of it afterwards."""
        assert decided(replace(CACHED, is_pinned=True)) == Skip(Reason.ALREADY_CACHED)

    def test_it_still_goes_back_when_the_registry_is_gone(self) -> None:
        action = decided(replace(CACHED, is_pinned=True, is_restoring=True))

        assert isinstance(action, BeginMigration)
        assert action.goal is Goal.SOURCE

    def test_a_migration_that_was_started_resumes(self) -> None:
        observed = replace(self.PINNED, instances=(RUNNING,), migration=OPEN)

        assert isinstance(decided(observed), Continue)

    def test_an_order_overrides_it(self) -> None:
        assert decided(self.PINNED, MIGRATE) == BeginMigration(LRP, IMAGE, rounds=1)


class TestForgetting:
    """What failed before an order was given counts no more; what fails afterwards does: it is one try."""

    BEFORE, AFTER = MIGRATE.since - 1, MIGRATE.since

    @pytest.mark.parametrize("reason", sorted(FAILURES | {Reason.COPY_CORRUPT}))
    def test_a_failure_from_before_the_order_is_forgotten(self, reason: Reason) -> None:
        record = replace(RECORD, reason=reason, updated_at=self.BEFORE)

        assert isinstance(decided(replace(READY, record=record), MIGRATE), BeginMigration)

    @pytest.mark.parametrize("reason", sorted(FAILURES - {Reason.NOT_PULLED} | {Reason.COPY_CORRUPT}))
    def test_a_failure_of_the_order_itself_ends_it(self, reason: Reason) -> None:
        record = replace(RECORD, reason=reason, detail="why", updated_at=self.AFTER)

        assert decided(replace(READY, record=record), MIGRATE) == Skip(reason, "why")

    def test_rounds_from_before_the_order_are_forgotten(self) -> None:
        record = replace(RECORD, rounds=MAX_ROUNDS, updated_at=self.BEFORE)

        assert decided(replace(READY, record=record), MIGRATE) == BeginMigration(LRP, IMAGE, rounds=1)

    def test_rounds_of_the_order_itself_count(self) -> None:
        """Somebody who puts the LRP back again and again wins against an order, too."""
        record = replace(RECORD, rounds=1, updated_at=self.AFTER)
        again = replace(record, rounds=MAX_ROUNDS)

        assert decided(replace(READY, record=record), MIGRATE) == BeginMigration(LRP, IMAGE, rounds=2)
        assert reason_of(decided(replace(READY, record=again), MIGRATE)) == "reverted-externally"

    def test_a_copy_that_failed_before_the_order_is_asked_for_again(self) -> None:
        job = replace(JOB, state=JobState.FAILED, cache_guid=None, updated_at=self.BEFORE)

        request = request_of(decided(replace(READY, job=job, image=None), MIGRATE))

        assert (request.reason, request.is_ordered) == ("retrying-copy", True)

    def test_a_copy_that_failed_for_the_order_ends_it(self) -> None:
        job = replace(JOB, state=JobState.FAILED, cache_guid=None, failure="DENIED: no", updated_at=NOW)

        action = decided(replace(READY, job=job, image=None), MIGRATE)

        assert action == Skip(Reason.COPY_FAILED, "DENIED: no")

    @given(since=st.floats(NOW - 100, NOW), failed_at=st.floats(NOW - 100, NOW))
    def test_what_counts_is_decided_by_nothing_but_the_time(self, since: float, failed_at: float) -> None:
        record = replace(RECORD, reason=Reason.BRIDGE_CRASHED, updated_at=failed_at)

        action = decided(replace(READY, record=record), replace(MIGRATE, since=since))

        assert isinstance(action, Skip) == (failed_at >= since)

    def test_without_an_order_nothing_is_forgotten(self) -> None:
        record = replace(RECORD, reason=Reason.BRIDGE_CRASHED, updated_at=self.BEFORE)

        assert reason_of(decided(replace(READY, record=record))) == "bridge-crashed"


class TestMove:
    def test_a_copy_that_is_missing_is_asked_for_as_ordered(self) -> None:
        assert request_of(decided(UNKNOWN, MIGRATE)).is_ordered

    def test_without_an_order_a_copy_is_not_asked_for_as_ordered(self) -> None:
        assert not request_of(decided(UNKNOWN)).is_ordered

    def test_a_copy_that_is_under_way_is_waited_for(self) -> None:
        job = replace(JOB, state=JobState.COPYING, cache_guid=None)

        assert decided(replace(READY, job=job, image=None), MIGRATE) == Skip(Reason.WAITING_FOR_COPY)

    def test_a_copy_that_instances_crashed_from_is_read_back_first(self) -> None:
        suspect = replace(IMAGE, needs_verification_since=NOW - 1)

        assert decided(replace(READY, image=suspect), MIGRATE) == VerifyImage(LRP, suspect)

    def test_an_lrp_that_runs_from_its_copy_is_done(self) -> None:
        assert decided(CACHED, MIGRATE) == Skip(Reason.ALREADY_CACHED)

    def test_an_lrp_that_was_migrated_since_the_plan_is_done(self) -> None:
        assert decided(CACHED, replace(MIGRATE, rootfs=LRP.rootfs)) == Skip(Reason.ALREADY_CACHED)

    def test_what_the_config_denies_no_order_allows(self) -> None:
        denying = replace(RULES, policy=Policy(deny=("*",)))

        assert reason_of(decided(READY, MIGRATE, denying)) == "denied"

    def test_what_may_not_be_migrated_while_it_runs_no_order_migrates(self) -> None:
        never = replace(BRIDGING, running=RunningPolicy(MigrateRunning.NEVER))

        assert (
            reason_of(decided(replace(READY, instances=(RUNNING,)), MIGRATE, never))
            == "waiting-until-stopped"
        )

    def test_it_works_although_lrps_are_migrated_back_to_their_sources(self) -> None:
        action = decided(replace(READY, is_restoring=True), MIGRATE)

        assert action == BeginMigration(LRP, IMAGE, rounds=1)


class TestWayBack:
    """An order with the source as its goal."""

    def test_an_lrp_goes_back_to_what_it_ran_from(self) -> None:
        action = decided(CACHED, BACK)

        assert action == BeginMigration(
            MIGRATED, None, 1, Goal.SOURCE, Strategy.RECREATE, reason=Reason.RESTORE_REQUESTED
        )

    def test_one_that_runs_gets_a_bridge(self) -> None:
        action = decided(replace(CACHED, instances=(RUNNING,)), BACK, BRIDGING)

        assert isinstance(action, BeginMigration)
        assert action.strategy is Strategy.BRIDGE

    def test_one_that_runs_from_its_source_is_done(self) -> None:
        assert reason_of(decided(READY, BACK)) == "restored"

    def test_one_whose_origin_is_not_known_stays(self) -> None:
        assert reason_of(decided(replace(CACHED, original_source=None), BACK)) == "source-unknown"

    def test_one_whose_login_is_not_known_stays(self) -> None:
        lost = replace(ORIGINAL_SOURCE, credentials=None)

        assert reason_of(decided(replace(CACHED, original_source=lost), BACK)) == "source-credentials-unknown"

    def test_one_from_a_public_image_needs_no_login(self) -> None:
        public = replace(ORIGINAL_SOURCE, needs_credentials=False, credentials=None)

        assert isinstance(decided(replace(CACHED, original_source=public), BACK), BeginMigration)

    def test_one_that_was_migrated_to_another_copy_since_the_plan_stays(self) -> None:
        order = replace(BACK, rootfs=RULES.cache.rootfs(CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")))

        assert reason_of(decided(CACHED, order)) == Reason.PLAN_IS_STALE

    def test_what_failed_on_the_way_there_does_not_keep_it(self) -> None:
        record = replace(RECORD, reason=Reason.NOT_HEALTHY, updated_at=NOW)

        assert isinstance(decided(replace(CACHED, record=record), BACK), BeginMigration)


class TestChangedSincePlan:
    """An order is for the LRP that the plan was made for, and for no other."""

    def test_a_rootfs_that_is_as_planned_is_migrated(self) -> None:
        assert isinstance(decided(READY, replace(MIGRATE, rootfs=LRP.rootfs)), BeginMigration)

    def test_another_rootfs_is_skipped_and_named(self) -> None:
        action = decided(READY, replace(MIGRATE, rootfs=Rootfs("docker:///team/app#0")))

        assert isinstance(action, Skip)
        assert action.reason == Reason.PLAN_IS_STALE
        assert str(LRP.rootfs) in action.detail

    def test_a_rootfs_with_a_login_in_it_is_the_one_that_was_planned_without(self) -> None:
        """A plan is shown and kept in files, so it has no login in it; cells do not use it either."""
        uri = "docker://robot:pw@registry.example.com/team/app#1"
        observed = replace(READY, lrp=replace(LRP, rootfs=Rootfs(uri)))
        planned = Rootfs(str(Rootfs(uri)))

        assert isinstance(decided(observed, replace(MIGRATE, rootfs=planned)), BeginMigration)

    @pytest.mark.parametrize("strategy", [None, Strategy.RECREATE])
    def test_a_strategy_that_is_due_is_taken(self, strategy: Strategy | None) -> None:
        action = decided(READY, replace(MIGRATE, strategy=strategy))

        assert isinstance(action, BeginMigration)
        assert action.strategy is Strategy.RECREATE

    def test_an_lrp_that_began_to_run_is_not_bridged_when_it_was_to_be_recreated(self) -> None:
        running = replace(READY, instances=(RUNNING,))

        action = decided(running, replace(MIGRATE, strategy=Strategy.RECREATE), BRIDGING)

        assert reason_of(action) == Reason.PLAN_IS_STALE

    def test_an_lrp_that_has_stopped_is_not_recreated_when_it_was_to_be_bridged(self) -> None:
        assert reason_of(decided(READY, replace(MIGRATE, strategy=Strategy.BRIDGE))) == Reason.PLAN_IS_STALE

    def test_the_way_back_too_is_taken_as_planned_or_not_at_all(self) -> None:
        assert reason_of(decided(CACHED, replace(BACK, strategy=Strategy.BRIDGE))) == Reason.PLAN_IS_STALE

    def test_a_copy_that_is_as_planned_is_migrated_to(self) -> None:
        order = replace(MIGRATE, to_rootfs=RULES.cache.rootfs(GUID), platform_digest=DIGEST)

        assert isinstance(decided(READY, order), BeginMigration)

    def test_another_copy_is_not_migrated_to(self) -> None:
        other = RULES.cache.rootfs(CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11"))

        assert reason_of(decided(READY, replace(MIGRATE, to_rootfs=other))) == Reason.PLAN_IS_STALE

    def test_a_tag_that_has_moved_since_is_not_migrated_to(self) -> None:
        order = replace(MIGRATE, platform_digest=Digest("sha256", "b" * 64))

        assert reason_of(decided(READY, order)) == Reason.PLAN_IS_STALE

    def test_a_copy_that_is_not_the_planned_one_is_not_even_read_back(self) -> None:
        suspect = replace(READY, image=replace(IMAGE, needs_verification_since=NOW - 1))
        order = replace(MIGRATE, platform_digest=Digest("sha256", "b" * 64))

        assert reason_of(decided(suspect, order)) == Reason.PLAN_IS_STALE


class TestOnlyCached:
    """Nothing is copied for it, neither by it nor by somebody else's job."""

    ORDER = replace(MIGRATE, only_cached=True)

    def test_what_has_a_copy_is_migrated(self) -> None:
        assert isinstance(decided(READY, self.ORDER), BeginMigration)

    @pytest.mark.parametrize(
        ("observed", "reason"),
        [
            (UNKNOWN, "not-cached"),
            (replace(READY, image=None), "copy-record-missing"),
            (replace(READY, binding_is_current=False), "staging-may-have-been-missed"),
            (
                replace(READY, image=None, job=replace(JOB, state=JobState.FAILED, updated_at=NOW - 60)),
                "retrying-copy",
            ),
        ],
    )
    def test_what_needs_one_is_skipped_and_says_why(self, observed: Observed, reason: str) -> None:
        assert reason_of(decided(observed, self.ORDER)) == reason

    @pytest.mark.parametrize("observed", [UNKNOWN, replace(READY, image=None)])
    def test_without_it_the_same_is_asked_for(self, observed: Observed) -> None:
        assert isinstance(decided(observed, MIGRATE), CacheImage)


orders = st.builds(
    Order,
    goal=st.sampled_from(Goal),
    since=st.floats(NOW - 100, NOW),
    strategy=st.none() | st.sampled_from(Strategy),
    rootfs=st.none() | st.sampled_from([LRP.rootfs, MIGRATED.rootfs]),
    to_rootfs=st.none() | st.just(MIGRATED.rootfs),
    platform_digest=st.none() | st.sampled_from([DIGEST, Digest("sha256", "b" * 64)]),
    only_cached=st.booleans(),
)
observations = st.builds(
    replace,
    st.sampled_from([READY, CACHED, UNKNOWN, replace(CACHED, original_source=None)]),
    instances=st.sampled_from([(), (RUNNING,)]),
    record=st.sampled_from([None, replace(RECORD, reason=Reason.BRIDGE_TIMEOUT, updated_at=NOW - 50)]),
    is_restoring=st.booleans(),
)


@given(observed=observations, order=orders, is_pinned=st.booleans(), is_paused=st.booleans())
def test_what_an_order_comes_to_does_not_depend_on_holds_and_pauses(
    observed: Observed,
    order: Order,
    is_pinned: bool,  # noqa: FBT001 - a parameter of hypothesis
    is_paused: bool,  # noqa: FBT001 - a parameter of hypothesis
) -> None:
    hindered = replace(observed, is_pinned=is_pinned, is_paused=is_paused)

    assert decided(hindered, order, BRIDGING) == decided(observed, order, BRIDGING)


@given(observed=observations, is_pinned=st.booleans())
def test_a_pause_lets_nothing_be_started(observed: Observed, is_pinned: bool) -> None:  # noqa: FBT001 - see above
    action = decided(replace(observed, is_pinned=is_pinned, is_paused=True), rules=BRIDGING)

    assert isinstance(action, Skip)


@given(observed=observations, order=orders)
def test_an_order_that_begins_a_migration_leads_where_it_says_in_the_way_it_says(
    observed: Observed, order: Order
) -> None:
    action = decided(observed, order, BRIDGING)

    if isinstance(action, BeginMigration):
        assert action.goal is order.goal
        assert order.strategy in {None, action.strategy}
        assert order.rootfs in {None, action.lrp.rootfs}


def test_restoring_needs_no_order() -> None:
    action = decided(replace(CACHED, is_restoring=True))

    assert isinstance(action, BeginMigration)
    assert (action.goal, action.reason) == (Goal.SOURCE, "registry-unreachable")


def test_while_restoring_nothing_is_migrated_to_its_copy() -> None:
    assert reason_of(decided(replace(READY, is_restoring=True))) == "fell-back-to-source"


def test_a_copy_is_asked_for_under_the_name_of_the_lrp_that_is_ordered() -> None:
    request = request_of(decided(UNKNOWN, MIGRATE))

    assert (request.requester, request.source) == (f"lrp:{PROCESS}", SOURCE)


class TestInFlight:
    """What an order and a pin mean for an LRP that is being migrated."""

    RESTORE = replace(OPEN, goal=Goal.SOURCE, original=MIGRATED)
    TURNED_BACK = replace(RESTORE, way_back=Pull(LRP.rootfs))

    @pytest.mark.parametrize(
        ("order", "is_pinned"), [(BACK, True), (BACK, False), (None, True)], ids=["both", "order", "pin"]
    )
    def test_an_order_to_restore_and_a_pin_turn_a_migration_to_the_copy_round(
        self,
        order: Order | None,
        is_pinned: bool,  # noqa: FBT001 - a case
    ) -> None:
        observed = replace(READY, instances=(RUNNING,), migration=OPEN, is_pinned=is_pinned)

        action = decided(observed, order, BRIDGING)

        assert isinstance(action, Continue)
        assert isinstance(action.step, Enter)
        row = action.step.migration
        assert (row.phase, row.ended) == (Phase.REMOVING_BRIDGE, Reason.CANCELLED)

    @pytest.mark.parametrize("order", [None, MIGRATE])
    def test_without_either_it_goes_on(self, order: Order | None) -> None:
        is_pinned = order is not None  # an order counts more than a pin
        observed = replace(READY, instances=(RUNNING,), migration=OPEN, is_pinned=is_pinned)

        action = decided(observed, order, BRIDGING)

        assert isinstance(action, Continue)
        assert isinstance(action.step, DesireBridge)

    @pytest.mark.parametrize("ended", [None, *sorted(FAILURES), Reason.MIGRATED, Reason.CANCELLED])
    def test_an_order_to_restore_outlasts_every_end_of_a_migration_to_the_copy(
        self, ended: Reason | None
    ) -> None:
        """Also of one that was turned back: whether the LRP is on its source, the next pass sees."""
        assert BACK.outlasts(replace(OPEN, ended=ended))
        assert BACK.outlasts(replace(self.TURNED_BACK, ended=ended))

    @pytest.mark.parametrize("ended", [None, Reason.BRIDGE_TIMEOUT])
    def test_the_end_of_a_restore_answers_an_order_to_restore(self, ended: Reason | None) -> None:
        assert not BACK.outlasts(replace(self.RESTORE, ended=ended))

    def test_an_order_for_the_copy_outlasts_the_end_of_a_restore(self) -> None:
        assert MIGRATE.outlasts(self.RESTORE)
        assert MIGRATE.outlasts(replace(self.TURNED_BACK, ended=Reason.RESTORED))

    def test_an_order_for_the_copy_is_answered_by_its_own_failure(self) -> None:
        assert not MIGRATE.outlasts(OPEN)
        assert not MIGRATE.outlasts(replace(self.TURNED_BACK, ended=Reason.NOT_PULLED))
