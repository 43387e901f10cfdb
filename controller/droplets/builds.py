"""Follows a build after its staging task has ended, until it has led to a droplet.

Cloud Controller makes the droplet when it takes the callback of the task, and the BBS removes the task when
Cloud Controller has taken that. So the removal says when to ask, and one request is mostly enough. The end of
the task alone says it too, but too early: it is followed later, in case the removal is never reported.
"""

from collections import OrderedDict
from collections.abc import Callable

import structlog

from controller.backoff import backoff
from controller.droplets.dependencies import DropletDependencies
from controller.droplets.stagings import KnownStaging, KnownStagings
from controller.workqueue import WorkQueue
from reconcile.droplet_actions import Leave
from reconcile.droplet_decisions import droplet_of_build
from reconcile.droplets import BuildGuid, DropletGuid, build_of_task, task_of_build
from reconcile.errors import Denied, DockerCacheError, Unavailable
from reconcile.lrps import AppGuid, Task, TaskState
from reconcile.records import requester_of_task
from reconcile.staging import STAGING_DOMAIN, IgnoredTask, detect

log = structlog.get_logger(scope="droplets")

CALLBACK_PAUSE = 15.0
"""Seconds from the end of a task until its build is asked for although the removal was not reported."""

BUILD_PAUSE = backoff(0.3, 30.0)
"""Seconds until a build is asked for again, by how often it had no droplet yet."""

GIVE_UP_AFTER = 900.0
"""Seconds after the end of a task from which its build is left to the listing of droplets."""

BINDING_WAIT = 30.0
"""Seconds after the end of a task in which its copy may still be requested: a staging can end before the
daemon has recorded it."""

REMEMBERED_BUILDS = 20_000

_ENDED = frozenset({TaskState.COMPLETED, TaskState.RESOLVING})


class BuildFollower:
    """The builds whose staging tasks have ended.

    Args:
        dependencies: What it works with; its API waits while Cloud Controller does not answer.
        stagings: Is told which droplets the builds led to.
        staged: Is told of each build that has a droplet.
    """

    def __init__(
        self,
        dependencies: DropletDependencies,
        *,
        stagings: KnownStagings,
        staged: Callable[[DropletGuid, AppGuid], None],
    ) -> None:
        self._api, self._bindings = dependencies.api, dependencies.bindings
        self._process, self._outcomes = dependencies.process, dependencies.process.metrics.droplets.builds
        self._stagings, self._staged = stagings, staged
        self._queue: WorkQueue[BuildGuid] = WorkQueue()
        self._open: dict[BuildGuid, KnownStaging] = {}
        self._followed: OrderedDict[BuildGuid, None] = OrderedDict()

    def note_task(self, task: Task) -> None:
        """Follow the build of a staging task that has ended well, if its removal is not reported soon."""
        if task.state in _ENDED:
            self._follow(task, CALLBACK_PAUSE)

    def note_removed_task(self, task: Task) -> None:
        """Follow the build of a staging task at once: Cloud Controller has taken its result."""
        self._follow(task, 0.0)

    def close(self) -> None:
        """Stop all timers."""
        self._queue.close()

    async def run(self) -> None:
        """Follow builds forever."""
        while True:
            guid = await self._queue.take()
            try:
                outcome = await self._look(guid)
            except DockerCacheError as error:
                self._retry(guid, error)
                continue
            except Exception:
                log.exception("failed-to-look-at-build", build_guid=guid)
                outcome = "internal-error"  # the next listing finds its droplet
            if outcome is None:
                self._wait_for_droplet(guid)
            else:
                self._end(guid, outcome)

    def _follow(self, task: Task, after: float) -> None:
        guid = build_of_task(task.task_guid)
        if task.domain != STAGING_DOMAIN or task.failed or guid in self._followed:
            return
        if guid in self._open:
            if not after:
                self._queue.add(guid)
            return
        staged = detect(task)
        if isinstance(staged, IgnoredTask):
            return
        username = "" if staged.credentials is None else staged.credentials.username
        self._open[guid] = KnownStaging(guid, username, task.placement_tags, self._process.monotonic())
        self._queue.add_later(guid, after)

    async def _look(self, guid: BuildGuid) -> str | None:
        """Ask for a build, and return what became of it; None while it has no droplet, or no copy yet."""
        if await self._bindings.find_binding(requester_of_task(task_of_build(guid))) is None:
            return "not-cached" if self._is_older(guid, BINDING_WAIT) else None
        build = await self._api.find_build(guid)
        found = droplet_of_build(build)
        if isinstance(found, Leave):
            return None if found.retry_after is not None else found.reason
        self._stagings.put(found, self._open[guid])
        if build is not None:
            self._staged(found, build.app_guid)
        return "staged"

    def _wait_for_droplet(self, guid: BuildGuid) -> None:
        if self._is_older(guid, GIVE_UP_AFTER):
            self._end(guid, "no-droplet")
        else:
            self._queue.back_off(guid, BUILD_PAUSE)

    def _retry(self, guid: BuildGuid, error: DockerCacheError) -> None:
        is_hopeless = not isinstance(error, Unavailable | Denied)
        if is_hopeless or self._is_older(guid, GIVE_UP_AFTER):
            log.debug("stopped-following-build", build_guid=guid, error=str(error))
            self._end(guid, "unanswered")
            return
        seconds = self._queue.back_off(guid, BUILD_PAUSE)
        log.debug(
            "failed-to-follow-build", build_guid=guid, error=str(error), retry_after_s=round(seconds, 1)
        )

    def _is_older(self, guid: BuildGuid, seconds: float) -> bool:
        """Whether the task of a build ended more than some seconds ago."""
        ended_at = self._open[guid].ended_at
        return ended_at is not None and self._process.monotonic() - ended_at > seconds

    def _end(self, guid: BuildGuid, outcome: str) -> None:
        self._outcomes.labels(outcome=outcome).inc()
        log.debug("followed-build", build_guid=guid, outcome=outcome)
        del self._open[guid]
        self._followed[guid] = None
        while len(self._followed) > REMEMBERED_BUILDS:
            self._followed.popitem(last=False)
        self._queue.done(guid)
