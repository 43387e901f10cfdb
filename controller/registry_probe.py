"""Probes the private registry lightly: looks a manifest up, and uploads a small blob.

The requests have one attempt. What they show is noted where all requests are.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from controller.registry.oci.manifests import Descriptor, digest_of
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.canary import TASK_IMAGE
from reconcile.errors import DockerCacheError
from reconcile.references import CacheGuid, CacheRepositories

SIZE = 65536
"""Bytes of the blob: more than a file system has left that counts as full."""

_CONTENT = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(SIZE // 32))
"""The bytes of the blob: always the same, so that it is stored once; no compression makes it smaller."""


class RegistryProbe:
    """Asks the private registry, with the daemon's own login.

    Args:
        registries: Opens the private registry; how its requests end is known to whoever needs it.
        cache: The names of copies. The blob goes where canaries' images are.
    """

    def __init__(self, registries: Registries, cache: CacheRepositories) -> None:
        self._registries, self._cache = registries, cache
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="probe")

    async def close(self) -> None:
        """End the thread and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._registries.close)

    async def pull(self, copy: CacheGuid | None) -> None:
        """Look a copy up; None looks up one that may not exist."""
        target = self._cache.image(TASK_IMAGE if copy is None else copy)
        cancellation = Cancellation()

        def work() -> None:
            repository = self._registries.repository(target, None, cancellation)
            with suppress(DockerCacheError):
                if repository.head_manifest(target.tag_or_digest).digest is None:
                    repository.fetch_manifest(target.tag_or_digest)

        await in_thread(work, self._threads, cancellation)

    async def push(self) -> None:
        """Upload a blob."""
        blob = Descriptor("application/octet-stream", digest_of(_CONTENT), len(_CONTENT))
        cancellation = Cancellation()

        def work() -> None:
            repository = self._registries.repository(self._cache.image(TASK_IMAGE), None, cancellation)
            with suppress(DockerCacheError):
                repository.uploads.push(blob, _CONTENT)

        await in_thread(work, self._threads, cancellation)
