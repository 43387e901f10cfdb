"""The dependencies of the watcher."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from controller.app_placements import AppPlacements
from controller.copy_uses import CopyUses
from controller.coverage import StagingCoverage
from controller.event_cache import LrpEventCache
from controller.lrp_index import LrpIndex
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.events import ActualLrpCrashed, Event
from reconcile.lrps import ActualLrp, AppGuid, DesiredLrp, ProcessGuid, SchedulingInfo, Task
from reconcile.observed import Rules
from reconcile.ports import BindingRecords, CacheRequests, LrpRecords, Mode
from reconcile.references import CacheGuid, Rootfs, source_from_rootfs
from reconcile.stop_requests import StopRequests


class CopySuspicions(Protocol):
    """What is told of instances, whose crashes and slow starts make a copy suspect."""

    def note_instance(self, row: ActualLrp) -> None:
        """Note the state of an instance."""

    def note_gone_instance(self, row: ActualLrp) -> None:
        """Note that an instance is gone."""

    def note_crash(self, crash: ActualLrpCrashed) -> None:
        """Note that an instance has crashed."""


class EndedStagings(Protocol):
    """What is told of staging tasks, to find the droplets that they make."""

    def note_task(self, task: Task) -> None:
        """Note a staging task, which may have ended."""

    def note_removed_task(self, task: Task) -> None:
        """Note that a staging task was removed, since Cloud Controller has taken its result."""

    def events_were_lost(self) -> None:
        """Note that stagings may have ended unseen."""


class SchedulingInfoScan(Protocol):
    """A listing of scheduling infos that is read one record at a time."""

    skipped: int
    """Number of records that could not be read."""

    def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        """Yield the records that can be read."""


class WatchedBbs(Protocol):
    """The calls of the BBS that the watcher makes."""

    def subscribe_tasks(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of all tasks."""

    def subscribe_lrp_instances(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of desired LRPs and of instances."""

    async def list_tasks(self, domain: str) -> tuple[Task, ...]:
        """List the tasks of one domain."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> SchedulingInfoScan:
        """List the scheduling infos of the desired LRPs of one domain, or of all domains when it is empty."""

    def list_desired_lrps(
        self, domain: str, process_guids: Sequence[ProcessGuid]
    ) -> AsyncIterable[DesiredLrp]:
        """List the desired LRPs with some process GUIDs; those that do not exist are missing."""


@dataclass(frozen=True, slots=True)
class WatcherDependencies:
    """The dependencies of the watcher.

    Attributes:
        queue: The process GUIDs of the LRPs that need a pass.
        index: The Docker LRPs that run from their source. The watcher keeps it up to date.
        placements: Where apps run. The watcher keeps it up to date.
        stagings: Is told of the staging tasks that have ended.
        presence: Is told of the instances that start, crash and end, since that may tell of their copy.
        copy_uses: Which LRPs run from which copy. The watcher keeps it up to date.
        coverage: The stagings seen since the last subscription. Each subscription resets it, and a staging
            that failed is forgotten.
        requests: Receives a request for a copy for each staging task.
        bindings: The watcher deletes the binding of a task whose staging failed.
        records: The watcher deletes the records of LRPs that no longer exist.
        event_cache: The versions of the LRPs that are being migrated, as events reported them.
        stops: The instances that passes have asked to stop: the events of their stopping need no pass.
        mode: Whether LRPs are migrated to their copies or back to their sources.
        of_tags: Functions that are called with the app and the metric tags of a staging task, before the copy
            of its image is requested.
        of_full_sweeps: Functions that are called after each full sweep.
    """

    bbs: WatchedBbs
    queue: WorkQueue[ProcessGuid]
    index: LrpIndex
    placements: AppPlacements
    stagings: EndedStagings
    copy_uses: CopyUses
    presence: CopySuspicions
    coverage: StagingCoverage
    requests: CacheRequests
    bindings: BindingRecords
    records: LrpRecords
    event_cache: LrpEventCache
    stops: StopRequests
    mode: Mode
    rules: Rules
    process: Process
    of_tags: tuple[Callable[[AppGuid, Mapping[str, str]], None], ...] = ()
    of_full_sweeps: tuple[Callable[[], None], ...] = ()

    def copy_of(self, rootfs: Rootfs) -> CacheGuid | None:
        """Return the copy that a rootfs names; None for anything else."""
        image = source_from_rootfs(rootfs) if self.runs_from_cache(rootfs.uri) else None
        return None if image is None else self.rules.cache.guid_of(image)

    def former_registry_of(self, rootfs: Rootfs) -> str | None:
        """Return the address of the former private registry that a rootfs names; None when it names none."""
        cache = self.rules.cache
        image = source_from_rootfs(rootfs) if cache.former else None
        former = None if image is None else cache.former_of(image)
        return None if former is None else former.address

    def runs_from_cache(self, rootfs: str) -> bool:
        """Whether a rootfs URI names an image in the private registry."""
        return rootfs.startswith("docker://") and self.rules.cache.is_at(registry_host(rootfs))


def registry_host(rootfs: str) -> str:
    """Return the host in the URI of a Docker rootfs; empty where it names none, which is Docker Hub."""
    return rootfs.partition("://")[2].partition("/")[0].rpartition("@")[2]
