"""What any engine must do for us: each runs between real CNCF distribution registries."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Protocol

import httpx
import pytest

from controller.engines.docker_daemon import DaemonSettings, DockerCopy
from controller.engines.registry_copy import RegistryCopy
from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from reconcile.copying_ports import CopiedImage, ImageEngine
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound
from reconcile.lrps import Credentials, Secret
from reconcile.references import CacheRepositories, Digest, parse_digest, parse_image_reference
from reconcile.trust import BlobHolder, Reader
from tests.contracts.distribution import ALICE, Distribution, TlsFiles, run_distribution
from tests.contracts.docker_engine import DockerEngine, run_dockerd
from tests.simulators import images
from tests.simulators.certificates import Authority

GUID = "9b2f0a4e-5d0c-4c3e-9a52-2f0c8f6c2b11"
LOGIN = Credentials(ALICE.username, Secret(ALICE.password))
ARCHIVES = [images.archive(300_000, 1), images.archive(20_000, 2), images.archive(0, 3)]
SAMPLE = images.unpackable(ARCHIVES)
OTHER = images.unpackable([ARCHIVES[0], images.archive(40_000, 4)])
MULTI = images.index(
    [("linux/arm64", images.unpackable(ARCHIVES[:1], architecture="arm64")), ("linux/amd64", SAMPLE)],
    attested=True,
)


class ClosableEngine(ImageEngine, Protocol):
    """An engine with what it holds."""

    async def close(self) -> None:
        """Let go of it."""


class NoHolders:
    async def find_holders(self, blobs: Iterable[Digest], reader: Reader | None) -> dict[Digest, BlobHolder]:
        return {}


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and a private registry, and how they are reached."""

    source: Distribution
    private: Distribution
    settings: RegistrySettings
    verify: ssl.SSLContext | bool
    has_login: bool

    def client(self, registry: Distribution) -> httpx.Client:
        auth = (ALICE.username, ALICE.password) if self.has_login else None
        return httpx.Client(base_url=registry.url, verify=self.verify, auth=auth)

    def push(self, sample: images.Image | images.MultiImage, repository: str, tag: str) -> None:
        with self.client(self.source) as client:
            if isinstance(sample, images.Image):
                images.push_image(client, repository, tag, sample)
            else:
                images.push_index(client, repository, tag, sample)

    def copied(self, guid: str, reference: str = "latest") -> images.Blob | None:
        with self.client(self.private) as client:
            return images.pull_manifest(client, guid, reference)


class Scene:
    """A pair of registries with one engine between them."""

    def __init__(self, pair: Pair, build: Callable[[Registries, CacheRepositories], ClosableEngine]) -> None:
        self.pair = pair
        self.login = LOGIN if pair.has_login else None
        settings = {
            pair.source.address: replace(pair.settings, allowed_networks=(ip_network("127.0.0.0/8"),)),
            pair.private.address: RegistrySettings(
                plain_http=pair.settings.plain_http,
                ca_file=pair.settings.ca_file,
                credentials=self.login,
                any_address=True,
            ),
        }
        client = Registries(settings)
        self.engine = build(client, CacheRepositories(pair.private.address))

    async def copy(
        self, name: str = "team/app:1", guid: str = GUID, login: Credentials | None = None
    ) -> CopiedImage:
        source = parse_image_reference(f"{self.pair.source.address}/{name}")
        target = parse_image_reference(f"{self.pair.private.address}/{guid}:latest")
        resolved = await self.engine.resolve(source, login or self.login)
        return await self.engine.copy(resolved, target, login or self.login)


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    with run_dockerd(tmp_path_factory.mktemp("dk")) as engine:
        yield engine


