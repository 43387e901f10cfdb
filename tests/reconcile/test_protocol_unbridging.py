"""Each step that takes a bridge away: first its routes, then the bridge itself."""

from dataclasses import replace

import pytest

from reconcile.lrps import ActualLrp
from reconcile.migrations import Goal, Phase
from reconcile.protocol import LONGEST_RETRY, SHORTEST_RETRY, next_step
from reconcile.reasons import Reason
from reconcile.references import Rootfs
from reconcile.steps import (
    Close,
    Enter,
    RemoveBridge,
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
    GONE,
    LIMITS,
    NEW,
    ON_COPY,
    ON_FORMER_COPY,
    OURS,
    OWNED,
    REVERTED,
    ROUTES,
    ROW,
    SOURCE,
    SOURCE_BRIDGE,
    SSH,
    TARGET,
    UNREACHABLE,
    WORLD,
    crashed,
    entered,
    instance,
    row,
    step,
    turned_back,
)
from tests.reconcile.test_decide import LRP, NOW

LEAVING = row(
    Phase.REMOVING_BRIDGE, ended=Reason.MIGRATED, entered_at=NOW - LIMITS.routes, started_at=NOW - 9
)
FAILED = replace(LEAVING, ended=Reason.BRIDGE_CRASHED)
"""The row of a bridge that was given up before the original was removed."""
ROUTED = replace(
    BACK, lrp=replace(ON_COPY, routes=ROUTES), bridge=replace(BRIDGE, routes=ROUTES), may_bridge=True
)
DRAINED = replace(ROUTED, bridge=replace(BRIDGE, routes=SSH))


class TestRoutesFirst:
    """Routers learn of a removal and processes get SIGTERM at the same moment."""

    def test_routers_get_time_to_learn_of_the_app_itself(self) -> None:
        early = replace(LEAVING, entered_at=NOW - 1)

        assert step(early, ROUTED) == RetryLater(Reason.WAITING_FOR_ROUTES, LIMITS.routes - 1)

    def test_then_all_routes_but_that_to_single_instances_are_removed(self) -> None:
        bridge = replace(BRIDGE, routes=SSH)

        assert step(LEAVING, ROUTED) == UpdateBridge(LEAVING, bridge, Reason.DRAINING_BRIDGE)

    def test_that_it_has_none_any_more_is_written(self) -> None:
        assert step(LEAVING, DRAINED) == Enter(replace(LEAVING, drained_at=NOW))

    def test_requests_in_flight_get_time_to_end(self) -> None:
        drained = replace(LEAVING, drained_at=NOW)

        assert step(drained, DRAINED) == RetryLater(Reason.DRAINING_BRIDGE, LIMITS.drain)
        assert step(drained, replace(DRAINED, now=NOW + LIMITS.drain)) == RemoveBridge(drained)

    @pytest.mark.parametrize("routes", [{}, SSH], ids=["none", "ssh"])
    def test_an_app_without_routes_waits_for_nothing(self, routes: dict[str, bytes]) -> None:
        worker = replace(BACK, lrp=replace(ON_COPY, routes=routes), bridge=replace(BRIDGE, routes=routes))

        assert step(LEAVING, worker) == RemoveBridge(LEAVING)

    def test_a_bridge_that_serves_nothing_waits_for_nothing(self) -> None:
        useless = replace(ROUTED, bridge_instances=(crashed(UNREACHABLE),))

        assert step(LEAVING, useless) == RemoveBridge(LEAVING)

    def test_one_that_was_given_up_is_drained_as_well(self) -> None:
        """Its other instances served requests."""
        world = replace(WORLD, lrp=replace(LRP, routes=ROUTES), bridge=replace(BRIDGE, routes=ROUTES))
        just = replace(FAILED, entered_at=NOW)

        assert step(just, world) == UpdateBridge(just, replace(BRIDGE, routes=SSH), Reason.DRAINING_BRIDGE)

    def test_with_a_delay_of_nothing_it_is_removed_at_once(self) -> None:
        drained = replace(LEAVING, drained_at=NOW)

        made = next_step(drained, DRAINED, target=TARGET, limits=replace(LIMITS, drain=0.0))

        assert made == RemoveBridge(drained)


