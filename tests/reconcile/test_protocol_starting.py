"""Each step after the LRP was desired again: it is on probation until it runs."""

from dataclasses import replace

import pytest

from reconcile.lrps import ActualLrp, ModificationTag, Presence, Pull
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.protocol import LONGEST_RETRY, MAX_ROUNDS, SHORTEST_RETRY
from reconcile.reasons import Reason
from reconcile.steps import (
    Close,
    DesireBridge,
    Enter,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    TurnBack,
    UpdateBridge,
    World,
)
from tests.reconcile.protocol_samples import (
    ALONE,
    BACK,
    BRIDGE,
    BRIDGED,
    CLAIMED,
    EXITED,
    GONE,
    LIMITS,
    NEW,
    NO_ROOM,
    NO_SUCH_COPY,
    ON_COPY,
    ON_FORMER_COPY,
    OURS,
    OWNED,
    REVERTED,
    ROUTES,
    SOURCE,
    SOURCE_BRIDGE,
    SSH,
    UNCLAIMED,
    UNREACHABLE,
    crashed,
    entered,
    instance,
    row,
    step,
    turned,
    turned_back,
    without_room,
)
from tests.reconcile.test_decide import LRP, NOW

STARTING = row(Phase.STARTING, instance_guids=frozenset({"a", "b"}))
RECREATED = replace(STARTING, strategy=Strategy.RECREATE)
STOPGAP = replace(RECREATED, is_stopgap=True)
LATE = NOW + LIMITS.start
"""When the time is up for an LRP that was desired again a second ago."""
PULLING = (instance(0, CLAIMED, guid="a"), instance(1, CLAIMED, guid="b"))
"""Old instances whose pull cannot be interrupted."""
CLAIMED_NEW = (instance(0, CLAIMED, guid="e"), instance(1, CLAIMED, guid="f"))
ALONE = replace(ALONE, instances=CLAIMED_NEW)


class TestProbation:
    """The LRP was recreated, and no bridge serves."""

    def test_it_is_over_when_an_instance_runs(self) -> None:
        assert step(RECREATED, ALONE) == RetryLater(Reason.STARTING, SHORTEST_RETRY)
        one = replace(ALONE, instances=(NEW[0], CLAIMED_NEW[1]))
        assert step(RECREATED, one) == Close(RECREATED, Reason.MIGRATED)

    def test_an_instance_of_the_removed_definition_proves_nothing(self) -> None:
        world = replace(ALONE, instances=(OURS[0], CLAIMED_NEW[1]))

        assert isinstance(step(RECREATED, world), RetryLater)

    def test_a_failed_pull_turns_it_back_at_once(self) -> None:
        """Not after three of them, and although it is started again."""
        failed = crashed(UNREACHABLE, state=UNCLAIMED, crashes=1)

        made = turned(RECREATED, replace(ALONE, instances=(failed, CLAIMED_NEW[1])))

        assert made.migration.ended is Reason.NOT_PULLED

    def test_one_instance_that_runs_is_enough_whatever_others_do(self) -> None:
        """Its other instances go on as the BBS restarts them, and the sweep looks after them."""
        world = replace(ALONE, instances=(NEW[0], crashed(UNREACHABLE, 1)))

        assert step(RECREATED, world) == Close(RECREATED, Reason.MIGRATED)

    def test_a_failure_that_may_be_of_an_old_instance_says_nothing(self) -> None:
        """A row that is left keeps what it crashed by under the definition that was removed."""
        world = replace(ALONE, instances=(PULLING[0], crashed(NO_SUCH_COPY, 1)))

        assert isinstance(step(RECREATED, world), RetryLater)

    def test_a_process_that_ends_by_itself_would_end_from_its_source_as_well(self) -> None:
        made = step(RECREATED, replace(ALONE, instances=(crashed(EXITED), CLAIMED_NEW[1])))

        assert isinstance(made, Close)
        assert made.reason is Reason.PROCESS_EXITED
        assert made.migration.detail == EXITED

    @pytest.mark.parametrize(
        "instances",
        [(), CLAIMED_NEW, (instance(0, UNCLAIMED),)],
        ids=["no row", "hangs", "not placed"],
    )
    def test_one_that_says_nothing_in_time_is_turned_back(self, instances: tuple[ActualLrp, ...]) -> None:
        world = replace(ALONE, instances=instances)

        assert isinstance(step(RECREATED, replace(world, now=LATE - 1)), RetryLater)
        made = turned(RECREATED, replace(world, now=LATE))
        assert (made.migration.ended, made.failure) == (Reason.NOT_STARTED, None)

    def test_one_for_which_no_cell_has_room_would_find_none_from_its_source_either(self) -> None:
        world = replace(ALONE, instances=(without_room(), without_room(1)))

        assert isinstance(step(RECREATED, world), RetryLater)
        made = step(RECREATED, replace(world, now=LATE))
        assert isinstance(made, Close)
        assert (made.reason, made.migration.detail) == (Reason.NO_ROOM, NO_ROOM)

    def test_one_of_which_no_instance_is_wanted_is_over_and_not_called_cached(self) -> None:
        none = replace(ALONE, lrp=replace(ON_COPY, instances=0), instances=())

        assert step(RECREATED, none) == Close(RECREATED, Reason.NO_INSTANCES)

    def test_one_that_its_owner_desired_from_the_copy_is_not_called_migrated_when_it_runs(self) -> None:
        """What runs may be of what its owner desired before, and its stop may be lost; its login tells."""
        from_droplet = replace(ON_COPY, credentials=SOURCE.credentials)
        running = replace(ALONE, lrp=from_droplet, instances=NEW)

        assert step(RECREATED, running) == Close(RECREATED, Reason.CHANGED_BY_CLOUD_CONTROLLER)
        turned(RECREATED, replace(running, instances=(crashed(UNREACHABLE),)))

    def test_while_its_removal_may_still_take_effect_nothing_is_over(self) -> None:
        unknown = replace(RECREATED, unknown_until=NOW + 1)

        assert isinstance(step(unknown, replace(ALONE, instances=NEW)), RetryLater)
        known = replace(unknown, unknown_until=NOW)
        assert step(known, replace(ALONE, instances=NEW)) == Close(known, Reason.MIGRATED)


