"""Runs of the migration protocol beside a Cloud Controller whose droplet names the copy, or does from now on.

Cloud Controller's sync desires an LRP that it misses from what the droplet says in that moment: from the copy
with the login of the source, whatever the migration leads to. The same must hold as in `test_protocol_runs`.
"""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from reconcile.instances import is_any_running
from reconcile.lrps import Credentials, DesiredLrp, Pull, Secret
from reconcile.migrations import Goal, Migration, Phase
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import Reason
from reconcile.references import Rootfs
from tests.examples import examples
from tests.reconcile.protocol_model import BRIDGE, LIMITS, SOURCE, TARGET, App, Pulls, pull_of
from tests.reconcile.test_decide import PROCESS
from tests.reconcile.test_protocol_runs import Migrating, Run

CELLS = Credentials("cells", Secret("of-the-private-registry"))
COPY = replace(TARGET, credentials=CELLS)
FORMER_COPY = Pull(Rootfs("docker://former.example/docker-cache#latest"), CELLS)
PATCHED = replace(TARGET, credentials=SOURCE.credentials)
"""What Cloud Controller desires an app from whose droplet names the copy: the login is that of the source."""


class PatchedApp(App):
    """An app whose droplet may be patched, or restored, at any time."""

    @property
    def droplet_on_copy(self) -> Pull:
        """What it is desired from while its droplet names the copy."""
        return PATCHED

    @property
    def knows_source(self) -> bool:
        """The program has saved its source, before the migration or from the record of its droplet."""
        return True

    def patch(self, *, is_patched: bool) -> None:
        """Change the droplet; nothing that is desired is touched by that."""
        self.turns = 0
        self.droplet = PATCHED if is_patched else None


class RestoredApp(PatchedApp):
    """An app that runs from its copy, and is restored to its source while its droplet may name the copy.

    Attributes:
        reverted: How often its owner has desired it from the copy again, in a row.
    """

    reverted: int = 0

    @property
    def target(self) -> Pull:
        """Where it goes back to."""
        return self.source

    def prepare(self) -> None:
        """Begin to restore it, as for an order that stands until it is done, or was reverted too often."""
        lrp = self.bbs.desired.get(PROCESS)
        if self.row is not None or lrp is None or lrp.instances == 0 or self._is_at_source(lrp):
            return
        runs = is_any_running(self.bbs.rows(PROCESS))
        if runs and not self.may_bridge:
            return
        self._begin(replace(self._row_of(lrp, runs=runs), goal=Goal.SOURCE))

    def _is_at_source(self, lrp: DesiredLrp) -> bool:
        return pull_of(lrp) == self.source

    def _close(self, row: Migration, reason: Reason) -> None:
        super()._close(row, reason)
        lrp = self.bbs.desired.get(PROCESS)
        if reason is Reason.RESTORED and lrp is not None:
            assert self._is_at_source(lrp), "called restored, but it is on the copy"

    def comes_to_rest(self) -> None:
        """In the end its source serves, and its droplet names that."""
        self.patch(is_patched=False)
        super().comes_to_rest()

    def _check_rest(self, *, copy_works: bool) -> None:
        del copy_works
        assert self.row is None, self.row
        assert BRIDGE not in self.bbs.desired
        assert not self.bbs.rows(BRIDGE)
        if self.wanted:
            assert self.bbs.desired[PROCESS].instances == self.wanted
            assert self.bbs.desired[PROCESS].routes == self.routes
            is_served = self.bbs.serving(PROCESS)
            assert is_served == self.wanted or (not self.may_bridge and is_served)
            if self.may_bridge:
                assert self._is_at_source(self.bbs.desired[PROCESS])


class PatchedRun(PatchedApp, Run):
    """A run beside a droplet that may be patched."""


class RestoredRun(RestoredApp, Run):
    """A run back to the source beside a droplet that may name the copy."""


