"""Parses manifests and indexes strictly, keeps their exact bytes, and lists what they refer to.

A document is identified by the digest of its bytes, so it is never serialised again.

Source: OCI image specification (manifest, image index, descriptor); distribution
docs/spec/manifest-v2-2.md.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from controller.registry.http.bounded_json import load_json
from controller.registry.oci.platforms import Platform
from reconcile.errors import ErrorCode, Invalid
from reconcile.foreign_text import cut, one_line
from reconcile.references import Digest, parse_digest

MAX_MANIFEST = 4 * 1024 * 1024
MAX_ENTRIES = 1000

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SIGNED_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"

MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, SIGNED_SCHEMA_1, SCHEMA_1)
ACCEPT = ", ".join(MANIFEST_TYPES)
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_SCHEMA_1_TYPES = frozenset({SIGNED_SCHEMA_1, SCHEMA_1})

_FOREIGN = ("foreign", "nondistributable")
"""Parts of the types of layers that may be left at their URLs."""

_MAX_PLATFORM_TEXT = 128
"""Characters of one text in a platform that are kept."""


def _folded(*keys: str) -> Mapping[str, str]:
    return MappingProxyType({key.casefold(): key for key in keys})


_DOCUMENT_KEYS = _folded(
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
)
_DESCRIPTOR_KEYS = _folded(
    "mediaType", "artifactType", "digest", "size", "urls", "annotations", "data", "platform"
)
_PLATFORM_KEYS = _folded("architecture", "os", "os.version", "os.features", "variant", "features")

_ZSTD_ANNOTATION = "io.github.containers.compression.zstd"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Media type, digest and size (bytes) of some content.

    Attributes:
        urls: Other URLs of the content.
        platform: As the index writes it; None when it has no such field.
        is_attestation: It describes another entry and is not an image.
        is_marked_zstd: An annotation says that its layers are compressed with zstd.
    """

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    platform: Platform | None = None
    is_attestation: bool = False
    is_marked_zstd: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether registries need not hold it: its type says that it lies at its URLs.

        Of any other type cells expect it in the registry, whatever URLs it has.
        """
        return bool(self.urls) and any(word in self.media_type for word in _FOREIGN)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one image, with its exact bytes."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]

    def blobs(self) -> tuple[Descriptor, ...]:
        """List config and layers, each digest once."""
        return tuple({each.digest: each for each in (self.config, *self.layers)}.values())


@dataclass(frozen=True, slots=True)
class Index:
    """The index of an image for several platforms, with its exact bytes."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    entries: tuple[Descriptor, ...]


Document = Manifest | Index


def digest_of(raw: bytes, algorithm: str = "sha256") -> Digest:
    """Compute the digest of some bytes."""
    return Digest(algorithm, hashlib.new(algorithm, raw).hexdigest())


