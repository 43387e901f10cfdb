"""Each step while the LRP is not desired, or may not be."""

from dataclasses import replace

import pytest

from reconcile.lrps import ActualLrp, ActualLrpState, ModificationTag, Presence, Pull
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.protocol import LONGEST_RETRY, MAX_ROUNDS, SHORTEST_RETRY
from reconcile.reasons import Reason
from reconcile.references import Rootfs
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    PhaseLimits,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    UpdateBridge,
)
from tests.reconcile.protocol_samples import (
    BACK,
    BRIDGE,
    BRIDGED,
    CLAIMED,
    CRASHED,
    EXITED,
    GONE,
    LIMITS,
    NEW,
    ON_COPY,
    ON_FORMER_COPY,
    OURS,
    OWNED,
    REVERTED,
    RUNNING,
    SOURCE,
    SOURCE_BRIDGE,
    UNCLAIMED,
    UNREACHABLE,
    WORLD,
    crashed,
    entered,
    instance,
    row,
    step,
    turned,
    turned_back,
)
from tests.reconcile.test_decide import LRP, NOW

KNOWN = frozenset({"a", "b"})
REMOVED = row(Phase.REMOVED, instance_guids=KNOWN)
RECREATED = replace(REMOVED, strategy=Strategy.RECREATE)
STOPGAP = replace(RECREATED, is_stopgap=True, entered_at=NOW - 2, started_at=NOW - 2)
PULLING = (instance(0, CLAIMED, guid="a"), instance(1, CLAIMED, guid="b"))
"""Old instances whose pull cannot be interrupted."""


class TestDesiringAgain:
    @pytest.mark.parametrize("strategy", list(Strategy))
    def test_it_is_desired_again_when_no_row_is_left(self, strategy: Strategy) -> None:
        removed = replace(REMOVED, strategy=strategy)

        assert step(removed, GONE) == DesireOriginal(removed)

    @pytest.mark.parametrize("state", [CLAIMED, RUNNING])
    @pytest.mark.parametrize("presence", list(Presence))
    def test_any_row_with_a_container_delays_that(self, state: ActualLrpState, presence: Presence) -> None:
        world = replace(GONE, instances=(instance(0, state, guid="a", presence=presence),))

        assert isinstance(step(REMOVED, world), RetryLater)

    @pytest.mark.parametrize("state", [UNCLAIMED, CRASHED])
    def test_rows_without_a_container_are_retired_at_once(self, state: ActualLrpState) -> None:
        """The BBS deletes them; a removal that raced a crash leaves them until the next convergence."""
        left = instance(0, state, guid="a")
        world = replace(GONE, instances=(left, PULLING[1]))

        assert step(REMOVED, world) == RetireInstances((left,), migration=replace(REMOVED, retired_at=NOW))

    def test_but_not_again_and_again(self) -> None:
        just = replace(REMOVED, retired_at=NOW - LONGEST_RETRY)
        world = replace(GONE, instances=(instance(0, CRASHED, guid="a"),))

        assert isinstance(step(just, world), RetryLater)
        assert isinstance(step(just, replace(world, now=NOW + 0.1)), RetireInstances)

    @pytest.mark.parametrize("presence", [Presence.EVACUATING, Presence.SUSPECT])
    def test_rows_of_other_presence_end_by_themselves(self, presence: Presence) -> None:
        world = replace(GONE, instances=(instance(0, UNCLAIMED, guid="a", presence=presence),))

        assert isinstance(step(REMOVED, world), RetryLater)

    @pytest.mark.parametrize("strategy", list(Strategy))
    def test_it_is_not_missing_for_longer_than_that_although_rows_are_left(self, strategy: Strategy) -> None:
        """Cloud Controller would miss it, and a pull may take minutes."""
        removed = replace(REMOVED, strategy=strategy)
        left = replace(GONE, instances=PULLING)
        entered_at = NOW - 1

        assert isinstance(step(removed, replace(left, now=entered_at + LIMITS.missing)), RetryLater)
        late = replace(left, now=entered_at + LIMITS.missing + 0.1)
        assert step(removed, late) == DesireOriginal(removed)

    def test_rows_that_stay_are_looked_at_less_and_less_often(self) -> None:
        left = replace(GONE, instances=OURS)
        waits = [step(REMOVED, replace(left, now=NOW - 1 + age)) for age in (0.0, 5.0, 10.0, 12.0)]

        assert [wait.seconds for wait in waits if isinstance(wait, RetryLater)] == [
            SHORTEST_RETRY,
            0.5,
            1.0,
            SHORTEST_RETRY,
        ]

    def test_instances_that_somebody_else_let_start_meanwhile_are_of_the_past_too(self) -> None:
        """Its owner desired it and removed it again before this was seen."""
        other = instance(0, CLAIMED, guid="other")
        world = replace(GONE, instances=(other, PULLING[1], crashed(UNREACHABLE, 2)))

        assert step(REMOVED, world) == Enter(replace(REMOVED, instance_guids=KNOWN | {"other"}))

    def test_its_instances_are_started_next_when_it_is_desired_from_the_target(self) -> None:
        assert entered(REMOVED, replace(GONE, lrp=ON_COPY)) == (Phase.STARTING, None)


