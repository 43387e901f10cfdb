"""Each step of the migration protocol, from a journal row and what the world looks like.

What whole runs of it come to is tested with a state machine (`test_protocol_runs`).
"""

from dataclasses import replace

import pytest

from reconcile.bridges import bridge_of, can_have_bridge, is_bridge, original_of
from reconcile.lrps import ActualLrp, ActualLrpState, ModificationTag, Presence, ProcessGuid, Pull
from reconcile.phases import PHASES
from reconcile.protocol import (
    MAX_BRIDGE_CRASHES,
    MAX_ROUNDS,
    SHORTEST_RETRY,
    may_remove,
    next_step,
    removing,
)
from reconcile.reasons import Reason
from reconcile.records import Migration, Phase, Strategy
from reconcile.references import Rootfs
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    PhaseLimits,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    Step,
    UpdateBridge,
    World,
)
from tests.reconcile.test_decide import GUID, LRP, NOW, PROCESS, RULES

TARGET = Pull(RULES.cache.rootfs(GUID))
LIMITS = PhaseLimits(bridge=60.0, start=60.0, routes=5.0)
MOVED = replace(LRP, rootfs=TARGET.rootfs, tag=ModificationTag("epoch-2", 0))
PUT = replace(LRP, tag=ModificationTag("epoch-3", 0))
"""Desired by its owner from the source, after the removal."""
BRIDGE = replace(MOVED, process_guid=bridge_of(PROCESS))
ROW = Migration(
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


def instance(
    index: int = 0,
    state: ActualLrpState = ActualLrpState.RUNNING,
    *,
    guid: str = "",
    presence: Presence = Presence.ORDINARY,
    crashes: int = 0,
    routable: bool = True,
) -> ActualLrp:
    name = guid or f"i-{index}"
    tag = ModificationTag("e", 0)
    return ActualLrp(PROCESS, index, "cf-apps", state, presence, name, "cell", tag, routable, crashes)


OURS = (instance(0, guid="a"), instance(1, guid="b"))
BRIDGED = (instance(0, guid="c"), instance(1, guid="d"))
WORLD = World(NOW, 1000.0, "run-1", lrp=LRP, instances=OURS, bridge=BRIDGE, bridge_instances=BRIDGED)


def row(phase: Phase, **changes: object) -> Migration:
    return replace(ROW, phase=phase, **changes)  # type: ignore[arg-type]


def step(migration: Migration, world: World) -> Step:
    return next_step(migration, world, target=TARGET, limits=LIMITS)


def entered(migration: Migration, world: World) -> tuple[Phase, Reason | None]:
    made = step(migration, world)
    assert isinstance(made, Enter), made
    assert made.migration.entered_at == NOW
    return made.migration.phase, made.migration.ended


def test_every_phase_is_in_the_table() -> None:
    assert set(PHASES) == set(Phase)


def test_a_bridge_is_recognisably_ours_and_tells_whose_it_is() -> None:
    assert is_bridge(bridge_of(PROCESS))
    assert original_of(bridge_of(PROCESS)) == PROCESS
    assert can_have_bridge(ProcessGuid("p" * 73))
    assert len(bridge_of(ProcessGuid("p" * 235))) == 255
    assert not can_have_bridge(ProcessGuid("p" * 236))


class TestBeforeTheRemoval:
    def test_a_row_that_was_only_prepared_is_planned_anew(self) -> None:
        assert step(row(Phase.PREPARED), WORLD) == Close(row(Phase.PREPARED), Reason.CANCELLED)

    def test_the_bridge_is_desired(self) -> None:
        assert step(ROW, replace(WORLD, bridge=None, bridge_instances=())) == DesireBridge(ROW)

    def test_it_gets_what_its_owner_wants_by_now(self) -> None:
        scaled = replace(LRP, instances=3, tag=ModificationTag("epoch-1", 1))
        newest = step(ROW, replace(WORLD, lrp=scaled))
        assert newest == Enter(replace(ROW, original=scaled))
        assert isinstance(newest, Enter)
        assert step(newest.migration, replace(WORLD, lrp=scaled)) == UpdateBridge(newest.migration, scaled)

    def test_it_gets_new_routes(self) -> None:
        routed = replace(LRP, routes={"cf-router": b"[]"}, tag=ModificationTag("epoch-1", 1))
        again = replace(ROW, original=routed)

        assert step(again, replace(WORLD, lrp=routed)) == UpdateBridge(again, routed)

    def test_it_is_not_scaled_down(self) -> None:
        """Of its instances those that would go may be the ones that serve."""
        scaled = replace(LRP, instances=1)
        again = replace(ROW, original=scaled)
        last = (instance(0, ActualLrpState.UNCLAIMED), BRIDGED[1])

        made = step(again, replace(WORLD, lrp=scaled, instances=OURS[:1], bridge_instances=last))

        assert made == Enter(replace(again, phase=Phase.BRIDGED, entered_at=NOW))
        routed = replace(scaled, routes={"cf-router": b"[]"})
        assert step(replace(ROW, original=routed), replace(WORLD, lrp=routed)) == UpdateBridge(
            replace(ROW, original=routed), replace(routed, instances=2)
        )

    def test_an_index_that_is_not_wanted_any_more_does_not_count(self) -> None:
        """Its row says RUNNING while it is being stopped."""
        assert not may_remove(ROW, replace(WORLD, bridge=replace(BRIDGE, instances=1)))
        scaled = replace(LRP, instances=1)
        assert may_remove(ROW, replace(WORLD, lrp=scaled, bridge_instances=BRIDGED[:1]))

    @pytest.mark.parametrize(
        "instances",
        [
            (),
            BRIDGED[:1],
            (BRIDGED[0], instance(0, guid="other", presence=Presence.EVACUATING)),
            (BRIDGED[0], instance(1, ActualLrpState.CLAIMED)),
            (BRIDGED[0], instance(1, routable=False)),
        ],
        ids=["none", "too few", "the same index twice", "one starting", "one not routable"],
    )
    def test_it_is_waited_for(self, instances: tuple[ActualLrp, ...]) -> None:
        assert isinstance(step(ROW, replace(WORLD, bridge_instances=instances)), RetryLater)

    def test_as_many_as_run_are_enough(self) -> None:
        """The app has one instance of two, for reasons of its own: it must not get less."""
        world = replace(WORLD, instances=OURS[:1], bridge_instances=BRIDGED[:1])

        assert entered(ROW, world) == (Phase.BRIDGED, None)

    def test_routers_get_time_to_learn_of_it(self) -> None:
        assert isinstance(step(row(Phase.BRIDGED), WORLD), RetryLater)
        old = row(Phase.BRIDGED, entered_at=NOW - LIMITS.routes)
        assert step(old, WORLD) == RemoveOriginal(old)

    def test_a_bridge_that_lost_an_instance_meanwhile_is_waited_for_again(self) -> None:
        old = row(Phase.BRIDGED, entered_at=NOW - LIMITS.routes)

        assert entered(old, replace(WORLD, bridge_instances=BRIDGED[:1])) == (Phase.BRIDGING, None)

    @pytest.mark.parametrize("phase", [Phase.BRIDGING, Phase.BRIDGED])
    @pytest.mark.parametrize(
        "failed", [instance(1, ActualLrpState.CRASHED), instance(1, crashes=MAX_BRIDGE_CRASHES)]
    )
    def test_a_bridge_that_crashes_is_given_up(self, phase: Phase, failed: ActualLrp) -> None:
        world = replace(WORLD, bridge_instances=(BRIDGED[0], failed))

        assert entered(row(phase), world) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_CRASHED)

    def test_one_crash_is_no_failure(self) -> None:
        assert entered(ROW, replace(WORLD, bridge_instances=(BRIDGED[0], instance(1, crashes=1)))) == (
            Phase.BRIDGED,
            None,
        )

    def test_a_bridge_that_takes_too_long_is_given_up(self) -> None:
        late = row(Phase.BRIDGING, entered_at=NOW - LIMITS.bridge - 1, started_at=NOW - 100)

        assert entered(late, replace(WORLD, bridge_instances=())) == (
            Phase.REMOVING_BRIDGE,
            Reason.BRIDGE_TIMEOUT,
        )

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
            "instances-changed",
        )