class TestDesiredFromTheCopyByItsOwner:
    """Its droplet names the copy by now; beside its bridge what ran at first is taken for one from before."""

    LRP = replace(ON_COPY, credentials=SOURCE.credentials)
    WORLD = replace(BACK, lrp=LRP, instances=OURS, bridge_instances=BRIDGED[:1], now=LATE)

    def test_what_its_bridge_cannot_stand_in_for_is_left_to_its_owner_in_the_end(self) -> None:
        early = step(STARTING, replace(self.WORLD, now=LATE - 2))
        assert early == RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)

        made = step(STARTING, self.WORLD)
        assert isinstance(made, Enter)
        assert made.migration.phase is Phase.REMOVING_BRIDGE
        assert made.migration.ended is Reason.CHANGED_BY_CLOUD_CONTROLLER
        assert made.migration.instance_guids == frozenset(), "they serve, and count"

    def test_what_it_can_stand_in_for_is_retired(self) -> None:
        made = step(STARTING, replace(self.WORLD, bridge_instances=BRIDGED))

        assert isinstance(made, RetireInstances)
        assert made.instances == OURS

    def test_one_that_this_program_desired_is_waited_for(self) -> None:
        world = replace(self.WORLD, lrp=ON_COPY)

        assert step(STARTING, world) == RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)


class TestOrderToRestore:
    """An operator wants the app on its source while it is started from the copy."""

    def test_it_is_turned_back_as_nobodys_failure(self) -> None:
        made = turned(RECREATED, replace(ALONE, is_restore_requested=True))

        assert (made.migration.ended, made.failure) == (Reason.RESTORED, None)

    def test_one_that_runs_is_restored_after_its_end(self) -> None:
        """The next pass gives it a bridge."""
        running = replace(ALONE, instances=NEW, is_restore_requested=True)

        assert step(RECREATED, running) == Close(RECREATED, Reason.MIGRATED)

    def test_with_a_bridge_too(self) -> None:
        made = turned(STARTING, replace(BACK, is_restore_requested=True))

        assert (made.migration.ended, made.failure) == (Reason.RESTORED, None)

    def test_on_its_source_it_ends_as_restored(self) -> None:
        back = turned_back(Phase.STARTING, strategy=Strategy.RECREATE, ended=Reason.RESTORED)

        assert step(back, replace(ALONE, lrp=LRP)) == Close(back, Reason.RESTORED)