class TestStopgap:
    """Old instances are still pulling from the source: a bridge serves the app meanwhile."""

    def test_instances_that_stop_at_once_need_none(self) -> None:
        world = replace(GONE, instances=PULLING, may_bridge=True)

        assert step(RECREATED, world) == RetryLater(Reason.INSTANCES_STOPPING, SHORTEST_RETRY)
        almost = replace(world, now=NOW - 1 + LIMITS.stopgap - 0.125)
        assert step(RECREATED, almost) == RetryLater(Reason.INSTANCES_STOPPING, 0.125)

    def test_the_row_is_written_first(self) -> None:
        world = replace(GONE, instances=PULLING, may_bridge=True, now=NOW - 1 + LIMITS.stopgap)

        assert step(RECREATED, world) == Enter(replace(RECREATED, is_stopgap=True))

    def test_where_no_bridge_may_be_there_is_none(self) -> None:
        world = replace(GONE, instances=PULLING, now=NOW + 5)

        assert isinstance(step(RECREATED, world), RetryLater)

    def test_it_has_one_instance_more_than_wanted(self) -> None:
        """One on the cell that pulls the old image may wait for that pull; another lands elsewhere."""
        world = replace(GONE, instances=PULLING, bridge=None, bridge_instances=())

        assert step(STOPGAP, world) == DesireBridge(STOPGAP, LRP.instances + 1)

    def test_the_lrp_is_desired_again_once_it_serves_although_rows_are_left(self) -> None:
        bridge = replace(BRIDGE, instances=3)
        starting = replace(GONE, instances=PULLING, bridge=bridge, bridge_instances=BRIDGED[:1])

        assert isinstance(step(STOPGAP, starting), RetryLater)
        assert step(STOPGAP, replace(starting, bridge_instances=BRIDGED)) == DesireOriginal(STOPGAP)

    def test_or_at_the_latest_when_it_was_missing_for_too_long(self) -> None:
        world = replace(GONE, instances=PULLING, bridge_instances=())
        late = replace(world, now=NOW - 2 + LIMITS.missing + 0.1)

        assert step(STOPGAP, late) == DesireOriginal(STOPGAP)

    def test_one_that_cells_cannot_pull_turns_the_lrp_back(self) -> None:
        failed = (crashed(UNREACHABLE), instance(1, CLAIMED))
        made = turned(STOPGAP, replace(GONE, instances=PULLING, bridge_instances=failed))

        assert made.migration == replace(
            STOPGAP,
            goal=Goal.SOURCE,
            ended=Reason.NOT_PULLED,
            way_back=SOURCE,
            detail=made.migration.detail,
        )

    def test_one_that_serves_somewhere_does_not(self) -> None:
        half = (crashed(UNREACHABLE), BRIDGED[1])

        assert isinstance(step(STOPGAP, replace(GONE, instances=PULLING, bridge_instances=half)), RetryLater)

    def test_one_whose_process_ends_by_itself_does_not(self) -> None:
        """Its source would not serve it either."""
        exited = (crashed(EXITED),)

        assert isinstance(
            step(STOPGAP, replace(GONE, instances=PULLING, bridge_instances=exited)), RetryLater
        )

    def test_a_bridge_that_was_there_before_the_removal_is_no_stopgap(self) -> None:
        """It has served as many instances as the app had; what happened since does not bring the app back."""
        failed = replace(GONE, instances=PULLING, bridge_instances=(crashed(UNREACHABLE),))

        assert isinstance(step(REMOVED, failed), RetryLater)

    def test_an_lrp_that_was_turned_back_does_not_wait_for_a_stopgap_from_the_copy(self) -> None:
        back = turned_back(
            Phase.REMOVED,
            strategy=Strategy.RECREATE,
            is_stopgap=True,
            original=LRP,
            instance_guids=KNOWN,
        )
        failed = replace(GONE, instances=PULLING, bridge_instances=(crashed(UNREACHABLE),))

        assert step(back, failed) == DesireOriginal(back)
        of_source = replace(failed, bridge=SOURCE_BRIDGE)
        assert isinstance(step(back, of_source), RetryLater)


