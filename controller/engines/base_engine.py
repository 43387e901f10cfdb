"""Implements all of an engine but the copy: every engine asks registries the same questions.

Blocking work runs in threads; cancelling the awaiting task shuts their sockets down.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from weakref import WeakValueDictionary

from controller.engines.contents import CopyContents, index_of, look_up, read_contents, resolve
from controller.engines.copy_limits import CopyLimits
from controller.engines.possession import Possession
from controller.engines.presence import find_missing
from controller.engines.progress import CopyProgress, ProgressMeter
from controller.engines.reading_back import read_back
from controller.engines.showing import show_blobs
from controller.registry.http.urls import parse_url
from controller.registry.oci.platforms import Platform
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.copying_ports import (
    CheckDepth,
    IndexContents,
    OpenUpload,
    ResolvedImage,
    Signatures,
    SourceContent,
)
from reconcile.errors import Invalid, NotFound
from reconcile.lrps import Credentials
from reconcile.references import Digest, ImageReference
from reconcile.trust import BlobHolder, Reader

_PLAN_LOOKUPS = 8
_PRIVATE_LOOKUPS = 16
"""Lookups at a time. The private registry is asked by passes, by checks and by jobs, for all tenants."""


class BaseEngine(ABC):
    """What all engines have in common; an engine adds `copy` and what it knows of cells.

    Args:
        registries: Opens source and private repositories.
        limits: Of every copy.
        platform: Of the one manifest that is copied out of an index; None copies whole indexes.
    """

    def __init__(self, registries: Registries, *, limits: CopyLimits, platform: Platform | None) -> None:
        self._registries, self._limits, self._platform = registries, limits, platform
        self._copy_threads = ThreadPoolExecutor(limits.copies_at_a_time, thread_name_prefix="copy")
        # Sources that do not answer delay neither each other's copies nor what the private registry is asked,
        # and a plan, or a copy that is read as a whole, delays neither.
        self._source_threads = ThreadPoolExecutor(limits.copies_at_a_time, thread_name_prefix="source")
        self._plan_threads = ThreadPoolExecutor(_PLAN_LOOKUPS, thread_name_prefix="plan")
        self._private_threads = ThreadPoolExecutor(_PRIVATE_LOOKUPS, thread_name_prefix="private")
        self._reading_threads = ThreadPoolExecutor(limits.copies_at_a_time, thread_name_prefix="read-back")
        self._running: dict[ImageReference, list[ProgressMeter]] = {}
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """End the threads and close the connections; the copies must have ended."""
        lookups = (self._source_threads, self._plan_threads, self._private_threads)
        for threads in (self._copy_threads, *lookups, self._reading_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        self._registries.close()

    def progress(self, target: ImageReference) -> CopyProgress | None:
        """Return how far a copy to a target has come, the foremost of several; None when there is none."""
        found = [meter.read() for meter in self._running.get(target, ())]
        return max(found, key=lambda each: each.transferred + each.skipped, default=None)

    @contextmanager
    def _metered(self, target: ImageReference) -> Iterator[ProgressMeter]:
        """Meter a copy to a target within a block, and let it know of others to the same target."""
        meter = ProgressMeter()
        meters = self._running.setdefault(target, [])
        meters.append(meter)
        if len(meters) > 1:
            for each in meters:
                each.has_concurrent_copy = True
        try:
            yield meter
        finally:
            meters.remove(meter)
            if not meters:
                del self._running[target]

    async def resolve(
        self,
        source: ImageReference,
        credentials: Credentials | None,
        *,
        indexes: IndexContents | None = None,
    ) -> ResolvedImage:
        """Resolve a reference to digests at the source registry; an index that is known is not read again."""
        cancellation = Cancellation()

        def look() -> ResolvedImage | tuple[Digest, Callable[[], ResolvedImage]]:
            repository = self._registries.repository(source, credentials, cancellation)
            head = look_up(repository, source)
            index = index_of(head, self._platform)
            if index is None or indexes is None:
                return resolve(repository, source, self._platform, head)
            return index, partial(resolve, repository, source, self._platform, head)

        found = await in_thread(look, self._source_threads, cancellation)
        if isinstance(found, ResolvedImage):
            return found
        index, read = found
        known = None if indexes is None else await indexes.find_in_index(index)
        if known is not None:
            return ResolvedImage(source, index, known)
        return await in_thread(read, self._source_threads, cancellation)

    async def show(self, image: ResolvedImage, credentials: Credentials | None, reader: Reader) -> int:
        """Let a source show an image, and return the number of bytes that were read.

        Raises:
            Invalid: The source does not serve what the digests name.
            NotFound: It does not hold all of the image.
        """
        cancellation = Cancellation(is_of_copy=True)
        repository = self._registries.repository(image.source, credentials, cancellation)

        def look() -> CopyContents:
            return read_contents(
                repository, image.platform_digest, limits=self._limits, cancellation=cancellation
            )

        contents = await in_thread(look, self._source_threads, cancellation)
        holders = await self._find_holders((blob.digest for blob in contents.own_blobs), reader)
        possession = Possession(repository, reader, holders, owns_target=lambda: False)

        def work() -> int:
            return show_blobs(
                repository, contents.own_blobs, possession, limits=self._limits, cancellation=cancellation
            )

        return await in_thread(work, self._copy_threads, cancellation)

    async def copy_signatures(
        self, image: ResolvedImage, target: ImageReference, credentials: Credentials | None, reader: Reader
    ) -> Signatures:
        """Add nothing to a copy: an engine that copies signatures does it otherwise."""
        del image, target, credentials, reader
        return Signatures.SKIPPED

    async def _find_holders(
        self, blobs: Iterable[Digest], reader: Reader | None
    ) -> Mapping[Digest, BlobHolder]:
        """Find which cached images hold blobs; none for an engine whose copies have other blobs."""
        del blobs, reader
        return {}

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of: its manifests alone, no layer."""
        cancellation = Cancellation()

        def work() -> SourceContent:
            repository = self._registries.repository(source, credentials, cancellation)
            digest = resolve(repository, source, self._platform).platform_digest
            contents = read_contents(repository, digest, limits=self._limits, cancellation=cancellation)
            self._check_runnable(contents, source)
            sizes = {blob.digest: blob.size for blob in contents.own_blobs}
            return SourceContent(digest, len(contents.documents), sizes)

        return await in_thread(work, self._plan_threads, cancellation)

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether the private registry serves a digest under the target's tag, as cells will ask for it."""
        cancellation = Cancellation()

        def work() -> bool:
            repository = self._registries.repository(target, None, cancellation)
            try:
                head = repository.head_manifest(target.tag_or_digest)
                return digest == (head.digest or repository.fetch_manifest(target.tag_or_digest).digest)
            except NotFound:
                return False

        return await in_thread(work, self._private_threads, cancellation)

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or damaged; empty when nothing is, as far as was looked."""
        cancellation = Cancellation()

        def work() -> str:
            repository = self._registries.repository(target, None, cancellation)
            return find_missing(repository, digest, depth, limits=self._limits, cancellation=cancellation)

        return await in_thread(work, self._private_threads, cancellation)

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest from the private registry, whose garbage collection frees the rest.

        Raises:
            NotFound: It is not there.
            Invalid: The registry does not allow deletion.
        """
        cancellation = Cancellation()

        def work() -> None:
            self._registries.repository(target, None, cancellation).delete_manifest(digest)

        await in_thread(work, self._private_threads, cancellation)

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while and are not done."""
        return ()

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        """Cancel an upload that an earlier process has left; return whether the registry has dropped it."""
        cancellation = Cancellation()

        def work() -> bool:
            with suppress(Invalid):
                repository = self._registries.repository(upload.target, None, cancellation)
                return repository.uploads.cancel(parse_url(upload.url))
            return False

        return await in_thread(work, self._private_threads, cancellation)

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        """Read every byte of a copy in the private registry and verify its digests.

        Raises:
            Invalid: `not-verified`, or it cannot be parsed as an image.
            NotFound: Something of it is missing.
        """
        cancellation = Cancellation()

        def work() -> None:
            repository = self._registries.repository(target, None, cancellation)
            read_back(repository, digest, limits=self._limits, cancellation=cancellation)

        await in_thread(work, self._reading_threads, cancellation)

    @abstractmethod
    def _check_runnable(self, contents: CopyContents, source: ImageReference) -> None:
        """Refuse an image whose copy cells would refuse by what its manifest shows.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """

    def _lock(self, key: object) -> asyncio.Lock:
        """Return the lock of a key, under which one copy runs at a time."""
        return self._locks.setdefault(key, asyncio.Lock())