class TestBackOnItsSource:
    """An LRP that was turned back, or restored, without a bridge."""

    BACK = turned_back(Phase.STARTING, strategy=Strategy.RECREATE, instance_guids=frozenset({"a"}))
    WORLD = replace(ALONE, lrp=LRP)

    def test_it_is_over_at_once_and_says_why_it_is_there(self) -> None:
        assert step(self.BACK, self.WORLD) == Close(self.BACK, Reason.NOT_PULLED)
        restored = replace(self.BACK, way_back=None, ended=None)
        assert isinstance(step(restored, replace(self.WORLD, lrp=LRP)), Close)

    def test_an_old_instance_that_still_pulls_from_the_copy_gets_it_a_stopgap(self) -> None:
        pulling = replace(self.WORLD, instances=(PULLING[0], CLAIMED_NEW[1]))

        assert isinstance(step(self.BACK, pulling), RetryLater)
        later = replace(pulling, now=NOW + 1)
        assert step(self.BACK, later) == Enter(replace(self.BACK, is_stopgap=True))

    def test_one_of_whose_instances_runs_needs_none(self) -> None:
        world = replace(self.WORLD, instances=(PULLING[0], NEW[1]))

        assert step(self.BACK, world) == Close(self.BACK, Reason.NOT_PULLED)


class TestStopgap:
    """Old instances are still pulling after the LRP was desired again, so an index has no new row yet."""

    def test_it_is_given_one(self) -> None:
        pulling = replace(ALONE, instances=PULLING)

        assert step(RECREATED, pulling) == RetryLater(Reason.STARTING, SHORTEST_RETRY)
        later = replace(pulling, now=NOW - 1 + LIMITS.stopgap)
        assert step(RECREATED, later) == Enter(replace(RECREATED, is_stopgap=True))
        world = replace(later, bridge_instances=())
        assert step(STOPGAP, world) == DesireBridge(STOPGAP, ON_COPY.instances + 1)

    def test_without_a_bridge_the_pull_is_waited_for_however_long_it_takes(self) -> None:
        pulling = replace(ALONE, instances=PULLING, may_bridge=False)

        assert isinstance(step(RECREATED, pulling), RetryLater)
        assert step(RECREATED, replace(pulling, now=LATE + 9000)) == RetryLater(
            Reason.STARTING, LONGEST_RETRY
        )

    def test_what_runs_although_its_stop_was_lost_serves_and_is_left_running(self) -> None:
        stale = replace(ALONE, instances=OURS, may_bridge=False)

        assert isinstance(step(RECREATED, stale), RetryLater)
        made = step(RECREATED, replace(stale, now=NOW + LIMITS.stop))
        assert isinstance(made, Close)
        assert made.reason is Reason.WAITING_UNTIL_STOPPED
        assert made.migration.instance_guids == frozenset(), "it is not retired afterwards either"

    def test_none_is_desired_while_rows_of_an_earlier_one_are_left_or_nothing_old_is(self) -> None:
        rows = replace(ALONE, instances=PULLING, bridge_instances=BRIDGED)

        assert not isinstance(step(STOPGAP, rows), DesireBridge)
        assert not isinstance(step(STOPGAP, replace(rows, instances=(), bridge_instances=())), DesireBridge)

    def test_it_serves_until_the_old_instances_are_gone(self) -> None:
        pulling = replace(BACK, instances=PULLING)

        assert step(STOPGAP, pulling) == RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)
        assert step(STOPGAP, replace(pulling, now=LATE)) == RetryLater(
            Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY
        )

    def test_one_that_cells_cannot_pull_turns_the_lrp_back(self) -> None:
        failed = replace(BACK, instances=PULLING, bridge_instances=(crashed(UNREACHABLE),))

        assert turned(STOPGAP, failed).migration.ended is Reason.NOT_PULLED

    def test_so_does_the_bridge_of_an_lrp_that_ran(self) -> None:
        failed = replace(BACK, instances=CLAIMED_NEW, bridge_instances=(crashed(UNREACHABLE),))

        assert turned(STARTING, failed).migration.ended is Reason.NOT_PULLED