class TestABridgeThatIsNeeded:
    @pytest.mark.parametrize(
        ("ended", "after"),
        [
            (Reason.MIGRATED, None),
            (Reason.RESTORED, None),
            (Reason.REVERTED_EXTERNALLY, Reason.REVERTED_EXTERNALLY),
            (Reason.BBS_REFUSED_DEFINITION, Reason.BBS_REFUSED_DEFINITION),
        ],
    )
    def test_an_app_that_lost_an_instance_meanwhile_keeps_it(
        self, ended: Reason, after: Reason | None
    ) -> None:
        leaving = replace(LEAVING, ended=ended)

        assert entered(leaving, replace(BACK, instances=NEW[:1])) == (Phase.STARTING, after)

    def test_one_that_never_left_its_source_keeps_it_until_it_serves_again(self) -> None:
        """Cells cannot reach the private registry, and its own instances have ended since: it is not removed."""
        given_up = row(Phase.REMOVING_BRIDGE, ended=Reason.NOT_PULLED)
        world = replace(WORLD, instances=(instance(0, CRASHED), instance(1, CRASHED)))

        assert step(given_up, world) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)

    def test_one_that_was_turned_back_keeps_it_too_and_why(self) -> None:
        leaving = turned_back(Phase.REMOVING_BRIDGE)
        world = replace(BACK, lrp=LRP, bridge=SOURCE_BRIDGE, instances=NEW[:1])

        assert entered(leaving, world) == (Phase.STARTING, Reason.NOT_PULLED)

    def test_one_that_its_owner_desired_from_elsewhere_is_waited_for_and_does_not_go_round(self) -> None:
        leaving = turned_back(Phase.REMOVING_BRIDGE)
        elsewhere = replace(REVERTED, rootfs=Rootfs("docker://registry.example.com/team/other#1"))
        world = replace(BACK, lrp=elsewhere, bridge=SOURCE_BRIDGE, instances=NEW[:1])

        assert entered(replace(leaving, phase=Phase.STARTING), world)[0] is Phase.REMOVING_BRIDGE
        assert step(leaving, world) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)

    def test_a_bridge_that_crashed_stays_while_the_app_serves_less_without_it(self) -> None:
        """Its other instances may be all that serves."""
        world = replace(
            WORLD,
            lrp=replace(LRP, instances=1),
            instances=(instance(0, CRASHED),),
            bridge_instances=(crashed(UNREACHABLE), BRIDGED[1]),
        )

        assert step(FAILED, world) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)
        late = replace(world, now=NOW + LIMITS.start + 1)
        assert step(FAILED, late) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)
        serving = replace(world, instances=OURS[:1])
        assert step(FAILED, serving) == RemoveBridge(FAILED)

    def test_it_stays_strictly_at_first_and_later_only_while_it_serves_more(self) -> None:
        """The app runs one of two instances itself, and the other has had its time."""
        world = replace(WORLD, instances=OURS[:1], bridge_instances=BRIDGED[:1])

        assert isinstance(step(FAILED, world), RetryLater)
        late = replace(world, now=FAILED.entered_at + LIMITS.start + 1)
        assert step(FAILED, late) == RemoveBridge(FAILED)

    def test_of_an_lrp_that_is_not_healthy_only_while_it_serves_more(self) -> None:
        sick = replace(LEAVING, ended=Reason.NOT_HEALTHY, entered_at=NOW)
        equal = replace(BACK, instances=NEW[:1], bridge_instances=BRIDGED[:1])

        assert step(sick, equal) == RemoveBridge(sick)
        more = replace(equal, bridge_instances=BRIDGED)
        assert step(sick, more) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)

    @pytest.mark.parametrize("ended", [Reason.CANCELLED, Reason.BRIDGE_TIMEOUT, Reason.BRIDGE_CRASHED])
    @pytest.mark.parametrize("own", [(), OURS[1:]], ids=["down", "in part"])
    def test_one_that_stays_for_an_lrp_that_cells_cannot_pull_is_made_use_of(
        self, ended: Reason, own: tuple[ActualLrp, ...]
    ) -> None:
        """Else it would stay for ever: the LRP cannot catch up with it."""
        given_up = row(Phase.REMOVING_BRIDGE, ended=ended, detail="why")
        world = replace(WORLD, instances=(crashed(UNREACHABLE), *own), now=NOW + LIMITS.start + 1)

        assert isinstance(step(given_up, replace(world, now=NOW)), RetryLater)
        assert step(given_up, world) == Enter(
            replace(given_up, phase=Phase.BRIDGING, ended=None, detail="", entered_at=world.now)
        )

    @pytest.mark.parametrize(
        ("is_restore_requested", "bridged"),
        [(True, BRIDGED), (False, (BRIDGED[0], crashed(UNREACHABLE, 1)))],
        ids=["an operator wants it there", "cells cannot pull its copy either"],
    )
    def test_one_that_is_to_leave_a_former_copy_for_its_source_serves_meanwhile(
        self, bridged: tuple[ActualLrp, ...], *, is_restore_requested: bool
    ) -> None:
        given_up = row(Phase.REMOVING_BRIDGE, ended=Reason.CANCELLED, original=ON_FORMER_COPY)
        world = replace(
            WORLD,
            lrp=ON_FORMER_COPY,
            instances=(crashed(UNREACHABLE), crashed(UNREACHABLE, 1)),
            bridge_instances=bridged,
            source=OWNED,
            way_to_source=SOURCE,
            is_restore_requested=is_restore_requested,
            now=NOW + LIMITS.start + 1,
        )

        assert step(given_up, world) == RemoveOriginal(replace(given_up, goal=Goal.SOURCE, ended=None))
        unknown = step(given_up, replace(world, way_to_source=None))
        assert isinstance(unknown, RetryLater if is_restore_requested else Enter)

    def test_when_it_is_needed_again_it_gets_its_routes_back(self) -> None:
        drained = replace(FAILED, drained_at=NOW - 1)
        world = replace(
            WORLD,
            lrp=replace(LRP, routes=ROUTES),
            instances=OURS[:1],
            bridge=replace(BRIDGE, instances=3, routes=SSH),
        )

        again = step(drained, world)
        assert again == Enter(replace(FAILED, drained_at=0.0)), "so that it is drained anew"
        assert isinstance(again, Enter)
        assert step(again.migration, world) == UpdateBridge(
            FAILED, replace(LRP, instances=3, routes=ROUTES), Reason.NOT_HEALTHY_BRIDGE_KEPT
        )

    def test_while_it_is_needed_it_has_as_many_instances_as_the_owner_wants(self) -> None:
        scaled = replace(LRP, instances=4)
        world = replace(WORLD, lrp=scaled, instances=(crashed(UNREACHABLE),))

        assert step(FAILED, world) == UpdateBridge(FAILED, scaled, Reason.NOT_HEALTHY_BRIDGE_KEPT)
        kept = replace(world, bridge=replace(BRIDGE, instances=4))
        assert not isinstance(step(FAILED, kept), UpdateBridge)

    def test_a_stopgap_of_an_app_whose_process_ends_by_itself_is_not_kept_for_it(self) -> None:
        exited = replace(LEAVING, ended=Reason.PROCESS_EXITED, is_stopgap=True)
        world = replace(BACK, instances=(instance(0, CRASHED),), bridge_instances=(instance(0, CRASHED),))

        assert step(exited, world) == RemoveBridge(exited)