def patched(*, copy: Pulls = Pulls.WORK) -> PatchedRun:
    """Let an app run from its source, with a bridge from its copy beside it, and its droplet name the copy."""
    run = PatchedRun(copy=COPY)
    run.begin(2, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    run.patch(is_patched=True)
    run.bbs.pulls |= {COPY: copy, PATCHED: copy}
    return run


def restoring(instances: int = 2) -> RestoredRun:
    """Let an app run from its copy, and begin to restore it while its droplet names the copy."""
    run = RestoredRun(copy=COPY, former=COPY)
    run.patch(is_patched=True)
    run.begin(instances, runs=True)
    return run


def removed(run: Run) -> None:
    """Let the program work until the LRP is removed."""
    while PROCESS in run.bbs.desired:
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))


def works(run: Run, rounds: int = 40) -> None:
    """Let all work for some minutes; Cloud Controller finds nothing missing meanwhile."""
    for _ in range(rounds):
        run.passes()
        run.goes(run.bbs.converge, lambda: run.time_passes(3.0))


def test_a_sync_that_desires_it_from_the_copy_completes_the_migration() -> None:
    run = patched()
    removed(run)

    run.goes(run.owner_syncs)
    assert pull_of(run.bbs.desired[PROCESS]) == PATCHED
    works(run)

    assert run.ends == {Reason.MIGRATED: 1}
    run.goes(run.prepare)
    assert pull_of(run.bbs.desired[PROCESS]) == COPY, "its login is brought in line in place"
    assert run.row is None, "nothing is migrated for that"


def test_one_that_is_desired_from_the_copy_beside_its_bridge_keeps_the_login_that_the_bbs_does_not_change() -> (
    None
):
    run = patched()
    run.stores_logins = False
    removed(run)

    run.goes(run.owner_syncs)
    works(run)
    run.goes(run.prepare)

    assert run.ends == {Reason.MIGRATED: 1}
    assert (run.row, pull_of(run.bbs.desired[PROCESS])) == (None, PATCHED)


def test_one_that_its_owner_starts_anew_from_the_copy_is_not_called_migrated_before_it_runs() -> None:
    """Its old instances are being stopped, and its bridge serves until others run from the copy."""
    run = patched()

    run.goes(run.owner_starts_anew)
    assert pull_of(run.bbs.desired[PROCESS]) == PATCHED
    run.steps(3)
    works(run)

    assert (run.row, run.ends) == (None, {Reason.MIGRATED: 1})
    assert run.bbs.runs(PROCESS, PATCHED)


def test_one_that_its_owner_starts_anew_before_it_has_a_bridge_is_left_to_the_next_pass() -> None:
    run = PatchedRun(copy=COPY)
    run.begin(2, runs=True)
    run.patch(is_patched=True)

    run.goes(run.owner_starts_anew)
    works(run, 5)

    assert (run.row, run.ends) == (None, {Reason.CHANGED_BY_CLOUD_CONTROLLER: 1})
    assert BRIDGE not in run.bbs.desired
    assert run.bbs.runs(PROCESS, PATCHED)


def starts_anew_from_the_copy_beside_one_that_is_pulled_from_the_source(run: PatchedRun) -> None:
    """Let the owner start a removed LRP from the source, and then from the copy; the stop between gets lost."""
    run.patch(is_patched=False)
    run.goes(run.owner_syncs, run.bbs.progress)
    run.patch(is_patched=True)
    run.bbs.loses_stops = True
    run.goes(run.owner_starts_anew)
    run.bbs.loses_stops = False
    assert pull_of(run.bbs.desired[PROCESS]) == PATCHED


@pytest.mark.parametrize("is_pulled", [False, True], ids=["while it is pulled", "when it runs"])
def test_one_that_runs_from_its_source_still_when_its_owner_has_desired_it_from_the_copy_is_not_called_migrated(
    is_pulled: bool,  # noqa: FBT001 - a parameter
) -> None:
    run = PatchedRun(copy=COPY)
    run.begin(1, runs=False)
    run.goes(run.bbs.progress)
    starts_anew_from_the_copy_beside_one_that_is_pulled_from_the_source(run)
    if is_pulled:
        run.goes(run.bbs.progress)

    works(run, 5)

    assert run.bbs.runs(PROCESS, SOURCE)
    assert (run.row, run.ends) == (None, {Reason.CHANGED_BY_CLOUD_CONTROLLER: 1})