class TestMayRemove:
    """Looked at right before the removal, when the row stands already."""

    def test_with_as_many_running_as_before(self) -> None:
        assert may_remove(ROW, WORLD)
        assert not may_remove(ROW, replace(WORLD, bridge_instances=BRIDGED[:1]))
        assert not may_remove(ROW, replace(WORLD, bridge=None))
        assert not may_remove(ROW, replace(WORLD, lrp=None))
        assert not may_remove(ROW, replace(WORLD, lrp=MOVED))

    def test_without_a_bridge_only_if_nothing_runs(self) -> None:
        recreate = replace(ROW, strategy=Strategy.RECREATE)

        assert not may_remove(recreate, WORLD)
        starting = (instance(0, ActualLrpState.CLAIMED),)
        assert may_remove(recreate, replace(WORLD, instances=starting))

    def test_the_row_before_the_removal_keeps_the_newest_version_and_who_ran(self) -> None:
        scaled = replace(LRP, instances=9)

        made = removing(replace(ROW, instance_guids=frozenset({"z"})), replace(WORLD, lrp=scaled), LIMITS)

        assert (made.phase, made.original, made.unknown_until) == (
            Phase.REMOVING,
            scaled,
            NOW + LIMITS.unknown,
        )
        assert made.instance_guids == {"a", "b", "z"}


