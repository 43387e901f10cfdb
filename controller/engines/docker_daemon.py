"""Copies images through a docker daemon, for sources that only the daemon can reach: the engine `docker`.

It is slower than the byte-exact engine, and the copy has another digest than the source; both are
recorded. Our own registry client resolves and verifies, so that both engines choose the same
platform and mean the same by "present". The daemon itself connects to the source: its network
decides which addresses it may reach.
"""

import asyncio
from dataclasses import dataclass

from controller.engines.base_engine import BaseEngine
from controller.engines.contents import CopyContents
from controller.engines.copy_limits import CopyLimits
from controller.engines.docker_job import (
    DockerCopyRequest,
    DockerDaemon,
    DockerJob,
    check_repackable,
    remove_leftovers,
)
from controller.engines.progress import ProgressMeter
from controller.registry.oci.platforms import LINUX_AMD64, Platform
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.copying_ports import CopiedImage, ResolvedImage, TargetState
from reconcile.errors import Unavailable
from reconcile.lrps import Credentials
from reconcile.references import CacheRepositories, ImageReference
from reconcile.trust import Reader


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Which daemon copies, and how long a copy may take.

    Attributes:
        address: Of the daemon's socket, such as "unix:///var/run/docker.sock".
        idle: Seconds that it may send nothing; it reports once a second while it waits before a retry.
        total: Seconds for one copy.
    """

    address: str
    idle: float = 180.0
    total: float = 3600.0

    @property
    def daemon(self) -> DockerDaemon:
        """The daemon at the address."""
        return DockerDaemon(self.address.removeprefix("unix://"), self.idle)


class DockerCopy(BaseEngine):
    """The engine `docker`; close it when the copies have ended.

    Args:
        registries: Opens source and private repositories.
        repositories: Where the copies are, to tell leftovers from other people's images.
        settings: Of the daemon, which should serve this engine alone where disk space is short.
        limits: Of every copy.
        platform: Of the one manifest that is copied out of an index.
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
        super().__init__(registries, limits=limits, platform=platform)
        self._repositories, self._settings, self._image_platform = repositories, settings, platform
        self._sweeping = asyncio.Lock()
        self._is_swept = False

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

        Raises:
            Invalid: The source serves something that cannot be copied faithfully; nothing is visible
                under the target.
            Unavailable: `daemon-disk-full` until somebody frees space on the daemon's disk, `deadline`.
        """
        del state, reader  # the daemon asks the private registry itself, and the source with this login
        await self._sweep()
        # One copy of the same content at a time, since each removes at its end what it has pulled. The
        # target's lock is always taken first.
        async with self._lock(target), self._lock(image.platform_digest):
            with self._metered(target) as meter, meter.noting_bytes_in_errors():
                return await self._copy(
                    DockerCopyRequest(image, target, credentials, self._image_platform), meter
                )

    def _check_runnable(self, contents: CopyContents, source: ImageReference) -> None:
        check_repackable(contents, source)

    async def _sweep(self) -> None:
        """Remove the leftovers of an earlier run, before the first copy of this one."""
        async with self._sweeping:
            if self._is_swept:
                return
            cancellation = Cancellation()

            def work() -> None:
                with self._settings.daemon.open(cancellation) as client:
                    remove_leftovers(client, self._repositories)

            await in_thread(work, self._copy_threads, cancellation)
            self._is_swept = True

    async def _copy(self, request: DockerCopyRequest, meter: ProgressMeter) -> CopiedImage:
        cancellation = Cancellation()

        def work() -> CopiedImage:
            copy = DockerJob(
                request, self._registries, limits=self._limits, meter=meter, cancellation=cancellation
            )
            return copy.run(self._settings.daemon)

        try:
            async with asyncio.timeout(self._settings.total):
                return await in_thread(work, self._copy_threads, cancellation)
        except TimeoutError as error:
            detail = f"copy {request.image.source}: not done after {self._settings.total:g} seconds"
            raise Unavailable("docker", "deadline", detail) from error
