"""Two registries and an engine between them, for all tests of copies between registries."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network

import httpx

from controller.engines.copy_limits import CopyLimits
from controller.engines.registry_copy import RegistryCopy
from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.oci.platforms import LINUX_AMD64, Platform
from controller.registry.registries import ClientPolicy, Registries
from reconcile.copying_ports import CopiedImage
from reconcile.lrps import Credentials, Secret
from reconcile.references import CacheGuid, CacheRepositories, Digest, parse_image_reference
from reconcile.trust import BlobHolder, Reader
from tests.simulators import images
from tests.simulators.registry import RegistrySimulator

GUID = "9b2f0a4e-5d0c-4c3e-9a52-2f0c8f6c2b11"
HOLDER = CacheGuid("1c0de7a8-0000-4000-8000-000000000001")
SAMPLE = images.image([images.layer(2_500_000, 1), images.layer(50_000, 2), images.layer(3, 3)])
SMALL_BUFFER = CopyLimits(buffer=65536)
UNHURRIED = Timeouts(connect=600.0, idle=600.0, total=600.0, window=600.0)
"""Nothing that stalls ends by itself within a test."""
MARKER = Credentials("alice", Secret("marker-password"))


class Holders:
    """Which cached image holds which blob."""

    def __init__(self) -> None:
        self.of: dict[Digest, CacheGuid] = {}

    async def find_holders(self, blobs: Iterable[Digest], reader: Reader | None) -> dict[Digest, BlobHolder]:
        del reader
        return {blob: BlobHolder(self.of[blob]) for blob in blobs if blob in self.of}


async def threads_ended() -> None:
    """Wait until no thread of an engine is left; those of one that is closed end when their work does."""
    async with asyncio.timeout(60.0):
        while any(each.name.startswith(("copy", "start-upload")) for each in threading.enumerate()):  # noqa: ASYNC110 - the end of a thread sets no event
            await asyncio.sleep(0.01)


class Scene:
    """Two registries and an engine between them."""

    def __init__(self, source: RegistrySimulator, private: RegistrySimulator) -> None:
        self.source, self.private = source, private
        self.holders = Holders()
        self.image = parse_image_reference(f"{source.address}/team/app:1")
        self.alias = f"localhost:{source.address.rpartition(':')[2]}"
        """Another name of the source, so that it counts as another registry."""
        self.target = parse_image_reference(f"{private.address}/{GUID}:latest")
        self.policy = ClientPolicy()
        self.source_hosts: tuple[str, ...] = ()
        self.engines: list[RegistryCopy] = []

    def engine(
        self,
        *,
        platform: Platform | None = LINUX_AMD64,
        limits: CopyLimits = SMALL_BUFFER,
        login: Credentials | None = None,
    ) -> RegistryCopy:
        client = Registries(
            {
                self.source.address: RegistrySettings(
                    plain_http=True,
                    allowed_networks=(ip_network("127.0.0.0/8"),),
                    other_hosts=self.source_hosts,
                ),
                self.alias: RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),)),
                self.private.address: RegistrySettings(plain_http=True, any_address=True, credentials=login),
            },
            timeouts=UNHURRIED,
            retries=Retries(attempts=2, first_wait=0.0, longest_wait=0.0, login_wait=0.0),
            policy=self.policy,
        )
        repositories = CacheRepositories(self.private.address)
        engine = RegistryCopy(client, repositories, self.holders, platform=platform, limits=limits)
        self.engines.append(engine)
        return engine

    async def push(self, sample: images.Image | images.MultiImage, tag: str = "1") -> None:
        def work() -> None:
            with httpx.Client(base_url=self.source.url) as client:
                if isinstance(sample, images.Image):
                    images.push_image(client, "team/app", tag, sample)
                else:
                    images.push_index(client, "team/app", tag, sample)

        await asyncio.to_thread(work)
        self.source.forget_requests()

    async def copy(
        self, engine: RegistryCopy | None = None, credentials: Credentials | None = None
    ) -> CopiedImage:
        engine = engine or self.engine()
        resolved = await engine.resolve(self.image, credentials)
        return await engine.copy(resolved, self.target, credentials)

    async def copy_to(self, guid: str, engine: RegistryCopy) -> CopiedImage:
        """Copy to another target, as another content's GUID would be."""
        resolved = await engine.resolve(self.image, None)
        return await engine.copy(resolved, replace(self.target, path=guid), None)

    async def copied(self, reference: str = "latest", guid: str = GUID) -> images.Blob | None:
        def work() -> images.Blob | None:
            with httpx.Client(base_url=self.private.url) as client:
                return images.pull_manifest(client, guid, reference)

        return await asyncio.to_thread(work)
