"""Records requests for copies in the staging coverage, and queues the LRPs that wait for cache jobs."""

from dataclasses import dataclass

from controller.coverage import StagingCoverage
from controller.lrp_index import LrpIndex
from controller.workqueue import WorkQueue
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import CacheRequest


@dataclass(frozen=True, slots=True)
class JobListeners:
    """The staging coverage records requests; when a job ends or must wait, the app's LRPs get a pass."""

    coverage: StagingCoverage
    index: LrpIndex
    queue: WorkQueue[ProcessGuid]

    def requested(self, request: CacheRequest) -> None:
        """Record in the staging coverage the staging that a request came from."""
        self.coverage.record(request)

    def ended(self, app_guid: AppGuid) -> None:
        """Queue a pass over each LRP of an app, since a job that the app waited for has ended."""
        self._queue_lrps(app_guid)

    def postponed(self, app_guid: AppGuid) -> None:
        """Queue a pass over each LRP of an app, since a job that the app waits for got no answer."""
        self._queue_lrps(app_guid)

    def _queue_lrps(self, app_guid: AppGuid) -> None:
        for process_guid in self.index.lrps_of(app_guid):
            self.queue.add(process_guid)