class TestBesideABridge:
    def test_it_is_over_when_all_its_instances_run(self) -> None:
        assert entered(STARTING, BACK) == (Phase.REMOVING_BRIDGE, Reason.MIGRATED)

    def test_too_few_are_waited_for(self) -> None:
        assert step(STARTING, replace(BACK, instances=NEW[:1])) == RetryLater(Reason.STARTING, SHORTEST_RETRY)

    def test_the_bridge_follows_its_owner_but_is_not_scaled_down(self) -> None:
        scaled = replace(ON_COPY, instances=3)
        assert step(STARTING, replace(BACK, lrp=scaled)) == UpdateBridge(STARTING, scaled, Reason.STARTING)
        routed = replace(ON_COPY, instances=1, routes=ROUTES)
        assert step(STARTING, replace(BACK, lrp=routed)) == UpdateBridge(
            STARTING, replace(routed, instances=2), Reason.STARTING
        )

    def test_a_bridge_that_was_drained_gets_its_routes_back(self) -> None:
        """An instance ended while its bridge was about to be removed."""
        routed = replace(ON_COPY, routes=ROUTES)
        world = replace(BACK, lrp=routed, bridge=replace(BRIDGE, routes=SSH), instances=NEW[:1])

        assert step(STARTING, world) == UpdateBridge(STARTING, routed, Reason.STARTING)

    def test_a_failed_pull_of_one_index_turns_it_back_while_the_bridge_serves(self) -> None:
        """The bridge runs from layers that its cells may have held already."""
        world = replace(BACK, instances=(NEW[0], crashed(UNREACHABLE, 1)))

        made = turned(STARTING, world)

        assert (made.migration.phase, made.migration.ended) == (Phase.STARTING, Reason.NOT_PULLED)

    def test_so_does_one_of_the_bridge(self) -> None:
        """It was started again, on a cell that cannot pull: the LRP's own instances could meet it next."""
        world = replace(BACK, instances=CLAIMED_NEW, bridge_instances=(BRIDGED[0], crashed(UNREACHABLE, 1)))

        assert turned(STARTING, world).migration.ended is Reason.NOT_PULLED
        restarted = (BRIDGED[0], crashed(UNREACHABLE, 1, state=UNCLAIMED, crashes=1))
        assert isinstance(step(STARTING, replace(world, bridge_instances=restarted)), RetryLater)

    def test_an_instance_that_is_started_again_at_once_is_given_another_chance(self) -> None:
        world = replace(BACK, instances=(NEW[0], crashed(UNREACHABLE, 1, state=UNCLAIMED, crashes=2)))

        assert isinstance(step(STARTING, world), RetryLater)

    def test_a_migration_whose_end_is_known_is_not_turned_back(self) -> None:
        reverted = replace(STARTING, ended=Reason.REVERTED_EXTERNALLY)
        world = replace(BACK, lrp=LRP, instances=(NEW[0], crashed(UNREACHABLE, 1)))

        assert isinstance(step(reverted, world), RetryLater)

    def test_a_scaling_that_may_be_lost_is_waited_for(self) -> None:
        """The removal took effect after its answer was lost: its owner's sync tells what was wanted last."""
        unsure = replace(STARTING, synced_by=NOW + 9)

        assert step(unsure, BACK) == RetryLater(Reason.WAITING_FOR_CLOUD_CONTROLLER, SHORTEST_RETRY)
        assert entered(replace(unsure, synced_by=NOW), BACK) == (Phase.REMOVING_BRIDGE, Reason.MIGRATED)


class TestStaleInstances:
    """An instance from before the removal runs on: nothing in its row tells which definition it runs."""

    STALE = replace(BACK, instances=(OURS[0], NEW[1]))

    def test_it_does_not_count(self) -> None:
        assert isinstance(step(STARTING, self.STALE), RetryLater)

    def test_it_is_retired_when_its_stop_was_lost(self) -> None:
        late = replace(self.STALE, now=NOW + LIMITS.stop)

        made = step(STARTING, late)

        assert made == RetireInstances((OURS[0],), migration=replace(STARTING, retired_at=late.now))

    def test_it_is_retired_once_and_again_only_when_that_stop_was_lost_too(self) -> None:
        """Each request makes an event before it reaches the cell."""
        retired = replace(STARTING, retired_at=NOW + LIMITS.stop, entered_at=NOW - 50)

        soon = replace(self.STALE, now=NOW + 2 * LIMITS.stop)
        assert not isinstance(step(retired, soon), RetireInstances)
        assert isinstance(step(retired, replace(soon, now=soon.now + 0.1)), RetireInstances)

    def test_it_stays_while_the_bridge_does_not_serve_in_its_place(self) -> None:
        late = replace(self.STALE, now=NOW + LIMITS.stop, bridge_instances=BRIDGED[:1])

        assert not isinstance(step(STARTING, late), RetireInstances)

    def test_one_that_was_retired_gives_its_successor_time_to_start(self) -> None:
        """The BBS gives its index a new instance at its next convergence."""
        retired = replace(STARTING, retired_at=LATE)
        half = replace(BACK, instances=NEW[:1], bridge_instances=BRIDGED[:1])

        assert step(retired, replace(half, now=LATE + LIMITS.start)) == RetryLater(
            Reason.STARTING, SHORTEST_RETRY
        )
        over = step(retired, replace(half, now=LATE + LIMITS.start + 1))
        assert isinstance(over, Enter)
        assert over.migration.ended is Reason.NOT_HEALTHY

    def test_one_whose_image_is_still_pulled_is_not_retired(self) -> None:
        late = replace(BACK, instances=PULLING, now=NOW + LIMITS.stop)

        assert not isinstance(step(STARTING, late), RetireInstances)


