"""Tasks of the simulated BBS, from desire to deletion."""

import asyncio
import json

import pytest

from protos.bbs.error_pb2 import Error
from protos.bbs.task_pb2 import Task
from protos.bbs.task_requests_pb2 import CompleteTaskRequest
from tests.simulators.bbs import State, convergence, serve_bbs, tasks
from tests.simulators.bbs.connections import Answer, Connection
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs_probe import Clock, some_task, until
from tests.simulators.cell import CellSettings, SimulatedCell, TaskResult
from tests.simulators.certificates import Certificates

GUID = "some-task"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> State:
    """A BBS with one pending task."""
    state = State(now=clock, max_task_retries=1000)
    tasks.desire(state, GUID, "some-domain", some_task())
    return state


def complete(state: State, cell_id: str = "cell-a") -> Task:
    tasks.start(state, GUID, "cell-a")
    request = CompleteTaskRequest(task_guid=GUID, cell_id=cell_id, result="done")
    tasks.complete(state, request)
    return state.tasks[GUID]


def test_a_completed_task_has_lost_its_cell(state: State) -> None:
    task = complete(state)

    assert (task.state, task.cell_id, task.result) == (Task.Completed, "", "done")
    assert task.first_completed_at == task.updated_at


def test_a_second_start_on_the_same_cell_is_no_error_and_no_start(state: State) -> None:
    assert tasks.start(state, GUID, "cell-a")
    assert not tasks.start(state, GUID, "cell-a")
    with pytest.raises(BbsError, match="Cannot transition from Running to Running"):
        tasks.start(state, GUID, "cell-b")


def test_only_its_own_cell_completes_a_task(state: State) -> None:
    with pytest.raises(BbsError, match="Running on cell cell-a not cell-b") as error:
        complete(state, "cell-b")

    assert error.value.kind is Error.RunningOnDifferentCell


def test_a_cancelled_task_has_failed(state: State) -> None:
    tasks.cancel(state, GUID)

    task = state.tasks[GUID]
    assert (task.state, task.failed, task.failure_reason) == (Task.Completed, True, "task was cancelled")


def test_a_task_that_fits_nowhere_fails_when_it_is_rejected_too_often(clock: Clock) -> None:
    state = State(now=clock)
    tasks.desire(state, GUID, "some-domain", some_task())
    for _ in range(2):
        convergence.converge(state)
    assert (state.tasks[GUID].state, state.tasks[GUID].rejection_count) == (Task.Pending, 3)

    convergence.converge(state)

    task = state.tasks[GUID]
    assert (task.state, task.failure_reason) == (
        Task.Completed,
        "unable to communicate to compatible cells",
    )
    with pytest.raises(BbsError) as error:
        tasks.reject(state, GUID, "again")
    assert error.value.kind is Error.InvalidRequest


def test_a_completed_task_that_nobody_wants_is_kept_for_120_seconds(state: State, clock: Clock) -> None:
    complete(state)
    clock.advance(120)
    convergence.converge(state)
    assert GUID in state.tasks

    clock.advance(1)
    convergence.converge(state)
    assert GUID not in state.tasks


def test_a_task_whose_client_died_is_demoted_and_keeps_its_time(state: State, clock: Clock) -> None:
    complete(state)
    tasks.resolving(state, GUID)
    updated_at = state.tasks[GUID].updated_at
    clock.advance(31)

    convergence.converge(state)

    task = state.tasks[GUID]
    assert (task.state, task.updated_at) == (Task.Completed, updated_at)


def test_a_task_that_never_starts_expires(state: State, clock: Clock) -> None:
    clock.advance(1801)

    convergence.converge(state)

    assert state.tasks[GUID].failure_reason == "not started within time limit"


def test_a_task_fails_with_its_cell_and_still_names_it(state: State) -> None:
    tasks.start(state, GUID, "cell-a")

    convergence.converge(state)

    task = state.tasks[GUID]
    assert (task.failure_reason, task.cell_id) == ("cell disappeared before completion", "cell-a")


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(("statuses", "is_left"), [([200], False), ([400], False), ([503] * 3, True)])
async def test_the_callback_is_told_and_its_task_deleted(
    certificates: Certificates, statuses: list[int], *, is_left: bool
) -> None:
    reported: list[dict[str, object]] = []
    answers = iter(statuses)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        while (call := await connection.next_call()) is not None:
            reported.append(json.loads(call.body))
            await connection.answer(Answer(next(answers)))
        writer.close()

    async with (
        await asyncio.start_server(listen, "127.0.0.1", 0) as server,
        serve_bbs(certificates) as bbs,
        SimulatedCell(bbs, CellSettings(task_delay=0, task_result=lambda _task: TaskResult("done"))),
    ):
        definition = some_task()
        port = server.sockets[0].getsockname()[1]
        definition.completion_callback_url = f"http://127.0.0.1:{port}/done"
        tasks.desire(bbs.state, GUID, "some-domain", definition)

        await until(lambda: len(reported) == len(statuses))
        await until(lambda: (GUID in bbs.state.tasks) is is_left)
        created_at = reported[0].pop("created_at")

        assert reported[0] == {"task_guid": GUID, "failed": False, "failure_reason": "", "result": "done"}
        assert isinstance(created_at, int)
        if is_left:
            await until(lambda: bbs.state.tasks[GUID].state == Task.Resolving)


@pytest.mark.usefixtures("servers")
async def test_a_callback_that_cannot_be_reached_leaves_the_task_resolving(
    certificates: Certificates,
) -> None:
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, CellSettings(task_delay=0)):
        definition = some_task()
        definition.completion_callback_url = "http://127.0.0.1:1/nobody"
        tasks.desire(bbs.state, GUID, "some-domain", definition)

        await until(lambda: bbs.state.tasks[GUID].state == Task.Resolving)