class TestOwnerDesiresFirst:
    def test_with_a_bridge_it_is_migrated_once_more(self) -> None:
        made = step(REMOVED, replace(GONE, lrp=REVERTED))

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.rounds) == (Phase.BRIDGING, 2)
        assert made.migration.original == REVERTED
        assert made.migration.instance_guids == KNOWN, "they are still of what was removed"

    def test_a_stopgap_is_such_a_bridge(self) -> None:
        """The LRP is not missing for another time: it is removed again only while the stopgap serves."""
        made = step(STOPGAP, replace(GONE, lrp=REVERTED))

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.is_stopgap) == (Phase.BRIDGING, True)

    @pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.STARTING])
    def test_after_three_rounds_it_stays_as_its_owner_wants_and_the_bridge_until_it_serves(
        self, phase: Phase
    ) -> None:
        last = replace(REMOVED, phase=phase, rounds=MAX_ROUNDS)
        made = step(last, replace(GONE, lrp=REVERTED))
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.STARTING, Reason.REVERTED_EXTERNALLY)

        starting = replace(GONE, lrp=REVERTED)
        assert isinstance(step(made.migration, starting), RetryLater)
        serving = replace(starting, instances=(instance(0), instance(1)))
        assert entered(made.migration, serving) == (Phase.REMOVING_BRIDGE, Reason.REVERTED_EXTERNALLY)

    @pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.STARTING])
    def test_another_image_is_left_to_its_owner_in_the_first_round(self, phase: Phase) -> None:
        other = replace(REVERTED, rootfs=Rootfs("docker:///team/other#1"))

        assert entered(replace(REMOVED, phase=phase), replace(GONE, lrp=other)) == (
            Phase.STARTING,
            Reason.REVERTED_EXTERNALLY,
        )

    @pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.STARTING])
    @pytest.mark.parametrize("renews_login", [True, False])
    def test_one_that_ran_from_a_copy_is_migrated_once_more_from_its_source(
        self,
        phase: Phase,
        renews_login: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        """Its owner knows nothing but the source, and that may be gone."""
        moved = replace(REMOVED, phase=phase, original=ON_FORMER_COPY, renews_login=renews_login)
        world = replace(GONE, lrp=REVERTED, source=OWNED)

        made = step(moved, world)

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.rounds) == (Phase.BRIDGING, 2)
        assert made.migration.original == REVERTED
        assert not made.migration.renews_login
        assert entered(replace(moved, rounds=MAX_ROUNDS), world) == (
            Phase.STARTING,
            Reason.REVERTED_EXTERNALLY,
        )

    @pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.STARTING])
    def test_without_a_bridge_it_is_decided_about_anew(self, phase: Phase) -> None:
        recreated = replace(RECREATED, phase=phase)

        assert step(recreated, replace(GONE, lrp=REVERTED)) == Close(
            replace(recreated, instance_guids=frozenset()), Reason.CHANGED_BY_CLOUD_CONTROLLER
        ), "an instance whose stop was lost runs what is desired, and is not stopped once more"
        other = replace(REVERTED, rootfs=Rootfs("docker://registry.example/team/other#1"))
        assert step(recreated, replace(GONE, lrp=other)) == Close(
            recreated, Reason.CHANGED_BY_CLOUD_CONTROLLER
        )

    def test_one_that_was_turned_back_is_where_it_belongs(self) -> None:
        back = turned_back(Phase.REMOVED, is_stopgap=True, original=LRP)

        assert entered(back, replace(GONE, lrp=REVERTED)) == (Phase.STARTING, Reason.NOT_PULLED)
        other = replace(REVERTED, rootfs=Rootfs("docker:///team/other#1"))
        assert entered(back, replace(GONE, lrp=other)) == (Phase.REMOVING_BRIDGE, Reason.NOT_PULLED)


