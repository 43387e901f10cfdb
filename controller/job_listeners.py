"""Records requests for copies in the staging coverage, and tells who waits for a job what became of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from controller.coverage import StagingCoverage
from controller.lrp_index import LrpIndex
from controller.workqueue import WorkQueue
from reconcile.app_events import CopyEvent
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import CacheRequest, JobId, task_of_requester
from reconcile.references import CacheGuid


@dataclass(frozen=True, slots=True)
class JobListeners:
    """The staging coverage records requests; when a job ends or must wait, the app's LRPs get a pass.

    Attributes:
        of_repairs: Are told of each copy whose repair has ended, however it ended.
        of_apps: Are told of each app for which a job has ended, however it ended.
        of_stagings: Are told what happens to the copy for the staging of an app.
    """

    coverage: StagingCoverage
    index: LrpIndex
    queue: WorkQueue[ProcessGuid]
    of_repairs: list[Callable[[CacheGuid], None]] = field(default_factory=list)
    of_apps: list[Callable[[AppGuid], None]] = field(default_factory=list)
    of_stagings: list[Callable[[AppGuid, JobId, CopyEvent], None]] = field(default_factory=list)

    def requested(self, request: CacheRequest) -> None:
        """Record in the staging coverage the staging that a request came from."""
        self.coverage.record(request)

    def ended(self, app_guid: AppGuid) -> None:
        """Queue a pass over each LRP of an app, since a job that the app waited for has ended."""
        self._queue_lrps(app_guid)
        for listener in self.of_apps:
            listener(app_guid)

    def postponed(self, app_guid: AppGuid) -> None:
        """Queue a pass over each LRP of an app, since a job that the app waits for got no answer."""
        self._queue_lrps(app_guid)

    def happened(self, requester: str, app_guid: AppGuid, job_id: JobId, event: CopyEvent) -> None:
        """Tell what has happened to a copy, where a staging has asked for it."""
        if task_of_requester(requester) is not None:
            for listener in self.of_stagings:
                listener(app_guid, job_id, event)

    def _queue_lrps(self, app_guid: AppGuid) -> None:
        for process_guid in self.index.lrps_of(app_guid):
            self.queue.add(process_guid)

    def repair_ended(self, cache_guid: CacheGuid) -> None:
        """Tell that a job has ended that was to repair a copy."""
        for listener in self.of_repairs:
            listener(cache_guid)