@pytest.mark.parametrize("is_pulled", [False, True], ids=["while it is pulled", "when it runs"])
def test_beside_its_bridge_it_is_started_from_the_copy_before_it_is_called_migrated(
    is_pulled: bool,  # noqa: FBT001 - a parameter
) -> None:
    run = patched()
    removed(run)
    run.goes(run.bbs.progress)
    starts_anew_from_the_copy_beside_one_that_is_pulled_from_the_source(run)
    if is_pulled:
        run.goes(run.bbs.progress)

    works(run)

    assert (run.row, run.ends) == (None, {Reason.MIGRATED: 1})
    assert run.bbs.runs(PROCESS, PATCHED)
    assert not run.bbs.runs(PROCESS, SOURCE)


def test_one_that_is_pulled_from_its_source_when_its_owner_starts_it_anew_from_the_copy_is_not_called_migrated() -> (
    None
):
    """It had crashed while its bridge was waited for, and its stop gets lost."""
    run = PatchedRun(copy=COPY)
    run.begin(1, runs=True)
    run.goes(run.step, lambda: run.crash((PROCESS, 0)), run.bbs.progress)
    run.patch(is_patched=True)
    run.bbs.loses_stops = True
    run.goes(run.owner_starts_anew, run.step)
    run.bbs.loses_stops = False

    works(run)

    assert (run.row, run.ends) == (None, {Reason.MIGRATED: 1})
    assert not run.bbs.runs(PROCESS, SOURCE)


def test_one_that_is_not_restored_after_all_is_not_called_migrated_for_what_runs_from_before() -> None:
    """Its owner started it anew, and the stop between got lost, as the answer of the BBS to its way back."""
    run = PatchedRun(copy=COPY, former=FORMER_COPY)
    run.begin(1, runs=True)
    run.goes(run.step, run.bbs.progress, run.bbs.progress)
    run.patch(is_patched=True)
    run.bbs.loses_stops = True
    run.goes(run.owner_starts_anew, run.step)
    run.turns_back_without_an_answer()

    run.comes_to_rest()

    assert run.ends == {Reason.MIGRATED: 1}


def test_one_that_goes_back_since_cells_cannot_pull_its_copy_is_not_left_there_by_a_sync() -> None:
    """Its droplet names the copy still, and the sync comes just after it was removed to go back."""
    run = patched()
    removed(run)
    run.bbs.pulls |= {COPY: Pulls.FAIL, PATCHED: Pulls.FAIL}
    while run.row is not None and not (run.row.is_turned_back and PROCESS not in run.bbs.desired):
        run.goes(run.bbs.progress, run.step, lambda: run.time_passes(0.3))
    run.goes(run.owner_syncs)
    assert pull_of(run.bbs.desired[PROCESS]) == PATCHED

    works(run)

    assert run.row is None, run.row
    assert pull_of(run.bbs.desired[PROCESS]) == SOURCE
    assert run.bbs.serving(PROCESS) == 2
    assert run.ends == {Reason.NOT_PULLED: 1}


def test_one_that_an_operator_turns_round_is_not_left_on_its_copy_by_a_sync() -> None:
    run = patched()
    removed(run)
    run.is_restore_requested = True
    run.goes(run.step, run.owner_syncs)
    assert pull_of(run.bbs.desired[PROCESS]) == PATCHED

    works(run)

    assert (run.row, run.ends) == (None, {Reason.RESTORED: 1})
    assert pull_of(run.bbs.desired[PROCESS]) == SOURCE


@pytest.mark.parametrize("races", [1, MAX_ROUNDS - 1])
def test_one_that_is_restored_before_its_droplet_is_goes_on_when_its_owner_was_faster(races: int) -> None:
    run = restoring()
    for _ in range(races):
        removed(run)
        run.goes(run.owner_syncs)

    works(run)

    assert (run.row, run.ends) == (None, {Reason.RESTORED: 1})
    assert pull_of(run.bbs.desired[PROCESS]) == SOURCE