class TestDesiredFromTheCopyByItsOwner:
    """Its droplet names the copy by now, and brings the login of its source."""

    @pytest.mark.parametrize("phase", [Phase.REMOVING, Phase.REMOVED])
    def test_with_a_bridge_whatever_has_a_cell_already_is_taken_for_an_instance_of_the_past(
        self, phase: Phase
    ) -> None:
        from_droplet = replace(ON_COPY, credentials=SOURCE.credentials)
        pulled = instance(1, CLAIMED, guid="f")
        world = replace(WORLD, lrp=from_droplet, instances=(instance(0, guid="e"), pulled))

        made = step(row(phase, instance_guids=frozenset({"a"})), world)
        assert isinstance(made, Enter)
        assert made.migration.phase is Phase.STARTING
        assert made.migration.instance_guids == {"a", "e", "f"}

    @pytest.mark.parametrize("strategy", Strategy)
    def test_one_that_this_program_desired_has_instances_of_its_own(self, strategy: Strategy) -> None:
        """The answer was lost."""
        made = step(row(Phase.REMOVED, strategy=strategy), replace(WORLD, lrp=ON_COPY, instances=NEW))

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.instance_guids) == (Phase.STARTING, frozenset())


class TestWhenAnAnswerWasLost:
    UNKNOWN = row(Phase.REMOVING, unknown_until=NOW + 1, instance_guids=KNOWN)
    RECREATING = replace(UNKNOWN, strategy=Strategy.RECREATE)

    def test_a_removal_that_took_effect_is_gone_on_with(self) -> None:
        assert entered(self.UNKNOWN, GONE) == (Phase.REMOVED, None)

    def test_its_owner_may_have_scaled_it_before_that_so_his_sync_is_waited_for(self) -> None:
        made = step(self.UNKNOWN, GONE)

        assert isinstance(made, Enter)
        assert made.migration.synced_by == NOW + LIMITS.unknown
        assert PhaseLimits().unknown > 30.0, "the interval of the sync"

    def test_one_that_may_still_take_effect_is_waited_for(self) -> None:
        assert step(self.UNKNOWN, WORLD) == RetryLater(Reason.REMOVAL_UNCONFIRMED, SHORTEST_RETRY)

    def test_what_its_owner_scales_up_meanwhile_the_bridge_serves_too(self) -> None:
        """The removal may take effect at any moment, and takes the new instances with it."""
        scaled = replace(LRP, instances=3, tag=ModificationTag("epoch-1", 1))
        newest = step(self.UNKNOWN, replace(WORLD, lrp=scaled))
        assert newest == Enter(replace(self.UNKNOWN, original=scaled))

        assert isinstance(newest, Enter)
        assert step(newest.migration, replace(WORLD, lrp=scaled)) == UpdateBridge(newest.migration, scaled)

    def test_a_bridge_that_is_gone_meanwhile_is_desired_again(self) -> None:
        without = replace(WORLD, bridge=None, bridge_instances=())

        assert step(self.UNKNOWN, without) == DesireBridge(self.UNKNOWN, LRP.instances)

    def test_instances_that_begin_to_run_meanwhile_get_a_bridge(self) -> None:
        running = replace(WORLD, bridge=None, bridge_instances=(), may_bridge=True)

        assert step(self.RECREATING, running) == Enter(replace(self.RECREATING, is_stopgap=True))
        assert isinstance(step(self.RECREATING, replace(running, may_bridge=False)), RetryLater)
        assert isinstance(step(self.RECREATING, replace(running, instances=PULLING)), RetryLater)

    def test_one_that_did_not_is_begun_anew_and_nobody_is_taken_for_an_instance_of_the_past(self) -> None:
        """To retire what runs under the definition that was never removed would be an outage."""
        known = replace(self.UNKNOWN, unknown_until=NOW)
        made = step(known, WORLD)
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.instance_guids) == (Phase.BRIDGED, frozenset())

        closed = step(replace(known, strategy=Strategy.RECREATE), WORLD)
        assert isinstance(closed, Close)
        assert (closed.reason, closed.migration.instance_guids) == (Reason.NOT_REMOVED, frozenset())

    def test_one_whose_lrp_is_desired_from_the_target_by_now_is_over(self) -> None:
        assert entered(self.UNKNOWN, replace(WORLD, lrp=ON_COPY)) == (Phase.STARTING, None)

    def test_a_row_that_was_written_as_removed_is_believed_only_when_that_is_known(self) -> None:
        """The same definition is still there, so somebody was wrong."""
        removed = replace(self.UNKNOWN, phase=Phase.REMOVED)

        assert isinstance(step(removed, WORLD), RetryLater)
        assert entered(replace(removed, unknown_until=NOW), WORLD) == (Phase.BRIDGED, None)