REMOVED = row(Phase.REMOVED, instance_guids=frozenset({"a", "b"}))
GONE = replace(WORLD, lrp=None, instances=())


class TestAfterTheRemoval:
    @pytest.mark.parametrize("strategy", list(Strategy))
    def test_it_is_desired_again_when_no_row_is_left(self, strategy: Strategy) -> None:
        removed = replace(REMOVED, strategy=strategy)

        assert step(removed, GONE) == DesireOriginal(removed)

    @pytest.mark.parametrize("state", list(ActualLrpState))
    @pytest.mark.parametrize("presence", list(Presence))
    def test_any_row_that_is_left_delays_that(self, state: ActualLrpState, presence: Presence) -> None:
        world = replace(GONE, instances=(instance(0, state, presence=presence),))

        assert isinstance(step(REMOVED, world), RetryLater)

    def test_rows_whose_stop_was_lost_are_retired_and_in_the_end_not_waited_for(self) -> None:
        left = replace(GONE, instances=OURS)
        late = replace(left, now=NOW + LIMITS.stop + 1)

        assert step(REMOVED, late) == RetireInstances(OURS)
        assert step(REMOVED, replace(left, now=NOW + LIMITS.leftover + 1)) == DesireOriginal(REMOVED)

    def test_looks_at_rows_that_stay_become_rare(self) -> None:
        left = replace(GONE, instances=OURS)
        waits = [step(REMOVED, replace(left, now=NOW - 1 + age)) for age in (0.0, 10.0, 25.0)]

        assert [wait.seconds for wait in waits if isinstance(wait, RetryLater)] == [SHORTEST_RETRY, 1.0, 2.5]

    def test_a_version_that_only_an_event_told_of_is_what_comes_back(self) -> None:
        """Cloud Controller scaled it between our last look and the removal."""
        scaled = replace(LRP, instances=7, tag=ModificationTag("epoch-1", 4))
        older = replace(LRP, instances=1, tag=ModificationTag("epoch-0", 9))

        made = step(REMOVED, replace(GONE, versions_in_events=(older, scaled)))

        assert made == Enter(replace(REMOVED, original=scaled))

    def test_its_owner_was_faster_and_it_is_bridged_anew(self) -> None:
        made = step(REMOVED, replace(GONE, lrp=PUT))

        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.rounds) == (Phase.BRIDGING, 2)
        assert made.migration.original == PUT
        assert made.migration.instance_guids == {"a", "b"}, "they are still of what was removed"

    @pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.STARTING])
    def test_after_three_rounds_it_is_left_alone_and_the_bridge_stays_until_it_serves(
        self, phase: Phase
    ) -> None:
        last = replace(REMOVED, phase=phase, rounds=MAX_ROUNDS)
        made = step(last, replace(GONE, lrp=PUT))
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.STARTING, Reason.REVERTED_EXTERNALLY)

        starting = replace(GONE, lrp=PUT)
        assert isinstance(step(made.migration, starting), RetryLater)
        serving = replace(starting, instances=(instance(0), instance(1)))
        assert entered(made.migration, serving) == (Phase.REMOVING_BRIDGE, Reason.REVERTED_EXTERNALLY)

    def test_without_a_bridge_that_is_planned_anew(self) -> None:
        recreate = replace(REMOVED, strategy=Strategy.RECREATE)

        assert step(recreate, replace(GONE, lrp=PUT)) == Close(
            replace(recreate, instance_guids=frozenset()), Reason.CHANGED_BY_CLOUD_CONTROLLER
        ), "an instance whose stop was lost runs what is desired, and is not stopped once more"
        other = replace(PUT, rootfs=Rootfs("docker://registry.example/team/other#1"))
        assert step(recreate, replace(GONE, lrp=other)) == Close(recreate, Reason.CHANGED_BY_CLOUD_CONTROLLER)

    def test_it_settles_when_it_is_desired_from_the_target(self) -> None:
        assert entered(REMOVED, replace(GONE, lrp=MOVED)) == (Phase.STARTING, None)


