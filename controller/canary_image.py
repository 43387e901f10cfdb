"""Makes the image of a canary, and pushes it to the private registry under a name of its own.

Its layer is new each time, since a cell fetches no layer that it holds. The name is the same each time, so
that one canary replaces the last one. No record names it: it is no copy that is listed, verified or evicted.
"""

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from controller.canary_program import exiting_program, pausing_program
from controller.registry.oci.manifests import OCI_MANIFEST, Descriptor, Manifest, digest_of
from controller.registry.oci.platforms import LINUX_AMD64, Platform
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.canary import LRP_IMAGE, PROGRAM, TASK_IMAGE
from reconcile.errors import Denied, DockerCacheError, Invalid
from reconcile.pull_proof import CanaryKind
from reconcile.references import CacheGuid, CacheRepositories, ImageReference, Rootfs, rootfs_from_image_text

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CREATED_BY = "diego-docker-cache canary"


@dataclass(frozen=True, slots=True)
class CanaryImage:
    """An image: its manifest and its blobs."""

    manifest: Manifest
    blobs: Mapping[Descriptor, bytes]


def make_canary_image(kind: CanaryKind, platform: Platform = LINUX_AMD64) -> CanaryImage:
    """Make an image whose layer no cell has seen: the program, and a file with a random text."""
    program = exiting_program() if kind is CanaryKind.TASK else pausing_program()
    tar = _tar({PROGRAM.removeprefix("/"): program, "unique": uuid.uuid4().bytes})
    layer = gzip.compress(tar, mtime=0)
    config = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Cmd": [PROGRAM]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created_by": _CREATED_BY}],
    }
    contents = (json.dumps(config).encode(), layer)
    descriptors = tuple(
        Descriptor(media_type, digest_of(content), len(content))
        for media_type, content in zip((_CONFIG, _LAYER), contents, strict=True)
    )
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _json_of(descriptors[0]),
        "layers": [_json_of(descriptors[1])],
    }
    raw = json.dumps(document).encode()
    manifest = Manifest(raw, OCI_MANIFEST, digest_of(raw), descriptors[0], descriptors[1:])
    return CanaryImage(manifest, dict(zip(descriptors, contents, strict=True)))


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json_of(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


class CanaryImages:
    """Pushes canaries' images.

    Args:
        registries: Opens the private registry with the daemon's own login.
        cache: The names of copies; a canary's image is named as they are.
        platform: Of the cells.
    """

    def __init__(
        self, registries: Registries, cache: CacheRepositories, platform: Platform = LINUX_AMD64
    ) -> None:
        self._registries, self._cache, self._platform = registries, cache, platform
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="canary")

    async def close(self) -> None:
        """End the thread and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._registries.close)

    @asynccontextmanager
    async def pushed(self, kind: CanaryKind) -> AsyncIterator[Rootfs]:
        """Push a new image, and delete it at the end of the block where the registry allows it.

        Raises:
            DockerCacheError: It could not be pushed.
        """
        image = make_canary_image(kind, self._platform)
        cancellation = Cancellation()
        target = await in_thread(lambda: self._push(kind, image, cancellation), self._threads, cancellation)
        try:
            yield rootfs_from_image_text(str(target))
        finally:
            with suppress(DockerCacheError):  # the next one takes its name anyway
                await self._delete(target, image)

    def _push(self, kind: CanaryKind, image: CanaryImage, cancellation: Cancellation) -> ImageReference:
        fixed = TASK_IMAGE if kind is CanaryKind.TASK else LRP_IMAGE
        try:
            return self._push_as(fixed, image, cancellation)
        except (Denied, Invalid):
            # Some registries keep a tag from being pushed twice.
            return self._push_as(CacheGuid(str(uuid.uuid4())), image, cancellation)

    def _push_as(self, guid: CacheGuid, image: CanaryImage, cancellation: Cancellation) -> ImageReference:
        target = self._cache.image(guid)
        repository = self._registries.repository(target, None, cancellation)
        for blob, content in image.blobs.items():
            repository.uploads.push(blob, content)
        repository.push_manifest(image.manifest, target.tag_or_digest)
        return target

    async def _delete(self, target: ImageReference, image: CanaryImage) -> None:
        cancellation = Cancellation()

        def work() -> None:
            repository = self._registries.repository(target, None, cancellation)
            repository.delete_manifest(image.manifest.digest)

        await in_thread(work, self._threads, cancellation)
