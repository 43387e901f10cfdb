"""What a pass and the loops need from outside, as small protocols in the core's words.

Adapters fit these without naming them. Every method raises the errors of
`reconcile.errors`; `find_` gives None for what is not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reconcile.errors import Invalid
from reconcile.images import CacheGuid, Digest, ImageReference, Rootfs
from reconcile.lrps import ActualLrp, AppGuid, Credentials, DesiredLrp, ProcessGuid, Pull
from reconcile.orders import Order
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    CachedImage,
    CacheJob,
    CacheRequest,
    JobId,
    LrpRecord,
    Migration,
    OriginalSource,
)


class Lrps(Protocol):
    """Desired LRPs in the BBS."""

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Read one desired LRP."""

    async def list_domains(self) -> frozenset[str]:
        """List the fresh domains."""

    async def remove_desired_lrp(self, process_guid: ProcessGuid) -> None:
        """Remove; the answer means "no longer desired", not "stopped".

        Raises:
            NotFound: It was not desired.
        """

    async def desire_lrp(self, lrp: DesiredLrp, rootfs: Rootfs, credentials: Credentials | None) -> None:
        """Desire the received definition with another rootfs and image credentials, all else untouched.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """


class Bridges(Protocol):
    """Second LRPs that serve an app for a while."""

    async def desire_another(
        self, lrp: DesiredLrp, process_guid: ProcessGuid, domain: str, pull: Pull
    ) -> None:
        """Desire one more LRP like a received one, under another key and with another image.

        Raises:
            Conflict: The process GUID is desired already; nothing was changed.
        """

    async def update_from(self, process_guid: ProcessGuid, lrp: DesiredLrp) -> None:
        """Give an LRP another one's number of instances and routes.

        Raises:
            NotFound: It is not desired.
        """

    async def upsert_domain(self, domain: str, *, ttl: int) -> None:
        """Keep a domain fresh for some whole seconds."""


class Instances(Protocol):
    """Actual LRPs in the BBS."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""

    async def retire_actual_lrp(self, process_guid: ProcessGuid, *, index: int, domain: str) -> None:
        """Stop the ordinary instance of one index.

        Raises:
            NotFound: There is none.
        """


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What a source reference stands for right now.

    Attributes:
        root_digest: Of the document that the reference names.
        platform_digest: Of the document that will be copied: the platform's manifest, or the whole index.
    """

    source: ImageReference
    root_digest: Digest
    platform_digest: Digest


@dataclass(frozen=True, slots=True)
class SourceContent:
    """What a copy of a source image would consist of.

    Attributes:
        platform_digest: See `ResolvedImage`.
        documents: Manifests and indexes that would be read.
        blobs: Digest to size in bytes of each config and layer that lies in the registry.
    """

    platform_digest: Digest
    documents: int
    blobs: Mapping[Digest, int]


class Signatures(StrEnum):
    """What became of signatures and whatever else refers to an image."""

    COPIED = "copied"
    NONE = "none"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """A copy that was verified in the private registry.

    Attributes:
        digest: The manifest as it lies there.
        size: Bytes of manifests, configs and layers.
        transferred: Bytes that were moved; the rest was there or was mounted.
        blobs: Every config and layer that the private repository now holds.
        signatures: Skipped where nobody asked for them.
        has_zstd_layers: Some cells cannot unpack those, whichever registry serves them.
    """

    digest: Digest
    size: int
    transferred: int
    blobs: tuple[Digest, ...]
    signatures: Signatures = Signatures.SKIPPED
    has_zstd_layers: bool = False


class TargetState(StrEnum):
    """What is known of a place in the private registry before a copy to it."""

    EMPTY = "empty"
    """Nothing was ever written there, so nothing needs to be asked for."""
    UNKNOWN = "unknown"


class ImageEngine(Protocol):
    """A way to copy an image into the private registry."""

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        """Ask the source registry what a reference stands for."""

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
    ) -> CopiedImage:
        """Copy and verify; repeating it after a crash finishes what was begun.

        Raises:
            Invalid: The source serves something that cannot be copied faithfully; nothing is visible
                under the target.
        """

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether the private registry serves a digest under the target's tag right now, as a cell asks."""


class BlobLocations(Protocol):
    """Which private repository holds a blob already."""

    async def find_holders(self, blobs: Iterable[Digest]) -> Mapping[Digest, CacheGuid]:
        """Name a cached image whose repository holds it, for each blob that is held at all."""