class TestStaleInstancesOfOneThatWasTurnedBack:
    """Its bridge may be one of the copy: what crashed of it is not started again."""

    TURNED = turned_back(Phase.STARTING, instance_guids=frozenset({"a", "b"}))
    LATE = replace(BACK, lrp=LRP, instances=OURS, bridge_instances=BRIDGED[:1], now=NOW + LIMITS.stop)

    def retired(self, world: World) -> tuple[ActualLrp, ...]:
        made = step(self.TURNED, world)
        return made.instances if isinstance(made, RetireInstances) else ()

    def test_as_many_are_retired_as_the_bridge_stands_in_for(self) -> None:
        assert self.retired(self.LATE) == OURS[:1]
        assert self.retired(replace(self.LATE, bridge_instances=BRIDGED)) == OURS

    def test_the_next_is_when_the_first_has_a_successor(self) -> None:
        assert self.retired(replace(self.LATE, instances=OURS[1:])) == ()
        assert self.retired(replace(self.LATE, instances=(NEW[0], OURS[1]))) == OURS[1:]

    def test_a_drained_bridge_stands_in_for_none(self) -> None:
        drained = replace(self.LATE, lrp=replace(LRP, routes=ROUTES), bridge=replace(BRIDGE, routes=SSH))

        leaving = replace(self.TURNED, phase=Phase.REMOVING_BRIDGE)
        assert not isinstance(step(leaving, drained), RetireInstances)

    def test_one_that_the_app_does_not_need_is_retired_at_once(self) -> None:
        beside = replace(OURS[0], presence=Presence.EVACUATING)
        world = replace(self.LATE, instances=(*NEW, beside), bridge_instances=())

        leaving = replace(self.TURNED, phase=Phase.REMOVING_BRIDGE)
        made = step(leaving, world)
        assert isinstance(made, RetireInstances)
        assert made.instances == (beside,)

    def test_where_no_bridge_is_left_another_is_desired(self) -> None:
        gone = replace(self.LATE, bridge=None, bridge_instances=())

        assert step(self.TURNED, gone) == DesireBridge(self.TURNED, LRP.instances + 1)


class TestWhenTheTimeIsUp:
    def test_the_bridge_stays_while_it_serves_more(self) -> None:
        late = replace(BACK, instances=NEW[:1], now=LATE + 1)

        assert step(STARTING, late) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)

    def test_a_bridge_that_serves_no_more_is_given_up(self) -> None:
        failed = crashed(EXITED, 1)
        useless = replace(BACK, instances=(NEW[0], failed), bridge_instances=BRIDGED[:1], now=LATE + 1)
        made = step(STARTING, useless)

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.REMOVING_BRIDGE, Reason.NOT_HEALTHY)
        assert made.migration.detail == EXITED

    @pytest.mark.parametrize("instances", [(), CLAIMED_NEW], ids=["none", "hanging"])
    def test_an_lrp_of_which_nothing_runs_is_turned_back(self, instances: tuple[ActualLrp, ...]) -> None:
        silent = replace(BACK, instances=instances, bridge_instances=(), now=LATE + 1)

        assert turned(STARTING, silent).migration.ended is Reason.NOT_STARTED

    @pytest.mark.parametrize(
        ("failed", "reason"),
        [(crashed(EXITED), Reason.PROCESS_EXITED), (without_room(), Reason.NO_ROOM)],
        ids=["process", "room"],
    )
    def test_one_that_its_source_would_not_serve_either_stays_on_its_copy(
        self, failed: ActualLrp, reason: Reason
    ) -> None:
        failing = replace(BACK, instances=(failed,), bridge_instances=(), now=LATE + 1)

        made = step(STOPGAP, failing)
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.REMOVING_BRIDGE, reason)
        with_bridge = step(STARTING, failing)
        assert isinstance(with_bridge, Enter)
        assert with_bridge.migration.ended is Reason.NOT_HEALTHY, "it ran from its source before"

    def test_one_that_goes_to_its_source_is_not_turned_round(self) -> None:
        restoring = replace(STARTING, goal=Goal.SOURCE)
        silent = replace(BACK, instances=(), bridge_instances=(), now=LATE + 1)

        assert not isinstance(step(restoring, silent), TurnBack)


