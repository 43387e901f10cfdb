"""Resolves an image at its source, and reads which documents and blobs a copy of it consists of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.engines.copy_limits import CopyLimits
from controller.registry.oci.manifest_choice import choose_entry
from controller.registry.oci.manifests import (
    IMAGE_TYPES,
    INDEX_TYPES,
    Descriptor,
    Document,
    Index,
    Manifest,
    digest_of,
)
from controller.registry.oci.platforms import Platform
from controller.registry.oci.repository import Repository
from controller.registry.oci.results import ManifestHead
from controller.threads import Cancellation, in_parallel
from reconcile.copying_ports import ResolvedImage
from reconcile.errors import Denied, ErrorCode, Invalid, NotFound
from reconcile.foreign_text import one_line
from reconcile.references import Digest, ImageReference

_DEEPEST = 3
_MOST_DOCUMENTS = 1000
_MOST_DOCUMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CopyContents:
    """The documents of a copy, children before parents and the root last, and its blobs, each once.

    This is the one list of what a copy consists of: what is copied, read back, and looked for later.
    """

    documents: tuple[Document, ...]
    blobs: tuple[Descriptor, ...]

    @property
    def root(self) -> Document:
        """The document that gets the tag."""
        return self.documents[-1]

    @property
    def own_blobs(self) -> tuple[Descriptor, ...]:
        """Blobs that cells pull from the registry; foreign ones are at the URLs that their manifest names."""
        return tuple(blob for blob in self.blobs if not blob.is_foreign)

    @property
    def blob_bytes(self) -> int:
        """Bytes of the blobs that a registry holds."""
        return sum(blob.size for blob in self.own_blobs)

    @property
    def has_zstd_layers(self) -> bool:
        """Whether a layer is compressed with zstd, which cells of before 2026 cannot unpack."""
        return any("zstd" in blob.media_type for blob in self.blobs)

    @property
    def size(self) -> int:
        """Bytes of all documents and of their own blobs."""
        return self.blob_bytes + sum(len(document.raw) for document in self.documents)


def stored_digest(document: Document) -> Digest:
    """Return the digest under which any registry stores a document, whichever it was fetched by."""
    return digest_of(document.raw)


def look_up(source: Repository, asked: ImageReference) -> ManifestHead:
    """Ask a source what a reference names, as far as it says that without being read.

    Raises:
        Invalid: `digest-mismatch`: it serves something else than the digest that is asked for.
    """
    try:
        head = source.head_manifest(source.image.tag_or_digest)
    except (NotFound, Denied):
        return ManifestHead(None, "")  # reading it may succeed, or else raises the reason
    digest = source.image.digest or head.digest
    if digest is None or head.digest is None or head.digest.algorithm != digest.algorithm:
        return ManifestHead(None, head.media_type)
    if head.digest != digest:
        raise Invalid("registry", ErrorCode.DIGEST_MISMATCH, f"{asked}: the registry serves {head.digest}")
    return head


def index_of(head: ManifestHead, wanted: Platform | None) -> Digest | None:
    """Return the digest of the index that must be read to choose an image; None when none is known to be."""
    return head.digest if wanted is not None and head.media_type in INDEX_TYPES else None


def resolve(
    source: Repository, asked: ImageReference, wanted: Platform | None, head: ManifestHead | None = None
) -> ResolvedImage:
    """Resolve a reference to digests, with as few reads of manifests as possible.

    Args:
        source: The repository of the image.
        asked: The reference as the caller wrote it.
        wanted: The platform to choose from an index; None means the whole index.
        head: What `look_up` returned; None asks the source.

    Raises:
        Invalid: `no-platform` when an index has no such manifest.
    """
    head = look_up(source, asked) if head is None else head
    if head.digest is not None and (
        head.media_type in IMAGE_TYPES or (wanted is None and head.media_type in INDEX_TYPES)
    ):
        return ResolvedImage(asked, head.digest, head.digest)
    document = _fetch_root(source, source.image.tag_or_digest, source.image.digest or head.digest)
    if wanted is None or isinstance(document, Manifest):
        return ResolvedImage(asked, document.digest, document.digest)
    chosen = _choose(source, document, wanted, deepest=_DEEPEST)
    if chosen is None:
        offered = sorted({str(each.platform) for each in _images(document) if each.platform} - {""})
        raise Invalid(
            "registry",
            "no-platform",
            f"{asked} has no {wanted} image, but: {one_line(', '.join(offered)) or 'none'}; "
            "cells of this platform refuse it from its source as well",
        )
    return ResolvedImage(asked, document.digest, chosen)


def _fetch_root(source: Repository, tag_or_digest: str, digest: Digest | None) -> Document:
    if digest is None or str(digest) == tag_or_digest:
        return source.fetch_manifest(tag_or_digest)
    try:
        return source.fetch_manifest(str(digest))
    except NotFound:
        return source.fetch_manifest(tag_or_digest)


def _images(index: Index) -> Iterable[Descriptor]:
    return (entry for entry in index.entries if not entry.is_attestation)


def _choose(source: Repository, index: Index, wanted: Platform, *, deepest: int) -> Digest | None:
    """Choose as cells do: what they find in an index within the index, and nothing beside it."""
    entry = choose_entry(index, wanted)
    if entry is None or entry.media_type not in INDEX_TYPES:
        return None if entry is None else entry.digest
    if not deepest:
        return None
    document = source.fetch_manifest(str(entry.digest))
    if isinstance(document, Manifest):
        return entry.digest
    return _choose(source, document, wanted, deepest=deepest - 1)


def read_contents(
    source: Repository, digest: Digest, *, limits: CopyLimits, cancellation: Cancellation
) -> CopyContents:
    """Read the document of a digest and all documents that it refers to.

    Raises:
        Invalid: The image is larger than the limits allow, or nested too deeply.
    """
    subject = f"{source.image.repository}@{digest}"
    documents: dict[Digest, Document] = {}
    blobs: dict[Digest, Descriptor] = {}
    level, deepest, held = [digest], _DEEPEST, 0

    def fetch(each: Digest) -> Document:
        nonlocal held
        document = source.fetch_manifest(str(each))
        _check_layers(document, source, limits)
        held += len(document.raw)
        if held > _MOST_DOCUMENT_BYTES:
            raise Invalid(
                "registry", ErrorCode.INDEX_TOO_LARGE, f"{subject}: its manifests are too large in all"
            )
        return document

    while level:
        found = in_parallel(fetch, level, most=limits.blobs_at_a_time, cancellation=cancellation)
        documents.update((document.digest, document) for document in found)
        level = []
        for document in found:
            children, own = _referred(document)
            level += [each for each in children if each not in documents and each not in level]
            blobs.update((blob.digest, blob) for blob in own)
        deepest -= 1
        if level and (deepest < 0 or len(documents) + len(level) > _MOST_DOCUMENTS):
            raise Invalid("registry", ErrorCode.INDEX_TOO_LARGE, f"{subject}: nested too deeply")
    contents = CopyContents(_children_first(documents, digest), tuple(blobs.values()))
    size = sum(blob.size for blob in contents.blobs)
    if size > limits.max_image_bytes:
        raise Invalid(
            "registry",
            ErrorCode.IMAGE_TOO_LARGE,
            f"{subject}: {size} bytes are more than {limits.max_image_bytes}",
        )
    return contents


def _referred(document: Document) -> tuple[list[Digest], Iterable[Descriptor]]:
    """List the documents and the blobs that a document refers to; an entry of an unknown type is a blob."""
    if isinstance(document, Manifest):
        return [], document.blobs()
    documents = INDEX_TYPES | IMAGE_TYPES
    children = [entry.digest for entry in document.entries if entry.media_type in documents]
    return children, [entry for entry in document.entries if entry.media_type not in documents]


def _check_layers(manifest: Document, source: Repository, limits: CopyLimits) -> None:
    if isinstance(manifest, Manifest) and len(manifest.layers) > limits.max_layers:
        raise Invalid(
            "registry",
            ErrorCode.TOO_MANY_LAYERS,
            f"{source.image.repository}@{manifest.digest}: {len(manifest.layers)} layers, "
            f"at most {limits.max_layers} are allowed",
        )


def _children_first(documents: Mapping[Digest, Document], root: Digest) -> tuple[Document, ...]:
    ordered: dict[Digest, Document] = {}

    def visit(digest: Digest) -> None:
        document = documents.get(digest)
        if document is None or digest in ordered:
            return
        if isinstance(document, Index):
            for entry in document.entries:
                visit(entry.digest)
        ordered[digest] = document

    visit(root)
    return tuple(ordered.values())
