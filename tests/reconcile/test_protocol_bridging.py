"""Each step before the removal: the bridge is desired, waited for and given up."""

from dataclasses import replace
from functools import partial

import pytest

from reconcile.lrps import ActualLrp, ActualLrpState, ModificationTag, Presence
from reconcile.migrations import Goal, Phase
from reconcile.protocol import SHORTEST_RETRY, next_step
from reconcile.protocol.bridging import MAX_BRIDGE_CRASHES
from reconcile.reasons import Reason
from reconcile.references import Rootfs
from reconcile.start_failures import start_failure
from reconcile.steps import (
    DesireBridge,
    Enter,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    UpdateBridge,
)
from tests.reconcile.protocol_samples import (
    BRIDGED,
    CLAIMED,
    CRASHED,
    LIMITS,
    NEW,
    NO_SUCH_COPY,
    ON_COPY,
    ON_FORMER_COPY,
    OURS,
    OWNED,
    REVERTED,
    ROUTES,
    ROW,
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
    turned_back,
)
from tests.reconcile.test_decide import LRP, NOW

OLD = row(Phase.BRIDGED, entered_at=NOW - LIMITS.routes)
"""The row of a bridge whose routes routers know."""


class TestStartOfTheBridge:
    def test_it_is_desired_with_as_many_instances_as_its_owner_wants(self) -> None:
        assert step(ROW, replace(WORLD, bridge=None, bridge_instances=())) == DesireBridge(ROW, 2)

    def test_it_gets_what_its_owner_wants_by_now(self) -> None:
        scaled = replace(LRP, instances=3, tag=ModificationTag("epoch-1", 1))
        newest = step(ROW, replace(WORLD, lrp=scaled))
        assert newest == Enter(replace(ROW, original=scaled))
        assert isinstance(newest, Enter)
        assert step(newest.migration, replace(WORLD, lrp=scaled)) == UpdateBridge(newest.migration, scaled)

    def test_it_gets_new_routes(self) -> None:
        routed = replace(LRP, routes=ROUTES, tag=ModificationTag("epoch-1", 1))
        again = replace(ROW, original=routed)

        assert step(again, replace(WORLD, lrp=routed)) == UpdateBridge(again, routed)

    def test_it_is_not_scaled_down(self) -> None:
        """The instances that would stop may be those that serve."""
        scaled = replace(LRP, instances=1)
        again = replace(ROW, original=scaled)
        last = (instance(0, UNCLAIMED), BRIDGED[1])

        made = step(again, replace(WORLD, lrp=scaled, instances=OURS[:1], bridge_instances=last))

        assert made == Enter(replace(again, phase=Phase.BRIDGED, entered_at=NOW))
        routed = replace(scaled, routes=ROUTES)
        assert step(replace(ROW, original=routed), replace(WORLD, lrp=routed)) == UpdateBridge(
            replace(ROW, original=routed), replace(routed, instances=2)
        )

    @pytest.mark.parametrize(
        "instances",
        [
            (),
            BRIDGED[:1],
            (BRIDGED[0], instance(0, guid="other", presence=Presence.EVACUATING)),
            (BRIDGED[0], instance(1, CLAIMED)),
            (BRIDGED[0], instance(1, routable=False)),
        ],
        ids=["none", "too few", "the same index twice", "one starting", "one not routable"],
    )
    def test_it_is_waited_for(self, instances: tuple[ActualLrp, ...]) -> None:
        waits = step(ROW, replace(WORLD, bridge_instances=instances))

        assert waits == RetryLater(Reason.BRIDGING, SHORTEST_RETRY)

    def test_one_that_starts_slowly_is_asked_for_less_and_less_often(self) -> None:
        waits = [step(ROW, replace(WORLD, bridge_instances=(), now=NOW + age)) for age in (9.0, 58.95)]

        assert [wait.seconds for wait in waits if isinstance(wait, RetryLater)] == [1.0, pytest.approx(0.3)]

    def test_a_cell_that_could_not_pull_is_told_of_although_another_runs_it_by_now(self) -> None:
        met = replace(BRIDGED[0], crash_count=1, crash_reason=UNREACHABLE)
        world = replace(WORLD, bridge_instances=(met, BRIDGED[1]))

        made = step(ROW, world)

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.failure) == (Phase.BRIDGED, start_failure(UNREACHABLE))
        back = step(replace(ROW, goal=Goal.SOURCE), world)
        assert isinstance(back, Enter)
        assert back.failure is None, "it speaks of the source"

    def test_as_many_as_run_are_enough(self) -> None:
        """The app has one instance of two, for reasons of its own: it must not get less."""
        world = replace(WORLD, instances=OURS[:1], bridge_instances=BRIDGED[:1])

        assert entered(ROW, world) == (Phase.BRIDGED, None)

    def test_an_app_whose_instances_have_ended_waits_for_one_of_the_bridge(self) -> None:
        """Otherwise a copy that no cell could pull would take its place."""
        world = replace(WORLD, instances=(instance(0, CRASHED),), bridge_instances=(instance(0, CLAIMED),))

        assert isinstance(step(ROW, world), RetryLater)
        assert entered(ROW, replace(world, bridge_instances=BRIDGED[:1])) == (Phase.BRIDGED, None)


