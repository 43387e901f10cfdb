"""One copy through a docker daemon, step by step: pull by digest, tag, push, prove, clean up.

The daemon packs layers anew, so the pushed manifest has a digest of its own; "the same bytes"
here means the same config, and so the same files in every layer. The config's digest is
compared before anything is pushed and again in what the private registry serves.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from controller.engines.copy_plan import CopyLimits, read_plan, stored_digest
from controller.engines.docker_client import DockerClient, LocalImage
from controller.engines.docker_stream import LayerProgress
from controller.engines.parallel import in_parallel
from controller.engines.progress import ProgressMeter
from controller.registry.cancellation import Cancellation
from controller.registry.client import Registries, Repository
from controller.registry.manifests import Descriptor, Manifest
from controller.registry.platforms import Platform
from reconcile.errors import DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.images import CacheRepositories, Digest, ImageReference
from reconcile.lrps import Credentials
from reconcile.ports import CopiedImage, ResolvedImage

log = structlog.get_logger(scope="engine")

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SECONDS_TO_REMOVE = 60.0
"""Of silence while an image is removed: the daemon deletes its files meanwhile."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """The docker daemon that copies, and how long it may be silent, in seconds."""

    socket_path: str
    idle: float

    def open(self, cancellation: Cancellation) -> DockerClient:
        """Speak to it until the cancellation ends that."""
        return DockerClient(self.socket_path, idle=self.idle, cancellation=cancellation)

    @contextmanager
    def untying(self, reference: str) -> Iterator[None]:
        """Take a name from its image at the end of a block, whether or not that was cancelled."""
        try:
            yield
        finally:
            idle = min(self.idle, _SECONDS_TO_REMOVE)
            try:
                with DockerClient(self.socket_path, idle=idle, cancellation=Cancellation()) as client:
                    client.untie(reference)
            except DockerCacheError as error:
                log.info("left-image-in-daemon", cache_image=reference, error=str(error))


@dataclass(frozen=True, slots=True)
class Job:
    """What is copied, and where to; its pulled reference and its target belong to it alone."""

    image: ResolvedImage
    target: ImageReference
    credentials: Credentials | None
    platform: Platform


class DockerJob:
    """One image on its way; its methods block."""

    def __init__(
        self,
        job: Job,
        registries: Registries,
        *,
        limits: CopyLimits,
        meter: ProgressMeter,
        cancellation: Cancellation,
    ) -> None:
        self._job, self._registries = job, registries
        self._limits, self._meter, self._cancellation = limits, meter, cancellation
        self._source = registries.repository(job.image.source, job.credentials, cancellation)
        self._private = registries.repository(job.target, None, cancellation)

    def run(self, daemon: Daemon) -> CopiedImage:
        """Copy, and leave nothing in the daemon that was not there before."""
        manifest = self._read_source()
        pulled = self._source.image.at(stored_digest(manifest))
        self._meter.expect(2 * sum(_sizes(manifest).values()))
        with daemon.open(self._cancellation) as client, ExitStack() as made:
            if client.find_image(str(pulled)) is None:
                made.enter_context(daemon.untying(str(pulled)))
            local = self._pull(client, pulled, manifest)
            made.enter_context(daemon.untying(str(self._private.image)))
            return self._verify(manifest, self._push(client, local, manifest))

    def _read_source(self) -> Manifest:
        digest = self._job.image.platform_digest
        plan = read_plan(self._source, digest, limits=self._limits, cancellation=self._cancellation)
        subject = f"{self._job.image.source}"
        if not isinstance(plan.root, Manifest):
            raise Invalid("registry", "manifest-ambiguous", f"{subject} is an index after all")
        if any(layer.urls for layer in plan.root.layers):
            raise Invalid("docker", "foreign-layer", f"{subject} has a foreign layer, which is not pushed")
        return plan.root

    def _pull(self, client: DockerClient, pulled: ImageReference, manifest: Manifest) -> LocalImage:
        progress = LayerProgress(self._meter, _sizes(manifest))
        login = self._job.credentials or self._registries.operator_login(pulled)
        for event in client.pull(pulled, platform=str(self._job.platform), credentials=login):
            progress.see(event)
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
        except NotFound as error:  # somebody removes images; the source still has it
            raise Unavailable("docker", "image-gone", error.detail) from error
        layers = zip(local.layers, manifest.layers, strict=False)
        progress = LayerProgress(self._meter, {diff_id: layer.size for diff_id, layer in layers})
        digest = None
        for event in client.push(target, credentials=self._registries.operator_login(target)):
            progress.see(event)
            digest = event.digest or digest
        if digest is None:
            raise Unavailable("docker", "stream-cut", f"push {target}: it ended without a digest")
        return digest

    def _verify(self, source: Manifest, digest: Digest) -> CopiedImage:
        """Read back what the private registry now serves."""
        subject = f"{self._private.image.repository}@{digest}"
        try:
            manifest = self._private.fetch_manifest(str(digest))
            tagged = self._private.head_manifest(self._private.image.version).digest
        except NotFound as error:
            raise Unavailable("registry", "not-verified", f"{subject} is not there after its push") from error
        if not isinstance(manifest, Manifest) or manifest.config.digest != source.config.digest:
            raise Invalid("docker", "image-changed", f"{subject} is not the image {source.config.digest}")
        if tagged not in {digest, None}:
            raise Unavailable("registry", "not-verified", f"{self._private.image} is {tagged}, not {digest}")
        blobs = manifest.blobs()
        in_parallel(
            lambda blob: _check(self._private, blob),
            blobs,
            most=self._limits.blobs_at_a_time,
            cancellation=self._cancellation,
        )
        size = len(manifest.raw) + sum(blob.size for blob in blobs)
        names = tuple(blob.digest for blob in blobs)
        return CopiedImage(digest=digest, size=size, transferred=size, blobs=names)


def _sizes(manifest: Manifest) -> dict[Digest, int]:
    return {layer.digest: layer.size for layer in manifest.layers}


def _check(private: Repository, blob: Descriptor) -> None:
    head = private.find_blob(blob.digest)
    if head is None or head.size not in {blob.size, None}:
        raise Unavailable(
            "registry",
            "not-verified",
            f"{private.image.repository}@{blob.digest} is not there after its push",
        )


def remove_leftovers(client: DockerClient, repositories: CacheRepositories) -> None:
    """Take away what a run that crashed has left: cache images, and what they were pulled as.

    An image that has a tag of somebody else loses ours only. A crash between the end of a pull
    and the tag that follows leaves an image that cannot be told from other people's.
    """
    name = re.escape(f"{repositories.address}/{repositories.template}").replace(r"\{guid\}", _UUID)
    for image in client.list_images():
        ours = [tag for tag in image.tags if re.fullmatch(name, tag)]
        for tag in ours:
            client.untie(tag)
        if ours and len(ours) == len(image.tags):
            for reference in image.digests:
                client.untie(reference)
