"""What copying an image needs from the systems outside, and the values that are exchanged with them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Protocol

from reconcile.lrps import AppGuid, Credentials
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.trust import BlobHolder, ContentProof, Reader, ShownContent


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
        mounted: Bytes that were mounted from other repositories of the private registry.
        present: Bytes that were in the copy's repository before.
        blobs: Every config and layer that the private repository now holds.
        sizes: Bytes of these blobs; none where they are not known.
        signatures: Skipped where the config does not ask for them.
        has_zstd_layers: Whether some layers are compressed with zstd, which older cells cannot unpack.
    """

    digest: Digest
    size: int
    transferred: int
    blobs: tuple[Digest, ...]
    signatures: Signatures = Signatures.SKIPPED
    has_zstd_layers: bool = False
    mounted: int = 0
    present: int = 0
    sizes: Mapping[Digest, int] = field(default_factory=dict)


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
    OWN = "own"
    """Whoever copies now has written there before, and nobody else."""
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


class ContentProofs(Protocol):
    """Who has shown which content, so that it need not be shown again."""

    async def find_shown(self, platform_digest: Digest, reader: Reader) -> ShownContent:
        """Find what was shown of an image in a reader's trust domain."""

    async def find_pinned_copy(
        self, app_guid: AppGuid, source: ImageReference, reader: Reader
    ) -> CachedImage | None:
        """Find the finished copy of what a reference with a digest names, if the app may use it unasked.

        It may when the content was read in the reader's trust domain, without a login or with the reader's,
        or when the app has used the copy before from the same registry. None when there is no such copy, or
        more than one.
        """

    async def save_proof(self, proof: ContentProof) -> None:
        """Save that a source has shown an image."""

    async def begin_copy(self, platform_digest: Digest, reader: Reader) -> tuple[CacheGuid, TargetState]:
        """Save that a reader begins to copy some content; return its GUID and what lies under that.

        It is always the same GUID; a new one is saved before it is returned.
        """


class IndexContents(Protocol):
    """What indexes lead to, which their digests say for ever."""

    async def find_in_index(self, root_digest: Digest) -> Digest | None:
        """Find what an index that was read before leads to; None when it was not."""

    async def save_index(self, root_digest: Digest, platform_digest: Digest) -> None:
        """Save what an index that was read leads to."""


class ImageEngine(Protocol):
    """A way to copy an image into the private registry."""

    async def resolve(
        self,
        source: ImageReference,
        credentials: Credentials | None,
        *,
        indexes: IndexContents | None = None,
    ) -> ResolvedImage:
        """Ask the source registry what a reference resolves to.

        Args:
            source: The reference.
            credentials: None uses the operator's.
            indexes: What indexes lead to, so that one which was read before is not read again.
        """

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        """Copy and verify an image; a repetition after a crash completes the copy.

        Args:
            image: What to copy.
            target: Where to.
            credentials: None uses the operator's.
            state: What is known of the target.
            reader: Who is bound to the copy by this, and must have been shown all of it; None when nobody is
                who was not before, such as by a repair.

        Raises:
            Invalid: The source serves something that cannot be copied byte for byte, or that cells refuse, as
                they do from the source; nothing is visible under the target.
        """

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether the private registry serves a digest under the target's tag now, asked as a cell asks."""


class BlobLocations(Protocol):
    """The private repositories that hold blobs already."""

    async def find_holders(
        self, blobs: Iterable[Digest], reader: Reader | None
    ) -> Mapping[Digest, BlobHolder]:
        """Name a cached image whose repository holds the blob, for each blob that is held.

        For a reader only the images of its trust domain count, and those that it need not show come first.
        """


class Verifier(Protocol):
    """Reads back copies from the private registry."""

    async def verify(self, image: CachedImage) -> bool | None:
        """Whether every byte of a copy is in the private registry; if so, it no longer needs verification.

        None when that cannot be said now, since the copy or enough others are being read.
        """
