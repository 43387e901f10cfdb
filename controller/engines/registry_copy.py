"""Copies images from registry to registry, blob by blob, manifest last.

The byte-exact engine: manifests are never written anew, so what runs from the copy has the
digest that the source served. Transfers run in threads; cancelling the awaiting task shuts
their sockets down and waits until they have ended.
"""

import asyncio
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from weakref import WeakValueDictionary

from controller.engines.blob_transfer import Copying
from controller.engines.copy_plan import CopyLimits, CopyPlan, read_plan, stored_digest
from controller.engines.flights import Flights
from controller.engines.lookups import Lookups, in_thread
from controller.engines.progress import CopyProgress, ProgressMeter
from controller.engines.signatures import copy_signatures
from controller.engines.transfer import Transfer
from controller.registry.cancellation import Cancellation
from controller.registry.client import Registries
from controller.registry.manifests import Index
from controller.registry.platforms import LINUX_AMD64, Platform
from reconcile.errors import Invalid
from reconcile.images import CacheRepositories, Digest, ImageReference
from reconcile.lrps import Credentials
from reconcile.ports import BlobLocations, CopiedImage, ResolvedImage, Signatures, SourceContent, TargetState


class RegistryCopy:
    """The engine `registry`; close it when the copies have ended.

    Args:
        registries: Opens source and private repositories.
        repositories: Where copies lie, to mount blobs from other cached images.
        locations: Which cached image holds a blob.
        limits: What a copy may cost.
        platform: The one manifest that is copied out of an index; None copies whole indexes.
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
        self._registries, self._repositories, self._locations = registries, repositories, locations
        self._limits, self._platform = limits, platform
        self._threads = ThreadPoolExecutor(limits.copies_at_a_time, thread_name_prefix="copy")
        self._lookups = Lookups(registries, platform=platform, at_a_time=limits.copies_at_a_time)
        self._flights = Flights()
        # Each copy has as many as it may use at a time, and one that waits for them inside another call.
        most = limits.copies_at_a_time * (limits.blobs_at_a_time + 1)
        self._workers = ThreadPoolExecutor(most, thread_name_prefix="copy-blob")
        self._buffers = threading.local()
        self._aside = ThreadPoolExecutor(most, thread_name_prefix="begin-upload")
        self._running: dict[ImageReference, ProgressMeter] = {}
        self._queues: WeakValueDictionary[ImageReference, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """Let go of threads and connections."""
        for threads in (self._threads, self._workers, self._aside):
            threads.shutdown(wait=False, cancel_futures=True)
        self._lookups.close()
        self._registries.close()

    def progress(self, target: ImageReference) -> CopyProgress | None:
        """Tell how far the copy to a target has come; None when there is none under way."""
        meter = self._running.get(target)
        return None if meter is None else meter.read()

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        """Ask the source registry what a reference stands for."""
        return await self._lookups.resolve(source, credentials)

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of, without any layer."""
        return await self._lookups.look_at(source, credentials, self._limits)

    async def copy(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        state: TargetState = TargetState.UNKNOWN,
    ) -> CopiedImage:
        """Copy and verify; repeating it after a crash finishes what was begun.

        Raises:
            Invalid: The source serves something that cannot be copied faithfully; nothing is visible
                under the target.
        """
        queue = self._queues.setdefault(target, asyncio.Lock())
        async with queue:
            meter = self._running[target] = ProgressMeter()
            try:
                copying = self._copying(image, target, credentials, meter=meter)
                return await self._copy(copying, image, state)
            finally:
                del self._running[target]

    def _copying(
        self,
        image: ResolvedImage,
        target: ImageReference,
        credentials: Credentials | None,
        *,
        meter: ProgressMeter,
    ) -> Copying:
        cancellation = Cancellation()
        source = self._registries.repository(image.source, credentials, cancellation)
        private = self._registries.repository(target, None, cancellation)
        return Copying(
            source,
            private,
            limits=self._limits,
            meter=meter,
            cancellation=cancellation,
            flights=self._flights,
            workers=self._workers,
            aside=self._aside,
            buffers=self._buffers,
        )

    async def _copy(self, copying: Copying, image: ResolvedImage, state: TargetState) -> CopiedImage:
        cancellation, private = copying.cancellation, copying.target.image

        def read() -> CopyPlan:
            plan = read_plan(
                copying.source, image.platform_digest, limits=self._limits, cancellation=cancellation
            )
            if isinstance(plan.root, Index) and self._platform is not None:
                raise Invalid("registry", "manifest-ambiguous", f"{image.source} is an index after all")
            return plan

        plan = await in_thread(read, self._threads, cancellation)
        holders = await self._find_holders((blob.digest for blob in plan.own_blobs), private.path)

        def move() -> CopiedImage:
            signatures = Signatures.SKIPPED
            if self._limits.copy_referrers:  # before the image is visible without them
                signatures = copy_signatures(copying, stored_digest(plan.root))
            copied = Transfer(copying, state).run(plan, private.version, holders)
            return replace(copied, signatures=signatures)

        return await in_thread(move, self._threads, cancellation)

    async def _find_holders(self, blobs: Iterable[Digest], own_path: str) -> dict[Digest, str]:
        held = await self._locations.find_holders(blobs)
        paths = {blob: self._repositories.image(guid).path for blob, guid in held.items()}
        return {blob: path for blob, path in paths.items() if path != own_path}

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest from the private registry, whose garbage collection frees the rest.

        Raises:
            NotFound: It is not there.
            Invalid: The registry does not delete.
        """
        await self._lookups.delete_copy(target, digest)

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy in the private registry and hash it.

        Raises:
            Invalid: It is not what it should be.
            NotFound: Something of it is missing.
        """
        await self._lookups.read_back(target, digest, self._limits)

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether the private registry serves a digest under the target's repository right now."""
        return await self._lookups.is_present(target, digest)
