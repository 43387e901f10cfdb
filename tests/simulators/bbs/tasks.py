"""Tasks: their life from desire to deletion, as cells, clients and convergence move it.

Source: bbs db/sqldb/task_db.go, controllers/task_controller.go, taskworkpool/taskcallback.go.
"""

from collections.abc import Iterator

from protos.bbs.error_pb2 import Error
from protos.bbs.events_pb2 import TaskChangedEvent, TaskCreatedEvent, TaskRemovedEvent
from protos.bbs.task_pb2 import Task, TaskDefinition
from protos.bbs.task_requests_pb2 import CompleteTaskRequest, TasksRequest
from tests.simulators.bbs.errors import BbsError, error
from tests.simulators.bbs.events import event_from_message
from tests.simulators.bbs.placement import NoPlacement, PlacementRequest, choose_cell
from tests.simulators.bbs.state import State, check_columns, truncated


def listed(state: State, request: TasksRequest) -> Iterator[Task]:
    """List the tasks that match all given filters."""
    return (
        task
        for task in list(state.tasks.values())
        if request.domain in {"", task.domain} and request.cell_id in {"", task.cell_id}
    )


def found(state: State, task_guid: str) -> Task:
    """Find a task."""
    task = state.tasks.get(task_guid)
    if task is None:
        raise error(Error.ResourceNotFound)
    return task


def desire(state: State, task_guid: str, domain: str, definition: TaskDefinition) -> None:
    """Store a new task and look for a cell."""
    check_columns(task_guid, domain)
    if task_guid in state.tasks:
        raise error(Error.ResourceExists)
    now = state.now()
    task = Task(
        task_guid=task_guid,
        domain=domain,
        task_definition=definition,
        created_at=now,
        updated_at=now,
        state=Task.Pending,
    )
    state.tasks[task_guid] = task
    state.events.emit([event_from_message(TaskCreatedEvent(task=task))])
    auction(state, task)


def auction(state: State, task: Task) -> None:
    """Look for a cell; where none will do, the auctioneer rejects the task."""
    definition = task.task_definition
    drivers = [mount.driver for mount in definition.volume_mounts]
    wanted = PlacementRequest(
        definition.root_fs, definition.memory_mb, definition.disk_mb, definition.placement_tags, drivers
    )
    try:
        cell = choose_cell(state, wanted)
    except NoPlacement as problem:
        reject(state, task.task_guid, str(problem))
    else:
        cell.start_task(task.task_guid)


def start(state: State, task_guid: str, cell_id: str) -> bool:
    """Let a cell take a task; False if that cell has it already."""
    task = found(state, task_guid)
    if task.state == Task.Running and task.cell_id == cell_id:
        return False
    if task.state != Task.Pending:
        raise _transition(task, Task.Running)
    before = _copy(task)
    task.state = Task.Running
    task.cell_id = cell_id
    task.updated_at = state.now()
    _publish(state, before, task)
    return True


def cancel(state: State, task_guid: str) -> None:
    """Fail a task on its client's wish, and tell its cell."""
    task = found(state, task_guid)
    cell_id = task.cell_id
    _fail(state, task, "task was cancelled")
    cell = state.registered_cells().get(cell_id)
    if cell is not None:
        cell.cancel_task(task_guid)


def fail(state: State, task_guid: str, reason: str) -> None:
    """Fail a task; deprecated upstream."""
    _fail(state, found(state, task_guid), reason)


def _fail(state: State, task: Task, reason: str) -> None:
    if task.state not in {Task.Pending, Task.Running}:
        raise _transition(task, Task.Completed)
    _completed(state, task, failed=True, reason=reason)


def reject(state: State, task_guid: str, reason: str) -> None:
    """Give a task back, until it has been given back too often; its last cell's ID stays until then."""
    task = found(state, task_guid)
    if task.state not in {Task.Pending, Task.Running}:
        raise error(Error.InvalidRequest)
    before = _copy(task)
    task.rejection_count += 1
    task.rejection_reason = truncated(reason)
    if task.rejection_count > state.max_task_retries:
        _completed(state, task, failed=True, reason=reason, before=before)
        return
    task.state = Task.Pending
    task.updated_at = state.now()
    _publish(state, before, task)


def complete(state: State, request: CompleteTaskRequest) -> None:
    """Take a cell's result; the cell's ID is gone from the task afterwards."""
    task = found(state, request.task_guid)
    if task.state == Task.Running and task.cell_id != request.cell_id:
        message = f"Running on cell {task.cell_id} not {request.cell_id}"
        raise BbsError(Error.RunningOnDifferentCell, message)
    if task.state != Task.Running:
        raise _transition(task, Task.Completed)
    _completed(state, task, failed=request.failed, reason=request.failure_reason, result=request.result)


def lose(state: State, task: Task, reason: str) -> None:
    """Fail a task in convergence, which keeps the cell's ID."""
    _completed(state, task, failed=True, reason=reason, cell_id=task.cell_id)


def _completed(
    state: State,
    task: Task,
    *,
    failed: bool,
    reason: str,
    result: str = "",
    cell_id: str = "",
    before: Task | None = None,
) -> None:
    before = before or _copy(task)
    now = state.now()
    task.state = Task.Completed
    task.updated_at = task.first_completed_at = now
    task.failed = failed
    task.failure_reason = truncated(reason)
    task.result = result
    task.cell_id = cell_id
    _publish(state, before, task)
    if task.task_definition.completion_callback_url:
        state.complete(task)


def resolving(state: State, task_guid: str) -> None:
    """Let a client take care of a completed task."""
    task = found(state, task_guid)
    if task.state != Task.Completed:
        raise _transition(task, Task.Resolving)
    before = _copy(task)
    task.state = Task.Resolving
    task.updated_at = state.now()
    _publish(state, before, task)


def demote(state: State, task: Task) -> None:
    """Put a task back whose client took too long; when it was updated stays as it was."""
    before = _copy(task)
    task.state = Task.Completed
    _publish(state, before, task)


def delete(state: State, task_guid: str) -> None:
    """Delete a task that a client has taken care of."""
    task = found(state, task_guid)
    if task.state != Task.Resolving:
        raise _transition(task, Task.Resolving)
    expire(state, task)


def expire(state: State, task: Task) -> None:
    """Delete a task in whatever state."""
    del state.tasks[task.task_guid]
    state.events.emit([event_from_message(TaskRemovedEvent(task=task))])


def _transition(task: Task, target: Task.State) -> BbsError:
    names = Task.State.Name(task.state), Task.State.Name(target)
    return BbsError(Error.InvalidStateTransition, f"Cannot transition from {names[0]} to {names[1]}")


def _publish(state: State, before: Task, after: Task) -> None:
    state.events.emit([event_from_message(TaskChangedEvent(before=before, after=after))])


def _copy(task: Task) -> Task:
    copy = Task()
    copy.CopyFrom(task)
    return copy
