"""However passes over a droplet are cut short, and whatever others do meanwhile, nothing of it is lost.

A droplet never names a copy that is not there because of this program, what it named at first is known for as
long as it matters, and it has that again when somebody wants it.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reconcile.droplet_actions import DropletAction, Leave
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import LATE_EFFECT, DropletOrder, DropletPhase
from reconcile.migrations import Goal
from reconcile.protocol import MAX_ROUNDS
from reconcile.reasons import AppState, Reason
from tests.examples import examples
from tests.reconcile.droplet_model import Api, World, run_pass
from tests.reconcile.droplet_samples import ORIGINAL, OTHER, SOURCE, TARGET

PASSES_TO_REST = 12
SWEEP = 600.0


class Patching(RuleBasedStateMachine):
    """One droplet, others who write into it, and the program that may die at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.running: Iterator[DropletAction] | None = None

    @rule()
    def step(self) -> None:
        """Begin a pass, or take its next step."""
        if self.running is None:
            self.running = run_pass(self.world)
        if next(self.running, None) is None:
            self.running = None

    @rule()
    def look(self) -> None:
        """Take a whole pass."""
        self.running = None
        list(run_pass(self.world))

    @rule()
    def die(self) -> None:
        self.running = None

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        if self.running is None:  # a request has a time limit that is shorter than any of these
            self.world.time_passes(seconds)

    @rule(api=st.sampled_from(Api))
    def api_changes(self, api: Api) -> None:
        self.world.api = api

    @precondition(lambda self: self.world.late)
    @rule()
    def late_text_is_written(self) -> None:
        self.world.late_text_is_written()

    @rule(wants=st.booleans())
    def operator_pins(self, wants: bool) -> None:  # noqa: FBT001 - drawn
        self.world.is_pinned = wants

    @rule(wants=st.booleans())
    def operator_pauses(self, wants: bool) -> None:  # noqa: FBT001 - drawn
        self.world.is_paused = wants

    @rule(goal=st.sampled_from(Goal))
    def operator_orders(self, goal: Goal) -> None:
        self.world.order = DropletOrder(goal, self.world.now)

    @rule(silent=st.booleans())
    def registry_is_silent(self, silent: bool) -> None:  # noqa: FBT001 - drawn
        self.world.is_restoring = silent

    @rule(proven=st.booleans())
    def canary_runs(self, proven: bool) -> None:  # noqa: FBT001 - drawn
        self.world.is_proven = proven

    @rule(for_good=st.booleans())
    def copies_get_lost(self, for_good: bool) -> None:  # noqa: FBT001 - drawn
        self.world.copy_gets_lost(for_good=for_good)

    @rule()
    def copies_are_repaired(self) -> None:
        self.world.copies_are_repaired()

    @precondition(lambda self: self.running is None)  # both are one transaction and a look before
    @rule()
    def operator_evicts(self) -> None:
        self.world.evict()

    @precondition(lambda self: self.running is None)
    @rule()
    def registry_moves(self) -> None:
        """The program is restarted with another config."""
        self.world.move_registry()

    @precondition(lambda self: self.world.is_source_known)
    @rule(text=st.sampled_from([ORIGINAL, OTHER, "docker.io/library/busybox:latest"]))
    def somebody_writes(self, text: str) -> None:
        self.world.text = text

    @precondition(lambda self: self.running is None and not self.world.late and self.world.is_untouched)
    @rule()
    def database_is_lost(self) -> None:
        self.world.lose_database()

    @precondition(lambda self: self.running is None)
    @rule()
    def operator_wants_it_back(self) -> None:
        """In the end the droplet has its text, unless somebody else wrote another one; then nothing is sent."""
        world = self.world
        world.api, world.is_pinned, world.is_restoring, world.is_paused = Api.WORKS, True, False, False
        world.order = None
        self._come_to_rest()
        if world.record is not None:
            assert not world.record.may_name_copy
        if world.record is not None and world.record.phase is DropletPhase.RESTORED:
            assert image_of_text(world.text) == SOURCE
        assert world.named(world.text) is None

    @precondition(lambda self: self.running is None)
    @rule()
    def all_is_well(self) -> None:
        """In the end the droplet names a copy that is there, or there is a reason why not."""
        world = self.world
        world.api, world.is_pinned, world.is_restoring, world.is_paused = Api.WORKS, False, False, False
        world.order, world.is_proven = None, True
        world.copies_are_repaired()
        last = self._come_to_rest()
        named = world.named(world.text)
        if last.reason is Reason.DROPLET_PATCHED:
            assert named is not None
            assert world.record is not None
            assert (world.record.phase, world.record.target) == (DropletPhase.PATCHED, world.text)
            assert named[0] == world.cache.address
        else:
            assert last.reason in {
                Reason.IMAGE_CHANGED_EXTERNALLY,
                Reason.REVERTED_EXTERNALLY,
                Reason.COPY_UNKNOWN,
            }

    def _come_to_rest(self) -> Leave:
        """Sweep until nothing changes, and then once more: that sends nothing."""
        world = self.world
        for _ in range(PASSES_TO_REST):
            world.time_passes(SWEEP)
            list(run_pass(world))
        before = (len(world.sent), world.text, world.record)
        world.time_passes(SWEEP)
        (last,) = run_pass(world)
        assert before == (len(world.sent), world.text, world.record)
        assert isinstance(last, Leave)
        assert last.reason.state is not AppState.MIGRATING
        return last

    @invariant()
    def what_it_named_at_first_is_known(self) -> None:
        record = self.world.record
        if record is not None and record.target:
            assert image_of_text(record.original) == SOURCE
        if self.world.named(self.world.text) is not None and record is not None:
            assert record.original

    @invariant()
    def it_names_no_copy_that_is_not_there(self) -> None:
        """A registry may lose one, and then it is restored; nobody deletes one that it may come to name."""
        named = self.world.named(self.world.text)
        if named is not None:
            assert named in self.world.held

    @invariant()
    def only_copies_that_were_there_are_written(self) -> None:
        for text in self.world.sent:
            assert image_of_text(text) == SOURCE or self.world.named(text) is not None
        named = self.world.named(self.world.text)
        if named is not None:
            assert self.world.images[named[1]].source == SOURCE


