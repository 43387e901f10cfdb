"""What canaries and migrations show of the cells, and when cells are asked again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.failure_spread import Cause
from reconcile.pull_proof import (
    DISPROVED_FOR,
    WRONG_IMAGES,
    CanaryKind,
    CanaryResult,
    CellAnswer,
    ProofState,
    PullProof,
)
from reconcile.start_failures import Blame, StartFailure

REFUSED = StartFailure(Blame.REGISTRY, "connection refused")
CAUSE, OTHER = Cause("acme", "web"), Cause("umbrella", "api")
ONE, TWO = frozenset({"cell-1"}), frozenset({"cell-1", "cell-2"})


def task(cell: str = "cell-1", failure: StartFailure | None = None) -> CanaryResult:
    return CanaryResult(CanaryKind.TASK, (CellAnswer(cell, failure),), cells=TWO)


def every_cell(*answers: CellAnswer, problem: str = "") -> CanaryResult:
    return CanaryResult(CanaryKind.EVERY_CELL, answers, problem, cells=TWO)


def asked(proof: PullProof, result: CanaryResult, now: float = 0.0) -> PullProof:
    """Run one canary."""
    return proof.started(now).ended(result, now + 0.3, pause=5.0)


NEW = PullProof(since=0.0).asked(0.0)
PROVEN = asked(NEW, task())


def test_nothing_is_known_before_somebody_asks_and_then_a_canary_is_due_at_once() -> None:
    assert PullProof(since=0.0).seconds_until_due(0.0) is None
    assert NEW.seconds_until_due(0.0) == 0.0
    assert not NEW.is_proven
    assert NEW.started(0.0).seconds_until_due(9.0) is None, "one is under way"


def test_a_canary_that_has_pulled_proves_it_until_something_speaks_against_it() -> None:
    assert (PROVEN.state, PROVEN.since, PROVEN.detail) == (ProofState.PROVEN, 0.3, "")
    assert PROVEN.asked(100.0).seconds_until_due(100.0) is None


def test_a_canary_that_could_not_pull_refutes_it_and_runs_again_after_a_pause() -> None:
    refuted = asked(NEW, task(failure=REFUSED))

    assert refuted.state is ProofState.REFUTED
    assert refuted.detail == "cell cell-1: connection refused"
    assert refuted.seconds_until_due(0.3) == 5.0
    assert asked(refuted, task(failure=REFUSED), 5.3).failures == 2


def test_the_state_began_when_it_changed_and_not_with_the_last_canary() -> None:
    refuted = asked(asked(NEW, task(failure=REFUSED)), task(failure=REFUSED), 10.0)
    assert refuted.since == 0.3


def test_a_canary_for_which_there_is_no_room_proves_nothing() -> None:
    result = CanaryResult(CanaryKind.TASK, problem="insufficient resources: memory", cells=TWO)

    unproven = asked(NEW, result)
    assert (unproven.state, unproven.detail) == (ProofState.UNPROVEN, "insufficient resources: memory")
    assert unproven.seconds_until_due(0.3) == 5.0

    refuted = asked(asked(NEW, task(failure=REFUSED)), result)
    assert refuted.state is ProofState.REFUTED, "what the cell has said still holds"
    assert refuted.detail == "cell cell-1: connection refused; insufficient resources: memory"


def test_cells_that_say_nothing_count_as_cells_that_cannot_pull() -> None:
    silent = CanaryResult(CanaryKind.TASK, problem="no answer", is_silent=True, cells=TWO)
    assert asked(NEW, silent).state is ProofState.REFUTED


def test_an_instance_that_met_the_registry_failing_makes_a_canary_due_at_once() -> None:
    spoiled = PROVEN.failed("cell-2", REFUSED, 50.0, cause=CAUSE)

    assert (spoiled.state, spoiled.since) == (ProofState.UNPROVEN, 50.0)
    assert spoiled.detail == "cell cell-2: connection refused"
    assert spoiled.seconds_until_due(50.0) == 0.0


def test_while_canaries_fail_failures_of_apps_do_not_shorten_their_pauses() -> None:
    refuted = asked(NEW, task(failure=REFUSED)).failed("cell-2", REFUSED, 1.0, cause=CAUSE)
    assert refuted.seconds_until_due(1.0) == pytest.approx(4.3)


@pytest.mark.parametrize("blame", [Blame.IMAGE, Blame.PROCESS, Blame.APP, Blame.ROOM])
def test_what_an_image_or_an_app_does_says_nothing_of_cells(blame: Blame) -> None:
    assert PROVEN.failed("cell-1", StartFailure(blame, "whatever"), 50.0, cause=CAUSE) == PROVEN


CORRUPT = StartFailure(Blame.COPY, "reading manifest latest in a: manifest unknown")


def test_one_copy_that_cannot_be_pulled_may_be_corrupt_and_two_speak_against_the_cells() -> None:
    once = PROVEN.failed("cell-1", CORRUPT, 50.0, cause=CAUSE).failed("cell-2", CORRUPT, 51.0, cause=CAUSE)
    assert once.is_proven

    assert not once.failed("cell-1", CORRUPT, 52.0, cause=OTHER).is_proven

    between = once.succeeded("cell-1", 51.5)
    assert between.failed("cell-1", CORRUPT, 52.0, cause=OTHER).is_proven, (
        "other copies were pulled meanwhile"
    )


@pytest.mark.parametrize("other", [Cause("acme", "other"), Cause("umbrella", "web")])
def test_copies_of_one_organization_speak_against_no_cell_nor_does_one_copy_of_several(other: Cause) -> None:
    proof = PROVEN
    for _ in range(20):
        proof = proof.failed("cell-1", CORRUPT, 50.0, cause=CAUSE).failed(
            "cell-1", CORRUPT, 50.0, cause=other
        )
    assert proof.is_proven


class TestAnAppThatWasWrong:
    """What it said made canaries run, and they passed."""

    def proven_again(self, *causes: Cause) -> PullProof:
        proof = PROVEN
        for cause in causes:
            proof = asked(proof.failed("cell-1", REFUSED, 50.0, cause=cause), task("cell-1"), 51.0)
            assert proof.is_proven
        return proof

    def test_its_copy_speaks_against_cells_no_more_by_itself(self) -> None:
        proof = self.proven_again(CAUSE)

        assert proof.failed("cell-1", REFUSED, 60.0, cause=CAUSE).is_proven
        assert proof.failed("cell-1", REFUSED, 60.0, cause=Cause("umbrella", "web")).is_proven
        assert not proof.failed("cell-1", REFUSED, 60.0, cause=Cause("acme", "new")).is_proven
        assert not proof.failed("cell-1", REFUSED, 60.0, cause=OTHER).is_proven

    def test_with_others_it_does(self) -> None:
        both = self.proven_again(CAUSE, OTHER)
        once = both.failed("cell-1", REFUSED, 60.0, cause=CAUSE)
        assert once.is_proven
        assert not once.failed("cell-1", REFUSED, 61.0, cause=OTHER).is_proven

    def test_after_a_while_it_is_believed_again(self) -> None:
        proof = self.proven_again(CAUSE)
        assert not proof.failed("cell-1", REFUSED, 51.3 + DISPROVED_FOR, cause=CAUSE).is_proven

    def test_an_organization_that_was_wrong_with_one_copy_after_the_other_is_not_believed(self) -> None:
        proof = self.proven_again(*(Cause("acme", str(n)) for n in range(WRONG_IMAGES)))
        assert proof.failed("cell-1", REFUSED, 60.0, cause=Cause("acme", "new")).is_proven

    def test_so_many_are_remembered_and_no_more(self) -> None:
        proof = self.proven_again(*(Cause(str(n), str(n)) for n in range(300)))
        assert len(proof.disproved) == 200


def test_a_canary_that_is_due_by_a_clock_that_was_years_ahead_is_due() -> None:
    years = 10 * 365 * 86_400.0
    failed = NEW.asked(years).started(years).ended(task(failure=REFUSED), years, pause=300.0)
    assert failed.seconds_until_due(years) == 300.0
    assert failed.seconds_until_due(1000.0) == 0.0


def test_another_cell_that_pulls_does_not_clear_the_one_that_could_not() -> None:
    """A task cannot be sent to it, so every cell is asked then."""
    spoiled = PROVEN.failed("cell-2", REFUSED, 50.0, cause=CAUSE)
    assert spoiled.next_kind is CanaryKind.TASK

    passed = asked(spoiled, task("cell-1"), 51.0)
    assert not passed.is_proven
    assert (passed.next_kind, passed.seconds_until_due(51.3)) == (CanaryKind.EVERY_CELL, 0.0)

    refuted = asked(passed, every_cell(CellAnswer("cell-1"), CellAnswer("cell-2", REFUSED)), 52.0)
    assert (refuted.state, refuted.accused) == (ProofState.REFUTED, frozenset({"cell-2"}))
    assert refuted.next_kind is CanaryKind.TASK

    assert asked(passed, every_cell(CellAnswer("cell-1"), CellAnswer("cell-2")), 52.0).is_proven
    assert asked(spoiled, task("cell-2"), 51.0).is_proven, "it came to that very cell"


def test_where_the_cell_is_not_known_every_cell_is_asked() -> None:
    """The row of a crashed instance does not name it."""
    passed = asked(PROVEN.failed("", REFUSED, 50.0, cause=CAUSE), task("cell-1"), 51.0)
    assert (passed.is_proven, passed.next_kind) == (False, CanaryKind.EVERY_CELL)

    assert asked(passed, every_cell(CellAnswer("cell-1"), CellAnswer("cell-2")), 52.0).is_proven
    full = every_cell(CellAnswer("cell-1"), problem="no answer from cell-2")
    assert asked(passed, full, 52.0).is_proven, "a cell that takes nothing cannot have been it for long"


def test_a_cell_that_is_gone_is_not_waited_for() -> None:
    spoiled = PROVEN.failed("cell-2", REFUSED, 50.0, cause=CAUSE)
    assert asked(spoiled, replace(task("cell-1"), cells=ONE), 51.0).is_proven


def test_a_cell_without_room_that_could_not_pull_stays_under_suspicion() -> None:
    passed = asked(PROVEN.failed("cell-2", REFUSED, 50.0, cause=CAUSE), task("cell-1"), 51.0)

    unreached = asked(passed, every_cell(CellAnswer("cell-1"), problem="no answer from cell-2"), 52.0)

    assert not unreached.is_proven
    assert "no answer from cell-2" in unreached.detail
    assert unreached.seconds_until_due(52.3) == 5.0


def test_an_instance_that_runs_on_the_cell_that_could_not_pull_makes_a_canary_due_at_once() -> None:
    refuted = asked(NEW, task("cell-1", REFUSED))

    assert refuted.succeeded("cell-2", 1.0).seconds_until_due(1.0) == pytest.approx(4.3)
    mended = refuted.succeeded("cell-1", 1.0)
    assert (mended.is_proven, mended.seconds_until_due(1.0)) == (False, 0.0)


def test_a_canary_proves_nothing_about_what_was_seen_after_its_start() -> None:
    running = PROVEN.failed("cell-1", REFUSED, 50.0, cause=CAUSE).started(50.1)

    late = running.failed("cell-1", REFUSED, 50.2, cause=CAUSE).ended(task(), 50.4, pause=5.0)

    assert not late.is_proven
    assert late.seconds_until_due(50.4) == 0.0
    assert asked(late, task(), 50.5).is_proven


def test_many_cells_that_say_the_same_are_named_once() -> None:
    answers = tuple(CellAnswer(f"cell-{n}", REFUSED) for n in range(9))

    assert CanaryResult(CanaryKind.EVERY_CELL, answers).said == (
        "cell cell-0, cell cell-1, cell cell-2, cell cell-3, cell cell-4 and 4 more: connection refused"
    )


results = st.builds(
    CanaryResult,
    st.sampled_from(CanaryKind),
    st.lists(
        st.builds(CellAnswer, st.sampled_from(["cell-1", "cell-2"]), st.sampled_from([None, REFUSED])),
        max_size=2,
        unique_by=lambda answer: answer.cell_id,
    ).map(tuple),
    st.sampled_from(["", "no room"]),
    st.booleans(),
    st.just(TWO),
)
seen_by_instances = st.builds(
    CellAnswer,
    st.sampled_from(["cell-1", "cell-2"]),
    st.none() | st.builds(StartFailure, st.sampled_from(Blame), st.text()),
)


@given(st.lists(results | seen_by_instances))
def test_whatever_is_seen_a_proof_is_there_or_a_canary_is_due(seen: list[CanaryResult | CellAnswer]) -> None:
    """Otherwise apps would wait forever; and what was just refuted is never called proven."""
    proof, now = NEW, 0.0
    for each in seen:
        now += 1.0
        match each:
            case CanaryResult():
                proof = asked(proof, each, now)
                assert not (proof.is_proven and each.failures)
            case CellAnswer(cell_id, None):
                proof = proof.succeeded(cell_id, now)
            case CellAnswer(cell_id, StartFailure() as failure):
                proof = proof.failed(cell_id, failure, now, cause=CAUSE)
        assert proof.is_proven or proof.seconds_until_due(now) is not None
