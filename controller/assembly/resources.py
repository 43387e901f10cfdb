"""Names what a process keeps open as long as it runs, and opens the engine and the notes beside copies."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.app_logs import Agent
from controller.bbs.client import BbsClient
from controller.cacher import CopyEngine
from controller.canary_image import CanaryImages
from controller.certificate_ends import CertificateEnds
from controller.config import Config
from controller.control import OperatorControl
from controller.database_watch import DatabaseWatch
from controller.engines.copy_limits import CopyLimits, Verify
from controller.engines.registry_copy import RegistryCopy
from controller.health import HealthStates
from controller.health_loop import Probe
from controller.leadership.lease import ActiveLease
from controller.notes import CopyNotes, ReadNotes, WrittenNotes
from controller.process import Process
from controller.registry.oci.platforms import parse_platform
from controller.registry.oci.request_observer import RequestObserver
from controller.store.opening import Store
from controller.store_marker import StoreMarker
from controller.wiring import SMALL_TIMEOUTS, open_registries, slots_of
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.copying_ports import CheckDepth, OpenUpload, SourceContent
from reconcile.droplet_ports import CloudControllerApi
from reconcile.lrps import AppGuid, Credentials
from reconcile.references import Digest, ImageReference
from reconcile.selection import AppNames


class ProcessEngine(CopyEngine, Protocol):
    """An engine with all that the process asks of it."""

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy and compare it with its digests."""

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or corrupt; empty when the check has found nothing."""

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of, without any layer."""

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest."""

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while and are not done."""

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        """Cancel an upload that an earlier process has left; return whether the registry has dropped it."""

    async def close(self) -> None:
        """Close connections and stop threads."""


class ProcessCloudController(CloudControllerApi, Protocol):
    """Cloud Controller, with all that the process asks of it."""

    def status(self) -> CloudControllerStatus:
        """Return how Cloud Controller has answered so far."""

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Read the names and GUIDs by which apps are selected, of all Docker apps when no GUIDs are given.

        Apps that the daemon's login may not read are missing.
        """


class ProcessNotes(ReadNotes, WrittenNotes, Protocol):
    """The notes beside copies, with all that the process asks of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenResources:
    """What a process keeps open as long as it runs, and the state that its parts share.

    Attributes:
        bbs: The client of the BBS, which changes nothing while another store's marker is fresh.
        cloud_controller: None where the config names none.
        loggregator: Loggregator's agent on this machine; None where the config does not use it.
        restart: Makes the process start again; None for a command, which ends after its work.
    """

    store: Store
    bbs: BbsClient
    engine: ProcessEngine
    canary_images: CanaryImages | None
    notes: ProcessNotes
    process: Process
    control: OperatorControl
    health: HealthStates
    probe: Probe
    store_marker: StoreMarker
    database_watch: DatabaseWatch
    certificates: CertificateEnds
    cloud_controller: ProcessCloudController | None = None
    loggregator: Agent | None = None
    restart: Callable[[], None] | None = None


def open_engine(config: Config, store: Store, observer: RequestObserver, lease: ActiveLease) -> ProcessEngine:
    """Open the engine that the config names; the observer is told how each of its requests ends."""
    registries = open_registries(config, observer=observer, check_active=lease.check)
    limits = CopyLimits(
        max_image_bytes=config.max_image_bytes,
        max_layers=config.max_layers,
        blobs_at_a_time=config.max_blobs_per_copy,
        copies_at_a_time=slots_of(config).total,
        verify=Verify(config.verify),
        copy_foreign_layers=config.copy_foreign_layers,
        copy_referrers=config.copy_referrers,
    )
    platform = None if config.platforms == "all" else parse_platform(config.platforms)
    repositories = config.cache_repositories
    if config.docker_socket is not None and platform is not None:
        # Imported where it is configured: the docker SDK costs memory and time at the start.
        from controller.engines.docker_daemon import DaemonSettings, DockerCopy  # noqa: PLC0415

        docker = DaemonSettings(config.docker_socket)
        return DockerCopy(registries, repositories, docker, limits=limits, platform=platform)
    return RegistryCopy(registries, repositories, store.records, limits=limits, platform=platform)


def open_copy_notes(
    config: Config, journal_key: bytes | None, observer: RequestObserver, lease: ActiveLease
) -> CopyNotes:
    """Open what writes and reads the notes beside copies.

    Args:
        config: Names the private registry.
        journal_key: The journal's keys, apart by white space, which seal the notes; None for no keys.
        observer: Is told how each request ends.
        lease: Refuses changes when this instance is not active any more.
    """
    registries = open_registries(config, timeouts=SMALL_TIMEOUTS, observer=observer, check_active=lease.check)
    return CopyNotes(registries, config.cache_repositories, (journal_key or b"").split())
