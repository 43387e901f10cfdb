"""Sample images as bytes, and a plain client that puts them into any registry.

Nothing here is shared with the program: digests and documents are made by hand.
"""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import httpx

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_ZSTD_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_PLAIN_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_AS_DOCKER = {OCI_LAYER: DOCKER_LAYER, OCI_PLAIN_LAYER: DOCKER_PLAIN_LAYER}
GZIP_MAGIC, GZIP_COMMENT = b"\x1f\x8b", 0x10
SMALLEST_LAYER = 200
"""Bytes in which an archive with an empty file fits."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Some content with its media type."""

    media_type: str
    content: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """Its sha256 digest."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, object]:
        """It as a manifest names it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True, slots=True)
class Image:
    """One manifest with what it refers to."""

    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Config and layers, each once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())


@dataclass(frozen=True, slots=True)
class MultiImage:
    """An index with its images; platforms are "os/architecture" or with a variant."""

    index: Blob
    images: tuple[tuple[str, Image], ...]


def random_bytes(size: int, seed: int | str = 0) -> bytes:
    """Make bytes that do not compress, the same for the same seed."""
    return random.Random(f"{size}:{seed}").randbytes(size)


def layer(size: int, seed: int | str = 0, media_type: str | None = None) -> Blob:
    """Make a layer of exactly so many bytes that do not compress.

    It is an archive that can be unpacked, unless it is too small for one or of another type than gzip: nobody who
    copies may notice that. Without a type it has the one that is true of it.
    """
    is_packed = size >= SMALLEST_LAYER and (media_type is None or "gzip" in media_type)
    media_type = media_type or (OCI_LAYER if is_packed else OCI_PLAIN_LAYER)
    content = _archive_of(size, size - SMALLEST_LAYER, seed) if is_packed else random_bytes(size, seed)
    return Blob(media_type, content)


