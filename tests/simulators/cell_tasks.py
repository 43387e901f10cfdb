"""The tasks of a simulated cell: started, run, rejected where no container can be created, completed.

Source: rep generator/internal/task_processor.go; executor depot/containerstore/storenode.go.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from protos.bbs.task_pb2 import Task
from protos.bbs.task_requests_pb2 import CompleteTaskRequest
from tests.simulators.bbs import tasks
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.state import State
from tests.simulators.cell_failures import PullFailed
from tests.simulators.cell_pull import Puller, Wanted
from tests.simulators.cell_settings import CellSettings, open_gate
from tests.simulators.registry_login import Credentials
from tests.simulators.staging_results import TaskResult

RESULT_LIMIT = 51200


@dataclass(slots=True)
class TaskContainer:
    """The container of a task.

    Attributes:
        chain_ids: Of the layers that it uses.
        process: What it runs; None while the container is created, which nothing can interrupt.
    """

    memory_mb: int
    disk_mb: int
    chain_ids: tuple[str, ...] = ()
    process: asyncio.Task[None] | None = None


class CellTasks:
    """Runs tasks on one cell.

    Attributes:
        containers: Task GUID to its container.
        gate: Closed by a test, it holds back all that would complete next.
    """

    def __init__(
        self,
        state: State,
        settings: CellSettings,
        puller: Callable[[], Puller],
        spawn: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
        problems: list[str],
    ) -> None:
        self.containers: dict[str, TaskContainer] = {}
        self.gate = open_gate()
        self._state = state
        self._settings = settings
        self._puller = puller
        self._spawn = spawn
        self._problems = problems

    def start(self, task_guid: str) -> None:
        """Take an auctioned task."""
        if task_guid not in self.containers:
            definition = self._state.tasks[task_guid].task_definition
            container = TaskContainer(definition.memory_mb, definition.disk_mb)
            self.containers[task_guid] = container
            self._spawn(self._live(task_guid, container))

    def cancel(self, task_guid: str) -> None:
        """Destroy a task's container, which waits for the end of its creation."""
        container = self.containers.get(task_guid)
        if container is not None and container.process is not None:
            container.process.cancel()

    async def _live(self, task_guid: str, container: TaskContainer) -> None:
        await asyncio.sleep(0)
        try:
            await self._run(task_guid, container)
        except BbsError:
            return  # cancelled or lost meanwhile
        finally:
            del self.containers[task_guid]

    async def _run(self, task_guid: str, container: TaskContainer) -> None:
        if not tasks.start(self._state, task_guid, self._settings.cell_id):
            return
        task = Task()
        task.CopyFrom(self._state.tasks[task_guid])
        definition = task.task_definition
        credentials = Credentials(definition.image_username, definition.image_password)
        wanted = Wanted(definition.root_fs, credentials, definition.disk_mb)
        try:
            if wanted.rootfs.startswith("docker:"):
                await self._puller().pull(wanted, lambda ids: setattr(container, "chain_ids", tuple(ids)))
        except PullFailed as problem:
            await asyncio.sleep(self._settings.failure_delay)
            self._problems.append(str(problem))
            if self._is_ours(task_guid):
                tasks.reject(self._state, task_guid, str(problem))
            return
        if self._is_ours(task_guid):
            container.process = self._spawn(self._complete(task))
            await asyncio.wait([container.process])

    def _is_ours(self, task_guid: str) -> bool:
        task = self._state.tasks.get(task_guid)
        return task is not None and (task.state, task.cell_id) == (Task.Running, self._settings.cell_id)

    async def _complete(self, task: Task) -> None:
        await asyncio.sleep(self._settings.task_delay)
        await self.gate.wait()
        ended = self._settings.task_result(task)
        if len(ended.result.encode()) > RESULT_LIMIT:
            ended = TaskResult(failed=True, failure_reason="failed to fetch result")
        request = CompleteTaskRequest(
            task_guid=task.task_guid,
            cell_id=self._settings.cell_id,
            failed=ended.failed,
            failure_reason=ended.failure_reason,
            result=ended.result,
        )
        try:
            tasks.complete(self._state, request)
        except BbsError:
            return  # cancelled or lost meanwhile
