"""Names what cache jobs are run with."""

from dataclasses import dataclass
from typing import Protocol

from controller.job_listeners import JobListeners
from controller.process import Process
from controller.progress import Progress
from reconcile.lrps import ProcessGuid
from reconcile.orders import Order
from reconcile.ports import BindingRecords, ImageEngine, ImageRecords, JobRecords
from reconcile.references import CacheRepositories, ImageReference


class CopyEngine(ImageEngine, Protocol):
    """An engine whose copies can be watched."""

    def progress(self, target: ImageReference) -> Progress | None:
        """Give the progress of the copy to a target; None when none is under way."""


class JobGate(Protocol):
    """Whether jobs may run."""

    @property
    def is_paused(self) -> bool:
        """Whether only jobs run that an operator has ordered."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Give the order for an LRP, until a pass has ended it; None when there is none."""


@dataclass(frozen=True, slots=True)
class CacherDependencies:
    """What cache jobs are run with.

    Attributes:
        cache: Names the targets of copies.
        listeners: Hear of requests, and of jobs that have ended.
    """

    engine: CopyEngine
    cache: CacheRepositories
    jobs: JobRecords
    bindings: BindingRecords
    images: ImageRecords
    listeners: JobListeners
    gate: JobGate
    process: Process