def _archive_of(size: int, room: int, seed: int | str) -> bytes:
    """Pack one file with so much content that it fits, and fill the rest with a comment of gzip's."""
    name = f"file-{seed}"
    for content in range(room - room // 1000, -1, -64):
        packed = _packed(name, random_bytes(content, seed))
        if (rest := size - len(packed)) >= 1:
            comment = random.Random(f"{size}:{seed}").choices(range(1, 256), k=rest - 1)
            flags, end_of_head = bytes([packed[3] | GZIP_COMMENT]), 10
            head = packed[:3] + flags + packed[4:end_of_head]
            return head + bytes(comment) + b"\0" + packed[end_of_head:]
    raise AssertionError(f"no archive of {size} bytes can be made")


def _packed(name: str, content: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        file = tarfile.TarInfo(name)
        file.size = len(content)
        tar.addfile(file, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), 1, mtime=0)


def archive_of(name: str, *, link_to: str = "") -> Blob:
    """Make a layer of one entry: an empty file, or a hard link."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = (tarfile.LNKTYPE, link_to) if link_to else (tarfile.REGTYPE, "")
        tar.addfile(entry)
    return Blob(OCI_LAYER, gzip.compress(raw.getvalue(), 1, mtime=0))


def archive_of_zeros(size: int) -> Blob:
    """Make a layer that is far larger when it is unpacked."""
    return Blob(OCI_LAYER, _packed("zeros", bytes(size)))


def diff_id_of(blob: Blob) -> str:
    """Tell the digest of a layer's archive before compression: its own where it is not packed."""
    is_packed = blob.content[:2] == GZIP_MAGIC
    content = gzip.decompress(blob.content) if is_packed else blob.content
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Archive:
    """A layer that can be unpacked, with the digest of its archive before compression."""

    layer: Blob
    diff_id: str


def archive(size: int, seed: int | str = 0) -> Archive:
    """Make a layer that holds one file; a daemon that packs it anew gets other bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        file = tarfile.TarInfo(f"file-{seed}")
        file.size = size
        tar.addfile(file, io.BytesIO(random_bytes(size, seed)))
    diff_id = f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"
    return Archive(Blob(OCI_LAYER, gzip.compress(raw.getvalue(), 1, mtime=0)), diff_id)


def unpackable(archives: Sequence[Archive], *, architecture: str = "amd64") -> Image:
    """Make an image that a container runtime accepts."""
    diff_ids = [each.diff_id for each in archives]
    return image([each.layer for each in archives], architecture=architecture, diff_ids=diff_ids)


def image(
    layers: Sequence[Blob],
    *,
    architecture: str = "amd64",
    docker: bool = False,
    diff_ids: Sequence[str] | None = None,
) -> Image:
    """Make an image of layers, as OCI or as Docker schema 2; without diff IDs it has those of its layers."""
    config_document = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids or map(diff_id_of, layers))},
    }
    config = Blob(DOCKER_CONFIG if docker else OCI_CONFIG, json.dumps(config_document).encode())
    if docker:
        layers = [
            replace(each, media_type=_AS_DOCKER.get(each.media_type, each.media_type)) for each in layers
        ]
    manifest_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config.descriptor,
        "layers": [each.descriptor for each in layers],
        "annotations": {"org.example.note": "kept by a faithful copy"},
    }
    if docker:
        del document["annotations"]
    # Odd spacing, so that a copy that writes the document anew is found out.
    return Image(Blob(manifest_type, json.dumps(document, indent=3).encode()), config, tuple(layers))


def index(images: Sequence[tuple[str, Image]], *, docker: bool = False, attested: bool = False) -> MultiImage:
    """Make an index over images; `attested` adds a build attestation for the first, listed first."""
    entries: list[dict[str, object]] = []
    all_images = list(images)
    if attested:
        proof = image([Blob("application/vnd.in-toto+json", b'{"proof": true}')], architecture="unknown")
        all_images.insert(0, ("unknown/unknown", proof))
    for platform, each in all_images:
        os, architecture, *variant = platform.split("/")
        entry = each.manifest.descriptor
        entry["platform"] = {"os": os, "architecture": architecture} | (
            {"variant": variant[0]} if variant else {}
        )
        if platform == "unknown/unknown":
            entry["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
        entries.append(entry)
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    return MultiImage(Blob(media_type, json.dumps(document, indent=2).encode()), tuple(all_images))


def push_blob(client: httpx.Client, repository: str, blob: Blob) -> None:
    """Upload a blob."""
    begun = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
    location = begun.headers["Location"]
    client.put(
        f"{location}{'&' if '?' in location else '?'}digest={blob.digest}",
        content=blob.content,
        headers={"Content-Type": "application/octet-stream"},
    ).raise_for_status()


def push_manifest(client: httpx.Client, repository: str, reference: str, manifest: Blob) -> None:
    """Write a manifest under a tag or digest."""
    client.put(
        f"/v2/{repository}/manifests/{reference}",
        content=manifest.content,
        headers={"Content-Type": manifest.media_type},
    ).raise_for_status()


def push_image(client: httpx.Client, repository: str, tag: str, sample: Image) -> None:
    """Upload an image."""
    for blob in sample.blobs:
        push_blob(client, repository, blob)
    push_manifest(client, repository, tag, sample.manifest)


def push_index(client: httpx.Client, repository: str, tag: str, sample: MultiImage) -> None:
    """Upload an index with its images."""
    for _, each in sample.images:
        push_image(client, repository, each.manifest.digest, each)
    push_manifest(client, repository, tag, sample.index)


def pull_manifest(client: httpx.Client, repository: str, reference: str) -> Blob | None:
    """Read a manifest's exact bytes; None when it is not there."""
    accept = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
    answer = client.get(f"/v2/{repository}/manifests/{reference}", headers={"Accept": accept})
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    answer.raise_for_status()
    return Blob(answer.headers["Content-Type"], answer.content)


def pull_blob(client: httpx.Client, repository: str, digest: str) -> bytes | None:
    """Read a blob; None when it is not there."""
    answer = client.get(f"/v2/{repository}/blobs/{digest}")
    return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().content