class TestTurnedBackBesideABridge:
    """Its old instances still pull from the copy, and the stopgap ran from the copy too."""

    TURNED = turned_back(
        Phase.STARTING, is_stopgap=True, strategy=Strategy.RECREATE, instance_guids=frozenset({"a", "b"})
    )
    WORLD = replace(BACK, lrp=LRP, instances=PULLING)

    def test_a_stopgap_from_the_copy_that_does_not_run_is_removed(self) -> None:
        failed = replace(self.WORLD, bridge_instances=(crashed(UNREACHABLE),))

        assert step(self.TURNED, failed) == RemoveBridge(self.TURNED)

    def test_then_one_from_the_source_is_desired(self) -> None:
        none = replace(self.WORLD, bridge=None, bridge_instances=())

        assert step(self.TURNED, none) == DesireBridge(self.TURNED, LRP.instances + 1)

    def test_before_that_a_row_that_a_crash_has_left_of_the_other_is_retired(self) -> None:
        left = crashed(UNREACHABLE, state=UNCLAIMED, crashes=1)
        world = replace(self.WORLD, bridge=None, bridge_instances=(left, CLAIMED_NEW[1]))

        retired = replace(self.TURNED, retired_at=NOW)
        assert step(self.TURNED, world) == RetireInstances((left,), Reason.STARTING, retired)
        assert isinstance(step(retired, world), RetryLater)
        still_stopping = replace(world, bridge_instances=CLAIMED_NEW)
        assert isinstance(step(self.TURNED, still_stopping), RetryLater)

    def test_an_lrp_whose_old_instances_are_gone_is_desired_again_and_not_left_to_convergence(self) -> None:
        known = replace(self.TURNED, entered_at=NOW - LIMITS.stopgap - 1)
        empty = replace(self.WORLD, instances=(), bridge=None, bridge_instances=())

        assert step(known, empty) == RemoveOriginal(replace(known, original=LRP))
        assert isinstance(step(self.TURNED, empty), RetryLater), "its rows may be on their way"
        served = replace(empty, bridge=SOURCE_BRIDGE, bridge_instances=BRIDGED)
        assert isinstance(step(known, served), RetryLater)
        starting = replace(empty, instances=CLAIMED_NEW)
        assert isinstance(step(known, starting), RetryLater)

    def test_one_that_serves_stays_until_the_lrp_does(self) -> None:
        assert step(self.TURNED, self.WORLD) == RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)
        of_source = replace(self.WORLD, bridge=SOURCE_BRIDGE)
        assert step(self.TURNED, of_source) == RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)

    def test_an_instance_from_the_copy_that_serves_alone_does_not_wait_for_a_source_that_is_gone(
        self,
    ) -> None:
        """Its stop was lost. When the migration has ended, the LRP may run from its copy again."""
        failed = crashed(UNREACHABLE, 1)
        alone = replace(
            self.WORLD,
            bridge=SOURCE_BRIDGE,
            instances=(OURS[0], failed),
            bridge_instances=(failed,),
            now=LATE,
        )

        made = step(self.TURNED, alone)
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.REMOVING_BRIDGE, Reason.NOT_PULLED)
        left = RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)
        early = replace(alone, now=NOW)
        assert step(self.TURNED, early) == left
        bridged = replace(alone, bridge_instances=(BRIDGED[0], failed))
        assert not isinstance(step(self.TURNED, bridged), Enter)
        still_trying = replace(alone, instances=(OURS[0], CLAIMED_NEW[1]))
        assert step(self.TURNED, still_trying) == left

    def test_it_ends_as_it_was_turned_back(self) -> None:
        serving = replace(self.WORLD, bridge=SOURCE_BRIDGE, instances=NEW)

        assert entered(self.TURNED, serving) == (Phase.REMOVING_BRIDGE, Reason.NOT_PULLED)

    def test_a_source_that_fails_too_does_not_send_it_back_to_the_copy(self) -> None:
        failing = replace(self.WORLD, bridge=SOURCE_BRIDGE, instances=(crashed(UNREACHABLE),))

        assert isinstance(step(self.TURNED, failing), RetryLater)


