"""Passes on that a copy was requested and that its job has ended, to those whose work depends on it."""

from dataclasses import dataclass

from controller.coverage import StagingCoverage
from controller.lrp_index import LrpIndex
from controller.workqueue import WorkQueue
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import CacheRequest


@dataclass(frozen=True, slots=True)
class JobListeners:
    """The staging coverage records requests; when a job has ended, the app's LRPs are queued for a pass."""

    coverage: StagingCoverage
    index: LrpIndex
    queue: WorkQueue[ProcessGuid]

    def requested(self, request: CacheRequest) -> None:
        """Remember the staging that a request came from."""
        self.coverage.record(request)

    def ended(self, app_guid: AppGuid) -> None:
        """Look at an app's LRPs again, since a job that it waited for has ended."""
        for process_guid in self.index.lrps_of(app_guid):
            self.queue.add(process_guid)
