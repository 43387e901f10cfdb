"""Keeps both event streams of the BBS open, and meanwhile handles events, staging tasks and sweeps."""

import asyncio
from collections.abc import Mapping

import structlog

from controller.backoff import backoff
from controller.metrics.bbs import Stream
from controller.shielding import in_own_task
from controller.watcher.dependencies import WatcherDependencies
from controller.watcher.events import EventHandler
from controller.watcher.staging_tasks import StagingTasks
from controller.watcher.sweep import Sweep
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="watcher")

RECONNECT_PAUSE = backoff(0.2, 10.0)
"""Seconds before the next subscription, by how many subscriptions in a row ended early."""

STABLE_AFTER = 10.0
"""Seconds after which the end of a subscription does not count as early, if a sweep succeeded during it."""


class Watcher:
    """Watches the BBS forever."""

    def __init__(self, dependencies: WatcherDependencies, *, sync_interval: float) -> None:
        self._bbs, self._coverage = dependencies.bbs, dependencies.coverage
        self._stagings = dependencies.stagings
        self._metrics = dependencies.process.metrics
        self._sweep_requested = asyncio.Event()
        self._tasks = StagingTasks(dependencies)
        self._events = EventHandler(dependencies, tasks=self._tasks, sweep_requested=self._sweep_requested)
        self._sweep = Sweep(
            dependencies, tasks=self._tasks, interval=sync_interval, requested=self._sweep_requested
        )
        self._sweeps_before_subscription = 0

    @property
    def listed_at(self) -> float:
        """When the BBS was last listed, in UTC seconds since 1970; 0 when it never was."""
        return self._sweep.ended_at

    @property
    def is_watching(self) -> bool:
        """Whether both streams are open, and the BBS was listed since they were opened."""
        return self._sweep.count > self._sweeps_before_subscription

    @property
    def former_lrps(self) -> Mapping[str, int]:
        """The number of LRPs that run from copies in former private registries, by address."""
        return self._sweep.former_lrps

    def request_full_sweep(self) -> None:
        """Request a sweep that queues every LRP that runs from its source."""
        self._sweep_requested.set()

    def close(self) -> None:
        """Stop all timers."""
        self._tasks.close()

    async def run(self) -> None:
        """Keep both streams open, and subscribe again when one ends."""
        failures, pause = 0, 0.0
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await in_own_task(self._watch())
            except* DockerCacheError as group:
                error = group.exceptions[0]
                was_stable = self.is_watching and loop.time() - begun >= STABLE_AFTER
                failures = 1 if was_stable else failures + 1
                pause = RECONNECT_PAUSE(failures)
                self._sweeps_before_subscription = self._sweep.count
                self._metrics.bbs.stream_losses.inc()
                log.error("lost-bbs-events", error=str(error), retry_after_s=round(pause, 1))  # noqa: TRY400
            await asyncio.sleep(pause)

    async def _watch(self) -> None:
        async with (
            self._bbs.subscribe_tasks() as tasks,
            self._bbs.subscribe_lrp_instances() as lrp_instances,
        ):
            self._coverage.restart()
            self._tasks.restart()
            self._stagings.events_were_lost()
            self._metrics.bbs.subscriptions.inc()
            log.info("subscribed-to-bbs-events")
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tasks.run(), name="tasks")
                group.create_task(self._events.read(tasks, stream=Stream.TASKS), name="tasks-stream")
                group.create_task(
                    self._events.read(lrp_instances, stream=Stream.LRP_INSTANCES), name="lrp-instances-stream"
                )
                group.create_task(self._sweep.run(), name="sweep")