class TestWhenAnAnswerWasLost:
    UNKNOWN = row(Phase.REMOVING, unknown_until=NOW + 1, instance_guids=frozenset({"a", "b"}))

    def test_a_removal_that_took_effect_is_gone_on_with(self) -> None:
        assert entered(self.UNKNOWN, GONE) == (Phase.REMOVED, None)

    def test_one_that_may_still_take_effect_is_waited_for(self) -> None:
        assert isinstance(step(self.UNKNOWN, WORLD), RetryLater)

    def test_one_that_did_not_is_begun_anew_and_nobody_is_taken_for_an_instance_of_the_past(self) -> None:
        """To retire what runs under the definition that was never removed would be an outage."""
        known = replace(self.UNKNOWN, unknown_until=NOW)
        made = step(known, WORLD)
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.instance_guids) == (Phase.BRIDGED, frozenset())

        closed = step(replace(known, strategy=Strategy.RECREATE), WORLD)
        assert isinstance(closed, Close)
        assert (closed.reason, closed.migration.instance_guids) == ("not-removed", frozenset())

    def test_what_its_owner_changes_meanwhile_is_kept(self) -> None:
        scaled = replace(LRP, instances=9, tag=ModificationTag("epoch-1", 1))

        assert step(self.UNKNOWN, replace(WORLD, lrp=scaled)) == Enter(replace(self.UNKNOWN, original=scaled))

    @pytest.mark.parametrize("ended", [Reason.MIGRATED, Reason.REVERTED_EXTERNALLY])
    def test_one_that_hits_what_was_desired_again_is_made_good(self, ended: Reason) -> None:
        starting = replace(self.UNKNOWN, phase=Phase.STARTING)
        assert entered(starting, GONE) == (Phase.REMOVED, None)
        leaving = replace(self.UNKNOWN, phase=Phase.REMOVING_BRIDGE, ended=ended)
        assert entered(leaving, GONE) == (Phase.REMOVED, None)

    def test_without_a_bridge_nothing_is_over_before_that_is_sure(self) -> None:
        starting = replace(self.UNKNOWN, phase=Phase.STARTING, strategy=Strategy.RECREATE)
        moved = replace(GONE, lrp=MOVED)

        assert isinstance(step(starting, moved), RetryLater)
        known = replace(starting, unknown_until=NOW)
        assert step(known, moved) == Close(known, Reason.MIGRATED)


class TestAfterARestart:
    """An original that its owner deleted meanwhile must not come back; one that only we removed must."""

    CRASHED = replace(GONE, run_id="run-2")

    @pytest.mark.parametrize("strategy", list(Strategy))
    def test_where_nobody_sweeps_it_is_desired_at_once(self, strategy: Strategy) -> None:
        removed = replace(REMOVED, strategy=strategy)

        assert step(removed, self.CRASHED) == DesireOriginal(removed)

    def test_where_its_owner_sweeps_the_owner_gets_time(self) -> None:
        late = replace(self.CRASHED, domain_is_fresh=True, process_age=10.0, now=NOW + 60)

        assert step(replace(REMOVED, strategy=Strategy.RECREATE), late) == RetryLater(
            Reason.WAITING_FOR_CLOUD_CONTROLLER, 5.0
        )

    def test_with_a_bridge_its_owners_next_sync_decides(self) -> None:
        """Waiting would keep the bridge of an app that was deleted for longer than that."""
        fresh = replace(self.CRASHED, domain_is_fresh=True, process_age=10.0)

        assert step(REMOVED, fresh) == DesireOriginal(REMOVED)

    def test_that_time_is_longer_than_a_domain_stays_fresh_after_its_last_sync(self) -> None:
        """Otherwise a domain that was synced before the removal would pass for one that was synced since."""
        domain_ttl, sync_interval = 120.0, 30.0

        assert PhaseLimits().cloud_controller_sync >= domain_ttl + sync_interval

    def test_what_its_owner_did_not_desire_in_that_time_stays_gone(self) -> None:
        old = replace(self.CRASHED, domain_is_fresh=True, process_age=LIMITS.cloud_controller_sync)

        recreate = replace(REMOVED, strategy=Strategy.RECREATE)
        assert step(recreate, old) == Close(recreate, Reason.REMOVED_BY_OWNER)

    def test_the_same_run_goes_on_whatever_the_domain(self) -> None:
        fresh = replace(GONE, domain_is_fresh=True, process_age=1.0)

        assert step(REMOVED, fresh) == DesireOriginal(REMOVED)