class TestAnLrpThatIsGone:
    def test_its_bridge_is_removed_at_once(self) -> None:
        just = replace(LEAVING, entered_at=NOW)

        assert step(just, GONE) == RemoveBridge(just)

    def test_a_removal_whose_answer_was_lost_may_have_hit_it(self) -> None:
        unknown = replace(LEAVING, unknown_until=NOW + 1)

        assert entered(unknown, GONE) == (Phase.REMOVED, None)
        reverted = replace(unknown, ended=Reason.REVERTED_EXTERNALLY)
        assert entered(reverted, GONE) == (Phase.REMOVED, None)
        back = turned_back(Phase.REMOVING_BRIDGE, unknown_until=NOW + 1)
        assert entered(back, GONE) == (Phase.REMOVED, Reason.NOT_PULLED)

    def test_after_a_takeover_the_process_before_may_have_removed_it(self) -> None:
        taken_over = replace(LEAVING, run_id="run-0")

        assert entered(taken_over, replace(GONE, process_age=LIMITS.unknown - 1)) == (Phase.REMOVED, None)
        old = replace(GONE, process_age=LIMITS.unknown)
        assert step(taken_over, old) == RemoveBridge(taken_over)

    @pytest.mark.parametrize("ended", [Reason.REMOVED_BY_OWNER, Reason.BRIDGE_CRASHED, Reason.CANCELLED])
    def test_one_that_was_never_removed_here_was_removed_by_its_owner(self, ended: Reason) -> None:
        taken_over = replace(LEAVING, run_id="run-0", ended=ended)

        assert step(taken_over, replace(GONE, process_age=1.0)) == RemoveBridge(taken_over)


