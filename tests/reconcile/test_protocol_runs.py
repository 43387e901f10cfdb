"""Whole runs of the migration protocol against a small model of a BBS, its cells, an owner and failures.

Whatever happens in which order: the app never has fewer instances than it had or than its owner wants, it is
called cached only when it runs from its copy, and in the end no bridge is left and the app is what its owner
wants, and runs.

The gate draws the same examples each time, and a long run new ones.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reconcile.lrps import Credentials, Pull, Secret
from reconcile.migrations import Goal, Phase
from reconcile.reasons import Reason
from reconcile.references import Rootfs
from reconcile.steps import RemoveOriginal
from tests.examples import examples
from tests.reconcile.protocol_model import BRIDGE, SOURCE, TARGET, App, Pulls
from tests.reconcile.test_decide import PROCESS

FORMER_COPY = Pull(Rootfs("docker://former.example/docker-cache#latest"))
FORMER, PRESENT = Credentials("cells", Secret("former")), Credentials("cells", Secret("present"))


class Migrating(RuleBasedStateMachine):
    """One app, its owner, and the program that may die at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.app = self.new_app()

    def new_app(self) -> App:
        """Make an app that runs from its source, and is migrated to its copy."""
        return App()

    @initialize(
        instances=st.integers(1, 3), runs=st.booleans(), may_bridge=st.sampled_from([True, True, False])
    )
    def begin(self, instances: int, runs: bool, may_bridge: bool) -> None:  # noqa: FBT001 - drawn
        self.app.may_bridge = may_bridge
        self.app.begin(instances, runs=runs)

    @rule()
    def step(self) -> None:
        """Take the next step."""
        self.app.carry_out(self.app.next())

    @rule()
    def step_without_an_answer(self) -> None:
        """Take the next step, and learn nothing of it."""
        self.app.carry_out(self.app.next(), loses_answer=True)

    @precondition(lambda self: self.app.late_removal)
    @rule()
    def removal_comes_late(self) -> None:
        self.app.removal_comes_late()

    @rule()
    def die(self) -> None:
        self.app.die()

    @rule(seconds=st.sampled_from([0.3, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.app.time_passes(seconds)

    @rule()
    def cells_work(self) -> None:
        self.app.bbs.progress()

    @rule()
    def bbs_converges(self) -> None:
        self.app.bbs.converge()

    @rule(pulls=st.sampled_from(Pulls))
    def copy_changes(self, pulls: Pulls) -> None:
        self.app.bbs.pulls[self.app.copy] = pulls

    @rule(pulls=st.sampled_from(Pulls))
    def source_changes(self, pulls: Pulls) -> None:
        self.app.bbs.pulls[self.app.source] = pulls

    @rule(loses=st.booleans())
    def stops_get_lost(self, loses: bool) -> None:  # noqa: FBT001 - drawn
        self.app.bbs.loses_stops = loses

    @rule(wants=st.booleans())
    def operator_restores(self, wants: bool) -> None:  # noqa: FBT001 - drawn
        self.app.is_restore_requested = wants

    @rule(instances=st.integers(1, 4))
    def owner_scales(self, instances: int) -> None:
        self.app.owner_scales(instances)

    @rule()
    def owner_maps_a_route(self) -> None:
        self.app.owner_maps_a_route()

    @rule()
    def owner_syncs(self) -> None:
        self.app.owner_syncs()

    @rule()
    def owner_starts_anew(self) -> None:
        self.app.owner_starts_anew()

    @rule()
    def owner_deletes(self) -> None:
        self.app.owner_deletes()

    @rule()
    def begin_again(self) -> None:
        self.app.is_proven = True
        self.app.prepare()

    @precondition(lambda self: self.app.bbs.instances)
    @rule(data=st.data())
    def cell_crashes_one(self, data: st.DataObject) -> None:
        self.app.crash(data.draw(st.sampled_from(sorted(self.app.bbs.instances))))

    @invariant()
    def no_app_has_less_than_it_must(self) -> None:
        self.app.look()

    def teardown(self) -> None:
        self.app.comes_to_rest()


class Run(App):
    """One run that is told step by step; what must hold is looked at after each."""

    def step(self) -> None:
        self.carry_out(self.next())

    def step_without_an_answer(self) -> None:
        self.carry_out(self.next(), loses_answer=True)

    def goes(self, *steps: Callable[[], object]) -> None:
        for step in steps:
            step()
            self.look()

    def steps(self, count: int) -> None:
        self.goes(*[self.step] * count)

    def turns_back_without_an_answer(self) -> None:
        """Let an operator restore the app, and lose the answer to its removal."""
        self.is_restore_requested = True
        self.goes(self.step_without_an_answer)
        assert self.row is not None
        assert (self.row.phase, self.row.goal) == (Phase.REMOVING, Goal.SOURCE)

    def passes(self, rounds: int = 1) -> None:
        """Let cells work, time pass and the program take what steps there are, some times."""
        for _ in range(rounds):
            self.goes(self.bbs.progress, *[self.step] * 6, lambda: self.time_passes(0.3))


def begun(instances: int) -> Run:
    """Let an app run, and its bridge beside it."""
    run = Run()
    run.begin(instances, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    return run


def removed_without_an_answer(run: Run) -> None:
    """Send the removal of the original while its bridge serves; it is not known whether it takes effect."""
    while not isinstance(run.next(), RemoveOriginal):
        run.goes(run.step, lambda: run.time_passes(2.0))
    run.goes(lambda: run.carry_out(run.next(), loses_answer=True))
    assert run.row is not None
    assert run.row.phase is Phase.REMOVING


def test_a_bridge_that_is_all_that_serves_stays_although_it_crashed() -> None:
    run = begun(2)

    run.goes(
        lambda: run.crash((BRIDGE, 0)),
        run.bbs.progress,
        run.bbs.progress,
        lambda: run.crash((BRIDGE, 0)),
        lambda: run.crash((PROCESS, 0)),
        lambda: run.owner_scales(1),
    )
    run.steps(5)
    run.comes_to_rest()


def test_what_an_owner_scales_up_while_a_removal_is_unknown_is_served_when_it_takes_effect() -> None:
    run = begun(1)
    removed_without_an_answer(run)

    run.goes(lambda: run.owner_scales(2), *[run.step, run.bbs.progress] * 5)
    run.goes(run.removal_comes_late)
    run.comes_to_rest()


def test_a_scaling_just_before_a_removal_takes_effect_is_not_lost() -> None:
    run = begun(2)
    run.goes(lambda: run.crash((PROCESS, 0)), lambda: run.crash((PROCESS, 1)), lambda: run.owner_scales(1))
    run.goes(run.step)
    removed_without_an_answer(run)

    run.goes(lambda: run.owner_scales(2), run.removal_comes_late, run.step, run.bbs.progress, run.step)
    assert PROCESS in run.bbs.desired
    run.comes_to_rest()


def starting_app(*, source: Pulls = Pulls.WORK, copy: Pulls = Pulls.WORK) -> Run:
    """Let an app be CLAIMED by its cell, and its LRP be removed to run from the copy."""
    run = Run()
    run.bbs.pulls = {SOURCE: source, TARGET: copy}
    run.begin(1, runs=False)
    assert run.row is not None
    assert run.row.phase is Phase.REMOVED
    return run


def test_an_app_that_is_starting_runs_from_its_copy_without_a_bridge() -> None:
    run = starting_app()

    run.passes(4)

    assert run.ends == {Reason.MIGRATED: 1}
    assert run.bbs.runs(PROCESS, TARGET)


def test_a_stopgap_serves_an_app_whose_pull_from_the_source_cannot_be_interrupted() -> None:
    run = starting_app(source=Pulls.HANG)

    run.passes(10)

    assert run.bbs.desired[BRIDGE].instances == 2, "one may land on the cell that pulls the source"
    assert run.bbs.serving(BRIDGE) == 2
    assert run.bbs.desired[PROCESS].rootfs == TARGET.rootfs
    assert run.bbs.serving(PROCESS) == 0
    run.bbs.pulls[SOURCE] = Pulls.WORK
    run.comes_to_rest()
    assert run.ends == {Reason.MIGRATED: 1}


def test_a_sync_that_finds_the_lrp_missing_does_not_win_against_a_pull_of_twenty_minutes() -> None:
    run = starting_app(source=Pulls.HANG)

    for _ in range(80):  # with a sync every 15 s
        run.goes(run.owner_syncs)
        for _ in range(10):
            run.passes()
            run.goes(run.prepare)
            run.time_passes(1.2)
        assert PROCESS in run.bbs.desired
        assert run.bbs.serving(PROCESS, BRIDGE) >= 1
    assert run.ends[Reason.CHANGED_BY_CLOUD_CONTROLLER] <= 1
    run.comes_to_rest()
    assert run.ends[Reason.MIGRATED] == 1


def test_an_app_whose_copy_cells_cannot_pull_is_on_its_source_after_the_first_failed_pull() -> None:
    run = starting_app(copy=Pulls.FAIL)

    run.passes(5)

    assert run.ends == {Reason.NOT_PULLED: 1}
    assert run.bbs.desired[PROCESS].rootfs == SOURCE.rootfs
    assert run.bbs.desired[PROCESS].credentials == SOURCE.credentials
    run.goes(run.bbs.progress, run.bbs.progress)
    assert run.bbs.serving(PROCESS) == 1


def test_an_app_whose_stopgap_cannot_be_pulled_goes_back_to_its_source() -> None:
    run = starting_app(source=Pulls.HANG, copy=Pulls.FAIL)

    run.passes(12)

    assert run.bbs.desired[PROCESS].rootfs == SOURCE.rootfs
    run.bbs.pulls[SOURCE] = Pulls.WORK
    run.comes_to_rest()
    assert run.ends == {Reason.NOT_PULLED: 1}


def test_an_app_whose_copy_hangs_is_on_its_source_when_the_time_is_up() -> None:
    run = starting_app(copy=Pulls.HANG)

    run.passes(10)
    assert run.row is not None
    run.time_passes(60.0)
    run.passes(12)

    assert run.bbs.desired[PROCESS].rootfs == SOURCE.rootfs
    assert run.bbs.serving(PROCESS, BRIDGE) >= 1, "a stopgap from the source serves while the copy hangs"
    run.bbs.pulls[TARGET] = Pulls.FAIL  # the pull that hung ends
    run.comes_to_rest()
    assert run.ends == {Reason.NOT_STARTED: 1}


def restored(run: Run) -> None:
    """Let an operator want an app back, and the program work until it is there."""
    run.is_restore_requested = True
    run.passes(40)
    assert run.row is None, run.row
    assert run.bbs.desired[PROCESS].rootfs == SOURCE.rootfs
    assert run.bbs.runs(PROCESS, SOURCE)
    assert BRIDGE not in run.bbs.desired


def test_an_operator_turns_an_app_round_before_its_removal() -> None:
    run = begun(2)

    restored(run)

    assert run.ends == {Reason.CANCELLED: 1}


def test_an_operator_turns_an_app_round_that_is_removed() -> None:
    """It is desired from its source, and no instance of it is started from the copy first."""
    run = begun(2)
    while PROCESS in run.bbs.desired:
        run.goes(run.step, lambda: run.time_passes(0.3))

    restored(run)

    assert run.ends == {Reason.RESTORED: 1}
    assert not run.has_run_from_copy


@pytest.mark.parametrize("copy", [Pulls.WORK, Pulls.HANG, Pulls.FAIL])
def test_an_operator_turns_an_app_round_that_waits_for_its_copy_beside_its_bridge(copy: Pulls) -> None:
    """However long it would wait: the bridge serves from the copy, which its own instances may never do."""
    run = begun(2)
    run.bbs.pulls[TARGET] = copy
    while run.row is None or run.row.phase is not Phase.STARTING:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    run.bbs.pulls[TARGET] = Pulls.FAIL if copy is Pulls.FAIL else Pulls.WORK

    restored(run)


@pytest.mark.parametrize("lost", [1, 2])
def test_an_app_whose_stops_were_lost_is_back_on_its_source_although_its_bridge_crashed(lost: int) -> None:
    """What is left of the bridge stands in for one old instance after the other, and another for none of it."""
    run = begun(2)
    run.bbs.loses_stops = True
    while run.row is not None and run.row.phase is not Phase.REMOVED:
        run.goes(run.step, lambda: run.time_passes(2.0))
    run.is_restore_requested = True
    run.bbs.pulls[TARGET] = Pulls.FAIL
    while run.row is not None and run.row.phase is not Phase.STARTING:
        run.goes(run.step, lambda: run.time_passes(2.0))
    for key in [(BRIDGE, index) for index in range(lost)]:
        run.goes(partial(run.crash, key))
    assert run.row is not None
    assert run.bbs.serving(PROCESS) == len(run.row.instance_guids) == 2

    run.comes_to_rest()

    assert run.ends[Reason.RESTORED] == 1
    assert all(run.bbs.runs_from[each.instance_guid] == SOURCE for each in run.bbs.rows(PROCESS))


def test_an_app_that_is_not_restored_after_all_is_called_migrated_once_it_runs_from_its_copy() -> None:
    """The stop of its old instance got lost, and so did the removal on its way back."""
    run = begun(1)
    run.bbs.loses_stops = True
    while run.row is not None and run.row.phase is not Phase.STARTING:
        run.goes(run.step, lambda: run.time_passes(0.3))
    run.turns_back_without_an_answer()

    run.comes_to_rest()

    assert run.ends == {Reason.MIGRATED: 1}
    assert not run.bbs.runs(PROCESS, SOURCE)


def test_an_app_that_its_owner_starts_anew_while_its_bridge_is_removed_was_not_migrated() -> None:
    run = begun(1)
    while BRIDGE in run.bbs.desired:
        run.passes()
    assert run.row is not None
    assert run.row.phase is Phase.REMOVING_BRIDGE

    run.goes(run.owner_starts_anew, run.bbs.progress, run.bbs.converge, run.bbs.progress, run.bbs.progress)
    run.passes(10)

    assert run.ends == {Reason.CHANGED_BY_CLOUD_CONTROLLER: 1}
    run.comes_to_rest()


def test_an_app_that_its_owner_desired_again_keeps_its_bridge_until_its_old_instances_are_gone() -> None:
    """Its owner syncs just after the removal, and an operator cancels the migration then."""
    run = begun(1)
    while run.row is not None and run.row.phase is not Phase.REMOVED:
        run.goes(run.step, lambda: run.time_passes(2.0))
    run.goes(run.owner_maps_a_route, run.step)
    assert run.row is not None
    assert (run.row.phase, run.bbs.desired[PROCESS].rootfs) == (Phase.BRIDGING, SOURCE.rootfs)
    run.is_restore_requested = True

    for _ in range(5):
        run.goes(run.step, lambda: run.time_passes(2.0))
    run.goes(run.bbs.progress)
    assert run.bbs.rows(PROCESS) == ()
    run.comes_to_rest()


@pytest.mark.parametrize("races", [1, 2])
def test_an_owner_who_desires_it_from_a_source_that_is_gone_does_not_keep_it_behind_its_bridge(
    races: int,
) -> None:
    """Its owner syncs just after the removal, while the program moves it from one copy to another."""
    run = Run(former=FORMER_COPY)
    run.bbs.pulls[SOURCE] = Pulls.FAIL
    run.begin(2, runs=True)
    for _ in range(races):
        while PROCESS in run.bbs.desired:
            run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
        run.goes(run.owner_syncs)
        assert run.bbs.desired[PROCESS].rootfs == SOURCE.rootfs

    run.passes(40)

    assert run.row is None, run.row
    assert run.ends == {Reason.MIGRATED: 1}
    assert run.bbs.desired[PROCESS].rootfs == TARGET.rootfs


def test_an_owner_who_starts_an_app_anew_from_a_source_that_is_gone_gets_it_from_its_copy() -> None:
    run = Run(former=FORMER_COPY)
    run.bbs.pulls[SOURCE] = Pulls.FAIL
    run.begin(1, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    assert run.row is not None
    assert run.row.phase is Phase.BRIDGING

    run.goes(run.owner_starts_anew)
    run.passes(40)

    assert run.ends == {Reason.MIGRATED: 1}


def test_a_bridge_that_serves_too_few_is_not_all_that_is_left_of_an_app_whose_source_is_gone() -> None:
    """Its owner starts it anew and scales it, and the time for its bridge is up by then."""
    run = Run(former=FORMER_COPY)
    run.bbs.pulls[SOURCE] = Pulls.FAIL
    run.begin(1, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    run.goes(run.owner_starts_anew, lambda: run.owner_scales(2), lambda: run.time_passes(60.0), run.step)
    run.step()
    left = run.row
    assert left is not None
    assert (left.phase, left.ended) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_TIMEOUT)

    for _ in range(60):
        run.passes()
        run.goes(run.bbs.converge, lambda: run.time_passes(3.0))

    assert (run.row, run.ends) == (None, {Reason.MIGRATED: 1})
    assert run.bbs.serving(PROCESS) == 2


def test_an_app_that_goes_back_to_its_former_copy_is_not_left_on_a_source_that_is_gone() -> None:
    """Cells cannot pull its copy any more, and its owner syncs just after it was removed to go back."""
    run = Run(former=FORMER_COPY)
    run.bbs.pulls[SOURCE] = Pulls.FAIL
    run.begin(1, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    run.bbs.pulls[TARGET] = Pulls.FAIL
    while run.row is not None and not (run.row.is_turned_back and PROCESS not in run.bbs.desired):
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    run.goes(run.owner_syncs)
    assert run.bbs.desired[PROCESS].rootfs == SOURCE.rootfs

    run.passes(40)

    assert run.row is None, run.row
    assert run.ends == {Reason.NOT_PULLED: 1}
    assert run.bbs.desired[PROCESS].rootfs == FORMER_COPY.rootfs
    assert run.bbs.serving(PROCESS) == 1


def test_an_operator_turns_an_app_round_that_is_on_probation() -> None:
    run = starting_app(copy=Pulls.HANG)
    run.passes(2)
    assert run.row is not None
    assert run.row.phase is Phase.STARTING
    run.is_restore_requested = True
    run.steps(3)
    run.bbs.pulls[TARGET] = Pulls.WORK  # the pull that hung ends

    restored(run)

    assert run.ends == {Reason.RESTORED: 1}


def test_the_routes_of_the_original_are_removed_before_it_and_desired_again_with_it() -> None:
    run = drained(2)
    while PROCESS in run.bbs.desired:
        assert set(run.bbs.desired[PROCESS].routes) == {"diego-ssh"}
        run.goes(run.step, lambda: run.time_passes(0.3))

    run.passes(12)
    assert run.bbs.desired[PROCESS].routes == run.routes
    run.comes_to_rest()


def drained(instances: int) -> Run:
    """Let the original have no routes, since its removal is next."""
    run = begun(instances)
    while set(run.bbs.desired[PROCESS].routes) != {"diego-ssh"}:
        run.goes(run.step, lambda: run.time_passes(0.3))
    return run


def test_an_original_that_is_not_removed_has_its_routes_again_when_its_bridge_crashes() -> None:
    run = drained(1)

    run.crash((BRIDGE, 0))
    run.goes(*[run.step] * 3)

    assert run.bbs.desired[PROCESS].routes == run.routes
    run.comes_to_rest()


def test_an_operator_who_wants_it_back_gets_it_with_its_routes() -> None:
    run = drained(2)
    run.is_restore_requested = True

    run.passes(4)
    assert run.bbs.desired[PROCESS].routes == run.routes
    assert run.bbs.desired[BRIDGE].routes == run.routes, "routers learn of the original first"
    run.comes_to_rest()


def test_routes_that_the_owner_maps_while_there_are_none_are_kept() -> None:
    run = drained(2)

    run.goes(run.owner_maps_a_route, *[run.step] * 4)

    assert run.bbs.desired[PROCESS].routes == run.bbs.desired[BRIDGE].routes == run.routes
    run.comes_to_rest()


def test_a_process_that_dies_with_an_original_without_routes_goes_on() -> None:
    run = drained(2)

    run.goes(run.die, lambda: run.time_passes(40.0))
    run.comes_to_rest()

    assert run.ends == {Reason.MIGRATED: 1}


def test_the_routes_of_a_bridge_are_removed_before_it() -> None:
    run = begun(1)
    seen: list[tuple[frozenset[str], float]] = []
    while BRIDGE in run.bbs.desired:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
        bridge = run.bbs.desired.get(BRIDGE)
        if bridge is not None:
            seen.append((frozenset(bridge.routes), run.bbs.now))

    drained = [now for routes, now in seen if routes == {"diego-ssh"}]
    assert seen[0][0] == {"cf-router", "diego-ssh"}
    assert max(drained) - min(drained) >= 0.9
    assert run.ends == {} or run.row is None


Migrating.TestCase.settings = settings(
    max_examples=examples(gate=50, long=200), stateful_step_count=60, deadline=None
)
TestMigrating = Migrating.TestCase


class RenewingLogin(Migrating):
    """The same with an app that runs from its copy, and is migrated to the same copy with another login."""

    def new_app(self) -> App:
        return App(
            source=replace(TARGET, credentials=FORMER),
            copy=replace(TARGET, credentials=PRESENT),
            renews_login=True,
        )


RenewingLogin.TestCase.settings = Migrating.TestCase.settings
TestRenewingLogin = RenewingLogin.TestCase


class LeavingFormerCopy(Migrating):
    """The same with an app that runs from a copy, while its owner desires it from a source that may be gone."""

    def new_app(self) -> App:
        return App(former=FORMER_COPY)

    @rule()
    def source_is_gone(self) -> None:
        self.app.is_source_gone = True
        self.app.bbs.pulls[self.app.source] = Pulls.FAIL


LeavingFormerCopy.TestCase.settings = Migrating.TestCase.settings
TestLeavingFormerCopy = LeavingFormerCopy.TestCase


class LeavingGoneFormerCopy(Migrating):
    """The same with an app whose droplet names a former copy, which may be gone while its source is there."""

    def new_app(self) -> App:
        return App(former=FORMER_COPY, droplet=FORMER_COPY)

    @rule()
    def former_copy_is_gone(self) -> None:
        self.app.bbs.pulls[FORMER_COPY] = Pulls.FAIL

    @rule()
    def cells_do_not_prove_anything(self) -> None:
        self.app.is_proven = False

    @rule()
    def droplet_has_its_original_text_again(self) -> None:
        self.app.droplet = None


LeavingGoneFormerCopy.TestCase.settings = settings(
    Migrating.TestCase.settings, max_examples=examples(gate=100, long=200)
)
TestLeavingGoneFormerCopy = LeavingGoneFormerCopy.TestCase


def test_an_app_that_is_down_on_a_former_copy_runs_from_its_source_although_nothing_is_proven() -> None:
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY, is_proven=False)
    run.bbs.pulls[FORMER_COPY] = Pulls.FAIL
    run.begin(2, runs=False)
    run.bbs.progress()
    run.prepare()
    assert run.row is not None
    run.owner_syncs()  # its droplet names the former copy still
    run.passes(3)
    assert run.ends[Reason.CHANGED_BY_CLOUD_CONTROLLER] == 1

    run.droplet = None
    run.prepare()
    run.passes(6)

    assert run.bbs.runs(PROCESS, run.source)
    assert run.ends[Reason.RESTORED] == 1


def test_an_app_of_which_a_part_runs_from_a_former_copy_that_is_gone_is_whole_again_from_its_source() -> None:
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY)
    run.begin(2, runs=True)
    run.bbs.pulls |= {run.copy: Pulls.FAIL, FORMER_COPY: Pulls.FAIL}
    run.crash((PROCESS, 0))

    run.comes_to_rest()

    assert run.bbs.serving(PROCESS) == 2
    assert run.bbs.runs(PROCESS, run.source)


def test_an_app_of_which_a_part_runs_from_a_former_copy_that_is_gone_keeps_that_without_a_bridge() -> None:
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY, may_bridge=False)
    run.begin(2, runs=True)
    run.bbs.pulls[FORMER_COPY] = Pulls.FAIL
    run.crash((PROCESS, 0))

    run.comes_to_rest()

    assert (run.bbs.serving(PROCESS), run.bbs.runs(PROCESS, FORMER_COPY)) == (1, True)


@pytest.mark.parametrize("runs", [True, False])
def test_an_app_that_is_turned_back_to_a_former_copy_that_is_gone_goes_to_its_source(*, runs: bool) -> None:
    """Cells cannot pull its copy once it was removed, and its bridge serves meanwhile."""
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY)
    run.begin(2, runs=runs)
    if runs:
        run.goes(run.step, run.bbs.progress, run.bbs.progress)
    while PROCESS in run.bbs.desired:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    run.bbs.pulls |= {run.copy: Pulls.FAIL, FORMER_COPY: Pulls.FAIL}

    run.comes_to_rest()

    assert run.bbs.runs(PROCESS, run.source)
    assert run.bbs.serving(PROCESS) == 2
    assert run.ends[Reason.NOT_PULLED] == 1


@pytest.mark.parametrize("wants_source", [True, False])
def test_a_bridge_that_serves_for_an_app_whose_former_copy_is_gone_is_not_kept_for_ever(
    *, wants_source: bool
) -> None:
    """An operator cancels the migration beside it, and may or may not want the app on its source still."""
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY)
    run.begin(2, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    run.bbs.pulls[FORMER_COPY] = Pulls.FAIL
    run.goes(lambda: run.crash((PROCESS, 0)), *[run.bbs.progress] * 6)
    run.is_restore_requested = True
    run.goes(*[run.step] * 3)
    assert run.row is not None
    assert (run.row.phase, run.row.ended) == (Phase.REMOVING_BRIDGE, Reason.CANCELLED)

    run.is_restore_requested = wants_source
    run.time_passes(60.0)
    run.passes(60)

    assert run.ends == {Reason.RESTORED if wants_source else Reason.MIGRATED: 1}
    assert run.bbs.runs(PROCESS, run.source if wants_source else run.copy)
    assert run.bbs.serving(PROCESS) == 2


def test_an_app_that_neither_its_former_copy_nor_its_whole_bridge_serves_goes_to_its_source() -> None:
    """Some instances of the bridge run from the copy, which cells cannot pull by now."""
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY)
    run.begin(3, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    run.bbs.pulls |= {run.copy: Pulls.FAIL, FORMER_COPY: Pulls.FAIL}
    for key in [(PROCESS, 0), (PROCESS, 1), (BRIDGE, 0)]:
        run.goes(partial(run.crash, key))
    run.goes(*[run.bbs.progress] * 6)

    run.comes_to_rest()

    assert run.bbs.runs(PROCESS, run.source)
    assert run.bbs.serving(PROCESS) == 3


def test_an_app_that_its_owner_has_started_from_its_source_is_not_called_cached_when_that_is_found() -> None:
    """The answer to its removal was lost while it went back to its former copy."""
    run = Run(former=FORMER_COPY, may_bridge=False)
    run.begin(1, runs=False)
    run.bbs.pulls[run.copy] = Pulls.FAIL
    while run.row is not None and PROCESS not in run.bbs.desired:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    while run.row is not None and run.row.phase is not Phase.REMOVING:
        run.bbs.progress()
        run.goes(lambda: run.carry_out(run.next(), loses_answer=True))
    run.goes(run.removal_comes_late, run.bbs.progress, run.owner_syncs, *[run.bbs.progress] * 3)
    assert run.bbs.runs(PROCESS, run.source)

    run.goes(lambda: run.time_passes(100.0), run.step)

    assert run.ends == {Reason.CHANGED_BY_CLOUD_CONTROLLER: 1}


def test_an_old_instance_that_alone_serves_an_app_whose_former_copy_is_gone_has_a_bridge_from_its_source() -> (
    None
):
    """Its stop was lost when an operator wanted the app back while it started from its copy."""
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY)
    run.begin(1, runs=False)
    while run.row is None or run.row.phase is not Phase.STARTING:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    run.bbs.loses_stops = run.is_restore_requested = True
    run.bbs.pulls[FORMER_COPY] = Pulls.FAIL
    run.goes(run.bbs.progress, run.step, run.bbs.progress)
    assert run.bbs.runs(PROCESS, run.copy)
    while PROCESS not in run.bbs.desired:
        run.passes()
    run.bbs.loses_stops = False

    for _ in range(20):
        run.passes(5)
        run.goes(run.bbs.converge, lambda: run.time_passes(5.0))

    assert run.ends == {Reason.RESTORED: 1}
    assert run.bbs.runs(PROCESS, run.source)


def test_an_app_that_its_owner_desires_from_its_former_copy_on_the_way_from_its_source_goes_on() -> None:
    """Its droplet names the former copy still, which is gone, and its owner syncs while it is removed."""
    run = Run(former=FORMER_COPY, droplet=FORMER_COPY)
    run.former, run.droplet = None, None
    run.begin(2, runs=True)
    run.former = run.droplet = FORMER_COPY
    run.bbs.pulls[FORMER_COPY] = Pulls.FAIL
    while PROCESS in run.bbs.desired:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    run.goes(run.owner_syncs)

    run.passes(30)

    assert run.ends == {Reason.MIGRATED: 1}
    assert run.bbs.serving(PROCESS) == 2


class LeavingFormerLogin(LeavingFormerCopy):
    """The same with an app that runs from the same copy already, with another login."""

    def new_app(self) -> App:
        return App(
            former=replace(TARGET, credentials=FORMER),
            copy=replace(TARGET, credentials=PRESENT),
            renews_login=True,
        )


LeavingFormerLogin.TestCase.settings = Migrating.TestCase.settings
TestLeavingFormerLogin = LeavingFormerLogin.TestCase

PARTS, EXAMPLES = 2, 5_000


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "machine", [Migrating, RenewingLogin, LeavingFormerCopy, LeavingGoneFormerCopy, LeavingFormerLogin]
)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_10_000_other_runs(part: int, machine: type[Migrating]) -> None:
    del part  # each draws examples of its own
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(machine, settings=chosen)