@pytest.fixture(scope="module", params=["plain", "htpasswd", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    login = ALICE if request.param == "htpasswd" else None
    tls, settings = None, RegistrySettings(plain_http=True)
    verify: ssl.SSLContext | bool = True
    if request.param == "tls":
        authority = Authority(tmp_path_factory.mktemp("tls"))
        server = authority.server("127.0.0.1")
        tls = TlsFiles(server.certificate, server.key)
        settings = RegistrySettings(ca_file=authority.certificate)
        verify = settings.tls.context().current()
    with ExitStack() as stack:
        source, private = (
            stack.enter_context(run_distribution(tmp_path_factory.mktemp(name), login=login, tls=tls))
            for name in ("source", "private")
        )
        pair = Pair(source, private, settings, verify, has_login=login is not None)
        pair.push(SAMPLE, "team/app", "1")
        pair.push(OTHER, "team/other", "1")
        pair.push(MULTI, "team/multi", "1")
        yield pair


class EngineContract:
    """What any engine must do. Subclasses provide the `scene` fixture."""

    async def test_a_copy_is_present_and_has_the_sources_config(self, scene: Scene) -> None:
        copied = await scene.copy()

        stored = await asyncio.to_thread(scene.pair.copied, GUID)
        assert stored is not None
        assert copied.digest == parse_digest(stored.digest)
        assert f'"digest":"{SAMPLE.config.digest}"' in stored.content.decode().replace(" ", "")
        target = parse_image_reference(f"{scene.pair.private.address}/{GUID}:latest")
        assert await scene.engine.is_present(target, copied.digest)
        assert not await scene.engine.is_present(target, parse_digest(f"sha256:{'0' * 64}"))

    async def test_a_copy_names_its_blobs_and_their_size(self, scene: Scene) -> None:
        copied = await scene.copy()

        def sizes() -> int:
            with scene.pair.client(scene.pair.private) as client:
                blobs = [images.pull_blob(client, GUID, str(digest)) for digest in copied.blobs]
                manifest = images.pull_manifest(client, GUID, str(copied.digest))
            assert manifest is not None
            return len(manifest.content) + sum(len(blob) for blob in blobs if blob is not None)

        assert copied.size == await asyncio.to_thread(sizes)

    async def test_of_an_index_the_platforms_image_is_copied(self, scene: Scene) -> None:
        """The attestation stands first in it, and the other platform second."""
        guid = "1c0de7a8-0000-4000-8000-000000000001"

        await scene.copy("team/multi:1", guid)

        stored = await asyncio.to_thread(scene.pair.copied, guid)
        assert stored is not None
        assert SAMPLE.config.digest in stored.content.decode()

    async def test_what_was_resolved_is_copied_though_the_tag_moves(self, scene: Scene) -> None:
        guid = "1c0de7a8-0000-4000-8000-000000000002"
        await asyncio.to_thread(scene.pair.push, SAMPLE, "team/moving", "1")
        source = parse_image_reference(f"{scene.pair.source.address}/team/moving:1")
        resolved = await scene.engine.resolve(source, scene.login)
        await asyncio.to_thread(scene.pair.push, OTHER, "team/moving", "1")

        target = parse_image_reference(f"{scene.pair.private.address}/{guid}:latest")
        await scene.engine.copy(resolved, target, scene.login)

        stored = await asyncio.to_thread(scene.pair.copied, guid)
        assert stored is not None
        assert SAMPLE.config.digest in stored.content.decode()

    async def test_two_images_that_share_layers_are_copied_at_once(self, scene: Scene) -> None:
        guids = [f"1c0de7a8-0000-4000-8000-00000000001{n}" for n in range(2)]

        copies = await asyncio.gather(
            scene.copy("team/app:1", guids[0]), scene.copy("team/other:1", guids[1])
        )

        assert SAMPLE.config.digest == str(copies[0].blobs[0])
        assert OTHER.config.digest == str(copies[1].blobs[0])

    async def test_copying_again_gives_the_same(self, scene: Scene) -> None:
        first, second = await scene.copy(), await scene.copy()

        assert (first.digest, first.size, first.blobs) == (second.digest, second.size, second.blobs)

    async def test_an_image_that_no_cell_can_run_is_not_copied(self, scene: Scene) -> None:
        guid = "1c0de7a8-0000-4000-8000-000000000003"
        await asyncio.to_thread(scene.pair.push, images.image([]), "team/nothing", "1")

        with pytest.raises(Invalid) as refused:
            await scene.copy("team/nothing:1", guid)

        assert refused.value.code == ErrorCode.CANNOT_RUN_ON_CELLS
        assert await asyncio.to_thread(scene.pair.copied, guid) is None

    async def test_an_image_that_is_not_there_is_not_found(self, scene: Scene) -> None:
        with pytest.raises(NotFound):
            await scene.copy("team/app:none")

    @pytest.mark.parametrize("pair", ["htpasswd"], indirect=True)
    async def test_a_wrong_login_is_denied_and_not_shown(self, scene: Scene) -> None:
        with pytest.raises(Denied) as caught:
            await scene.copy(login=Credentials("alice", Secret("marker-password")))

        assert "marker-password" not in str(caught.value)

    async def test_a_private_registry_that_is_gone_is_an_error(self, scene: Scene) -> None:
        source = parse_image_reference(f"{scene.pair.source.address}/team/app:1")
        resolved = await scene.engine.resolve(source, scene.login)

        with pytest.raises(DockerCacheError):
            await scene.engine.copy(resolved, parse_image_reference("127.0.0.1:1/x:latest"), scene.login)


class TestRegistry(EngineContract):
    @pytest.fixture
    async def scene(self, pair: Pair) -> AsyncIterator[Scene]:
        scene = Scene(pair, lambda client, repositories: RegistryCopy(client, repositories, NoHolders()))
        yield scene
        await scene.engine.close()

    async def test_bytes_that_are_not_what_their_label_says_are_not_copied(self, scene: Scene) -> None:
        guid = "1c0de7a8-0000-4000-8000-000000000004"
        layer = images.Blob(images.OCI_LAYER, images.random_bytes(3000, 1))
        mislabelled = images.image([layer], diff_ids=[f"sha256:{'a' * 64}"])
        await asyncio.to_thread(scene.pair.push, mislabelled, "team/mislabelled", "1")

        for _ in range(2):
            with pytest.raises(Invalid, match="labelled gzip, but its bytes are not gzip"):
                await scene.copy("team/mislabelled:1", guid)

        assert await asyncio.to_thread(scene.pair.copied, guid) is None


class TestDocker(EngineContract):
    @pytest.fixture
    async def scene(self, pair: Pair, dockerd: DockerEngine) -> AsyncIterator[Scene]:
        settings = DaemonSettings(dockerd.address)
        scene = Scene(pair, lambda client, repositories: DockerCopy(client, repositories, settings))
        yield scene
        await scene.engine.close()
