"""What the phases of the migration protocol have in common: the removal, the definition, and turning back.

What each phase does is tested beside this, and what whole runs come to with a state machine
(`test_protocol_runs`).
"""

from dataclasses import replace

import pytest

from reconcile.bridges import bridge_of, can_have_bridge, is_bridge, original_of
from reconcile.lrps import ModificationTag, ProcessGuid
from reconcile.migrations import Goal, Phase, Strategy
from reconcile.phases import PHASES
from reconcile.protocol import FAILURES, may_remove, may_remove_bridge, row_of_removal
from reconcile.protocol.case import TURNED_BACK
from reconcile.reasons import AppState, Reason
from reconcile.references import Rootfs
from reconcile.steps import Close, Enter, PhaseLimits
from tests.reconcile.protocol_samples import (
    ALONE,
    BACK,
    BRIDGE,
    BRIDGED,
    CLAIMED,
    GONE,
    LIMITS,
    NEW,
    NO_PLATFORM,
    NO_PROCESS,
    NO_SUCH_COPY,
    ON_COPY,
    OURS,
    ROW,
    SOURCE,
    UNREACHABLE,
    WORLD,
    crashed,
    instance,
    row,
    step,
    turned,
    turned_back,
)
from tests.reconcile.test_decide import LRP, NOW, PROCESS


def test_every_phase_is_in_the_table() -> None:
    assert set(PHASES) == set(Phase)


def test_a_bridge_is_recognisably_ours_and_tells_whose_it_is() -> None:
    assert is_bridge(bridge_of(PROCESS))
    assert original_of(bridge_of(PROCESS)) == PROCESS
    assert can_have_bridge(ProcessGuid("p" * 73))
    assert len(bridge_of(ProcessGuid("p" * 235))) == 255
    assert not can_have_bridge(ProcessGuid("p" * 236))


def test_a_row_that_was_only_prepared_is_decided_about_anew() -> None:
    prepared = row(Phase.PREPARED)

    assert step(prepared, WORLD) == Close(prepared, Reason.CANCELLED)
    assert step(prepared, GONE) == Close(prepared, Reason.REMOVED_BY_OWNER)


def test_the_lrp_is_desired_again_before_cloud_controller_misses_it_and_after_a_process_can_be_killed() -> (
    None
):
    kill_delay, sync_interval = 10.8, 30.0

    assert kill_delay < PhaseLimits().missing < sync_interval
    assert PhaseLimits().stopgap < PhaseLimits().missing


class TestNewestDefinition:
    """Whatever its owner changes before the removal is what comes back."""

    @pytest.mark.parametrize(
        "phase", [Phase.BRIDGING, Phase.BRIDGED, Phase.REMOVING, Phase.REMOVED], ids=lambda phase: phase.value
    )
    def test_a_version_that_is_read_is_kept(self, phase: Phase) -> None:
        scaled = replace(LRP, instances=7, tag=ModificationTag("epoch-1", 4))

        assert step(row(phase), replace(WORLD, lrp=scaled)) == Enter(row(phase, original=scaled))

    def test_a_version_that_only_an_event_reported_is_kept(self) -> None:
        """Cloud Controller scaled it between the last observation and the removal."""
        scaled = replace(LRP, instances=7, tag=ModificationTag("epoch-1", 4))
        older = replace(LRP, instances=1, tag=ModificationTag("epoch-0", 9))
        removed = row(Phase.REMOVED)

        made = step(removed, replace(GONE, versions_in_events=(older, scaled)))

        assert made == Enter(replace(removed, original=scaled))

    @pytest.mark.parametrize("phase", [Phase.STARTING, Phase.REMOVING_BRIDGE])
    def test_after_the_lrp_was_desired_again_older_definitions_count_no_more(self, phase: Phase) -> None:
        scaled = replace(LRP, instances=7, tag=ModificationTag("epoch-1", 4))
        over = row(phase, ended=Reason.MIGRATED)
        world = replace(BACK, versions_in_events=(scaled,))

        assert step(over, world) == step(over, BACK)

    def test_a_definition_from_another_rootfs_is_another_lrp(self) -> None:
        other = replace(LRP, rootfs=Rootfs("docker:///team/b#1"), tag=ModificationTag("epoch-1", 9))
        removed = row(Phase.REMOVED)

        assert step(removed, replace(GONE, versions_in_events=(other,))) == step(removed, GONE)


