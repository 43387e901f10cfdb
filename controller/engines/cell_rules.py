"""Finds images that cells refuse although every byte is right, and that they refuse from the source as well.

Only what shows without another pass over the bytes is checked: the manifest, and while they are copied the
config and the first bytes of each layer. Not checked are blobs that were mounted or are there already, what
an archive holds, whether a compressed layer is cut short, and the digest of its archive.

Layers of zstd in an OCI image pass: cells of 2026 unpack them, earlier ones do not.

Source: containers/image manifest/manifest.go and internal/image/{oci,docker_schema2}.go; grootfs
fetcher/layer_fetcher, of 2024 and 2026, and groot.
"""

import json
from collections.abc import Iterator
from typing import Protocol

from controller.registry.http.bounded_json import check_cost
from controller.registry.oci.manifests import DOCKER_MANIFEST, Descriptor, Manifest
from reconcile.errors import ErrorCode, Invalid
from reconcile.references import Digest

_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_DOCKER_TYPES = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)
"""Types that cells take for layers of a docker manifest, of which the first is that of a config."""
_MAX_CONFIG = 4 * 1024 * 1024
_MIN_GZIP = 18
"""Bytes of the header and the trailer of gzip."""

_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_MAGIC_LENGTH = 4


class BlobChecks(Protocol):
    """Checks of blobs by their first bytes, made while they are copied."""

    def length_to_check(self, blob: Descriptor) -> int:
        """Return how many of a blob's first bytes are checked, 0 for none."""

    def check(self, blob: Descriptor, start: bytes) -> None:
        """Check the first bytes of a blob.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """


class NoChecks:
    """Accepts every blob, such as those of signatures, which cells do not pull."""

    def length_to_check(self, blob: Descriptor) -> int:
        """Check nothing."""
        del blob
        return 0

    def check(self, blob: Descriptor, start: bytes) -> None:
        """Accept anything."""


ANY_BLOB = NoChecks()


class CellRules:
    """The rules of cells for one image that is copied as it is.

    Args:
        manifest: Of the image.
        subject: Names the image in messages.
    """

    def __init__(self, manifest: Manifest, subject: str) -> None:
        self._manifest, self._subject = manifest, subject
        self._types: dict[Digest, set[str]] = {}
        for layer in manifest.layers:
            self._types.setdefault(layer.digest, set()).add(layer.media_type)

    def check_has_layers(self) -> None:
        """Check what holds for any copy of the image, also for one whose layers are packed anew.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """
        if not self._manifest.layers:
            raise self._refuse("it has no layers")

    def check_manifest(self) -> None:
        """Check what the manifest shows.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """
        config, is_docker = self._manifest.config, self._manifest.media_type == DOCKER_MANIFEST
        if not is_docker and config.media_type != _OCI_CONFIG:
            named = config.media_type[:100]
            raise self._refuse(f"its config has type {named!r}, as OCI artifacts have, and no OCI image")
        self.check_has_layers()
        if not 0 < config.size <= _MAX_CONFIG:
            raise self._refuse(f"its config has {config.size} bytes")
        for layer in self._manifest.layers:
            if is_docker and layer.media_type not in _DOCKER_TYPES:
                named = layer.media_type[:100]
                raise self._refuse(f"layer {layer.digest} has type {named!r}, which no docker image has")
            if _is_gzip(layer.media_type) and layer.size < _MIN_GZIP:
                raise self._refuse(f"layer {layer.digest} is too short to be gzip, as it is labelled")

    def length_to_check(self, blob: Descriptor) -> int:
        """Return how many of a blob's first bytes are checked: all of a config, few of a layer."""
        if blob.digest == self._manifest.config.digest:
            return blob.size
        return _MAGIC_LENGTH if any(map(_compression_of, self._types.get(blob.digest, ()))) else 0

    def check(self, blob: Descriptor, start: bytes) -> None:
        """Check a config, or the first bytes of a layer.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """
        if blob.digest == self._manifest.config.digest:
            self._check_config(start)
            return
        for media_type in self._types.get(blob.digest, ()):
            labelled, found = _compression_of(media_type), _compression_in(start)
            # What is labelled zstd may begin with a frame that decoders skip, whatever it is.
            if labelled != found and (labelled == "gzip" or (labelled and found)):
                other = found or f"not {labelled}"
                raise self._refuse(f"layer {blob.digest} is labelled {labelled}, but its bytes are {other}")

    def _check_config(self, raw: bytes) -> None:
        diff_ids = _diff_ids(raw)
        if diff_ids is None:
            raise self._refuse("its config is not the JSON of an image")
        layers = self._manifest.layers
        if len(diff_ids) < len(layers):
            raise self._refuse(f"its config has {len(diff_ids)} diff_ids for {len(layers)} layers")
        for layer, diff_id in zip(layers, diff_ids, strict=False):
            algorithm, colon, digits = diff_id.partition(":")
            if not colon:
                raise self._refuse(f"its config has {diff_id[:80]!r} among its diff_ids")
            if layer.digest.algorithm != "sha256" or algorithm != "sha256":
                continue
            compression = _compression_of(layer.media_type)
            if not compression and digits != layer.digest.hex:
                named = layer.media_type[:100]
                raise self._refuse(
                    f"layer {layer.digest} of type {named!r} has another diff_id than its digest"
                )
            if compression == "gzip" and digits == layer.digest.hex:
                raise self._refuse(
                    f"layer {layer.digest} is labelled gzip, but its diff_id is its own digest"
                )

    def _refuse(self, why: str) -> Invalid:
        detail = f"{self._subject}: {why}; cells refuse it from its source as well"
        return Invalid("image", ErrorCode.CANNOT_RUN_ON_CELLS, detail)


