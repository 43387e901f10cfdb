"""What any BBS must do with tasks; the suite plays the cell's part where none is needed."""

from dataclasses import replace

import pytest

from protos.bbs.error_pb2 import Error
from reconcile.errors import Conflict, NotFound
from reconcile.events import (
    TaskChanged,
    TaskCreated,
    TaskRemoved,
)
from reconcile.lrps import (
    Credentials,
    ProcessGuid,
    RunAction,
    Secret,
    TaskGuid,
    TaskState,
)
from tests.contracts.bbs_scene import Scene, eventually, is_task, read_until
from tests.contracts.bbs_targets import OnRealBbs, OnSimulator2024, OnSimulator2026

MISSING = ProcessGuid("suite-missing")
NOT_FOUND = "the requested resource could not be found"
EXISTS = "the requested resource already exists"
INVALID = "the request received is invalid"


class BbsTasksContract:
    """What any BBS must do; the other half of a test class says which BBS."""

    async def test_a_task_goes_from_pending_to_nothing(self, scene: Scene) -> None:
        client = scene.client
        async with client.subscribe_tasks() as events:
            guid = await scene.desire_task()
            pending = await client.find_task(guid)
            assert await scene.start_task(guid)
            assert not await scene.start_task(guid)  # the same cell asks again
            running = await client.find_task(guid)
            assert await scene.complete_task(guid) is None
            completed = await client.find_task(guid)
            await client.resolve_task(guid)
            resolving = await client.find_task(guid)
            await client.delete_task(guid)
            assert await client.find_task(guid) is None
            created, finished, removed = await read_until(
                events,
                is_task(TaskCreated, guid),
                lambda event: (
                    isinstance(event, TaskChanged)
                    and event.after.task_guid == guid
                    and event.after.state is TaskState.COMPLETED
                ),
                is_task(TaskRemoved, guid),
            )

        states = [task.state for task in (pending, running, completed, resolving) if task is not None]
        assert states == [TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED, TaskState.RESOLVING]
        assert isinstance(created, TaskCreated)
        assert pending is not None
        assert created.task == replace(pending, rejection_reason="")  # without a cell it is rejected at once
        assert created.task.credentials == Credentials("u", Secret("p"))
        assert created.task.action == RunAction("/bin/true", ("-a",))
        assert created.task.metric_tags == {"app_id": "the-app"}
        assert isinstance(finished, TaskChanged)
        assert (finished.before.state, finished.after.failed) == (TaskState.RUNNING, False)
        assert isinstance(removed, TaskRemoved)
        assert removed.task.state is TaskState.RESOLVING

    async def test_a_completed_task_has_lost_its_cell(self, scene: Scene) -> None:
        guid = await scene.desire_task()
        await scene.start_task(guid)
        assert (await scene.stored_task(guid)).cell_id == scene.cell_id

        error = await scene.complete_task(guid, cell_id="suite-other-cell")
        assert error is not None
        assert error.type == Error.RunningOnDifferentCell
        assert error.message == f"Running on cell {scene.cell_id} not suite-other-cell"

        await scene.complete_task(guid)
        task = await scene.stored_task(guid)
        assert (task.cell_id, task.result) == ("", "the result")
        assert task.first_completed_at >= task.created_at > 0

    async def test_a_cancelled_task_is_completed_and_failed(self, scene: Scene) -> None:
        guid = await scene.desire_task()

        await scene.client.cancel_task(guid)

        task = await scene.client.find_task(guid)
        assert task is not None
        assert (task.state, task.failed) == (TaskState.COMPLETED, True)
        assert task.failure_reason == "task was cancelled"
        with pytest.raises(Conflict, match="Cannot transition from Completed to Completed"):
            await scene.client.cancel_task(guid)

    async def test_tasks_are_listed_by_domain(self, scene: Scene) -> None:
        guid = await scene.desire_task()

        assert [task.task_guid for task in await scene.client.list_tasks(scene.domain)] == [guid]
        assert guid in {task.task_guid for task in await scene.client.list_tasks()}
        assert await scene.client.list_tasks("suite-no-such-domain") == ()

    async def test_only_a_claimed_task_is_deleted_and_only_once_completed_it_is_claimed(
        self, scene: Scene
    ) -> None:
        guid = await scene.desire_task()

        with pytest.raises(Conflict, match="Cannot transition from Pending to Resolving"):
            await scene.client.resolve_task(guid)
        with pytest.raises(Conflict, match="Cannot transition from Pending to Resolving"):
            await scene.client.delete_task(guid)
        with pytest.raises(NotFound, match=NOT_FOUND):
            await scene.client.cancel_task(TaskGuid("suite-missing"))

    @pytest.mark.needs_cell
    async def test_a_cell_runs_a_task_to_its_end(self, scene: Scene) -> None:
        guid = await scene.desire_task(placement_tags=())

        async def is_completed() -> bool:
            task = await scene.client.find_task(guid)
            return task is not None and task.state is TaskState.COMPLETED

        await eventually(is_completed)


class TestSimulator2024(BbsTasksContract, OnSimulator2024):
    pass


class TestSimulator2026(BbsTasksContract, OnSimulator2026):
    pass


class TestRealBbs(BbsTasksContract, OnRealBbs):
    pass
