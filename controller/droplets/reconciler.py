"""Takes a droplet, looks at it, carries out what is decided, and logs the outcome."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from controller.backoff import backoff
from controller.droplets.changes import DropletChanges
from controller.droplets.dependencies import DropletDependencies
from controller.droplets.known import KnownDroplets
from controller.droplets.lines import DropletLines
from controller.droplets.observe import DropletObserver
from controller.droplets.outcome import DropletOutcome
from controller.droplets.standing import ApiStanding
from controller.workqueue import Priority, WorkQueue
from reconcile.app_events import AppEvent, DropletChanged
from reconcile.droplet_actions import SaveDropletRecord
from reconcile.droplet_decisions import MOST_SAVES, decide_droplet
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplets import DropletGuid, DropletOrder
from reconcile.errors import Denied, DockerCacheError
from reconcile.failure_kinds import FailureKind, kind_of
from reconcile.foreign_text import mask_login
from reconcile.lrps import AppGuid
from reconcile.reasons import AppState, Reason

log = structlog.get_logger(scope="droplets")

FAILURE_PAUSE = backoff(1.0, 300.0)
"""Seconds until the next look at a droplet, by how many in a row have failed."""

OBSTACLE_PAUSE = 30.0
"""Seconds until the next look at a droplet that was staged lately, and waits for something that nobody
reports; others are found by the next listing."""

FAILURE_SPREAD = 1.0
"""Seconds over which looks at waiting droplets are spread once Cloud Controller takes changes again."""

_REPORTED = frozenset(
    {Reason.DROPLET_PULLS_NOT_PROVEN, Reason.CACHE_REGISTRY_UNHEALTHY, Reason.CIRCUIT_BREAKER_OPEN}
)
"""Reasons for which many droplets wait together, until a change is reported, or the next listing."""


class DropletReconciler:
    """Looks at droplets.

    Args:
        dependencies: What it works with; its API waits while Cloud Controller does not answer.
        known: What is remembered of droplets.
        observer: Observes droplets.
        writing: What Cloud Controller last answered to changes.
    """

    def __init__(
        self,
        dependencies: DropletDependencies,
        *,
        known: KnownDroplets,
        observer: DropletObserver,
        writing: ApiStanding,
    ) -> None:
        self._dependencies, self._observer, self._writing = dependencies, observer, writing
        self._index, self._orders, self._stagings = known.index, known.orders, known.stagings
        self._locks = known.locks
        self._process, self._metrics = dependencies.process, dependencies.process.metrics.droplets
        self._lines = DropletLines()
        self._queue: WorkQueue[DropletGuid] = WorkQueue(self._lines)
        self._unhurried: dict[DropletGuid, asyncio.Timeout] = {}
        self._waiting_for_proof: set[DropletGuid] = set()
        self._looked_at = Counter[DropletGuid]()
        self.changes = DropletChanges(dependencies, known.index)
        """Carries out actions, also those that a listing leads to."""
        self.of_changes: list[Callable[[AppGuid, AppEvent], None]] = []
        """Are told of each droplet whose image was changed, for the app's developers."""
        self._metrics.waiting.set_function(lambda: self._lines.backlog)

    @property
    def waiting(self) -> int:
        """Number of droplets that wait to be looked at."""
        return len(self._lines)

    def look_at(self, guid: DropletGuid, priority: Priority = Priority.FRESH) -> None:
        """Look at a droplet; with routine priority once the background's share of the requests lets it."""
        self._queue.add(guid, priority)
        unhurried = self._unhurried.get(guid)
        if priority is not Priority.ROUTINE and unhurried is not None:
            unhurried.reschedule(asyncio.get_running_loop().time())

    def look_at_waiting(self) -> None:
        """Look at the droplets that wait until cells are known to pull, since more is known of that."""
        waiting, self._waiting_for_proof = self._waiting_for_proof, set()
        for guid in waiting:
            self.look_at(guid, self.priority_of(guid))

    def priority_of(self, guid: DropletGuid) -> Priority:
        """Say how soon a changed droplet is looked at: old ones by thousands must not delay new ones."""
        if self._stagings.is_new(guid, self._process.monotonic()):
            return Priority.URGENT
        return Priority.ROUTINE if self._orders.order_of(guid) is None else Priority.FRESH

    @contextmanager
    def looking_at(self, guid: DropletGuid) -> Iterator[None]:
        """Have a droplet looked at again if what it may wait for is reported while the block looks at it."""
        self._waiting_for_proof.add(guid)
        self._looked_at[guid] += 1
        try:
            yield
        finally:
            self._looked_at[guid] -= 1
            if not self._looked_at[guid]:
                del self._looked_at[guid]

    def is_looking_at(self, guid: DropletGuid) -> bool:
        """Whether a droplet is being looked at, so that its record says what was so before."""
        return guid in self._looked_at

    def note_obstacle(self, guid: DropletGuid, reason: Reason) -> None:
        """Note whether a droplet waits for what is reported."""
        if reason in _REPORTED:
            self._waiting_for_proof.add(guid)
        else:
            self._waiting_for_proof.discard(guid)

    def close(self) -> None:
        """Stop all timers."""
        self._queue.close()

    async def run(self) -> None:
        """Look at droplets forever; several of these loops may share one queue."""
        while True:
            guid = await self._queue.take()
            if self._lines.is_of_backlog(guid):
                await self._look_unhurried(guid)
            else:
                await self._look(guid, self._dependencies.api)

    async def _look_unhurried(self, guid: DropletGuid) -> None:
        """Look at one of the backlog, and begin anew without waiting when it gets a priority meanwhile.

        What was being sent then is read back: it was recorded before.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._unhurried[guid] = scope
                await self._look(guid, self._dependencies.api.background())
        except TimeoutError:
            if not scope.expired():
                raise
            self._queue.again(guid, 0.0)
        finally:
            self._unhurried.pop(guid, None)

    async def _look(self, guid: DropletGuid, api: CloudControllerApi) -> None:
        started, order = time.monotonic(), self._orders.order_of(guid)
        before = self._index.reason_of(guid)
        try:
            with self.looking_at(guid):
                async with self._locks.lock(guid):
                    outcome = await self._reconcile(guid, api)
        except DockerCacheError as error:
            seconds = self._queue.back_off(guid, FAILURE_PAUSE)
            reason = Reason.CLOUD_CONTROLLER_DENIED if isinstance(error, Denied) else Reason.CHECK_FAILED
            self._orders.report(guid, order, reason, str(error))
            self._count_error(kind_of(error))
            log.debug(  # many may wait for the same
                "failed-to-reconcile-droplet",
                droplet_guid=guid,
                error=str(error),
                retry_after_s=round(seconds, 1),
            )
        except Exception:
            self._queue.back_off(guid, FAILURE_PAUSE)
            self._orders.report(guid, order, Reason.CHECK_FAILED, "internal-error: see the log")
            self._count_error(FailureKind.INTERNAL_ERROR)
            log.exception("failed-to-reconcile-droplet", droplet_guid=guid)
        else:
            self._report(guid, order, before, outcome, time.monotonic() - started)
            self._release(guid, outcome)

    async def _reconcile(self, guid: DropletGuid, api: CloudControllerApi) -> DropletOutcome:
        problem, left = self._writing.problem, self._writing.seconds_left
        if problem is not None and left and self._orders.order_of(guid) is None:  # nothing could be written
            is_denied = isinstance(problem, Denied)
            spread = OBSTACLE_PAUSE if is_denied else FAILURE_SPREAD
            return DropletOutcome(
                Reason.CLOUD_CONTROLLER_DENIED if is_denied else Reason.CLOUD_CONTROLLER_UNAVAILABLE,
                problem.detail,
                left + spread * random.random(),  # noqa: S311 - spreads looks
            )
        waits = await self._observer.waits(guid)
        if waits is not None:
            return DropletOutcome(waits.reason, waits.detail, waits.retry_after)
        observed = await self._observer.observe(guid, api)
        if observed.droplet is not None:
            self._index.put(guid, observed.droplet.app_guid)
        for _ in range(MOST_SAVES):
            action = decide_droplet(observed, self._dependencies.rules)
            outcome = await self.changes.apply(action, observed, api)
            if not isinstance(action, SaveDropletRecord):
                return outcome
            log.debug(
                "noted-droplet",
                droplet_guid=guid,
                phase=action.record.phase,
                reason=action.reason,
                source_image=mask_login(action.record.original),
            )
            observed = await self._observer.observe(guid, api, listed=observed.droplet)
        raise AssertionError(f"the decision about droplet {guid} does not come to rest")

    def _count_error(self, kind: FailureKind) -> None:
        self._metrics.passes.labels(reason=Reason.CHECK_FAILED).inc()
        self._metrics.pass_errors.labels(kind=kind).inc()

    def _release(self, guid: DropletGuid, outcome: DropletOutcome) -> None:
        retry_after = outcome.retry_after
        self.note_obstacle(guid, outcome.reason)
        if retry_after is None and outcome.reason in _REPORTED and self._stagings.of(guid) is not None:
            retry_after = OBSTACLE_PAUSE
        if retry_after is None:
            self._queue.done(guid)
        else:
            self._queue.again(guid, retry_after)

    def _report(
        self,
        guid: DropletGuid,
        order: DropletOrder | None,
        before: Reason | None,
        outcome: DropletOutcome,
        duration: float,
    ) -> None:
        self._orders.report(guid, order, outcome.reason, outcome.detail)
        self._metrics.passes.labels(reason=outcome.reason).inc()
        record, staging = outcome.record, self._stagings.of(guid)
        if outcome.change == "patched" and staging is not None and staging.ended_at is not None:
            self._metrics.patch_seconds.observe(self._process.monotonic() - staging.ended_at)
        fields: dict[str, object] = {"droplet_guid": guid, "reason": outcome.reason, "detail": outcome.detail}
        if record is not None:
            fields |= {
                "app_guid": record.app_guid,
                "build_guid": record.build_guid,
                "source_image": mask_login(record.original),
                "cache_image": record.target,
            }
        fields["duration_s"] = round(duration, 3)
        if record is not None and outcome.change:
            is_copy = outcome.change == "patched"
            event = DropletChanged(record.target if is_copy else mask_login(record.original), is_copy=is_copy)
            for listener in self.of_changes:
                listener(record.app_guid, event)
        if outcome.change == "patched":
            log.info("patched-droplet", **fields)
        elif outcome.change:
            log.info("restored-droplet", **fields)
        elif outcome.reason is not before and outcome.reason.state is AppState.FAILED:
            log.info("reconciled-droplet", **fields)
        else:
            log.debug("reconciled-droplet", **fields)