class TestMayRemove:
    """Looked at right before the removal, when the row is written already."""

    def test_with_as_many_running_as_before(self) -> None:
        assert may_remove(ROW, WORLD)
        assert not may_remove(ROW, replace(WORLD, bridge_instances=BRIDGED[:1]))
        assert not may_remove(ROW, replace(WORLD, bridge=None))
        assert not may_remove(ROW, replace(WORLD, lrp=None))
        assert not may_remove(ROW, replace(WORLD, lrp=ON_COPY))

    def test_without_a_bridge_only_if_nothing_runs(self) -> None:
        recreate = replace(ROW, strategy=Strategy.RECREATE)

        assert not may_remove(recreate, WORLD)
        starting = (instance(0, CLAIMED),)
        assert may_remove(recreate, replace(WORLD, instances=starting))

    def test_an_instance_that_began_to_run_since_the_row_was_written_keeps_it(self) -> None:
        """The row names all instances that were seen before, so being named there says nothing."""
        recreate = replace(ROW, strategy=Strategy.RECREATE)
        claimed = replace(WORLD, instances=(instance(0, CLAIMED, guid="a"),))

        removing = row_of_removal(recreate, claimed, LIMITS)

        assert may_remove(removing, claimed)
        assert not may_remove(removing, replace(claimed, instances=OURS[:1]))

    def test_an_index_that_is_not_wanted_any_more_does_not_count(self) -> None:
        """Its row says RUNNING while it is being stopped."""
        assert not may_remove(ROW, replace(WORLD, bridge=replace(BRIDGE, instances=1)))
        scaled = replace(LRP, instances=1)
        assert may_remove(ROW, replace(WORLD, lrp=scaled, bridge_instances=BRIDGED[:1]))

    def test_a_bridge_must_have_shown_that_cells_start_the_copy(self) -> None:
        """Also when all instances of the original ended meanwhile."""
        nothing = replace(WORLD, instances=(), bridge_instances=())

        assert not may_remove(ROW, nothing)
        assert may_remove(ROW, replace(nothing, bridge_instances=BRIDGED[:1]))

    def test_on_the_way_back_nothing_has_to_be_shown(self) -> None:
        back = turned_back(Phase.BRIDGING)
        nothing = replace(BACK, instances=(), bridge=None, bridge_instances=())

        assert may_remove(back, nothing)
        assert not may_remove(back, replace(nothing, instances=NEW[:1]))

    def test_the_row_before_the_removal_keeps_the_newest_version_and_who_ran(self) -> None:
        scaled = replace(LRP, instances=9)
        claimed = instance(2, CLAIMED, guid="pulling")
        before = replace(ROW, instance_guids=frozenset({"z"}))

        made = row_of_removal(before, replace(WORLD, lrp=scaled, instances=(*OURS, claimed)), LIMITS)

        assert (made.phase, made.original, made.unknown_until) == (
            Phase.REMOVING,
            scaled,
            NOW + LIMITS.unknown,
        )
        assert made.instance_guids == {"a", "b", "pulling", "z"}

    def test_a_row_without_an_instance_names_none(self) -> None:
        world = replace(WORLD, instances=(crashed(UNREACHABLE),))

        assert row_of_removal(ROW, world, LIMITS).instance_guids == frozenset()


class TestMayRemoveBridge:
    def test_when_all_wanted_instances_run(self) -> None:
        assert may_remove_bridge(ROW, BACK, is_late=False)
        assert not may_remove_bridge(ROW, replace(BACK, instances=NEW[:1]), is_late=False)

    def test_instances_of_a_removed_definition_do_not_count(self) -> None:
        known = replace(ROW, instance_guids=frozenset({"e"}))

        assert not may_remove_bridge(known, BACK, is_late=False)

    def test_at_first_not_when_it_serves_no_more_than_the_lrp(self) -> None:
        """The LRP's own instances are still being started."""
        equal = replace(BACK, instances=NEW[:1], bridge_instances=BRIDGED[:1])

        assert not may_remove_bridge(ROW, equal, is_late=False)
        assert may_remove_bridge(ROW, equal, is_late=True)

    def test_never_when_it_serves_more(self) -> None:
        assert not may_remove_bridge(ROW, replace(BACK, instances=NEW[:1]), is_late=True)

    def test_when_it_serves_nothing(self) -> None:
        useless = replace(BACK, instances=(), bridge_instances=(crashed(UNREACHABLE),))

        assert may_remove_bridge(ROW, useless, is_late=False)

    def test_when_the_app_is_gone(self) -> None:
        assert may_remove_bridge(ROW, GONE, is_late=False)