Patching.TestCase.settings = settings(
    max_examples=examples(gate=25, long=100), stateful_step_count=40, deadline=None
)
TestPatching = Patching.TestCase


def sweep(world: World, times: int) -> list[DropletAction]:
    """Look at the droplet at the interval of the sweep; return the last action of each pass."""
    last = list[DropletAction]()
    for _ in range(times):
        world.time_passes(SWEEP)
        last.append(list(run_pass(world))[-1])
    return last


def test_somebody_who_writes_the_original_back_each_time_is_left_in_peace() -> None:
    world = World()
    for _ in range(48):
        sweep(world, 1)
        world.text = ORIGINAL

    hours = 48 * SWEEP / 3600
    assert len(world.sent) <= MAX_ROUNDS * hours
    last = sweep(world, 1)[0]
    assert isinstance(last, Leave)
    assert last.reason is Reason.REVERTED_EXTERNALLY


def test_somebody_who_writes_another_image_is_left_in_peace_at_once() -> None:
    world = World()
    sweep(world, 1)
    world.text = OTHER
    sweep(world, 48)

    assert len(world.sent) == 1
    assert world.text == OTHER
    assert world.record is not None
    assert (world.record.reason, world.record.original) == (Reason.IMAGE_CHANGED_EXTERNALLY, ORIGINAL)


def test_an_api_that_is_down_for_an_hour_is_asked_at_growing_intervals() -> None:
    world = World()
    world.api = Api.IS_DOWN
    for _ in range(3600):
        list(run_pass(world))
        world.time_passes(1.0)
    assert 10 <= len(world.sent) <= 14

    world.api = Api.WORKS
    sweep(world, 2)
    assert world.text == TARGET


def test_a_patch_that_takes_effect_late_is_undone_when_the_app_was_pinned_meanwhile() -> None:
    world = World()
    world.api = Api.IS_LATE
    list(run_pass(world))
    world.api, world.is_pinned = Api.WORKS, True
    list(run_pass(world))
    world.evict()
    world.late_text_is_written()

    assert world.named(world.text) in world.held
    sweep(world, 2)
    assert world.text == ORIGINAL
    assert world.record is not None
    assert world.record.phase is DropletPhase.RESTORED
    world.time_passes(LATE_EFFECT + 1)
    world.evict()
    assert not world.held


def test_a_patch_that_takes_effect_after_the_restore_is_undone_and_its_copy_is_there_until_then() -> None:
    world = World()
    world.api = Api.IS_LATE
    list(run_pass(world))
    world.api = Api.WORKS
    world.time_passes(10.0)
    list(run_pass(world))
    assert world.text == TARGET
    world.is_pinned = True
    list(run_pass(world))
    assert world.text == ORIGINAL
    world.evict()
    world.time_passes(40.0)
    world.late_text_is_written()

    assert world.named(world.text) in world.held
    sweep(world, 1)
    assert world.text == ORIGINAL


def test_the_text_that_is_restored_is_the_very_text_whatever_was_in_between() -> None:
    """Two moves of the private registry, a lost answer and another spelling later."""
    world = World()
    sweep(world, 1)
    for _ in range(2):
        world.move_registry()
        world.api = Api.LOSES_ANSWER
        sweep(world, 1)
        world.api = Api.WORKS
        sweep(world, 3)
        named = world.named(world.text)
        assert named is not None
        assert named[0] == world.cache.address
    world.text = "registry.example.com:443/team/app:1"
    sweep(world, 2)
    world.is_pinned = True
    sweep(world, 2)

    assert world.text == ORIGINAL


PARTS, EXAMPLES = 2, 5_000


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_10_000_other_runs(part: int) -> None:
    del part  # each draws examples of its own
    chosen = settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(Patching, settings=chosen)
