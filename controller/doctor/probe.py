"""Makes a small unique image that doctor pushes, pulls and deletes.

Its config and manifest are unique, so that deleting it removes no tag of another image, even where all copies
share one repository. It is a complete image, since some registries validate what they store.
"""

import gzip
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from controller.registry.oci.manifests import OCI_MANIFEST, Descriptor, Manifest, digest_of
from reconcile.references import CacheGuid, CacheRepositories, ImageReference

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_EMPTY_TAR = bytes(10240)


@dataclass(frozen=True, slots=True)
class Probe:
    """An image, its reference and its blobs."""

    image: ImageReference
    manifest: Manifest
    blobs: Mapping[Descriptor, bytes]


def make_probe(repositories: CacheRepositories) -> Probe:
    """Make an image under a new GUID."""
    guid = str(uuid.uuid4())
    layer = gzip.compress(_EMPTY_TAR, mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"diego-docker-cache.doctor": guid}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(_EMPTY_TAR).hexdigest()}"]},
    }
    contents = (json.dumps(config).encode(), layer)
    described = [_describe(kind, each) for kind, each in zip((_CONFIG, _LAYER), contents, strict=True)]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _entry(described[0]),
        "layers": [_entry(described[1])],
    }
    raw = json.dumps(document).encode()
    manifest = Manifest(raw, OCI_MANIFEST, digest_of(raw), described[0], (described[1],))
    return Probe(repositories.image(CacheGuid(guid)), manifest, dict(zip(described, contents, strict=True)))


def _describe(media_type: str, content: bytes) -> Descriptor:
    return Descriptor(media_type, digest_of(content), len(content))


def _entry(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