class TestTurningBack:
    """An LRP that does not start from its copy is desired from its source again, whatever the phase."""

    ALONE = replace(ALONE, instances=())
    RECREATED = row(Phase.STARTING, strategy=Strategy.RECREATE)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (UNREACHABLE, Reason.NOT_PULLED),
            (NO_SUCH_COPY, Reason.COPY_NOT_PULLED),
            (NO_PLATFORM, Reason.IMAGE_NOT_STARTED),
            (NO_PROCESS, Reason.IMAGE_NOT_STARTED),
        ],
        ids=["registry", "copy", "image", "process"],
    )
    def test_the_end_says_what_the_failure_speaks_against(self, text: str, reason: Reason) -> None:
        made = turned(self.RECREATED, replace(self.ALONE, instances=(crashed(text),)))

        assert made.migration.ended is reason
        assert made.failure is not None
        assert made.migration.detail == made.failure.detail
        assert "exit status 1" not in made.migration.detail

    def test_every_such_end_is_a_failure_and_those_that_other_apps_may_share_count_for_the_circuit(
        self,
    ) -> None:
        assert {reason.state for reason in TURNED_BACK} == {AppState.FAILED}
        assert {Reason.IMAGE_NOT_STARTED} == TURNED_BACK - FAILURES

    def test_the_definition_that_is_removed_is_the_newest_and_the_source_is_kept_apart(self) -> None:
        """Its owner scaled it while it was started from the copy."""
        scaled = replace(ON_COPY, instances=5)

        made = turned(self.RECREATED, replace(self.ALONE, lrp=scaled, instances=(crashed(UNREACHABLE),)))

        assert made.migration.phase is Phase.STARTING, "it is removed next"
        assert made.migration.original == scaled
        assert made.migration.way_back == SOURCE
        assert made.migration.is_turned_back

    def test_a_removed_lrp_needs_no_other_removal(self) -> None:
        known = frozenset({OURS[0].instance_guid})
        stopgap = row(Phase.REMOVED, strategy=Strategy.RECREATE, is_stopgap=True, instance_guids=known)
        world = replace(GONE, instances=(OURS[0],), bridge_instances=(crashed(UNREACHABLE),))

        made = turned(stopgap, world)

        assert (made.migration.phase, made.migration.original) == (Phase.REMOVED, LRP)

    def test_what_runs_from_the_copy_gets_a_bridge_from_the_source_first(self) -> None:
        """Three instances are wanted, and one cell cannot pull: the others serve."""
        beside = row(Phase.STARTING)
        world = replace(
            BACK,
            instances=(NEW[0], crashed(UNREACHABLE, 1)),
            bridge=None,
            bridge_instances=(),
            may_bridge=True,
        )

        made = turned(beside, world)

        assert (made.migration.phase, made.migration.is_stopgap) == (Phase.BRIDGING, True)
        assert made.migration.entered_at == NOW

    def test_without_a_bridge_what_runs_stays(self) -> None:
        world = replace(
            BACK,
            instances=(NEW[0], crashed(UNREACHABLE, 1)),
            bridge=None,
            bridge_instances=(),
            may_bridge=False,
        )

        assert step(row(Phase.STARTING), world) == step(
            row(Phase.STARTING), replace(world, instances=(NEW[0], instance(1, CLAIMED)))
        )

    def test_an_lrp_on_its_way_to_its_source_is_not_turned_round(self) -> None:
        """It was on the copy, which was to be left."""
        restoring = row(Phase.STARTING, goal=Goal.SOURCE, is_stopgap=True)
        world = replace(BACK, instances=(crashed(UNREACHABLE),), bridge_instances=(crashed(UNREACHABLE),))

        made = step(restoring, world)

        assert not hasattr(made, "failure"), made
