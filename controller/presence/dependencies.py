"""The dependencies of the loop that looks after copies."""

from dataclasses import dataclass
from typing import Protocol

from controller.copy_uses import CopyUses
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.copying_ports import CheckDepth
from reconcile.lrps import ProcessGuid
from reconcile.migrations import OriginalSource
from reconcile.ports import CacheRequests, CopyChecks
from reconcile.records import Binding, CachedImage, CacheJob, JobId
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference


class SearchedRegistry(Protocol):
    """The private registry, as far as copies are looked for in it."""

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or corrupt; empty when the check has found nothing."""


class FoundImages(Protocol):
    """The records of copies."""

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read a finished copy."""


class FoundJobs(Protocol):
    """The records of cache jobs."""

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        """Read one job."""


class FoundBindings(Protocol):
    """The records of which job each requester has asked for."""

    async def find_binding(self, requester: str) -> Binding | None:
        """Read the binding of a requester."""


class FoundSources(Protocol):
    """The records of what LRPs ran from before their migrations."""

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Read what an LRP ran from before its migration; None when that is not known."""


class NamedCopies(Protocol):
    """The copies that droplets of Cloud Controller name."""

    def copies(self) -> frozenset[CacheGuid]:
        """Return the copies."""

    def names(self, cache_guid: CacheGuid) -> bool:
        """Whether a droplet names a copy."""


class NoNamedCopies:
    """Takes the place of `NamedCopies` where no droplet names a copy."""

    def copies(self) -> frozenset[CacheGuid]:
        """Return no copy."""
        return frozenset()

    def names(self, _cache_guid: CacheGuid) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True, slots=True)
class RepairRecords:
    """The records of the jobs that repair copies, and of the sources that copies may be sent from again."""

    jobs: FoundJobs
    bindings: FoundBindings
    original_sources: FoundSources


@dataclass(frozen=True, slots=True)
class PresenceDependencies:
    """The dependencies of the loop that looks after copies.

    Attributes:
        queue: Receives the LRPs that need a pass, since something was found out about their copy.
        uses: Which LRPs run from which copy.
        named: The copies that droplets name: a later LRP of their apps runs from them.
    """

    registry: SearchedRegistry
    cache: CacheRepositories
    images: FoundImages
    checks: CopyChecks
    requests: CacheRequests
    records: RepairRecords
    uses: CopyUses
    queue: WorkQueue[ProcessGuid]
    process: Process
    named: NamedCopies = NoNamedCopies()  # noqa: RUF009 - it has no state
