"""Makes one copy through a docker daemon: pull by digest, tag, push, verify, clean up.

The daemon compresses layers again, so the pushed manifest has a digest of its own; "the same bytes"
here means the same config, and so the same files in every layer. The config's digest is compared
before the push, and again in what the private registry serves.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from controller.engines.cell_rules import CellRules
from controller.engines.contents import CopyContents, read_contents, stored_digest
from controller.engines.copy_limits import CopyLimits
from controller.engines.docker_client import DockerClient, LocalImage
from controller.engines.docker_stream import LayerProgress
from controller.engines.progress import ProgressMeter
from controller.registry.oci.blob_probes import why_not_held
from controller.registry.oci.manifests import Descriptor, Manifest
from controller.registry.oci.platforms import Platform
from controller.registry.oci.repository import Repository
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_parallel
from reconcile.copying_ports import CopiedImage, ResolvedImage
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable
from reconcile.lrps import Credentials
from reconcile.references import CacheRepositories, Digest, ImageReference

log = structlog.get_logger(scope="engine")

ResultT = TypeVar("ResultT")

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SECONDS_TO_REMOVE = 60.0
"""Seconds that the daemon may send nothing while it deletes the files of an image."""


@dataclass(frozen=True, slots=True)
class DockerDaemon:
    """The docker daemon that copies.

    Attributes:
        socket_path: Path of its Unix socket.
        idle: Seconds that it may send nothing during a request.
    """

    socket_path: str
    idle: float

    def open(self, cancellation: Cancellation) -> DockerClient:
        """Open a client, whose requests the cancellation ends."""
        return DockerClient(self.socket_path, idle=self.idle, cancellation=cancellation)

    @contextmanager
    def untagging(self, reference: str) -> Iterator[None]:
        """Untag an image at the end of a block, whether or not the copy was cancelled."""
        try:
            yield
        finally:
            idle = min(self.idle, _SECONDS_TO_REMOVE)
            try:
                with DockerClient(self.socket_path, idle=idle, cancellation=Cancellation()) as client:
                    client.untag(reference)
            except DockerCacheError as error:
                log.info("left-image-in-daemon", cache_image=reference, error=str(error))


@dataclass(frozen=True, slots=True)
class DockerCopyRequest:
    """What is copied, and where to.

    No other copy in the daemon may use the same source or target at the same time.
    """

    image: ResolvedImage
    target: ImageReference
    credentials: Credentials | None
    platform: Platform


class DockerJob:
    """One copy that is being made; its methods block."""

    def __init__(
        self,
        request: DockerCopyRequest,
        registries: Registries,
        *,
        limits: CopyLimits,
        meter: ProgressMeter,
        cancellation: Cancellation,
    ) -> None:
        self._request, self._registries = request, registries
        self._limits, self._meter, self._cancellation = limits, meter, cancellation
        self._source = registries.repository(request.image.source, request.credentials, cancellation)
        self._private = registries.repository(request.target, None, cancellation)

    def run(self, daemon: DockerDaemon) -> CopiedImage:
        """Copy, and at the end untag the images in the daemon that the copy has added."""
        manifest = self._read_source()
        pulled = self._source.image.at(stored_digest(manifest))
        self._meter.set_total(2 * sum(_sizes(manifest).values()))  # each layer is pulled, and then pushed
        with daemon.open(self._cancellation) as client, ExitStack() as cleanup:
            if client.find_image(str(pulled)) is None:
                cleanup.enter_context(daemon.untagging(str(pulled)))
            local = self._pull(client, pulled, manifest)
            cleanup.enter_context(daemon.untagging(str(self._private.image)))
            return self._verify(manifest, self._push(client, local, manifest))

    def _read_source(self) -> Manifest:
        digest = self._request.image.platform_digest
        contents = read_contents(self._source, digest, limits=self._limits, cancellation=self._cancellation)
        subject = self._request.image.source
        check_repackable(contents, subject)
        if not isinstance(contents.root, Manifest):
            raise Invalid("registry", "manifest-ambiguous", f"{subject} is an index after all")
        if any(layer.is_foreign for layer in contents.root.layers):
            raise Invalid("docker", "foreign-layer", f"{subject} has a foreign layer, which is not pushed")
        return contents.root

    def _pull(self, client: DockerClient, pulled: ImageReference, manifest: Manifest) -> LocalImage:
        def pull(login: Credentials | None) -> None:
            progress = LayerProgress(self._meter, _sizes(manifest))
            for event in client.pull(pulled, platform=str(self._request.platform), credentials=login):
                progress.record(event)

        self._with_login(pulled, self._request.credentials, pull)
        local = client.find_image(str(pulled))
        if local is None:
            raise Unavailable("docker", "stream-cut", f"pull {pulled}: it ended without an image")
        if local.image_id not in {manifest.config.digest, stored_digest(manifest)}:
            raise Invalid("docker", "image-changed", f"{pulled}: the daemon holds it as {local.image_id}")
        return local

    def _push(self, client: DockerClient, local: LocalImage, manifest: Manifest) -> Digest:
        target = self._private.image
        try:
            client.tag(local.image_id, target)
        except NotFound as error:  # somebody removed the image; the source still has it
            raise Unavailable("docker", "image-gone", error.detail) from error
        layers = zip(local.layers, manifest.layers, strict=False)
        sizes = {diff_id: layer.size for diff_id, layer in layers}

        def push(login: Credentials | None) -> Digest | None:
            progress, digest = LayerProgress(self._meter, sizes), None
            for event in client.push(target, credentials=login):
                progress.record(event)
                digest = event.digest or digest
            return digest

        digest = self._with_login(target, None, push)
        if digest is None:
            raise Unavailable("docker", "stream-cut", f"push {target}: it ended without a digest")
        return digest

    def _with_login(
        self, image: ImageReference, own: Credentials | None, use: Callable[[Credentials | None], ResultT]
    ) -> ResultT:
        """Call a function with the login for an image, and again with a newer one if the login is refused."""
        login = self._registries.login(image, own)
        try:
            return use(login)
        except Denied:
            newer = self._registries.login(image, own, refused=login)
            if newer is None or newer == login:
                raise
            return use(newer)

    def _verify(self, source: Manifest, digest: Digest) -> CopiedImage:
        """Verify what the private registry serves after the push."""
        subject = f"{self._private.image.repository}@{digest}"
        try:
            manifest = self._private.fetch_manifest(str(digest))
            tagged = self._private.head_manifest(self._private.image.tag_or_digest).digest
        except NotFound as error:
            raise Unavailable(
                "registry", ErrorCode.NOT_VERIFIED, f"{subject} is not there after its push"
            ) from error
        if not isinstance(manifest, Manifest) or manifest.config.digest != source.config.digest:
            raise Invalid("docker", "image-changed", f"{subject} is not the image {source.config.digest}")
        if tagged not in {digest, None}:
            raise Unavailable(
                "registry", ErrorCode.NOT_VERIFIED, f"{self._private.image} is {tagged}, not {digest}"
            )
        blobs = manifest.blobs()
        in_parallel(
            lambda blob: _check(self._private, blob),
            blobs,
            most=self._limits.blobs_at_a_time,
            cancellation=self._cancellation,
        )
        size = len(manifest.raw) + sum(blob.size for blob in blobs)
        sizes = {blob.digest: blob.size for blob in blobs}
        return CopiedImage(digest=digest, size=size, transferred=size, blobs=tuple(sizes), sizes=sizes)


def _sizes(manifest: Manifest) -> dict[Digest, int]:
    return {layer.digest: layer.size for layer in manifest.layers}


def _check(private: Repository, blob: Descriptor) -> None:
    why = why_not_held(private, blob)
    if why:
        raise Unavailable(
            "registry",
            ErrorCode.NOT_VERIFIED,
            f"{private.image.repository}@{blob.digest} {why} after its push",
        )


def check_repackable(contents: CopyContents, source: ImageReference) -> None:
    """Refuse an image that cells cannot run; most rules do not apply, since the daemon packs layers anew.

    Raises:
        Invalid: `cannot-run-on-cells`.
    """
    if isinstance(contents.root, Manifest):
        CellRules(contents.root, str(source)).check_has_layers()


def remove_leftovers(client: DockerClient, repositories: CacheRepositories) -> None:
    """Remove what a run that crashed left: cache images, and the references that they were pulled by.

    An image that also has other tags loses only the tags of cache images. A crash between the end of a pull
    and the tag that follows leaves an image that cannot be told from the images of others, and that stays.
    """
    name = re.escape(f"{repositories.address}/{repositories.template}").replace(r"\{guid\}", _UUID)
    for image in client.list_images():
        ours = [tag for tag in image.tags if re.fullmatch(name, tag)]
        for tag in ours:
            client.untag(tag)
        if ours and len(ours) == len(image.tags):
            for reference in image.digests:
                client.untag(reference)
