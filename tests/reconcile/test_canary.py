"""What tasks and instances of canaries say about their cells."""

from dataclasses import replace

import pytest

from reconcile.canary import answers_of, cells_for, instances_for, is_settled, problem_of, result_of_task
from reconcile.lrps import (
    ActualLrp,
    ActualLrpState,
    Cell,
    ModificationTag,
    Presence,
    ProcessGuid,
    Task,
    TaskGuid,
    TaskState,
)
from reconcile.pull_proof import CanaryResult, CellAnswer
from reconcile.references import Rootfs

CELLS = frozenset({"a", "b"})
REFUSED = (
    "failed to create container: running image plugin create: fetching image reference: creating image: "
    'creating image source: pinging container registry H: Get "https://H/v2/": dial tcp H: connect: connection '
    "refused\n: exit status 1"
)
PENDING = Task(TaskGuid("t"), "docker-cache-canary", TaskState.PENDING, 0, Rootfs("docker://h/x#latest"), "")
RUNNING = replace(PENDING, state=TaskState.RUNNING, cell_id="a")
ENDED = replace(PENDING, state=TaskState.COMPLETED)
ROW = ActualLrp(
    ProcessGuid("c"), 0, "d", ActualLrpState.RUNNING, Presence.ORDINARY, "i", "a", ModificationTag("e", 1)
)


def answer(before: Task, after: Task) -> CellAnswer:
    """Read the one answer in what came of a task."""
    result = result_of_task(before, after, CELLS)
    assert result is not None
    (only,) = result.answers
    return only


def problem(before: Task, after: Task) -> str:
    """Read why a task says nothing of its cell."""
    result = result_of_task(before, after, CELLS)
    assert result is not None
    assert (result.answers, result.is_silent) == ((), False)
    return result.problem


def test_a_task_that_waits_or_runs_has_said_nothing_yet() -> None:
    assert result_of_task(PENDING, RUNNING, CELLS) is None
    assert result_of_task(PENDING, PENDING, CELLS) is None


def test_a_task_that_ended_well_was_pulled_by_the_cell_that_it_ran_on() -> None:
    assert answer(RUNNING, ENDED) == CellAnswer("a")


@pytest.mark.parametrize("cell_id", ["a", ""])
def test_a_task_that_goes_back_to_pending_could_not_be_pulled(cell_id: str) -> None:
    """Whether it still names its cell then or not."""
    found = answer(RUNNING, replace(PENDING, cell_id=cell_id, rejection_reason=REFUSED))

    assert found.cell_id == "a"
    assert found.failure is not None
    assert found.failure.is_pull_failure
    assert "connection refused" in found.failure.detail


def test_a_task_that_was_rejected_too_often_is_read_alike() -> None:
    failed = replace(ENDED, failed=True, failure_reason=REFUSED, rejection_reason=REFUSED)
    assert answer(RUNNING, failed).failure is not None


@pytest.mark.parametrize(
    "reason",
    [
        "Exited with status 3",
        "failed to create container: runc run: exit status 1: unable to start container process: exec failed",
    ],
)
def test_a_program_that_did_not_run_well_was_pulled(reason: str) -> None:
    assert answer(RUNNING, replace(ENDED, failed=True, failure_reason=reason)) == CellAnswer("a")


@pytest.mark.parametrize(
    "reason",
    [
        "cell disappeared before completion",
        "task was cancelled",
        "not started within time limit",
        "failed to create container: making network: no address left",
    ],
)
def test_what_became_of_the_task_otherwise_says_nothing_of_pulling(reason: str) -> None:
    assert problem(RUNNING, replace(ENDED, failed=True, failure_reason=reason)) == reason


@pytest.mark.parametrize("reason", ["insufficient resources: memory", "found no compatible cell"])
def test_no_room_says_nothing_of_pulling(reason: str) -> None:
    assert problem(PENDING, replace(PENDING, rejection_reason=reason)) == reason


def test_of_an_lrp_each_cell_answers_for_itself_and_one_failure_outweighs_an_instance_that_runs() -> None:
    rows = [ROW, replace(ROW, index=1, cell_id="b"), replace(ROW, index=2, cell_id="c")]

    found = answers_of(rows, {"b": REFUSED, "d": REFUSED, "c": "Exited with status 3"}, ["c", "b", "a", "d"])

    assert [(each.cell_id, each.failure is None) for each in found] == [
        ("c", True),
        ("b", False),
        ("a", True),
        ("d", False),
    ]


def test_an_lrp_is_settled_when_each_instance_runs_has_no_room_or_crashed_three_times() -> None:
    unclaimed = replace(ROW, state=ActualLrpState.UNCLAIMED, cell_id="", instance_guid="")
    claimed = replace(ROW, state=ActualLrpState.CLAIMED)

    assert not is_settled([], 1)
    assert not is_settled([unclaimed], 1)
    assert not is_settled([claimed], 1)
    assert not is_settled([ROW], 2)
    assert is_settled([ROW, replace(unclaimed, placement_error="insufficient resources: memory")], 2)
    assert is_settled([replace(unclaimed, state=ActualLrpState.CRASHED, crash_count=3)], 1)


def test_cells_without_an_answer_are_named_with_what_the_auction_said() -> None:
    unplaced = replace(
        ROW, state=ActualLrpState.UNCLAIMED, cell_id="", placement_error="insufficient resources: memory"
    )
    assert problem_of([ROW, unplaced], ["a", "b"], [CellAnswer("a")]) == (
        "no answer from b: insufficient resources: memory"
    )
    assert problem_of([ROW], ["a"], [CellAnswer("a")]) == ""


def test_as_many_instances_are_desired_that_the_smallest_zone_does_not_take_those_of_the_largest() -> None:
    zones = ["z1", "z1", "z1", "z2"]
    cells = [Cell(f"{n}", zone, ("docker",)) for n, zone in enumerate(zones)]
    assert instances_for(cells) == 6
    assert instances_for(cells[2:]) == 2
    assert instances_for([]) == 0


def test_cells_are_chosen_by_docker_and_by_required_and_optional_placement_tags() -> None:
    shared = Cell("shared", "z1", ("docker",))
    segment = Cell("segment", "z1", ("docker",), frozenset({"s"}), frozenset({"o"}))
    windows = Cell("windows", "z1", ())
    cells = [shared, segment, windows]

    assert cells_for(cells, frozenset()) == (shared,)
    assert cells_for(cells, frozenset({"s"})) == cells_for(cells, frozenset({"s", "o"})) == (segment,)
    assert cells_for(cells, frozenset({"o"})) == ()


def test_a_result_without_answers_has_said_nothing() -> None:
    result = result_of_task(PENDING, replace(PENDING, rejection_reason="insufficient resources"), CELLS)
    assert isinstance(result, CanaryResult)
    assert result.said == ""
