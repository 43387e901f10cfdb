"""Copies images from registry to registry, blob by blob and the manifest last: the engine `registry`.

The copy is byte-exact: manifests are not serialised again, so what runs from the copy has the
digest that the source served. Transfers run in threads; cancelling the awaiting task shuts their
sockets down and waits until they have ended.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from controller.engines.base_engine import BaseEngine
from controller.engines.cell_rules import ANY_BLOB, CellRules
from controller.engines.contents import CopyContents, read_contents, stored_digest
from controller.engines.copy_context import CopyContext, TransferResources
from controller.engines.copy_limits import CopyLimits
from controller.engines.index_signatures import find_signatures_of_index
from controller.engines.possession import Possession
from controller.engines.progress import ProgressMeter
from controller.engines.signatures import copy_signatures
from controller.engines.transfer import Transfer
from controller.registry.oci.manifests import Index, Manifest
from controller.registry.oci.platforms import LINUX_AMD64, Platform
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.copying_ports import (
    BlobLocations,
    CopiedImage,
    OpenUpload,
    ResolvedImage,
    Signatures,
    TargetState,
)
from reconcile.errors import DockerCacheError, Invalid, NotFound
from reconcile.lrps import Credentials
from reconcile.references import CacheRepositories, Digest, ImageReference
from reconcile.trust import BlobHolder, Reader


class RegistryCopy(BaseEngine):
    """The engine `registry`; close it when the copies have ended.

    Args:
        registries: Opens source and private repositories.
        repositories: Where the copies are, to mount blobs from other cached images.
        locations: Finds the cached image that holds a blob.
        limits: Of every copy.
        platform: Of the one manifest that is copied out of an index; None copies whole indexes.
    """

    def __init__(
        self,
        registries: Registries,
        repositories: CacheRepositories,
        locations: BlobLocations,
        *,
        limits: CopyLimits = CopyLimits(),  # noqa: B008 - a frozen value
        platform: Platform | None = LINUX_AMD64,
    ) -> None:
        super().__init__(registries, limits=limits, platform=platform)
        self._repositories, self._locations = repositories, locations
        self._resources = TransferResources(limits, registries.slowest)

    async def close(self) -> None:
        """End the threads and close the connections; the copies must have ended."""
        self._resources.close()
        await super().close()

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while and are not done."""
        return self._resources.open_uploads.list_long()

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
        reader: Reader | None = None,
    ) -> CopiedImage:
        """Copy and verify; a repetition after a crash completes what was started.

        Two copies to one target may be made at the same time, each from its own source: they write the same.

        Raises:
            Invalid: The source serves something that cannot be copied faithfully, or that cells refuse;
                nothing is visible under the target.
        """
        with self._metered(target) as meter, meter.noting_bytes_in_errors():
            context = self._context(image, target, credentials, meter=meter, reader=reader)
            return await self._copy(context, image, state, reader)

    async def copy_signatures(
        self, image: ResolvedImage, target: ImageReference, credentials: Credentials | None, reader: Reader
    ) -> Signatures:
        """Add to a finished copy the signatures that another source has of it; its own ones stay."""
        if not self._limits.copy_referrers:
            return Signatures.SKIPPED
        async with self._lock(target):
            context = self._context(image, target, credentials, meter=ProgressMeter(), reader=reader)
            return await in_thread(
                lambda: copy_signatures(context, image.platform_digest, keeps_tags=True),
                self._copy_threads,
                context.cancellation,
            )

    def _context(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        meter: ProgressMeter,
        reader: Reader | None,
    ) -> CopyContext:
        """Open source and target; of no blob is it known yet that it was shown before."""
        cancellation = Cancellation(is_of_copy=True)
        source = self._registries.repository(image.source, credentials, cancellation)
        return CopyContext(
            source=source,
            target=self._registries.repository(target, None, cancellation),
            meter=meter,
            cancellation=cancellation,
            resources=self._resources,
            possession=Possession(source, reader, {}, owns_target=lambda: False),
        )

    async def _copy(
        self, context: CopyContext, image: ResolvedImage, state: TargetState, reader: Reader | None
    ) -> CopiedImage:
        cancellation, private = context.cancellation, context.target.image
        meter = context.meter

        def read() -> CopyContents:
            contents = self._read_kept(context, image.platform_digest) if state.is_bad else None
            contents = contents or read_contents(
                context.source, image.platform_digest, limits=self._limits, cancellation=cancellation
            )
            if isinstance(contents.root, Index) and self._platform is not None:
                raise Invalid("registry", "manifest-ambiguous", f"{image.source} is an index after all")
            self._check_runnable(contents, image.source)
            return contents

        contents = await in_thread(read, self._copy_threads, cancellation)
        holders = await self._find_holders((blob.digest for blob in contents.own_blobs), reader)
        mount_sources = self._mount_sources(holders, private.path)
        began_own = state in {TargetState.EMPTY, TargetState.OWN}

        def owns_target() -> bool:
            return began_own and not meter.has_concurrent_copy

        possession = Possession(context.source, reader, holders, owns_target=owns_target)
        context = replace(context, possession=possession)

        def move() -> CopiedImage:
            signatures = Signatures.SKIPPED
            is_mended = state.is_bad
            if self._limits.copy_referrers and not is_mended:  # the image is never visible without them
                signatures = self._copy_signatures(context, image, contents)
            root = contents.root
            # Of an index that is copied whole it is not known which manifest a cell will take.
            checks = CellRules(root, str(image.source)) if isinstance(root, Manifest) else ANY_BLOB
            transfer = Transfer(context, state, checks=checks)
            copied = transfer.run(contents, private.tag_or_digest, mount_sources)
            if self._limits.copy_referrers and is_mended:  # they must not keep a copy from being mended
                with suppress(DockerCacheError):
                    signatures = self._copy_signatures(context, image, contents)
            return replace(copied, signatures=signatures)

        return await in_thread(move, self._copy_threads, cancellation)

    def _read_kept(self, context: CopyContext, digest: Digest) -> CopyContents | None:
        """Read the documents of a damaged copy where it lies; None when they are not all there.

        Often only its tag is gone, or a blob: then the source need not have the manifest any more.
        """
        try:
            return read_contents(
                context.target, digest, limits=self._limits, cancellation=context.cancellation
            )
        except (NotFound, Invalid):
            return None

    def _copy_signatures(
        self, context: CopyContext, image: ResolvedImage, contents: CopyContents
    ) -> Signatures:
        copied = copy_signatures(context, stored_digest(contents.root))
        if copied is Signatures.NONE and image.root_digest != image.platform_digest:
            return find_signatures_of_index(context.source, image.root_digest)
        return copied

    def _check_runnable(self, contents: CopyContents, source: ImageReference) -> None:
        if isinstance(contents.root, Manifest):
            CellRules(contents.root, str(source)).check_manifest()

    async def _find_holders(
        self, blobs: Iterable[Digest], reader: Reader | None
    ) -> Mapping[Digest, BlobHolder]:
        return await self._locations.find_holders(blobs, reader)

    def _mount_sources(self, holders: Mapping[Digest, BlobHolder], own_path: str) -> dict[Digest, str]:
        paths = {blob: self._repositories.image(each.cache_guid).path for blob, each in holders.items()}
        return {blob: path for blob, path in paths.items() if path != own_path}
