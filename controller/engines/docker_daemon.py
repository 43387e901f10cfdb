"""Copies images through a docker daemon, where it alone reaches the source: the engine `docker`.

Slower than the byte-exact engine, and the copy has another digest than the source. Both are
recorded. Resolving and verifying are done with our own registry client, so that both engines
choose the same platform and mean the same by "present". The daemon itself connects to the
source: which addresses it may reach is for its network to say.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakValueDictionary

from controller.engines.copy_plan import CopyLimits
from controller.engines.docker_job import Daemon, DockerJob, Job, remove_leftovers
from controller.engines.lookups import Lookups, in_thread
from controller.engines.progress import CopyProgress, ProgressMeter
from controller.registry.cancellation import Cancellation
from controller.registry.client import Registries
from controller.registry.platforms import LINUX_AMD64, Platform
from reconcile.errors import Unavailable
from reconcile.images import CacheRepositories, Digest, ImageReference
from reconcile.lrps import Credentials
from reconcile.ports import CopiedImage, ResolvedImage, SourceContent, TargetState


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Which daemon copies, and how long it may take.

    Attributes:
        address: Of its socket, such as "unix:///var/run/docker.sock".
        idle: Seconds without a word of it; while it waits to try again it says so each second.
        total: Seconds for one copy, whatever it says.
    """

    address: str
    idle: float = 180.0
    total: float = 3600.0

    @property
    def daemon(self) -> Daemon:
        """Name the daemon."""
        return Daemon(self.address.removeprefix("unix://"), self.idle)


class DockerCopy:
    """The engine `docker`; close it when the copies have ended.

    Args:
        registries: Opens source and private repositories.
        repositories: Where copies lie, to tell leftovers from other people's images.
        settings: The daemon, for this engine alone if disk space matters.
        limits: What a copy may cost.
        platform: The one manifest that is copied out of an index.
    """

    def __init__(
        self,
        registries: Registries,
        repositories: CacheRepositories,
        settings: DaemonSettings,
        *,
        limits: CopyLimits = CopyLimits(),  # noqa: B008 - a frozen value
        platform: Platform = LINUX_AMD64,
    ) -> None:
        self._registries, self._repositories, self._settings = registries, repositories, settings
        self._limits, self._platform = limits, platform
        self._threads = ThreadPoolExecutor(limits.copies_at_a_time, thread_name_prefix="docker-copy")
        self._lookups = Lookups(registries, platform=platform, at_a_time=limits.copies_at_a_time)
        self._running: dict[ImageReference, ProgressMeter] = {}
        self._queues: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()
        self._first = asyncio.Lock()
        self._is_swept = False

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._lookups.close()
        self._registries.close()

    def progress(self, target: ImageReference) -> CopyProgress | None:
        """Tell how far the copy to a target has come, each byte once for pull and once for push.

        None when there is none under way.
        """
        meter = self._running.get(target)
        return None if meter is None else meter.read()

    async def resolve(self, source: ImageReference, credentials: Credentials | None) -> ResolvedImage:
        """Ask the source registry what a reference stands for."""
        return await self._lookups.resolve(source, credentials)

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of, without any layer."""
        return await self._lookups.look_at(source, credentials, self._limits)

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
            Unavailable: `daemon-disk-full` until somebody frees space on the daemon's disk, `deadline`.
        """
        del state  # docker asks the private registry itself
        await self._sweep()
        # One copy of some content at a time: what it has pulled is removed at its end. The target's
        # lock is always taken first.
        async with self._queue(target), self._queue(image.platform_digest):
            meter = self._running[target] = ProgressMeter()
            try:
                return await self._copy(Job(image, target, credentials, self._platform), meter)
            finally:
                del self._running[target]

    def _queue(self, key: object) -> asyncio.Lock:
        return self._queues.setdefault(key, asyncio.Lock())

    async def _sweep(self) -> None:
        """Remove an earlier run's leftovers, before the first copy of this one."""
        async with self._first:
            if self._is_swept:
                return
            cancellation = Cancellation()

            def work() -> None:
                with self._settings.daemon.open(cancellation) as client:
                    remove_leftovers(client, self._repositories)

            await in_thread(work, self._threads, cancellation)
            self._is_swept = True

    async def _copy(self, job: Job, meter: ProgressMeter) -> CopiedImage:
        cancellation = Cancellation()

        def work() -> CopiedImage:
            copy = DockerJob(
                job, self._registries, limits=self._limits, meter=meter, cancellation=cancellation
            )
            return copy.run(self._settings.daemon)

        try:
            async with asyncio.timeout(self._settings.total):
                return await in_thread(work, self._threads, cancellation)
        except TimeoutError as error:
            detail = f"copy {job.image.source}: not done after {self._settings.total:g} seconds"
            raise Unavailable("docker", "deadline", detail) from error