class TestTurnedBackToAFormerCopy:
    """Its owner was faster, and desired it from its source."""

    TURNED = turned_back(Phase.STARTING, way_back=Pull(ON_FORMER_COPY.rootfs), original=REVERTED)
    WORLD = replace(BACK, lrp=REVERTED, instances=CLAIMED_NEW, source=OWNED)

    def test_it_stays_there_if_cells_can_pull_from_it(self) -> None:
        assert isinstance(step(self.TURNED, self.WORLD), RetryLater)
        serving = replace(self.WORLD, instances=NEW)
        assert entered(self.TURNED, serving) == (Phase.REMOVING_BRIDGE, Reason.NOT_PULLED)

    def test_otherwise_it_is_brought_to_its_former_copy(self) -> None:
        failing = replace(self.WORLD, instances=(crashed(UNREACHABLE), CLAIMED_NEW[1]))

        assert step(self.TURNED, failing) == RemoveOriginal(replace(self.TURNED, rounds=2))

    @pytest.mark.parametrize(
        "instances",
        [(crashed(UNREACHABLE), NEW[1]), (crashed(EXITED), CLAIMED_NEW[1])],
        ids=["another runs", "it ends by itself"],
    )
    def test_what_it_would_lose_or_not_gain_by_that_keeps_it_there(
        self, instances: tuple[ActualLrp, ...]
    ) -> None:
        assert isinstance(step(self.TURNED, replace(self.WORLD, instances=instances)), RetryLater)

    def test_after_three_rounds_it_stays_behind_its_bridge(self) -> None:
        failing = replace(self.WORLD, instances=(crashed(UNREACHABLE),))

        assert isinstance(step(replace(self.TURNED, rounds=MAX_ROUNDS), failing), RetryLater)


class TestTurnedBackToAFormerCopyThatIsGone:
    """Cells can pull neither its copy nor that which it ran from before; its bridge serves from the former."""

    FORMER = replace(ON_FORMER_COPY, tag=ModificationTag("epoch-3", 0))
    TURNED = turned_back(Phase.STARTING, way_back=Pull(FORMER.rootfs))
    WORLD = replace(
        BACK,
        lrp=FORMER,
        instances=(crashed(NO_SUCH_COPY), crashed(NO_SUCH_COPY, 1)),
        source=OWNED,
        way_to_source=SOURCE,
        copy=ON_COPY.rootfs,
        former_copies=frozenset({FORMER.rootfs}),
        may_bridge=True,
    )
    TO_SOURCE = replace(TURNED, original=FORMER, way_back=SOURCE)

    def test_it_is_brought_to_its_source(self) -> None:
        assert step(self.TURNED, self.WORLD) == RemoveOriginal(self.TO_SOURCE)

    def test_what_runs_of_it_has_a_bridge_that_can_stand_in_for_it_first(self) -> None:
        in_part = replace(self.WORLD, instances=(crashed(NO_SUCH_COPY), NEW[1]))

        assert step(self.TURNED, in_part) == RemoveOriginal(self.TO_SOURCE)
        unserved = replace(in_part, bridge_instances=())
        assert step(self.TURNED, unserved) == Enter(
            replace(self.TO_SOURCE, phase=Phase.BRIDGING, entered_at=NOW)
        )
        assert step(self.TURNED, replace(unserved, may_bridge=False)) == RemoveBridge(self.TURNED)

    def test_so_has_an_old_instance_whose_stop_was_lost_beside_a_bridge_that_cannot_be_pulled(self) -> None:
        turned = replace(self.TURNED, instance_guids=frozenset({"e"}))
        of_former = replace(BRIDGE, rootfs=self.FORMER.rootfs)
        world = replace(
            self.WORLD, instances=NEW[:1], bridge=of_former, bridge_instances=(crashed(NO_SUCH_COPY),)
        )

        assert entered(turned, world) == (Phase.BRIDGING, Reason.NOT_PULLED)

    def test_one_on_its_source_whose_bridge_cannot_be_pulled_gets_one_from_there(self) -> None:
        """Old instances serve whose stop was lost, and nothing else can stand in for them."""
        turned = replace(self.TURNED, instance_guids=frozenset({"e", "f"}), is_stopgap=True)
        of_former = replace(BRIDGE, rootfs=self.FORMER.rootfs)
        world = replace(
            self.WORLD,
            lrp=REVERTED,
            instances=NEW,
            bridge=of_former,
            bridge_instances=(crashed(NO_SUCH_COPY),),
        )
        to_source = replace(turned, way_back=SOURCE)

        assert step(turned, world) == Enter(to_source)
        assert step(to_source, world) == RemoveBridge(to_source)
        none = replace(world, bridge=None, bridge_instances=())
        assert step(to_source, none) == DesireBridge(to_source, LRP.instances + 1)

    @pytest.mark.parametrize(
        "changes",
        [
            {"way_to_source": None},
            {"instances": CLAIMED_NEW},
            {"instances": (crashed(EXITED), crashed(EXITED, 1))},
        ],
        ids=["source unknown", "starting", "it ends by itself"],
    )
    def test_otherwise_it_is_waited_for(self, changes: dict[str, object]) -> None:
        world = replace(self.WORLD, **changes)  # type: ignore[arg-type] # fields by name

        assert isinstance(step(self.TURNED, world), RetryLater)

    def test_nothing_is_removed_while_an_earlier_removal_may_take_effect(self) -> None:
        assert isinstance(step(replace(self.TURNED, unknown_until=NOW + 1), self.WORLD), RetryLater)

    def test_one_that_its_owner_desires_from_there_again_goes_on_to_its_source(self) -> None:
        """Its droplet names the former copy still."""
        again = replace(self.FORMER, tag=ModificationTag("epoch-4", 0))

        made = step(self.TO_SOURCE, replace(self.WORLD, lrp=again))

        assert made == RemoveOriginal(replace(self.TO_SOURCE, original=again, rounds=2))