class CheckedBlob:
    """One blob that is checked while it is copied, also over an upload that is resumed.

    Attributes:
        blob: What is copied.
    """

    def __init__(self, checks: BlobChecks, blob: Descriptor) -> None:
        self.blob = blob
        self._checks = checks
        self._wanted = min(checks.length_to_check(blob), blob.size)
        self._start = bytearray()

    def over(self, pieces: Iterator[memoryview], offset: int) -> Iterator[memoryview]:
        """Yield the pieces of the blob from an offset on, the last one only after the check.

        The last one comes when the digest is verified, so the check never judges bytes that are wrong.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """
        return self._checked(pieces, offset) if self._wanted else pieces

    def _checked(self, pieces: Iterator[memoryview], offset: int) -> Iterator[memoryview]:
        for piece in pieces:
            if offset <= len(self._start) < self._wanted:
                self._start[offset:] = piece[: self._wanted - offset]
            offset += len(piece)
            if offset == self.blob.size and len(self._start) == self._wanted:
                self._checks.check(self.blob, bytes(self._start))
            yield piece


def _is_gzip(media_type: str) -> bool:
    return not media_type or "gzip" in media_type


def _compression_of(media_type: str) -> str:
    """Tell by a layer's type how cells unpack it; empty when they take it as it is."""
    if _is_gzip(media_type):
        return "gzip"
    return "zstd" if "zstd" in media_type else ""


def _compression_in(start: bytes) -> str:
    if start.startswith(_GZIP):
        return "gzip"
    return "zstd" if start.startswith(_ZSTD) else ""


def _diff_ids(raw: bytes) -> list[str] | None:
    """Read the digests of the layers' archives from a config; None when it is no config of an image."""
    try:
        check_cost(raw)
        document = json.loads(raw.decode("utf-8", errors="replace"))
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    rootfs = _field(document, "rootfs") or {}
    found = (_field(rootfs, "diff_ids") or []) if isinstance(rootfs, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        return None
    return found


def _field(document: dict[str, object], name: str) -> object:
    """Read a field as cells do, by its name in any case; None when it is not there."""
    return next((value for key, value in reversed(document.items()) if key.lower() == name), None)