class TestStaleInstances:
    KNOWN = replace(LEAVING, instance_guids=frozenset({"a"}), entered_at=NOW - LIMITS.stop - 1)

    def test_one_whose_stop_was_lost_is_retired_first(self) -> None:
        """While the bridge can still serve in its place."""
        world = replace(BACK, instances=(*NEW, OURS[0]))

        assert step(self.KNOWN, world) == RetireInstances(
            (OURS[0],), migration=replace(self.KNOWN, retired_at=NOW)
        )

    def test_one_whose_stop_may_still_arrive_is_not(self) -> None:
        soon = replace(self.KNOWN, entered_at=NOW - LIMITS.stop)

        assert step(soon, replace(BACK, instances=(*NEW, OURS[0]))) == RemoveBridge(soon)


class TestOldInstancesOfOneThatWasGivenUp:
    """Its owner desired it again after a removal, from what it ran from before."""

    LEAVING = replace(FAILED, instance_guids=frozenset({"a", "b"}))

    def test_they_may_still_be_stopped_and_the_bridge_stays(self) -> None:
        assert step(self.LEAVING, WORLD) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)
        late = replace(WORLD, now=NOW + LIMITS.stop + 1)
        assert isinstance(step(self.LEAVING, late), RetryLater)

    def test_those_whose_stop_was_lost_run_what_is_desired_and_are_nobodys_leftovers(self) -> None:
        late = replace(WORLD, now=self.LEAVING.entered_at + LIMITS.leftover + 1)

        assert step(self.LEAVING, late) == Enter(replace(self.LEAVING, instance_guids=frozenset()))

    def test_so_are_those_that_are_gone(self) -> None:
        gone = replace(WORLD, instances=NEW)

        assert step(self.LEAVING, gone) == Enter(replace(self.LEAVING, instance_guids=frozenset()))

    def test_a_bridge_that_serves_nothing_is_not_kept_for_them(self) -> None:
        failed = replace(WORLD, bridge_instances=(instance(0, CRASHED),))
        assert step(self.LEAVING, failed) == RemoveBridge(self.LEAVING)

        ended = step(self.LEAVING, replace(failed, bridge=None, bridge_instances=()))
        assert ended == Close(replace(self.LEAVING, instance_guids=frozenset()), Reason.BRIDGE_CRASHED)


