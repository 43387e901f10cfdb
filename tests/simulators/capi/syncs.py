"""The syncs of Cloud Controller, which keep the BBS in step with its database.

Source: cloud_controller_ng lib/cloud_controller/diego/{processes_sync,tasks_sync}.rb.
"""

from typing import TYPE_CHECKING

from protos.bbs.error_pb2 import Error
from tests.simulators.bbs_calls import BbsRefused
from tests.simulators.capi.app import App
from tests.simulators.capi.records import Process, TaskState
from tests.simulators.recipes import APPS_DOMAIN, TASKS_DOMAIN, InvalidDockerUri

if TYPE_CHECKING:
    from tests.simulators.cloud_controller import CloudController

TOLERATED = frozenset({Error.InvalidRequest, Error.ResourceExists, Error.ResourceNotFound})


async def sync_processes(cloud: "CloudController") -> bool:
    """Desire, update and remove LRPs; return whether that has made their domain fresh."""
    there = await cloud.diego.annotations(APPS_DOMAIN)
    wanted = {
        process.process_guid: (app, process)
        for app in tuple(cloud.apps.values())
        for process in app.processes
        if app.wants(process)
    }
    succeeded = [
        await _sync_process(cloud, app, process, there.get(guid)) for guid, (app, process) in wanted.items()
    ]
    for guid in there.keys() - wanted.keys():
        await cloud.remove(guid)
    if not all(succeeded):
        return False
    await cloud.diego.freshen(APPS_DOMAIN)
    return True


async def _sync_process(cloud: "CloudController", app: App, process: Process, annotation: str | None) -> bool:
    """Put one process right; False if that keeps the domain from being fresh."""
    try:
        if annotation is None:
            await cloud.desire(app, process)
        elif annotation != process.annotation:
            present = await cloud.diego.find(process.process_guid)
            if present is not None:  # otherwise the next sync misses it
                await cloud.update(app, process, present)
    except InvalidDockerUri:
        return False
    except BbsRefused as problem:
        return problem.kind in TOLERATED
    return True


async def sync_tasks(cloud: "CloudController") -> None:
    """Cancel the tasks of the domain that nobody knows, fail those that are gone, and make the domain fresh."""
    wanted = {
        guid: task
        for app in tuple(cloud.apps.values())
        for guid, task in app.tasks.items()
        if task.state is TaskState.RUNNING
    }
    there = {task.task_guid for task in await cloud.diego.tasks(TASKS_DOMAIN)}
    for guid in there - wanted.keys():
        await cloud.diego.cancel_task(guid)
    for guid in wanted.keys() - there:
        if wanted[guid].state is TaskState.RUNNING:  # not ended meanwhile
            await cloud.end_task(wanted[guid], "Unable to determine completion status")
    if wanted or there:
        await cloud.diego.freshen(TASKS_DOMAIN)