def test_one_that_its_owner_scales_up_as_the_time_for_its_bridge_is_up_goes_to_its_source_all_the_same() -> (
    None
):
    """Its copy cannot be pulled, so the bridge is all that serves: it gets as many instances as are wanted."""
    run = restoring(1)
    run.bbs.pulls |= {COPY: Pulls.FAIL, PATCHED: Pulls.FAIL}
    run.goes(run.step, lambda: run.crash((PROCESS, 0)), lambda: run.time_passes(LIMITS.bridge + 1))
    run.goes(run.bbs.progress, run.bbs.progress, lambda: run.owner_scales(4))
    run.patch(is_patched=False)
    run.steps(2)
    row = run.row
    assert row is not None
    assert (row.phase, row.ended) == (Phase.REMOVING_BRIDGE, Reason.BRIDGE_TIMEOUT)

    works(run)

    assert (run.row, run.ends) == (None, {Reason.RESTORED: 1})
    assert pull_of(run.bbs.desired[PROCESS]) == SOURCE
    assert run.bbs.serving(PROCESS) == 4


def test_one_whose_owner_was_faster_three_times_is_left_on_its_copy_and_said_to_be() -> None:
    run = restoring()
    for _ in range(MAX_ROUNDS):
        removed(run)
        run.goes(run.owner_syncs)

    works(run)

    assert (run.row, run.ends) == (None, {Reason.REVERTED_EXTERNALLY: 1})
    assert pull_of(run.bbs.desired[PROCESS]) == PATCHED
    assert run.bbs.serving(PROCESS) == 2


class PatchingDroplet(Migrating):
    """One app that is migrated to its copy while its droplet is patched, restored, and patched again."""

    app: PatchedApp

    def new_app(self) -> PatchedApp:
        return PatchedApp(copy=COPY)

    @rule(stores=st.booleans())
    def bbs_is_another(self, stores: bool) -> None:  # noqa: FBT001 - drawn
        self.app.stores_logins = stores

    @rule(is_patched=st.booleans())
    def droplet_changes(self, is_patched: bool) -> None:  # noqa: FBT001 - drawn
        self.app.patch(is_patched=is_patched)

    @rule(pulls=st.sampled_from(Pulls))
    def copy_changes(self, pulls: Pulls) -> None:
        """The private registry serves with any login or with none, as a canary has shown."""
        self.app.bbs.pulls |= {self.app.copy: pulls, PATCHED: pulls}

    def teardown(self) -> None:
        self.app.bbs.pulls[PATCHED] = self.app.bbs.pulls.get(self.app.copy, Pulls.WORK)
        self.app.comes_to_rest()


class RestoringBeforeDroplet(PatchingDroplet):
    """One app that is restored from its copy to its source, before or after its droplet is."""

    def new_app(self) -> RestoredApp:
        return RestoredApp(copy=COPY, former=COPY)


class MovingPatchedDroplet(PatchingDroplet):
    """One app that is moved from a copy in a former private registry while its droplet is patched anew."""

    def new_app(self) -> PatchedApp:
        return PatchedApp(copy=COPY, former=FORMER_COPY)


class RefusedLoginOfSource(PatchingDroplet):
    """The same with a private registry that came to refuse the login that a droplet brings."""

    @rule(pulls=st.sampled_from(Pulls))
    def copy_changes(self, pulls: Pulls) -> None:
        self.app.bbs.pulls[self.app.copy] = pulls

    @rule(refuses=st.booleans())
    def registry_refuses(self, refuses: bool) -> None:  # noqa: FBT001 - drawn
        self.app.bbs.pulls[PATCHED] = Pulls.FAIL if refuses else Pulls.WORK

    def teardown(self) -> None:
        self.app.bbs.pulls |= {self.app.copy: Pulls.WORK, PATCHED: Pulls.FAIL}
        self.app.comes_to_rest()


MACHINES = (PatchingDroplet, RestoringBeforeDroplet, MovingPatchedDroplet, RefusedLoginOfSource)
for _machine in MACHINES:
    _machine.TestCase.settings = settings(
        max_examples=examples(gate=30, long=120), stateful_step_count=60, deadline=None
    )
TestPatchingDroplet = PatchingDroplet.TestCase
TestRestoringBeforeDroplet = RestoringBeforeDroplet.TestCase
TestMovingPatchedDroplet = MovingPatchedDroplet.TestCase
TestRefusedLoginOfSource = RefusedLoginOfSource.TestCase

PARTS, EXAMPLES = 2, 5_000


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_10_000_other_runs(part: int, machine: type[Migrating]) -> None:
    del part  # each draws examples of its own
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(machine, settings=chosen)
