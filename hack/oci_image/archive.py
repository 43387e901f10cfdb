"""Writes layers as one file: an OCI image layout in a tar archive, which `docker load` takes, too.

Facts: OCI image specification, image-layout.md, manifest.md and config.md (which reserves Healthcheck). What
docker reads is manifest.json, as `docker save` writes it.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.oci_image.layers import TIME, Layer

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a container of the image is started with, and what the image says of itself.

    Attributes:
        name: Of the repository, for those who load the image.
        created: RFC 3339 time.
        container: The `config` of the image configuration.
        labels: Annotations, which are labels as well.
    """

    name: str
    version: str
    architecture: str
    created: str
    container: Mapping[str, Any]
    labels: Mapping[str, str]


def write_archive(file: Path, layers: tuple[Layer, ...], settings: Settings) -> str:
    """Write the archive, and give the digest of the image's manifest."""
    config = _json(
        {
            "architecture": settings.architecture,
            "os": "linux",
            "created": settings.created,
            "config": dict(settings.container, Labels=dict(settings.labels)),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": settings.created, "comment": layer.comment} for layer in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [
                {"mediaType": _LAYER, "digest": layer.digest, "size": layer.file.stat().st_size}
                for layer in layers
            ],
            "annotations": settings.labels,
        }
    )
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX,
        "manifests": [
            {
                **_descriptor(_MANIFEST, manifest),
                "platform": {"architecture": settings.architecture, "os": "linux"},
                "annotations": {"org.opencontainers.image.ref.name": settings.version},
            }
        ],
    }
    loaded = [
        {
            "Config": _blob(_digest(config)),
            "RepoTags": [f"{settings.name}:{settings.version}"],
            "Layers": [_blob(layer.digest) for layer in layers],
        }
    ]
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json(loaded),
        _blob(_digest(config)): config,
        _blob(_digest(manifest)): manifest,
    }
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            archive.addfile(_member(name, len(content)), io.BytesIO(content))
        for layer in layers:
            with layer.file.open("rb") as opened:
                archive.addfile(_member(_blob(layer.digest), layer.file.stat().st_size), opened)
    return _digest(manifest)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, TIME, 0o644
    return member