class TestDesiredFromAFormerCopyByItsOwner:
    """Its droplet names the same copy in a former registry."""

    AGAIN = replace(ON_FORMER_COPY, tag=ModificationTag("epoch-4", 0))
    WORLD = replace(
        BACK,
        lrp=AGAIN,
        instances=(crashed(NO_SUCH_COPY), crashed(NO_SUCH_COPY, 1)),
        source=OWNED,
        copy=ON_COPY.rootfs,
        former_copies=frozenset({ON_FORMER_COPY.rootfs}),
    )

    def test_one_that_was_on_its_way_from_its_source_goes_on(self) -> None:
        made = step(STARTING, self.WORLD)

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.BRIDGING, None)
        assert (made.migration.rounds, made.migration.original) == (2, self.AGAIN)
        unknown = entered(STARTING, replace(self.WORLD, former_copies=frozenset()))
        assert unknown == (Phase.STARTING, Reason.REVERTED_EXTERNALLY)

    def test_so_does_one_on_its_way_back(self) -> None:
        turned = turned_back(Phase.STARTING)

        made = step(turned, self.WORLD)

        assert made == RemoveOriginal(replace(turned, original=self.AGAIN, rounds=2))


class TestMissing:
    """The LRP was desired again, and is not there."""

    def test_its_owner_removed_it_and_its_bridge_goes_too(self) -> None:
        assert entered(STARTING, GONE) == (Phase.REMOVING_BRIDGE, Reason.REMOVED_BY_OWNER)
        gone = replace(GONE, bridge=None, bridge_instances=())
        assert step(RECREATED, gone) == Close(RECREATED, Reason.REMOVED_BY_OWNER)

    @pytest.mark.parametrize("known", [STARTING, RECREATED], ids=["bridge", "alone"])
    def test_a_removal_whose_answer_was_lost_may_have_hit_it(self, known: Migration) -> None:
        unknown = replace(known, unknown_until=NOW + 1)

        assert entered(unknown, GONE) == (Phase.REMOVED, None)

    def test_after_a_takeover_the_process_before_may_have_removed_it(self) -> None:
        taken_over = replace(STARTING, run_id="run-0")
        young = replace(GONE, process_age=LIMITS.unknown - 1)

        assert entered(taken_over, young) == (Phase.REMOVED, None)
        old = replace(GONE, process_age=LIMITS.unknown)
        assert entered(taken_over, old) == (Phase.REMOVING_BRIDGE, Reason.REMOVED_BY_OWNER)
        assert entered(STARTING, young) == (Phase.REMOVING_BRIDGE, Reason.REMOVED_BY_OWNER), "it did not"