class TestBridged:
    def test_routers_get_time_to_learn_of_it(self) -> None:
        assert step(row(Phase.BRIDGED), WORLD) == RetryLater(Reason.WAITING_FOR_ROUTES, LIMITS.routes - 1)
        assert step(OLD, WORLD) == RemoveOriginal(OLD)

    def test_a_bridge_that_lost_an_instance_meanwhile_is_waited_for_again(self) -> None:
        assert entered(OLD, replace(WORLD, bridge_instances=BRIDGED[:1])) == (Phase.BRIDGING, None)

    def test_one_that_is_gone_is_desired_again(self) -> None:
        assert entered(OLD, replace(WORLD, bridge=None, bridge_instances=())) == (Phase.BRIDGING, None)

    def test_one_that_has_not_followed_its_owner_is_brought_up_to_date_first(self) -> None:
        scaled = replace(LRP, instances=3)

        assert entered(replace(OLD, original=scaled), replace(WORLD, lrp=scaled)) == (Phase.BRIDGING, None)


class TestGivingUp:
    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    @pytest.mark.parametrize("failed", [crashed(NO_SUCH_COPY, 1), instance(1, crashes=MAX_BRIDGE_CRASHES)])
    def test_a_bridge_that_crashes_is_given_up(self, phase: Phase, failed: ActualLrp) -> None:
        world = replace(WORLD, bridge_instances=(BRIDGED[0], failed))

        assert entered(row(phase), world) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_CRASHED)

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_one_that_cells_cannot_reach_waits_for_the_cells_and_not_for_an_hour(self, phase: Phase) -> None:
        world = replace(WORLD, bridge_instances=(BRIDGED[0], crashed(UNREACHABLE, 1)))

        assert entered(row(phase), world) == (Phase.REMOVING_BRIDGE, Reason.NOT_PULLED)

    def test_one_whose_instances_run_again_is_not_where_it_serves_more_than_an_lrp_that_cells_cannot_pull(
        self,
    ) -> None:
        """It could not be removed either."""
        shaken = tuple(replace(each, crash_count=MAX_BRIDGE_CRASHES) for each in BRIDGED)
        world = replace(WORLD, instances=(OURS[0], crashed(NO_SUCH_COPY, 1)), bridge_instances=shaken)

        assert entered(ROW, world) == (Phase.BRIDGED, None)
        down = replace(world, bridge_instances=(shaken[0], crashed(NO_SUCH_COPY, 1)))
        assert entered(ROW, down) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_CRASHED)
        whole = replace(world, instances=OURS)
        assert entered(ROW, whole) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_CRASHED)

    def test_a_source_that_cells_cannot_reach_says_nothing_of_copies(self) -> None:
        back = row(Phase.BRIDGING, goal=Goal.SOURCE)

        made = step(back, replace(WORLD, bridge_instances=(crashed(UNREACHABLE),)))

        assert isinstance(made, Enter)
        assert (made.migration.ended, made.failure) == (Reason.BRIDGE_CRASHED, None)

    @pytest.mark.parametrize("text", [UNREACHABLE, NO_SUCH_COPY])
    def test_what_it_failed_by_is_evidence_about_cells(self, text: str) -> None:
        made = step(ROW, replace(WORLD, bridge_instances=(crashed(text),)))

        assert isinstance(made, Enter)
        assert made.failure == start_failure(text)

    def test_the_row_keeps_why(self) -> None:
        made = step(ROW, replace(WORLD, bridge_instances=(crashed(UNREACHABLE),)))

        assert isinstance(made, Enter)
        assert "connection refused" in made.migration.detail

    def test_one_crash_is_no_failure(self) -> None:
        assert entered(ROW, replace(WORLD, bridge_instances=(BRIDGED[0], instance(1, crashes=1)))) == (
            Phase.BRIDGED,
            None,
        )

    def test_a_bridge_that_takes_too_long_is_given_up_and_the_row_keeps_what_is_known(self) -> None:
        late = row(Phase.BRIDGING, entered_at=NOW - LIMITS.bridge - 1, started_at=NOW - 100)
        once = crashed(UNREACHABLE, state=ActualLrpState.UNCLAIMED, crashes=1)

        made = step(late, replace(WORLD, bridge_instances=(once,)))

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_TIMEOUT)
        assert "connection refused" in made.migration.detail
        silent = step(late, replace(WORLD, bridge_instances=(instance(0, CLAIMED),)))
        assert isinstance(silent, Enter)
        assert silent.migration.detail == ""

    def test_old_instances_may_still_be_stopped(self) -> None:
        """Such as those of a removal after which its owner desired the LRP again."""
        known = replace(ROW, instance_guids=frozenset({"a"}))

        made = step(known, replace(WORLD, bridge_instances=(crashed(UNREACHABLE),)))

        assert isinstance(made, Enter)
        assert made.migration.instance_guids == frozenset({"a"})

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_an_app_that_its_owner_removes_takes_the_bridge_with_it(self, phase: Phase) -> None:
        assert entered(row(phase), replace(WORLD, lrp=None)) == (
            Phase.REMOVING_BRIDGE,
            Reason.REMOVED_BY_OWNER,
        )

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_one_that_is_stopped_needs_no_bridge(self, phase: Phase) -> None:
        none = replace(LRP, instances=0)

        assert entered(row(phase, original=none), replace(WORLD, lrp=none)) == (
            Phase.REMOVING_BRIDGE,
            Reason.INSTANCES_CHANGED,
        )

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_one_that_ran_from_a_copy_and_is_desired_from_its_source_now_goes_on(self, phase: Phase) -> None:
        """Its owner restarted the app, and knows nothing but the source."""
        moved = row(phase, original=ON_FORMER_COPY, renews_login=True)

        made = step(moved, replace(WORLD, lrp=REVERTED, source=OWNED))

        assert made == Enter(replace(moved, original=REVERTED, renews_login=False))

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_so_does_one_that_is_desired_from_its_former_copy_now(self, phase: Phase) -> None:
        """Its droplet names the same copy in a former registry."""
        lrp = replace(ON_FORMER_COPY, tag=ModificationTag("epoch-3", 0))
        world = replace(WORLD, lrp=lrp, former_copies=frozenset({lrp.rootfs}))

        assert step(row(phase), world) == Enter(row(phase, original=lrp))

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_one_that_its_owner_gives_another_image_keeps_it(self, phase: Phase) -> None:
        other = replace(REVERTED, rootfs=Rootfs("docker:///team/other#1"))

        assert entered(row(phase), replace(WORLD, lrp=other)) == (
            Phase.REMOVING_BRIDGE,
            Reason.INSTANCES_CHANGED,
        )

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_one_that_its_owner_desired_again_is_what_is_migrated(self, phase: Phase) -> None:
        assert step(row(phase), replace(WORLD, lrp=REVERTED)) == Enter(row(phase, original=REVERTED))

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_one_that_is_desired_from_the_copy_already_needs_no_removal(self, phase: Phase) -> None:
        assert entered(row(phase), replace(WORLD, lrp=ON_COPY)) == (Phase.STARTING, None)


