"""What a rebuild works with, and what it comes to."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from controller.notes.droplet_sources import AppSource
from reconcile.lrps import AppGuid, ProcessGuid, SchedulingInfo
from reconcile.migrations import OriginalSource
from reconcile.notes import CopyNote
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference


class AdoptionStatus(StrEnum):
    """What became of a copy that the store did not know, or of LRPs that run from a copy."""

    ADOPTED = "adopted"
    """It is known now."""
    RESERVED = "reserved"
    """Its source is not known; the next staging of the image finds the copy."""
    UNKNOWN = "unknown"
    """It stays unknown."""


@dataclass(frozen=True, slots=True)
class AdoptedCopy:
    """What a rebuild has done about one copy.

    Attributes:
        source: None where it is not known.
        detail: Why it stays unknown, or what is still missing.
        process_guids: LRPs whose source became known by it.
    """

    cache_guid: CacheGuid
    status: AdoptionStatus
    source: ImageReference | None = None
    detail: str = ""
    process_guids: tuple[ProcessGuid, ...] = ()


class LrpScan(Protocol):
    """A listing, read one record at a time."""

    skipped: int
    """Records that could not be read."""

    def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        """Read the records."""


class ListedLrps(Protocol):
    """The BBS, whose desired LRPs show which copies are in use."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> LrpScan:
        """List the light views of the desired LRPs of one domain, or of all domains when it is empty."""


class ReadNotes(Protocol):
    """The notes and the copies in the private registry."""

    @property
    def has_keys(self) -> bool:
        """Whether notes are sealed."""

    async def find_digest(self, guid: CacheGuid) -> Digest | None:
        """Read the digest of a copy's manifest; None when the copy is not there."""

    async def find(self, guid: CacheGuid, digest: Digest) -> CopyNote | None:
        """Find the note beside a copy."""

    async def list_blobs(self, guid: CacheGuid, digest: Digest) -> dict[Digest, int]:
        """List the config and layers of a copy with their sizes in bytes."""

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        """List the GUIDs of what the private registry lists under the names of copies."""


class AdoptingRecords(Protocol):
    """The store, as far as it takes up what it does not know."""

    async def needs_login(self, image: CachedImage) -> bool:
        """Whether no app is known to have pulled the source of a copy without a login."""

    async def adopt(self, image: CachedImage, blobs: Iterable[Digest]) -> CacheGuid:
        """Save a copy that the store does not know; return the GUID that its content is known by."""

    async def reserve(self, cache_guid: CacheGuid, platform_digest: Digest) -> CacheGuid:
        """Reserve the GUID of a copy for its content; return the one that is reserved for it."""


class KnownImages(Protocol):
    """The records of copies."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies, oldest first."""


class KnownSources(Protocol):
    """What LRPs ran from before their migrations."""

    async def list_original_sources(
        self, process_guids: Collection[ProcessGuid]
    ) -> dict[ProcessGuid, OriginalSource]:
        """Read what some hundred LRPs ran from."""

    async def save_original_source(self, original_source: OriginalSource) -> None:
        """Save an LRP's original source."""


class SourcesOfDroplets(Protocol):
    """What apps were pushed from whose droplets name copies."""

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        """List anew the copies that droplets name."""

    async def find(self, guid: CacheGuid) -> dict[AppGuid, AppSource]:
        """Find what the apps were pushed from whose droplets name a copy."""


@dataclass(frozen=True, slots=True)
class AdoptionDependencies:
    """What a rebuild works with.

    Attributes:
        droplets: Cloud Controller, which knows what was pushed, and the records of droplets.
        own: Whether an image is in a private registry of ours, present or former.
        domains: Of the LRPs that may be restored to their sources.
        queue: Is given the LRPs whose state has changed.
    """

    bbs: ListedLrps
    notes: ReadNotes
    records: AdoptingRecords
    images: KnownImages
    original_sources: KnownSources
    droplets: SourcesOfDroplets
    cache: CacheRepositories
    own: Callable[[ImageReference], bool]
    domains: frozenset[str]
    queue: Callable[[ProcessGuid], None]
    clock: Callable[[], float]