class JobRecords(Protocol):
    """Cache jobs."""

    async def find_job(self, job_id: JobId) -> CacheJob | None:
        """Read one job."""

    async def list_open_jobs(self, source: ImageReference | None = None) -> tuple[CacheJob, ...]:
        """List the queued and copying jobs, of one source or all, oldest first."""

    async def add_job(self, job: CacheJob, binding: Binding) -> None:
        """Save a new job with the binding that asked for it, in place of an earlier one of its requester."""

    async def save_job(self, job: CacheJob) -> None:
        """Save a change of a job.

        Raises:
            Conflict: The change of state is not allowed.
            NotFound: There is no such job.
        """

    async def finish_job(self, job: CacheJob, image: CachedImage, blobs: Iterable[Digest]) -> None:
        """Save a cached job with its image and the image's blobs, all or nothing."""


class BindingRecords(Protocol):
    """Which staging of an app led to which job."""

    async def find_binding(self, requester: str) -> Binding | None:
        """Read the binding that a staging task or an LRP asked for."""

    async def find_newest_binding(self, app_guid: AppGuid, source: ImageReference) -> Binding | None:
        """Read an app's latest binding for a source, by time of staging."""

    async def list_bindings(self, job_id: JobId) -> tuple[Binding, ...]:
        """List the bindings that wait for, or came from, a job."""

    async def put_binding(self, binding: Binding) -> None:
        """Save a binding to a job that exists, in place of an earlier one of its requester."""

    async def drop_binding(self, requester: str) -> Binding | None:
        """Forget what a staging task asked for, and tell what it was."""


class ImageRecords(Protocol):
    """Cached images."""

    async def reserve_guid(self, platform_digest: Digest) -> CacheGuid:
        """Give the GUID of some content, the same one for ever; a new one is saved before it is given."""

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read a finished copy; a mere reservation is none."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Note that instances crashed from a copy; at 0 that it was verified since."""


class Journal(Protocol):
    """Migrations under way; written before their effects."""

    @property
    def is_durable(self) -> bool:
        """Whether a row outlives the process."""

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP."""

    async def list_migrations(self) -> tuple[Migration, ...]:
        """List the open migrations that can be read, oldest first."""

    async def list_undecryptable(self) -> tuple[Invalid, ...]:
        """Say what is wrong with each row that cannot be read."""

    async def save_migration(self, migration: Migration) -> None:
        """Write a migration's row, in place of an earlier one of the LRP."""

    async def delete_migration(self, process_guid: ProcessGuid) -> None:
        """Close a migration; one that is not open stays so."""


class OriginalSources(Protocol):
    """What LRPs ran from before they were moved; credentials are encrypted, or not kept."""

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Read what an LRP ran from."""

    async def save_original_source(self, original_source: OriginalSource) -> None:
        """Save it, in place of an earlier one."""


class Verifier(Protocol):
    """Reads copies back."""

    async def verify(self, image: CachedImage) -> bool:
        """Whether every byte of a copy is in the private registry; one that is loses its suspicion."""


class EventCache(Protocol):
    """What events told of the LRPs that are being replaced, or were lately."""

    def follow(self, process_guid: ProcessGuid) -> None:
        """Begin to remember what is told of an LRP and of its bridge."""

    def unfollow(self, process_guid: ProcessGuid, instance_guids: frozenset[str] = frozenset()) -> None:
        """Forget an LRP, but not the instances that ran before it was removed."""

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        """Give the newest version of each life of an LRP that an event told of."""

    def stale(self, process_guid: ProcessGuid) -> frozenset[str]:
        """Give the GUIDs of instances that ran before an LRP was removed."""


class Mode(Protocol):
    """Which way LRPs are moved."""

    @property
    def is_restoring(self) -> bool:
        """Back to their sources, instead of to the cached images."""


class OperatorOverrides(Protocol):
    """What operators have asked for."""

    @property
    def is_paused(self) -> bool:
        """Nothing is begun but what an order asks for."""

    @property
    def max_in_flight(self) -> int | None:
        """How many LRPs may be moved at a time; None leaves that to the config."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Give what was asked of an LRP, until a pass has come to its end."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source, where an operator put it back."""

    def report(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Tell what a pass came to, for an order that may be over with it."""


class LrpRecords(Protocol):
    """What the last pass over each Docker LRP came to."""

    async def find_lrp(self, process_guid: ProcessGuid) -> LrpRecord | None:
        """Read one LRP's record."""

    async def list_lrps(self) -> tuple[LrpRecord, ...]:
        """List the records, by process GUID."""

    async def save_lrp(self, record: LrpRecord) -> None:
        """Save one LRP's record."""

    async def forget_lrps(self, process_guids: Sequence[ProcessGuid]) -> None:
        """Delete the records of LRPs that are gone."""


class CacheRequests(Protocol):
    """Where a pass and the watcher ask for copies; answers without waiting for the copy."""

    async def request(self, request: CacheRequest) -> CacheJob:
        """Ask for a copy; the same requester again gives the same job, credentials are kept in memory."""
