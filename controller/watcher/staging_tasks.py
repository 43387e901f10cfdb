"""Requests a copy once for each Docker staging task, and deletes its binding when the staging fails.

Each listing contains the tasks of earlier listings and events again, and a listing that began before an event
may contain an older state. So the tasks that were handled are remembered.
"""

from collections import OrderedDict

import structlog

from controller.metrics.bbs import REQUESTED
from controller.watcher.dependencies import WatcherDependencies
from controller.workqueue import WorkQueue
from reconcile.errors import DockerCacheError
from reconcile.lrps import Task, TaskGuid, TaskState
from reconcile.policy import refusal_of
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, requester_of_task
from reconcile.staging import STAGING_DOMAIN, IgnoredTask, OwnerChoice, detect
from reconcile.start_failures import start_failure

log = structlog.get_logger(scope="watcher")

REMEMBERED_TASKS = 20_000


class StagingTasks:
    """The staging tasks that wait to be handled, and those that were."""

    def __init__(self, dependencies: WatcherDependencies) -> None:
        self._requests, self._bindings = dependencies.requests, dependencies.bindings
        self._coverage, self._stagings = dependencies.coverage, dependencies.stagings
        self._rules = dependencies.rules
        self._outcomes = dependencies.process.metrics.bbs.staging_tasks
        self._of_tags = dependencies.of_tags
        self._queue: WorkQueue[TaskGuid] = WorkQueue()
        self._latest: dict[TaskGuid, Task] = {}
        self._handled: OrderedDict[TaskGuid, bool] = OrderedDict()
        """The tasks that were handled, each with whether its failed staging was handled."""

    def restart(self) -> None:
        """Handle all tasks again, so that the coverage records them, except those whose staging failed."""
        self._handled = OrderedDict((guid, True) for guid, failed in self._handled.items() if failed)

    def close(self) -> None:
        """Stop all timers."""
        self._queue.close()

    def add(self, task: Task) -> None:
        """Queue a staging task: once to request its copy, and once more when its staging fails."""
        if task.domain != STAGING_DOMAIN:
            return
        self._stagings.note_task(task)
        knows_failure = self._handled.get(task.task_guid)
        if knows_failure or (knows_failure is False and not _has_failed(task)):
            return
        latest = self._latest.get(task.task_guid)
        if latest is None or not _has_failed(latest):
            self._latest[task.task_guid] = task
        self._queue.add(task.task_guid)

    async def run(self) -> None:
        """Handle staging tasks forever. A task whose handling fails is handled again after a pause."""
        while True:
            guid = await self._queue.take()
            task = self._latest.get(guid)
            if task is None:  # an event repeated a failure while that was being handled
                self._queue.done(guid)
                continue
            try:
                await (self._drop_binding(task) if _has_failed(task) else self._request_copy(task))
            except DockerCacheError as error:
                seconds = self._queue.back_off(guid)
                log.exception(
                    "failed-to-handle-staging-task",
                    task_guid=guid,
                    error=str(error),
                    retry_after_s=round(seconds, 1),
                )
                continue
            except BaseException:
                self._queue.back_off(guid)
                raise
            self._remember(task)
            self._queue.done(guid)

    def _remember(self, task: Task) -> None:
        guid = task.task_guid
        if self._latest[guid] is task:
            del self._latest[guid]
        self._handled[guid] = _has_failed(task)
        while len(self._handled) > REMEMBERED_TASKS:
            self._handled.popitem(last=False)

    async def _request_copy(self, task: Task) -> None:
        staged = detect(task)
        if isinstance(staged, IgnoredTask):
            self._outcomes.labels(outcome=staged.reason).inc()
            log.debug("ignored-task", task_guid=task.task_guid, reason=staged.reason, detail=staged.detail)
            return
        refusal = refusal_of(
            self._rules.policy, image=staged.source, owner_choice=staged.owner_choice, cache=self._rules.cache
        )
        if refusal is not None:
            self._outcomes.labels(outcome=refusal).inc()
            log.debug("refused-image", task_guid=task.task_guid, reason=refusal, source_image=staged.text)
            return
        for listener in self._of_tags:
            listener(staged.app_guid, task.metric_tags)
        request = CacheRequest(
            app_guid=staged.app_guid,
            source=staged.source,
            requester=requester_of_task(staged.task_guid),
            staged_at=staged.staged_at,
            reason=Reason.STAGING_TASK,
            credentials=staged.credentials,
            opted_in=staged.owner_choice is OwnerChoice.OPT_IN,
            organization_guid=staged.organization_guid,
        )
        job = await self._requests.request(request)
        self._outcomes.labels(outcome=REQUESTED).inc()
        log.debug("requested-copy", task_guid=task.task_guid, job=job.job_id)

    async def _drop_binding(self, task: Task) -> None:
        requester = requester_of_task(task.task_guid)
        dropped = await self._bindings.drop_binding(requester)
        self._coverage.forget(requester)
        if dropped is not None:
            failure = start_failure(task.failure_reason)
            log.debug(
                "dropped-binding",
                task_guid=task.task_guid,
                reason="staging-failed",
                detail="" if failure is None else failure.detail,
            )


def _has_failed(task: Task) -> bool:
    return task.failed and task.state in {TaskState.COMPLETED, TaskState.RESOLVING}