class TestARemovalOfATurnedBackLrpThatDidNotHappen:
    """Its instances from the copy had crashed; meanwhile they may run."""

    BACK = turned_back(
        Phase.REMOVING, strategy=Strategy.RECREATE, unknown_until=NOW, instance_guids=frozenset({"e"})
    )

    def test_it_is_removed_again(self) -> None:
        known = replace(self.BACK, instance_guids=frozenset())
        world = replace(WORLD, lrp=ON_COPY, instances=(crashed(UNREACHABLE),))

        assert step(self.BACK, world) == RemoveOriginal(known)

    def test_one_that_runs_from_its_copy_after_all_is_on_probation_there_again(self) -> None:
        """Which of its instances are from before the migration is not known any more: they keep being so."""
        world = replace(WORLD, lrp=ON_COPY, instances=NEW, bridge=None, bridge_instances=())
        made = step(self.BACK, world)

        assert isinstance(made, Enter)
        again = made.migration
        assert (again.phase, again.ended, again.goal) == (Phase.STARTING, None, Goal.CACHE)
        assert (again.is_turned_back, again.detail) == (False, "")
        assert again.instance_guids == self.BACK.instance_guids
        assert again.original.rootfs == SOURCE.rootfs, "what it was migrated from"
        assert step(again, world) == Close(again, Reason.MIGRATED)

    def test_a_bridge_from_its_source_that_cells_cannot_pull_does_not_turn_it_back_again(self) -> None:
        stopgap = replace(self.BACK, is_stopgap=True)
        world = replace(BACK, bridge=SOURCE_BRIDGE, instances=NEW, bridge_instances=(crashed(UNREACHABLE),))
        made = step(stopgap, world)

        assert isinstance(made, Enter)
        again = made.migration
        assert step(again, world) == RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)
        late = step(replace(again, entered_at=NOW - LIMITS.start - 1), world)
        assert isinstance(late, Enter)
        assert (late.migration.phase, late.migration.ended) == (
            Phase.REMOVING_BRIDGE,
            Reason.WAITING_UNTIL_STOPPED,
        )
        assert late.migration.instance_guids == frozenset(), "what runs is left to itself"

    @pytest.mark.parametrize("instances", [NEW, PULLING], ids=["runs", "starts"])
    def test_one_that_its_owner_has_desired_again_was_removed_and_is_not_called_cached(
        self, instances: tuple[ActualLrp, ...]
    ) -> None:
        """It was on its way back to a former copy, and its owner knows nothing but the source."""
        back = replace(self.BACK, way_back=Pull(ON_FORMER_COPY.rootfs))
        world = replace(WORLD, lrp=REVERTED, instances=instances, bridge=None, bridge_instances=())

        assert step(back, world) == Close(back, Reason.CHANGED_BY_CLOUD_CONTROLLER)

    def test_one_that_runs_from_a_former_copy_after_all_is_waited_for_there(self) -> None:
        """It was to leave that for its source, since cells could not pull it."""
        leaving = replace(self.BACK, original=ON_FORMER_COPY, is_stopgap=True)
        world = replace(BACK, lrp=ON_FORMER_COPY, instances=NEW, copy=ON_COPY.rootfs)

        made = step(leaving, world)

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.STARTING, Reason.NOT_PULLED)
        assert made.migration.way_back == Pull(ON_FORMER_COPY.rootfs, ON_FORMER_COPY.credentials)