def media_type_of(content_type: str | None) -> str:
    """Return a `Content-Type` without its parameters; empty when there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


def _refuse(code: str, subject: str, why: str) -> Invalid:
    return Invalid("registry", code, f"{subject}: {why}")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def _load(raw: bytes, subject: str) -> dict[str, object]:
    if len(raw) > MAX_MANIFEST:
        raise _refuse(ErrorCode.MANIFEST_TOO_LARGE, subject, "the manifest is larger than 4 MiB")
    try:
        document = load_json(raw, pairs_hook=_without_duplicates)
    except ValueError as error:
        shown = "no UTF-8" if isinstance(error, UnicodeDecodeError) else one_line(str(error), 100)
        raise _refuse("manifest-malformed", subject, f"the manifest is not valid JSON: {shown}") from error
    if not isinstance(document, dict):
        raise _refuse("manifest-malformed", subject, "the manifest is not a JSON object")
    return document


def _check_keys(value: Mapping[str, object], known: Mapping[str, str], subject: str) -> None:
    """Refuse a key that is a known one but for its case.

    Readers in Go, such as registries and cells, would take its value for that of the known key, so that they
    read another image than this program. Keys of annotations are free.
    """
    for key in value:
        meant = known.get(key.casefold())
        if meant is not None and meant != key:
            raise _refuse("manifest-ambiguous", subject, f"{key[:32]!r} would be read as {meant!r} by some")


def _platform(value: object, subject: str) -> Platform | None:
    if value is None:
        return None
    if isinstance(value, dict):
        _check_keys(value, _PLATFORM_KEYS, subject)
    fields = ("os", "architecture", "variant", "os.version")
    texts = [value.get(name) or "" for name in fields] if isinstance(value, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise _refuse("manifest-malformed", subject, "the platform of an entry is not an object of texts")
    # What is longer is no platform that cells have, and is not held.
    return Platform(*(cut(str(text), _MAX_PLATFORM_TEXT) for text in texts))


def _descriptor(value: object, subject: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _refuse("manifest-malformed", subject, "a descriptor is not an object")
    _check_keys(value, _DESCRIPTOR_KEYS, subject)
    media_type, digest, size, urls, annotations = (
        value.get(name) for name in ("mediaType", "digest", "size", "urls", "annotations")
    )
    if not isinstance(media_type, str | None) or not isinstance(digest, str):
        raise _refuse("manifest-malformed", subject, "a descriptor has no digest or an odd media type")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise _refuse("manifest-malformed", subject, f"{digest[:80]!r} has no size that is a number of bytes")
    platform = _platform(value.get("platform"), subject)
    annotations = annotations if isinstance(annotations, dict) else {}
    is_unknown = platform is not None and platform.os == platform.architecture == "unknown"
    return Descriptor(
        media_type=media_type or "",
        digest=parse_digest(digest),
        size=size,
        urls=tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else (),
        platform=platform,
        is_attestation=is_unknown or "vnd.docker.reference.type" in annotations,
        is_marked_zstd=annotations.get(_ZSTD_ANNOTATION) == "true",
    )


def _descriptors(value: object, subject: str, *, most: int) -> tuple[Descriptor, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _refuse("manifest-malformed", subject, "a list of descriptors is not a list")
    if len(value) > most:
        raise _refuse("manifest-malformed", subject, f"{len(value)} entries are more than {most}")
    return tuple(_descriptor(each, subject) for each in value)


def _type_from_shape(document: Mapping[str, object]) -> str:
    if "manifests" in document:
        return OCI_INDEX
    if "config" in document:
        return OCI_MANIFEST
    return SCHEMA_1 if "fsLayers" in document else ""


def _decide_type(document: Mapping[str, object], content_type: str, subject: str) -> str:
    inner = document.get("mediaType")
    if not isinstance(inner, str | None):
        raise _refuse("manifest-malformed", subject, "the media type is not a text")
    if content_type in _SCHEMA_1_TYPES and document.get("schemaVersion") == 2 and "fsLayers" not in document:
        content_type = ""  # some registries name this type whatever they serve
    if content_type in MANIFEST_TYPES:
        if inner and inner != content_type and content_type not in _SCHEMA_1_TYPES:
            raise _refuse(
                "manifest-ambiguous", subject, f"served as {content_type}, but calls itself {inner[:100]!r}"
            )
        return content_type
    return inner or _type_from_shape(document)


def parse_document(raw: bytes, content_type: str, subject: str) -> Document:
    """Parse a manifest or an index.

    Args:
        raw: The bytes as the registry sent them.
        content_type: Without parameters; empty when the registry sent none.
        subject: Names the document in messages.

    Raises:
        Invalid: `manifest-too-large`, `manifest-malformed`, `manifest-ambiguous`, `schema-1` or
            `manifest-unsupported`.
    """
    document = _load(raw, subject)
    _check_keys(document, _DOCUMENT_KEYS, subject)
    if isinstance(about := document.get("subject"), dict):
        _check_keys(about, _DESCRIPTOR_KEYS, subject)
    media_type = _decide_type(document, content_type, subject)
    if media_type in _SCHEMA_1_TYPES or ("fsLayers" in document and document.get("schemaVersion") == 1):
        raise _refuse("schema-1", subject, "the image is in schema 1, which cannot be copied by digest")
    has_image = "config" in document or "layers" in document
    if has_image and "manifests" in document:
        raise _refuse("manifest-ambiguous", subject, "it is a manifest and an index at once")
    if type(document.get("schemaVersion")) is not int or document["schemaVersion"] != 2:
        raise _refuse("manifest-malformed", subject, "the schema version is not 2")
    if media_type in INDEX_TYPES:
        if has_image:
            raise _refuse("manifest-ambiguous", subject, "an index has the fields of a manifest")
        entries = _descriptors(document.get("manifests"), subject, most=MAX_ENTRIES)
        return Index(raw, media_type, digest_of(raw), entries)
    if media_type not in IMAGE_TYPES:
        raise _refuse("manifest-unsupported", subject, f"{media_type[:100]!r} is no type of image")
    if "config" not in document:
        raise _refuse("manifest-malformed", subject, "the manifest has no config")
    manifest = Manifest(
        raw,
        media_type,
        digest_of(raw),
        _descriptor(document["config"], subject),
        _descriptors(document.get("layers"), subject, most=MAX_ENTRIES),
    )
    sizes = {(each.digest, each.size) for each in (manifest.config, *manifest.layers)}
    if len(sizes) != len(manifest.blobs()):
        raise _refuse("manifest-malformed", subject, "one digest is given with two sizes")
    return manifest
