"""Tasks on the simulated cell, as a canary sees them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from protos.bbs.error_pb2 import Error
from protos.bbs.task_pb2 import Task
from tests.simulators.bbs import Bbs, serve_bbs, tasks
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs_probe import some_task, until
from tests.simulators.cell import CellSettings, SimulatedCell
from tests.simulators.cell_network import Hangs, Refused
from tests.simulators.certificates import Certificates

pytestmark = pytest.mark.usefixtures("servers")

GUID = "canary"
HOST = "cache.example.com"


def is_rejected(task: Task, count: int) -> bool:
    return task.rejection_count == count


@contextlib.asynccontextmanager
async def canary(
    certificates: Certificates, *, hangs: bool = False, refused: bool = False
) -> AsyncIterator[tuple[Bbs, SimulatedCell, Task]]:
    async with serve_bbs(certificates) as bbs, SimulatedCell(bbs, CellSettings(cell_id="cell-a")) as cell:
        if hangs or refused:
            cell.network.impose(HOST, Hangs() if hangs else Refused())
        definition = some_task()
        definition.root_fs = f"docker://{HOST}/canary#latest"
        tasks.desire(bbs.state, GUID, "some-domain", definition)
        yield bbs, cell, bbs.state.tasks[GUID]


async def test_a_task_of_an_image_that_can_be_pulled_completes(certificates: Certificates) -> None:
    async with canary(certificates) as (_, cell, task):
        cell.task_gate.clear()
        await until(lambda: (task.state, task.cell_id) == (Task.Running, "cell-a"))
        cell.task_gate.set()

        await until(lambda: task.state == Task.Completed)

        assert (task.failed, task.cell_id, task.rejection_count) == (False, "", 0)
        assert cell.network.requests(HOST, "layer") == 1


async def test_a_task_whose_image_cannot_be_pulled_goes_back_with_the_reason_and_the_cell(
    certificates: Certificates,
) -> None:
    async with canary(certificates, refused=True) as (bbs, _, task):
        await until(lambda: task.rejection_count == 1)
        assert (task.state, task.cell_id, task.failure_reason) == (Task.Pending, "cell-a", "")
        assert task.rejection_reason.startswith("failed to create container: running image plugin create: ")
        assert task.rejection_reason.endswith("connect: connection refused\n: exit status 1")
        reason = task.rejection_reason
        await asyncio.sleep(0.2)  # nothing but convergence tries it again
        assert task.rejection_count == 1

        for count in (2, 3, 4):
            await bbs.converge()
            await until(partial(is_rejected, task, count))

        assert (task.state, task.failed, task.cell_id) == (Task.Completed, True, "")
        assert task.failure_reason == reason


async def test_a_task_that_was_rejected_runs_when_its_image_can_be_had(certificates: Certificates) -> None:
    async with canary(certificates, refused=True) as (bbs, cell, task):
        await until(lambda: task.rejection_count == 1)
        cell.network.mend()
        await bbs.converge()

        await until(lambda: task.state == Task.Completed)

        assert not task.failed


async def test_a_rejected_task_can_be_cancelled_and_deleted(certificates: Certificates) -> None:
    async with canary(certificates, refused=True) as (bbs, _, task):
        await until(lambda: task.rejection_count == 1)

        tasks.cancel(bbs.state, GUID)
        assert (task.state, task.failed, task.failure_reason) == (Task.Completed, True, "task was cancelled")
        tasks.resolving(bbs.state, GUID)
        tasks.delete(bbs.state, GUID)

        assert bbs.state.tasks == {}


async def test_a_cancelled_task_keeps_its_container_until_its_pull_ends(certificates: Certificates) -> None:
    async with canary(certificates, hangs=True) as (bbs, cell, task):
        await until(lambda: task.state == Task.Running)
        tasks.cancel(bbs.state, GUID)
        tasks.resolving(bbs.state, GUID)
        tasks.delete(bbs.state, GUID)
        await asyncio.sleep(0.1)
        assert cell.resources.tasks == 1

        cell.network.mend()

        await until(lambda: cell.resources.tasks == 0)
        with pytest.raises(BbsError) as error:
            tasks.found(bbs.state, GUID)
        assert error.value.kind is Error.ResourceNotFound


async def test_a_task_whose_registry_hangs_says_nothing(certificates: Certificates) -> None:
    async with canary(certificates, hangs=True) as (bbs, _, task):
        await until(lambda: task.state == Task.Running)
        await bbs.converge()
        await asyncio.sleep(0.1)

        assert (task.state, task.rejection_reason) == (Task.Running, "")
