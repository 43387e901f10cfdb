"""Makes and pulls the probe image: a small image that `doctor` pushes, pulls and deletes.

Its config and manifest are unique, so that deleting the manifest removes no tag of another image, even when
all copies share one repository. The image is complete, since some registries validate the images they store.
"""

import gzip
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from controller.registry.oci.blobs import read_blob
from controller.registry.oci.manifests import OCI_MANIFEST, Descriptor, Index, Manifest, digest_of
from controller.registry.oci.repository import Repository
from reconcile.references import CacheGuid, CacheRepositories, ImageReference

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_EMPTY_TAR = bytes(10240)


@dataclass(frozen=True, slots=True)
class ProbeImage:
    """The probe image: its reference, its manifest and its blobs."""

    reference: ImageReference
    manifest: Manifest
    blobs: Mapping[Descriptor, bytes]


def make_probe_image(repositories: CacheRepositories) -> ProbeImage:
    """Make a probe image with a new GUID."""
    guid = str(uuid.uuid4())
    layer = gzip.compress(_EMPTY_TAR, mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"diego-docker-cache.doctor": guid}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(_EMPTY_TAR).hexdigest()}"]},
    }
    contents = (json.dumps(config).encode(), layer)
    descriptors = [
        _descriptor(media_type, each) for media_type, each in zip((_CONFIG, _LAYER), contents, strict=True)
    ]
    manifest_json = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor_json(descriptors[0]),
        "layers": [_descriptor_json(descriptors[1])],
    }
    raw = json.dumps(manifest_json).encode()
    manifest = Manifest(raw, OCI_MANIFEST, digest_of(raw), descriptors[0], (descriptors[1],))
    return ProbeImage(
        repositories.image(CacheGuid(guid)), manifest, dict(zip(descriptors, contents, strict=True))
    )


def read_probe(repository: Repository, probe: ProbeImage) -> Manifest | Index:
    """Pull a probe image, all of its bytes, and return its manifest.

    Raises:
        DockerCacheError: It cannot be pulled, or its blobs are others than were pushed.
    """
    manifest = repository.fetch_manifest(probe.reference.tag_or_digest)
    for blob in probe.blobs:
        with read_blob(repository, blob, memoryview(bytearray(65536))) as reader:
            for _ in reader.pieces():
                pass  # the reader checks the digest
    return manifest


def _descriptor(media_type: str, content: bytes) -> Descriptor:
    return Descriptor(media_type, digest_of(content), len(content))


def _descriptor_json(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
