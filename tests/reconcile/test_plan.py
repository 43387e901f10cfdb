"""What decisions mean for people who are to judge them, and when a plan no longer holds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.actions import Action, Continue, Forget, RemoveOrphanedBridge, Skip
from reconcile.decide import decide
from reconcile.lrps import AppGuid, Pull
from reconcile.migrations import Goal, Migration, OriginalSource, Phase, Strategy
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.plan import (
    PlannedCopy,
    PlannedMigration,
    Skipped,
    Subject,
    changes_since_plan,
    copies_of,
    plan_lrp,
    planned_action,
    subject_of,
)
from reconcile.policy import MigrateRunning, RunningPolicy, RunningRule
from reconcile.reasons import Reason
from reconcile.records import JobState
from reconcile.references import CacheGuid, ImageReference, Rootfs, parse_image_reference
from reconcile.selection import Owner
from reconcile.steps import RetireInstances, RetryLater
from tests.reconcile.test_decide import (
    BRIDGING,
    GUID,
    IMAGE,
    JOB,
    LRP,
    NOW,
    PROCESS,
    READY,
    RULES,
    RUNNING,
    SOURCE,
    TAGGED,
)

TO = RULES.cache.rootfs(GUID)
MIGRATE, BACK = Order(Goal.CACHE, since=NOW), Order(Goal.SOURCE, since=NOW)
ORDERED = replace(READY, order=MIGRATE)
UNKNOWN = replace(ORDERED, binding=None, job=None, image=None)
MIGRATED = replace(LRP, rootfs=TO)
ORIGINAL_SOURCE = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=False, credentials=None)
CACHED = replace(READY, lrp=MIGRATED, original_source=ORIGINAL_SOURCE, order=BACK)
SUBJECT = subject_of(LRP)
PLANNED = PlannedMigration(
    SUBJECT, TO, None, Strategy.BRIDGE, instances=2, running=1, reason=Reason.RUNS_FROM_SOURCE
)
OTHER = RULES.cache.rootfs(CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11"))


def planned(
    observed: Observed, rules: Rules = RULES, action: Action | None = None
) -> PlannedMigration | Skipped:
    assert observed.lrp is not None
    return plan_lrp(observed, observed.lrp, action or decide(observed, rules), rules)


def migration_of(observed: Observed, rules: Rules = RULES) -> PlannedMigration:
    made = planned(observed, rules)
    assert isinstance(made, PlannedMigration), made
    return made


def test_an_lrp_is_named_with_its_owner() -> None:
    assert subject_of(TAGGED) == Subject(
        PROCESS, AppGuid("app-1"), Owner("acme", "prod", "web"), TAGGED.rootfs
    )


class TestMove:
    def test_an_lrp_whose_copy_is_there_is_migrated_to_it(self) -> None:
        assert migration_of(ORDERED) == PlannedMigration(
            SUBJECT, TO, None, Strategy.RECREATE, instances=2, running=0, reason=Reason.RUNS_FROM_SOURCE
        )

    def test_one_that_runs_is_migrated_with_a_bridge_and_counted(self) -> None:
        migration = migration_of(replace(ORDERED, instances=(RUNNING,)), BRIDGING)

        assert (migration.strategy, migration.instances, migration.running) == (Strategy.BRIDGE, 2, 1)

    def test_one_whose_copy_is_to_be_read_back_first_is_migrated_to_it_in_the_end(self) -> None:
        suspect = replace(IMAGE, needs_verification_since=NOW - 1)

        migration = migration_of(replace(ORDERED, image=suspect))

        assert (migration.to_rootfs, migration.copy, migration.reason) == (
            TO,
            None,
            "copy-needs-verification",
        )


class TestCopyFirst:
    def test_an_lrp_without_a_copy_waits_for_it_and_nobody_knows_its_rootfs_yet(self) -> None:
        migration = migration_of(UNKNOWN)

        assert (migration.to_rootfs, migration.copy, migration.reason) == (None, SOURCE, "not-cached")

    @pytest.mark.parametrize("state", [JobState.QUEUED, JobState.COPYING])
    def test_one_whose_copy_is_under_way_waits_for_it(self, state: JobState) -> None:
        job = replace(JOB, state=state, cache_guid=None)

        migration = migration_of(replace(ORDERED, job=job, image=None))

        assert (migration.copy, migration.reason) == (SOURCE, "waiting-for-copy")

    def test_one_whose_copy_waits_for_the_end_of_a_pause_waits_for_it(self) -> None:
        job = replace(JOB, state=JobState.QUEUED, cache_guid=None)

        migration = migration_of(replace(ORDERED, job=job, image=None, is_paused=True))

        assert (migration.copy, migration.reason) == (SOURCE, "waiting-for-copy")

    def test_one_whose_source_is_asked_once_more_names_no_rootfs(self) -> None:
        """Its tag may have moved: the copy that is there may not be the one that it gets."""
        migration = migration_of(replace(ORDERED, binding_is_current=False))

        assert (migration.to_rootfs, migration.copy) == (None, SOURCE)

    def test_one_that_runs_says_so_before_its_copy_is_there(self) -> None:
        migration = migration_of(replace(UNKNOWN, instances=(RUNNING,)), BRIDGING)

        assert (migration.strategy, migration.running) == (Strategy.BRIDGE, 1)

    def test_one_that_could_not_be_migrated_afterwards_is_not_copied_for(self) -> None:
        made = planned(replace(UNKNOWN, instances=(RUNNING,)))

        assert isinstance(made, Skipped)
        assert made.reason == "waiting-until-stopped"
        assert "journal_key_file" in made.detail

    @pytest.mark.parametrize("is_paused", [True, False])
    def test_one_whose_copy_is_under_way_stays_when_only_what_is_cached_was_asked_for(
        self,
        is_paused: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        order = replace(MIGRATE, only_cached=True)
        job = replace(JOB, state=JobState.COPYING, cache_guid=None)

        made = planned(replace(READY, job=job, image=None, order=order, is_paused=is_paused))

        assert isinstance(made, Skipped)
        assert made.reason == "waiting-for-copy"


class TestWayBack:
    def test_an_lrp_goes_back_to_what_it_ran_from(self) -> None:
        migration = migration_of(CACHED)

        assert (migration.to_rootfs, migration.copy, migration.reason) == (
            LRP.rootfs,
            None,
            "restore-requested",
        )
        assert migration.subject.rootfs == TO

    def test_one_that_runs_goes_back_as_the_rule_for_its_source_says(self) -> None:
        """A rule about images is about what people call them, which its copy does not tell."""
        rule = RunningRule(MigrateRunning.BRIDGE, image="registry.example.com/*")
        rules = replace(BRIDGING, running=RunningPolicy(MigrateRunning.NEVER, (rule,)))

        migration = migration_of(replace(CACHED, instances=(RUNNING,)), rules)

        assert migration.strategy is Strategy.BRIDGE

    def test_one_whose_origin_is_not_known_stays(self) -> None:
        assert planned(replace(CACHED, original_source=None)) == Skipped(
            subject_of(MIGRATED),
            Reason.SOURCE_UNKNOWN,
            "this program did not migrate it, or the record of it is gone: `rebuild` looks for it",
        )

    def test_one_that_is_on_its_source_stays(self) -> None:
        made = planned(replace(READY, order=BACK))

        assert isinstance(made, Skipped)
        assert made.reason == "restored"


class TestStays:
    def test_an_lrp_that_is_skipped_says_why(self) -> None:
        assert planned(ORDERED, action=Skip(Reason.PINNED_TO_SOURCE, "its detail")) == Skipped(
            SUBJECT, Reason.PINNED_TO_SOURCE, "its detail"
        )

    @pytest.mark.parametrize(
        ("action", "reason"),
        [
            (Forget(), Reason.NOT_DESIRED),
            (RetireInstances((RUNNING,), Reason.RETIRED_STALE_INSTANCES), Reason.RETIRED_STALE_INSTANCES),
            (RemoveOrphanedBridge(PROCESS), Reason.ORPHANED_BRIDGE),
        ],
    )
    def test_what_is_put_right_first_is_planned_when_it_is(self, action: Action, reason: Reason) -> None:
        assert planned(ORDERED, action=action) == Skipped(SUBJECT, reason)

    def test_one_that_is_being_migrated_is_never_planned_anew(self) -> None:
        with pytest.raises(AssertionError):
            planned(ORDERED, action=Continue(RetryLater(Reason.STARTING, 1.0), Pull(TO)))


class TestChangesSincePlan:
    def test_an_lrp_that_is_as_it_was_has_none(self) -> None:
        assert changes_since_plan(PLANNED, PLANNED) == ""

    def test_how_many_instances_serve_at_the_moment_is_none(self) -> None:
        assert changes_since_plan(PLANNED, replace(PLANNED, running=2)) == ""

    def test_a_copy_that_was_missing_and_is_there_is_none(self) -> None:
        """That is what the plan wanted."""
        waiting = replace(PLANNED, to_rootfs=None, copy=SOURCE)

        assert changes_since_plan(waiting, PLANNED) == ""

    def test_a_copy_that_is_asked_for_once_more_is_none(self) -> None:
        assert changes_since_plan(PLANNED, replace(PLANNED, to_rootfs=None, copy=SOURCE)) == ""

    def test_another_reason_is_none(self) -> None:
        assert changes_since_plan(PLANNED, replace(PLANNED, reason=Reason.COPY_NEEDS_VERIFICATION)) == ""

    def test_a_login_in_a_rootfs_is_none(self) -> None:
        """A plan that was written down has no login in it."""
        with_login = Rootfs("docker://robot:pw@registry.example.com/team/app#1")
        now = replace(PLANNED, subject=replace(SUBJECT, rootfs=with_login))
        written = replace(PLANNED, subject=replace(SUBJECT, rootfs=Rootfs(str(with_login))))

        assert changes_since_plan(written, now) == ""

    def test_a_login_in_the_rootfs_to_go_back_to_is_none(self) -> None:
        with_login = Rootfs("docker://robot:pw@registry.example.com/team/app#1")
        now, written = (replace(PLANNED, to_rootfs=each) for each in (with_login, Rootfs(str(with_login))))

        assert changes_since_plan(written, now) == ""

    @pytest.mark.parametrize(
        ("now", "said"),
        [
            (
                replace(PLANNED, subject=replace(SUBJECT, rootfs=Rootfs("docker:///team/app#2"))),
                "is desired from docker:///team/app#2, not docker://registry.example.com/team/app#1",
            ),
            (replace(PLANNED, strategy=Strategy.RECREATE), "would be migrated by recreate, not bridge"),
            (replace(PLANNED, instances=3), "wants instances: 3, not 2"),
            (replace(PLANNED, to_rootfs=OTHER), f"would be migrated to {OTHER}, not {TO}"),
            (Skipped(SUBJECT, Reason.PINNED_TO_SOURCE, "why"), "would be skipped now: pinned-to-source why"),
            (Skipped(SUBJECT, Reason.DENIED), "would be skipped now: denied"),
        ],
    )
    def test_anything_else_is_said(self, now: PlannedMigration | Skipped, said: str) -> None:
        assert changes_since_plan(PLANNED, now) == said

    def test_all_are_said(self) -> None:
        now = replace(PLANNED, instances=3, strategy=Strategy.RECREATE)

        assert (
            changes_since_plan(PLANNED, now)
            == "would be migrated by recreate, not bridge, wants instances: 3, not 2"
        )


class TestInFlight:
    """An LRP that is being migrated takes an order to be turned round, or to follow after that."""

    TO_COPY = Migration(PROCESS, GUID, Phase.BRIDGING, LRP, 1, "run-1", NOW - 1, strategy=Strategy.BRIDGE)
    BACK_TO_SOURCE = replace(TO_COPY, goal=Goal.SOURCE, original=MIGRATED)
    TURNED_BACK = replace(BACK_TO_SOURCE, way_back=Pull(LRP.rootfs), strategy=Strategy.RECREATE)

    def planned(
        self, migration: Migration, order: Order | None, **changes: Any
    ) -> PlannedMigration | Skipped:
        observed = replace(
            READY, migration=migration, order=order, original_source=ORIGINAL_SOURCE, **changes
        )
        return plan_lrp(observed, LRP, planned_action(observed, RULES), RULES)

    @pytest.mark.parametrize("phase", list(Phase))
    @pytest.mark.parametrize("migration", [TO_COPY, BACK_TO_SOURCE, TURNED_BACK])
    def test_an_order_to_restore_it_is_accepted_in_each_phase(
        self, migration: Migration, phase: Phase
    ) -> None:
        made = self.planned(replace(migration, phase=phase), BACK, is_pinned=True)

        assert isinstance(made, PlannedMigration)
        assert (made.to_rootfs, made.strategy) == (LRP.rootfs, migration.strategy)
        assert (made.reason, made.is_in_flight, made.is_pinned) == (phase.reason, True, False)

    def test_a_stopgap_is_a_bridge(self) -> None:
        stopgap = replace(self.TO_COPY, strategy=Strategy.RECREATE, is_stopgap=True)

        made = self.planned(stopgap, BACK)

        assert isinstance(made, PlannedMigration)
        assert made.strategy is Strategy.BRIDGE

    def test_one_that_is_being_restored_may_be_ordered_to_its_copy(self) -> None:
        made = self.planned(self.BACK_TO_SOURCE, MIGRATE, is_pinned=True)

        assert isinstance(made, PlannedMigration)
        assert (made.to_rootfs, made.copy, made.reason, made.is_pinned) == (None, None, "bridging", True)

    def test_so_may_one_that_was_turned_round_for_an_operator(self) -> None:
        assert isinstance(
            self.planned(replace(self.TURNED_BACK, ended=Reason.RESTORED), MIGRATE), PlannedMigration
        )

    @pytest.mark.parametrize("migration", [TO_COPY, replace(TURNED_BACK, ended=Reason.NOT_PULLED)])
    def test_one_that_is_on_its_way_there_or_could_not_start_there_is_skipped(
        self, migration: Migration
    ) -> None:
        assert self.planned(migration, MIGRATE) == Skipped(SUBJECT, Reason.BRIDGING)

    def test_what_changes_on_the_way_makes_no_plan_stale(self) -> None:
        before = self.planned(self.TO_COPY, BACK)
        assert isinstance(before, PlannedMigration)
        after = replace(
            PLANNED, subject=subject_of(MIGRATED), strategy=Strategy.RECREATE, to_rootfs=LRP.rootfs
        )

        assert changes_since_plan(before, after) == ""
        assert changes_since_plan(after, before) == ""

    def test_what_its_owner_changes_does(self) -> None:
        before = self.planned(self.TO_COPY, BACK)
        assert isinstance(before, PlannedMigration)

        assert changes_since_plan(before, replace(before, instances=3)) == "wants instances: 3, not 2"


class TestCopies:
    A, B = parse_image_reference("docker.io/team/a:1"), parse_image_reference("docker.io/team/b:1")

    def test_an_image_is_listed_once_with_the_lrps_that_wait_for_it(self) -> None:
        migrations = [replace(PLANNED, copy=each) for each in (self.B, None, self.A, self.B)]

        assert copies_of(migrations) == (PlannedCopy(self.A, 1), PlannedCopy(self.B, 2))

    def test_without_moves_that_wait_there_are_none(self) -> None:
        assert copies_of([PLANNED]) == ()

    @given(wanted=st.lists(st.sampled_from([A, B, SOURCE]) | st.none()))
    def test_each_lrp_that_waits_is_counted_once_and_images_stand_by_name(
        self, wanted: list[ImageReference | None]
    ) -> None:
        copies = copies_of([replace(PLANNED, copy=each) for each in wanted])

        assert {copy.source: copy.lrps for copy in copies} == {
            each: wanted.count(each) for each in wanted if each is not None
        }
        assert list(copies) == sorted(copies, key=lambda copy: str(copy.source))


@given(
    observed=st.builds(
        replace,
        st.sampled_from([ORDERED, UNKNOWN, CACHED, replace(CACHED, original_source=None)]),
        instances=st.sampled_from([(), (RUNNING,)]),
        is_paused=st.booleans(),
        is_pinned=st.booleans(),
    ),
    rules=st.sampled_from([RULES, BRIDGING]),
)
def test_a_world_that_does_not_change_keeps_to_the_plan(observed: Observed, rules: Rules) -> None:
    made = planned(observed, rules)

    if isinstance(made, PlannedMigration):
        assert changes_since_plan(made, planned(observed, rules)) == ""


@given(
    observed=st.builds(
        replace,
        st.sampled_from([ORDERED, UNKNOWN, CACHED, replace(CACHED, original_source=None)]),
        instances=st.sampled_from([(), (RUNNING,)]),
        is_paused=st.booleans(),
    )
)
def test_what_is_proposed_is_carried_out_by_an_order_made_of_it(observed: Observed) -> None:
    made = planned(observed, BRIDGING)
    if not isinstance(made, PlannedMigration):
        return
    assert observed.order is not None
    goal = observed.order.goal
    order = Order(
        goal,
        since=NOW,
        strategy=made.strategy,
        rootfs=made.subject.rootfs,
        to_rootfs=made.to_rootfs if goal is Goal.CACHE else None,
    )

    assert decide(replace(observed, order=order), BRIDGING) == decide(observed, BRIDGING)
