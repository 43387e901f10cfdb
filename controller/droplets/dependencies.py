"""The dependencies of the loops that reconcile droplets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.droplets.obstacles import NamingCandidate
from controller.lrp_index import LrpIndex
from controller.process import Process
from reconcile.copying_ports import CheckDepth
from reconcile.droplet_actions import Leave
from reconcile.droplet_ports import CloudControllerApi, DropletRecords
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid
from reconcile.observed import Rules
from reconcile.ports import BindingRecords, CacheRequests, ImageRecords, JobRecords, KnownCopies, Mode
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest, ImageReference


class DropletOverrides(Protocol):
    """What operators ask of the running daemon for all droplets, or for those of an app."""

    @property
    def is_paused(self) -> bool:
        """Whether the daemon starts only what an order asks for."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source because an operator restored it."""


class NamingObstacles(Protocol):
    """What speaks against naming a copy in a droplet."""

    def ask_ahead(self) -> None:
        """Have cells show that they can pull before the first droplet waits for it."""

    async def find(self, candidate: NamingCandidate) -> Leave | None:
        """Say why a droplet may not name its copy now; None when nothing speaks against it."""

    async def find_failure(self, app_guid: AppGuid, cache_guid: CacheGuid) -> Leave | None:
        """Say why an LRP of an app could not start from a copy, and went back; None when none failed."""


class AppLrps(Protocol):
    """The desired LRPs of apps."""

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Read one desired LRP."""


class PresentCopies(Protocol):
    """The private registry, as far as it is asked for a copy before a droplet names it."""

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or damaged; empty when nothing is, as far as was looked."""


class DropletCopyVerifier(Protocol):
    """Reads copies back that need verification."""

    async def verify(self, image: CachedImage) -> bool | None:
        """Whether every byte of a copy is in the private registry; None when that cannot be said now."""


class SuspectedCopies(Protocol):
    """Whoever looks after copies."""

    def suspect(self, cache_guid: CacheGuid, depth: CheckDepth) -> None:
        """Look for a copy soon."""


@dataclass(frozen=True, slots=True)
class DropletDependencies:
    """The dependencies of the loops that reconcile droplets.

    Attributes:
        api: Cloud Controller's.
        records: What is known of droplets.
        requests: Takes requests for copies of images that no LRP asks for.
        index: The LRPs that run from their sources.
        lrps: Show with which login, and for whom, an image is copied.
        obstacles: What speaks against naming a copy.
        registry: Is asked for a copy directly before a droplet names it.
        verifier: Reads a copy back before a droplet names it.
        presence: Is told of copies that are not there.
        mode: Whether droplets name their copies, or have their original texts again.
        check_active: Raises Unavailable while this process must not change anything, since a daemon with
            another store may work on the same platform.
    """

    api: CloudControllerApi
    records: DropletRecords
    bindings: BindingRecords
    jobs: JobRecords
    images: ImageRecords
    copies: KnownCopies
    requests: CacheRequests
    index: LrpIndex
    lrps: AppLrps
    obstacles: NamingObstacles
    registry: PresentCopies
    verifier: DropletCopyVerifier
    presence: SuspectedCopies
    overrides: DropletOverrides
    mode: Mode
    rules: Rules
    process: Process
    check_active: Callable[[], None]
