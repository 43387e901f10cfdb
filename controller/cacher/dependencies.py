"""The dependencies of the cacher."""

from dataclasses import dataclass
from typing import Protocol

from controller.app_tags import AppTags
from controller.job_listeners import JobListeners
from controller.process import Process
from controller.progress import Progress
from reconcile.copying_ports import (
    CheckDepth,
    ContentProofs,
    ImageEngine,
    IndexContents,
    ResolvedImage,
    Signatures,
)
from reconcile.failed_bytes import FailedBytesBudget
from reconcile.fairness import Slots
from reconcile.lrps import Credentials, ProcessGuid
from reconcile.orders import Order
from reconcile.ports import BindingRecords, CopyChecks, ImageRecords, JobRecords
from reconcile.references import CacheRepositories, Digest, ImageReference
from reconcile.trust import Reader, Sharing


class CopyEngine(ImageEngine, Protocol):
    """An engine that reports the progress of its copies."""

    def progress(self, target: ImageReference) -> Progress | None:
        """Return the progress of the copy to a target; None when no copy is under way."""

    async def show(self, image: ResolvedImage, credentials: Credentials | None, reader: Reader) -> int:
        """Let a source show an image: read all of it that the reader's trust domain has not shown before.

        Returns:
            The number of bytes that were read.

        Raises:
            Invalid: The source does not serve what the digests name.
            NotFound: It does not hold all of the image.
        """

    async def copy_signatures(
        self, image: ResolvedImage, target: ImageReference, credentials: Credentials | None, reader: Reader
    ) -> Signatures:
        """Add to a finished copy the signatures that another source has of it."""

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or damaged; empty when nothing is, as far as was looked."""


class JobGate(Protocol):
    """Decides whether jobs may run: the pause, and the orders that are exempt from it."""

    @property
    def is_paused(self) -> bool:
        """Whether the daemon is paused, and only jobs that an operator ordered run."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Return the order for an LRP that no pass has ended yet; None when there is none."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How long a job may take.

    Attributes:
        total: Seconds that all attempts at a job and the waits between them may take; then it has failed.
        slowest: Bytes per second below which no copy waits for another one of the same content.
    """

    total: float = 86_400.0
    slowest: float = 64.0 * 1024


@dataclass(frozen=True, slots=True)
class CacherDependencies:
    """The dependencies of the cacher.

    Attributes:
        cache: The names of copies in the private registry.
        sharing: Which sources may share a copy.
        listeners: Are told of each request for a copy, and of each job that has ended.
        failed_bytes: Limits the bytes that failed copies of one organization transfer.
        app_tags: The names of the apps that wait for copies, for log lines.
        slots: How many jobs run at the same time, and whose.
        limits: How long a job may take.
    """

    engine: CopyEngine
    cache: CacheRepositories
    sharing: Sharing
    jobs: JobRecords
    bindings: BindingRecords
    proofs: ContentProofs
    indexes: IndexContents
    images: ImageRecords
    checks: CopyChecks
    listeners: JobListeners
    gate: JobGate
    process: Process
    failed_bytes: FailedBytesBudget
    app_tags: AppTags
    slots: Slots = Slots()  # noqa: RUF009 - a frozen value
    limits: JobLimits = JobLimits()