class TestTheEnd:
    REMOVED = replace(BACK, bridge=None)

    def test_rows_of_the_bridge_are_waited_for(self) -> None:
        assert step(LEAVING, self.REMOVED) == RetryLater(Reason.REMOVING_BRIDGE, 0.5)
        assert step(replace(LEAVING, entered_at=NOW), self.REMOVED) == RetryLater(
            Reason.REMOVING_BRIDGE, SHORTEST_RETRY
        )

    def test_those_whose_stop_was_lost_are_retired(self) -> None:
        late = replace(self.REMOVED, now=LEAVING.entered_at + LIMITS.stop + 1)

        assert step(LEAVING, late) == RetireInstances(
            BRIDGED, Reason.REMOVING_BRIDGE, replace(LEAVING, retired_at=late.now)
        )

    def test_those_that_stay_all_the_same_are_left_to_the_bbs(self) -> None:
        late = LEAVING.entered_at + LIMITS.leftover + LIMITS.routes
        retired = replace(LEAVING, retired_at=late)

        assert isinstance(step(retired, replace(self.REMOVED, now=late)), RetryLater)
        assert step(retired, replace(self.REMOVED, now=late + 1)) == Close(retired, Reason.MIGRATED)

    @pytest.mark.parametrize("ended", [Reason.MIGRATED, Reason.NOT_HEALTHY, Reason.BRIDGE_CRASHED])
    def test_without_any_it_ends_as_its_row_says(self, ended: Reason) -> None:
        leaving = replace(LEAVING, ended=ended)

        assert step(leaving, replace(self.REMOVED, bridge_instances=())) == Close(leaving, ended)

    def test_an_lrp_that_its_owner_desired_from_its_source_again_was_not_migrated(self) -> None:
        """What a lost stop has left of it runs what is desired again."""
        leaving = replace(LEAVING, instance_guids=frozenset({"a"}))
        reverted = replace(self.REMOVED, lrp=REVERTED, bridge_instances=())

        made = step(leaving, reverted)

        assert made == Close(replace(leaving, instance_guids=frozenset()), Reason.CHANGED_BY_CLOUD_CONTROLLER)

    def test_one_that_its_owner_desired_from_elsewhere_was_not_either(self) -> None:
        leaving = replace(LEAVING, instance_guids=frozenset({"a"}))
        elsewhere = replace(REVERTED, rootfs=Rootfs("docker://registry.example.com/team/other#1"))
        changed = replace(self.REMOVED, lrp=elsewhere, bridge_instances=())

        assert step(leaving, changed) == Close(leaving, Reason.CHANGED_BY_CLOUD_CONTROLLER)

    @pytest.mark.parametrize("ended", [Reason.MIGRATED, Reason.RESTORED])
    def test_nor_one_that_its_owner_removed(self, ended: Reason) -> None:
        leaving = replace(LEAVING, ended=ended)

        gone = replace(GONE, bridge=None, bridge_instances=())
        assert step(leaving, gone) == Close(leaving, Reason.REMOVED_BY_OWNER)

    def test_what_went_wrong_is_said_whoever_desired_it_since(self) -> None:
        leaving = replace(LEAVING, ended=Reason.NOT_HEALTHY)

        reverted = replace(self.REMOVED, lrp=REVERTED, bridge_instances=())
        assert step(leaving, reverted) == Close(leaving, Reason.NOT_HEALTHY)

    def test_the_row_of_an_older_version_that_says_nothing_has_migrated_its_lrp(self) -> None:
        silent = replace(ROW, phase=Phase.REMOVING_BRIDGE, entered_at=0.0)
        claimed = replace(self.REMOVED, bridge_instances=(instance(0, CLAIMED),))

        assert step(silent, replace(claimed, bridge_instances=())) == Close(silent, Reason.MIGRATED)
        assert isinstance(step(silent, claimed), RetryLater)
