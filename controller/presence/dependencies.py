"""The dependencies of the loop that looks after copies."""

from dataclasses import dataclass
from typing import Protocol

from controller.copy_uses import CopyUses
from controller.process import Process
from controller.workqueue import WorkQueue
from reconcile.lrps import ProcessGuid
from reconcile.ports import (
    BindingRecords,
    CacheRequests,
    CheckDepth,
    CopyChecks,
    ImageRecords,
    JobRecords,
    OriginalSources,
)
from reconcile.references import CacheRepositories, Digest, ImageReference


class SearchedRegistry(Protocol):
    """The private registry, as far as copies are looked for in it."""

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or damaged; empty when nothing is, as far as was looked."""


@dataclass(frozen=True, slots=True)
class RepairRecords:
    """What is known of the jobs that repair copies, and of where copies may be sent from again."""

    jobs: JobRecords
    bindings: BindingRecords
    original_sources: OriginalSources


@dataclass(frozen=True, slots=True)
class PresenceDependencies:
    """The dependencies of the loop that looks after copies.

    Attributes:
        queue: The LRPs that need a pass, since something was found out about their copy.
        uses: Which LRPs run from which copy.
    """

    registry: SearchedRegistry
    cache: CacheRepositories
    images: ImageRecords
    checks: CopyChecks
    requests: CacheRequests
    records: RepairRecords
    uses: CopyUses
    queue: WorkQueue[ProcessGuid]
    process: Process
