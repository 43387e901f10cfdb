"""What every engine asks of registries by itself: what a reference stands for, and whether a copy is there.

Blocking work runs in threads; cancelling the awaiting task shuts its sockets down.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from controller.engines.copy_plan import CopyLimits, read_plan, resolve
from controller.engines.reading_back import read_back
from controller.registry.cancellation import Cancellation
from controller.registry.client import Registries
from controller.registry.platforms import Platform
from reconcile.errors import NotFound
from reconcile.images import Digest, ImageReference
from reconcile.lrps import Credentials
from reconcile.ports import ResolvedImage, SourceContent

ResultT = TypeVar("ResultT")

_SECONDS_TO_STOP = 3.0
"""For a cancelled copy; a process that is told to stop has ten in all."""


class Lookups:
    """Short questions to registries, in threads of their own so that copies cannot starve them."""

    def __init__(self, registries: Registries, *, platform: Platform | None, at_a_time: int) -> None:
        self._registries, self._platform = registries, platform
        self._threads = ThreadPoolExecutor(at_a_time, thread_name_prefix="resolve")

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        """Ask the source registry what a reference stands for."""
        cancellation = Cancellation()

        def work() -> ResolvedImage:
            repository = self._registries.repository(source, credentials, cancellation)
            return resolve(repository, source, self._platform)

        return await in_thread(work, self._threads, cancellation)

    async def look_at(
        self, source: ImageReference, credentials: Credentials | None, limits: CopyLimits
    ) -> SourceContent:
        """Read at the source what a copy would consist of: its manifests alone, no layer."""
        cancellation = Cancellation()

        def work() -> SourceContent:
            repository = self._registries.repository(source, credentials, cancellation)
            digest = resolve(repository, source, self._platform).platform_digest
            plan = read_plan(repository, digest, limits=limits, cancellation=cancellation)
            sizes = {blob.digest: blob.size for blob in plan.own_blobs}
            return SourceContent(digest, len(plan.documents), sizes)

        return await in_thread(work, self._threads, cancellation)

    async def is_present(self, target: ImageReference, digest: Digest) -> bool:
        """Whether the private registry serves a digest under the target's tag right now, as a cell asks."""
        cancellation = Cancellation()

        def work() -> bool:
            repository = self._registries.repository(target, None, cancellation)
            try:
                head = repository.head_manifest(target.version)
                return digest == (head.digest or repository.fetch_manifest(target.version).digest)
            except NotFound:
                return False

        return await in_thread(work, self._threads, cancellation)

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        """Delete a copy's manifest from the private registry, whose garbage collection frees the rest.

        Raises:
            NotFound: It is not there.
            Invalid: The registry does not delete.
        """
        cancellation = Cancellation()

        def work() -> None:
            self._registries.repository(target, None, cancellation).delete_manifest(digest)

        await in_thread(work, self._threads, cancellation)

    async def read_back(self, target: ImageReference, digest: Digest, limits: CopyLimits) -> None:
        """Read every byte of a copy in the private registry and hash it.

        Raises:
            Invalid: `not-verified`, or it cannot be read as an image.
            NotFound: Something of it is missing.
        """
        cancellation = Cancellation()

        def work() -> None:
            repository = self._registries.repository(target, None, cancellation)
            read_back(repository, digest, limits=limits, cancellation=cancellation)

        await in_thread(work, self._threads, cancellation)


async def in_thread(
    work: Callable[[], ResultT], threads: ThreadPoolExecutor, cancellation: Cancellation
) -> ResultT:
    """Run blocking work; when the caller is cancelled, stop it and wait for its end."""
    running = threads.submit(work)
    future = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancellation.cancel()
        running.cancel()  # if it has not begun
        await asyncio.wait([future], timeout=_SECONDS_TO_STOP)
        if future.done() and not future.cancelled():
            future.exception()
        raise
