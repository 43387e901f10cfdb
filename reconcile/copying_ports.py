"""What copying an image needs from the systems outside, and the values that are exchanged with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

from reconcile.lrps import Credentials
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest, ImageReference


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What a source reference resolves to at the moment.

    Attributes:
        root_digest: Digest of the manifest or index that the reference names.
        platform_digest: Digest of what is copied: the platform's manifest, or the whole index.
    """

    source: ImageReference
    root_digest: Digest
    platform_digest: Digest


@dataclass(frozen=True, slots=True)
class SourceContent:
    """What a copy of a source image would consist of.

    Attributes:
        platform_digest: See `ResolvedImage`.
        documents: The number of manifests and indexes that would be read.
        blobs: Digest to size in bytes of each config and layer that lies in the registry.
    """

    platform_digest: Digest
    documents: int
    blobs: Mapping[Digest, int]


class Signatures(StrEnum):
    """Whether signatures, and other artifacts that refer to an image, were copied with it."""

    COPIED = "copied"
    NONE = "none"
    OF_INDEX = "of-index-not-copied"
    """Nothing refers to the manifest that was copied; what refers to its index stays with that."""
    UNKNOWN = "unknown"
    """The source does not let anybody find out."""
    SKIPPED = "skipped"
    DENIED = "unknown: denied"
    """The source does not let its signatures be read; those that it does let be read were copied."""


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """A copy that was verified in the private registry.

    Attributes:
        digest: Digest of the manifest in the private registry.
        size: Bytes of manifests, configs and layers.
        transferred: Bytes that were transferred; the rest was there already or was mounted.
        blobs: Every config and layer that the private repository now holds.
        signatures: Skipped where the config does not ask for them.
        has_zstd_layers: Whether some layers are compressed with zstd, which older cells cannot unpack.
    """

    digest: Digest
    size: int
    transferred: int
    blobs: tuple[Digest, ...]
    signatures: Signatures = Signatures.SKIPPED
    has_zstd_layers: bool = False


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload to the private registry that has neither ended nor been cancelled.

    Attributes:
        target: The copy that it is for.
        url: Where it continues; the registry may keep state of its own in it.
    """

    target: ImageReference
    url: str = field(repr=False)


class TargetState(StrEnum):
    """What is known of a repository of the private registry before a copy to it."""

    EMPTY = "empty"
    """Nothing was ever written there, so the registry need not be asked what it holds."""
    UNKNOWN = "unknown"
    DAMAGED = "damaged"
    """Something of a copy is missing there: of what the registry says that it holds, the ends are read."""
    CORRUPT = "corrupt"
    """Bytes of a copy are wrong there: what the registry says that it holds is read completely."""

    @property
    def is_bad(self) -> bool:
        """Whether the registry is not believed, and everything is written again that it does not prove."""
        return self in {TargetState.DAMAGED, TargetState.CORRUPT}


class CheckDepth(IntEnum):
    """How deep a check looks for what of a copy is missing."""

    MANIFEST = 1
    """Whether its tag names its manifest: one request."""
    BLOBS = 2
    """Whether the registry says that it has all blobs: one request more for each manifest and blob."""
    BYTES = 3
    """Whether the ends of all blobs can be read: two requests for each blob."""


class ImageEngine(Protocol):
    """A way to copy an image into the private registry."""

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        """Ask the source registry what a reference resolves to."""

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
    ) -> CopiedImage:
        """Copy and verify an image; a repetition after a crash completes the copy.

        Raises:
            Invalid: The source serves something that cannot be copied byte for byte, or that cells refuse, as
                they do from the source; nothing is visible under the target.
        """

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether the private registry serves a digest under the target's tag now, asked as a cell asks."""


class BlobLocations(Protocol):
    """The private repositories that hold blobs already."""

    async def find_holders(self, blobs: Iterable[Digest]) -> Mapping[Digest, CacheGuid]:
        """Name a cached image whose repository holds the blob, for each blob that is held."""


class Verifier(Protocol):
    """Reads back copies from the private registry."""

    async def verify(self, image: CachedImage) -> bool:
        """Whether every byte of a copy is in the private registry; if so, it no longer needs verification."""
