"""Names what the watcher reads from, and where it puts what it has found."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from controller.coverage import StagingCoverage
from controller.event_cache import LrpEventCache
from controller.lrp_index import LrpIndex
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.events import Event
from reconcile.lrps import ProcessGuid, SchedulingInfo, Task
from reconcile.observed import Rules
from reconcile.ports import BindingRecords, CacheRequests, LrpRecords, Mode


class SchedulingInfoScan(Protocol):
    """A listing of scheduling infos, which is read one record at a time."""

    skipped: int
    """Records that could not be read."""

    def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        """Read the records."""


class WatchedBbs(Protocol):
    """The BBS, as far as it is watched."""

    def subscribe_tasks(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of all tasks."""

    def subscribe_lrp_instances(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of desired LRPs and of instances."""

    async def list_tasks(self, domain: str) -> tuple[Task, ...]:
        """List the tasks of one domain."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> SchedulingInfoScan:
        """List the light views of the desired LRPs of one domain, or of all when it is empty."""


@dataclass(frozen=True, slots=True)
class WatcherDependencies:
    """What the watcher works with.

    Attributes:
        queue: Gets the process GUIDs of LRPs to look at.
        index: Holds the Docker LRPs that run from their source.
        coverage: Starts anew with each subscription.
        requests: Takes the requests for copies that staging tasks lead to.
        bindings: Loses the binding of a task whose staging failed.
        records: Lose the record of an LRP that is gone.
        event_cache: Holds the versions of LRPs that are being migrated.
        mode: Which way LRPs are migrated.
    """

    bbs: WatchedBbs
    queue: WorkQueue[ProcessGuid]
    index: LrpIndex
    coverage: StagingCoverage
    requests: CacheRequests
    bindings: BindingRecords
    records: LrpRecords
    event_cache: LrpEventCache
    mode: Mode
    rules: Rules
    process: Process

    def runs_from_cache(self, rootfs: str) -> bool:
        """Whether a rootfs URI names an image in the private registry."""
        prefix = f"docker://{self.rules.cache.address}/"
        return rootfs[: len(prefix)].lower() == prefix.lower()
