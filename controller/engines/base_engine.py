"""Implements all of an engine but the copy: every engine asks registries the same questions.

Blocking work runs in threads; cancelling the awaiting task shuts their sockets down.
"""

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from weakref import WeakValueDictionary

from controller.engines.contents import CopyContents, read_contents, resolve
from controller.engines.copy_limits import CopyLimits
from controller.engines.presence import find_missing
from controller.engines.progress import CopyProgress, ProgressMeter
from controller.engines.reading_back import read_back
from controller.registry.http.urls import parse_url
from controller.registry.oci.platforms import Platform
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.copying_ports import CheckDepth, OpenUpload, ResolvedImage, SourceContent
from reconcile.errors import Invalid, NotFound
from reconcile.lrps import Credentials
from reconcile.references import Digest, ImageReference


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
        # Of their own, so that copies cannot delay them.
        self._lookup_threads = ThreadPoolExecutor(limits.copies_at_a_time, thread_name_prefix="lookup")
        self._running: dict[ImageReference, ProgressMeter] = {}
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def close(self) -> None:
        """End the threads and close the connections; the copies must have ended."""
        for threads in (self._copy_threads, self._lookup_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        self._registries.close()

    def progress(self, target: ImageReference) -> CopyProgress | None:
        """Return how far the copy to a target has come; None when none is under way."""
        meter = self._running.get(target)
        return None if meter is None else meter.read()

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        """Resolve a reference to digests at the source registry."""
        cancellation = Cancellation()

        def work() -> ResolvedImage:
            repository = self._registries.repository(source, credentials, cancellation)
            return resolve(repository, source, self._platform)

        return await in_thread(work, self._lookup_threads, cancellation)

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

        return await in_thread(work, self._lookup_threads, cancellation)

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

        return await in_thread(work, self._lookup_threads, cancellation)

    async def find_missing(self, target: ImageReference, digest: Digest, depth: CheckDepth) -> str:
        """Say what of a copy is missing or damaged; empty when nothing is, as far as was looked."""
        cancellation = Cancellation()

        def work() -> str:
            repository = self._registries.repository(target, None, cancellation)
            return find_missing(repository, digest, depth, limits=self._limits, cancellation=cancellation)

        return await in_thread(work, self._lookup_threads, cancellation)

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest from the private registry, whose garbage collection frees the rest.

        Raises:
            NotFound: It is not there.
            Invalid: The registry does not allow deletion.
        """
        cancellation = Cancellation()

        def work() -> None:
            self._registries.repository(target, None, cancellation).delete_manifest(digest)

        await in_thread(work, self._lookup_threads, cancellation)

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while and are not done."""
        return ()

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        """Cancel an upload that an earlier process has left; return whether the registry has dropped it."""
        cancellation = Cancellation()

        def work() -> bool:
            with suppress(Invalid):
                repository = self._registries.repository(upload.target, None, cancellation)
                return repository.cancel_upload(parse_url(upload.url))
            return False

        return await in_thread(work, self._lookup_threads, cancellation)

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

        await in_thread(work, self._lookup_threads, cancellation)

    @abstractmethod
    def _check_runnable(self, contents: CopyContents, source: ImageReference) -> None:
        """Refuse an image whose copy cells would refuse by what its manifest shows.

        Raises:
            Invalid: `cannot-run-on-cells`.
        """

    def _lock(self, key: object) -> asyncio.Lock:
        """Return the lock of a key, under which one copy runs at a time."""
        return self._locks.setdefault(key, asyncio.Lock())