class TestAfterARestart:
    """An LRP that its owner deleted meanwhile must not come back; one that only this program removed must."""

    RESTARTED = replace(GONE, run_id="run-2")

    @pytest.mark.parametrize("strategy", list(Strategy))
    def test_where_no_owner_syncs_it_is_desired_at_once(self, strategy: Strategy) -> None:
        removed = replace(REMOVED, strategy=strategy)

        assert step(removed, self.RESTARTED) == DesireOriginal(removed)

    def test_where_its_owner_syncs_the_owner_gets_time(self) -> None:
        late = replace(self.RESTARTED, domain_is_fresh=True, process_age=10.0, now=NOW + 60)

        assert step(RECREATED, late) == RetryLater(Reason.WAITING_FOR_CLOUD_CONTROLLER, 5.0)

    @pytest.mark.parametrize("removed", [REMOVED, STOPGAP], ids=["bridge", "stopgap"])
    def test_with_a_bridge_its_owners_next_sync_decides(self, removed: Migration) -> None:
        """Waiting would keep the bridge of an app that was deleted for longer than that."""
        fresh = replace(self.RESTARTED, domain_is_fresh=True, process_age=10.0)

        assert step(removed, fresh) == DesireOriginal(removed)

    def test_that_time_is_longer_than_a_domain_stays_fresh_after_its_last_sync(self) -> None:
        """Otherwise a domain that was synced before the removal would pass for one that was synced since."""
        domain_ttl, sync_interval = 120.0, 30.0

        assert PhaseLimits().cloud_controller_sync >= domain_ttl + sync_interval

    def test_what_its_owner_did_not_desire_in_that_time_stays_gone(self) -> None:
        old = replace(self.RESTARTED, domain_is_fresh=True, process_age=LIMITS.cloud_controller_sync)

        assert step(RECREATED, old) == Close(RECREATED, Reason.REMOVED_BY_OWNER)

    def test_the_same_run_goes_on_whatever_the_domain(self) -> None:
        fresh = replace(GONE, domain_is_fresh=True, process_age=1.0)

        assert step(REMOVED, fresh) == DesireOriginal(REMOVED)