class TestOrderToRestore:
    """An operator wants the app on its source while it is on its way to the copy."""

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    def test_a_migration_whose_lrp_was_not_removed_yet_is_cancelled(self, phase: Phase) -> None:
        ordered = replace(WORLD, is_restore_requested=True)

        assert entered(row(phase), ordered) == (Phase.REMOVING_BRIDGE, Reason.CANCELLED)

    def test_one_that_leads_to_the_source_goes_on(self) -> None:
        restoring = turned_back(Phase.BRIDGING, goal=Goal.SOURCE)
        world = replace(WORLD, lrp=ON_COPY, instances=NEW, bridge=SOURCE_BRIDGE, bridge_instances=BRIDGED)

        assert entered(restoring, replace(world, is_restore_requested=True))[0] is Phase.BRIDGED


class TestTurnedBack:
    """Some instances run from a copy that cells cannot pull: a bridge from the source comes first."""

    BACK = turned_back(Phase.BRIDGING)
    WORLD = replace(WORLD, lrp=ON_COPY, instances=NEW, bridge=SOURCE_BRIDGE, bridge_instances=BRIDGED)

    def test_a_bridge_from_the_copy_that_does_not_run_is_removed(self) -> None:
        world = replace(self.WORLD, bridge=replace(SOURCE_BRIDGE, rootfs=ON_COPY.rootfs))

        failed = replace(world, bridge_instances=(crashed(UNREACHABLE), instance(1, CLAIMED)))
        assert step(self.BACK, failed) == RemoveBridge(self.BACK), "its crashes are why it was turned back"

    def test_what_is_left_of_it_is_no_failure_of_the_next_one_which_waits_for_its_end(self) -> None:
        claimed = replace(instance(0, CLAIMED), crash_count=MAX_BRIDGE_CRASHES)
        left = crashed(NO_SUCH_COPY, 1)
        world = replace(self.WORLD, bridge=None, bridge_instances=(claimed, left))

        retired = replace(self.BACK, retired_at=NOW)
        assert step(self.BACK, world) == RetireInstances((left,), Reason.BRIDGING, retired)
        assert isinstance(step(retired, replace(world, bridge_instances=(claimed,))), RetryLater)
        assert isinstance(step(retired, replace(world, bridge_instances=())), DesireBridge)

    def test_one_that_runs_serves_for_an_lrp_that_leaves_a_former_copy_for_its_source(self) -> None:
        """It was on the way to its copy when an operator wanted it on its source."""
        leaving = row(Phase.BRIDGING, goal=Goal.SOURCE, original=ON_FORMER_COPY)
        of_copy = replace(SOURCE_BRIDGE, rootfs=ON_COPY.rootfs)
        world = replace(self.WORLD, lrp=ON_FORMER_COPY, bridge=of_copy)
        decided = partial(next_step, target=SOURCE, limits=LIMITS)

        assert decided(leaving, world) == Enter(replace(leaving, phase=Phase.BRIDGED, entered_at=NOW))
        fewer = replace(world, bridge=replace(of_copy, instances=1), bridge_instances=BRIDGED[:1])
        assert isinstance(decided(leaving, fewer), UpdateBridge)
        assert isinstance(decided(leaving, replace(world, bridge_instances=BRIDGED[:1])), RetryLater)

    def test_one_that_runs_is_not(self) -> None:
        world = replace(self.WORLD, bridge=replace(SOURCE_BRIDGE, rootfs=ON_COPY.rootfs))

        assert isinstance(step(self.BACK, world), RetryLater)

    def test_the_bridge_from_the_source_is_waited_for(self) -> None:
        none = replace(self.WORLD, bridge=None, bridge_instances=())
        assert step(self.BACK, none) == DesireBridge(self.BACK, 2)
        assert isinstance(step(self.BACK, replace(self.WORLD, bridge_instances=BRIDGED[:1])), RetryLater)
        assert entered(self.BACK, self.WORLD) == (Phase.BRIDGED, Reason.NOT_PULLED)

    def test_one_whose_source_cannot_be_started_either_stays_on_the_copy(self) -> None:
        world = replace(self.WORLD, bridge_instances=(crashed(UNREACHABLE),))

        assert entered(self.BACK, world) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_CRASHED)