STARTING = row(Phase.STARTING, instance_guids=frozenset({"a", "b"}))
NEW = (instance(0, guid="e"), instance(1, guid="f"))
BACK = replace(WORLD, lrp=MOVED, instances=NEW)


class TestSettling:
    def test_it_is_over_when_all_its_instances_run(self) -> None:
        assert entered(STARTING, BACK) == (Phase.REMOVING_BRIDGE, Reason.MIGRATED)

    def test_an_instance_from_before_the_removal_is_retired_and_does_not_count(self) -> None:
        """bbs.md 9: nothing in the row tells which definition it runs."""
        assert step(STARTING, replace(BACK, instances=(OURS[0], NEW[1]))) == RetireInstances((OURS[0],))

    def test_too_few_are_waited_for(self) -> None:
        assert isinstance(step(STARTING, replace(BACK, instances=NEW[:1])), RetryLater)

    def test_when_the_time_is_up_the_bridge_stays_while_it_serves_more(self) -> None:
        late = replace(BACK, instances=NEW[:1], now=NOW + LIMITS.start)

        assert step(STARTING, late) == RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, 5.0)
        useless = replace(late, bridge_instances=BRIDGED[:1])
        made = step(STARTING, useless)
        assert isinstance(made, Enter)
        assert (made.migration.phase, made.migration.ended) == (Phase.REMOVING_BRIDGE, Reason.NOT_HEALTHY)

    def test_an_app_that_its_owner_removes_takes_the_bridge_with_it(self) -> None:
        assert entered(STARTING, GONE) == (Phase.REMOVING_BRIDGE, Reason.REMOVED_BY_OWNER)


REMOVING_BRIDGE = row(
    Phase.REMOVING_BRIDGE, ended=Reason.MIGRATED, entered_at=NOW - LIMITS.routes, started_at=NOW - 9
)


class TestUnbridging:
    def test_an_instance_from_before_the_removal_is_retired_first(self) -> None:
        known = replace(REMOVING_BRIDGE, instance_guids=frozenset({"a"}))

        assert step(known, replace(BACK, instances=(*NEW, OURS[0]))) == RetireInstances((OURS[0],))

    def test_routers_get_time_to_learn_of_the_app_itself(self) -> None:
        assert isinstance(step(replace(REMOVING_BRIDGE, entered_at=NOW), BACK), RetryLater)
        assert step(REMOVING_BRIDGE, BACK) == RemoveBridge(REMOVING_BRIDGE)

    @pytest.mark.parametrize(
        ("ended", "after"),
        [(Reason.MIGRATED, None), (Reason.REVERTED_EXTERNALLY, Reason.REVERTED_EXTERNALLY)],
    )
    def test_an_app_that_lost_an_instance_meanwhile_keeps_the_bridge(
        self, ended: Reason, after: Reason | None
    ) -> None:
        leaving = replace(REMOVING_BRIDGE, ended=ended)

        assert entered(leaving, replace(BACK, instances=NEW[:1])) == (Phase.STARTING, after)

    def test_a_bridge_that_failed_goes_at_once(self) -> None:
        failed = replace(REMOVING_BRIDGE, ended=Reason.BRIDGE_CRASHED, entered_at=NOW)

        assert step(failed, WORLD) == RemoveBridge(failed)

    def test_the_bridge_of_an_app_that_is_gone_goes_at_once(self) -> None:
        assert step(replace(REMOVING_BRIDGE, entered_at=NOW), GONE) == RemoveBridge(
            replace(REMOVING_BRIDGE, entered_at=NOW)
        )

    def test_it_is_over_when_no_row_of_the_bridge_is_left(self) -> None:
        gone = replace(BACK, bridge=None)

        assert isinstance(step(REMOVING_BRIDGE, gone), RetryLater)
        assert step(REMOVING_BRIDGE, replace(gone, now=NOW + LIMITS.stop + 1)) == RetireInstances(
            BRIDGED, Reason.REMOVING_BRIDGE
        )
        over = Close(REMOVING_BRIDGE, Reason.MIGRATED)
        assert step(REMOVING_BRIDGE, replace(gone, now=NOW + LIMITS.leftover + 1)) == over
        assert step(REMOVING_BRIDGE, replace(gone, bridge_instances=())) == over
