"""Copying through a real docker daemon: what arrives, and that nothing stays in the daemon, however it ends."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import docker
import httpx
import pytest

from controller.engines.docker_daemon import DaemonSettings, DockerCopy
from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from reconcile.copying_ports import CopiedImage, ResolvedImage
from reconcile.errors import Denied, DockerCacheError, NotFound, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import CacheRepositories, ImageReference, parse_digest, parse_image_reference
from tests.contracts.distribution import ALICE, Distribution, run_distribution
from tests.contracts.docker_engine import DockerEngine, run_dockerd
from tests.controller.engines.registry_scene import threads_ended
from tests.simulators import images
from tests.simulators import registry as registries
from tests.simulators.registry import RegistrySimulator, Stall

pytestmark = pytest.mark.usefixtures("servers")

GUID = "9b2f0a4e-5d0c-4c3e-9a52-2f0c8f6c2b11"
LOGIN = Credentials(ALICE.username, Secret(ALICE.password))
SAMPLE = images.unpackable([images.archive(300_000, 11), images.archive(9000, 12)])


class Scene:
    """A source and a private registry that want logins, a slow source, and the daemon between them."""

    def __init__(
        self, source: Distribution, private: Distribution, slow: RegistrySimulator, engine: DockerEngine
    ) -> None:
        self.source, self.private, self.slow, self.daemon = source, private, slow, engine
        self.target = self.at(private.address)
        self.engines: list[DockerCopy] = []

    @staticmethod
    def at(address: str, guid: str = GUID) -> ImageReference:
        return parse_image_reference(f"{address}/{guid}:latest")

    def engine(self, push_login: Credentials | None = LOGIN) -> DockerCopy:
        plain = RegistrySettings(plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),))
        client = Registries(
            {
                self.source.address: plain,
                self.slow.address: plain,
                self.private.address: RegistrySettings(
                    plain_http=True, any_address=True, credentials=push_login
                ),
            },
        )
        repositories = CacheRepositories(self.private.address)
        engine = DockerCopy(client, repositories, DaemonSettings(self.daemon.address))
        self.engines.append(engine)
        return engine

    def open(self, registry: Distribution) -> httpx.Client:
        return httpx.Client(base_url=registry.url, auth=(ALICE.username, ALICE.password))

    async def push(self, sample: images.Image, repository: str = "team/app") -> None:
        def work() -> None:
            with self.open(self.source) as client:
                images.push_image(client, repository, "1", sample)

        await asyncio.to_thread(work)

    async def resolve(self, engine: DockerCopy, repository: str = "team/app") -> ResolvedImage:
        return await engine.resolve(parse_image_reference(f"{self.source.address}/{repository}:1"), LOGIN)

    async def copy(self, engine: DockerCopy, repository: str = "team/app") -> CopiedImage:
        return await engine.copy(await self.resolve(engine, repository), self.target, LOGIN)

    async def names(self) -> list[str]:
        """List all names of all images that the daemon holds, and the IDs of those without a name."""

        def work() -> list[str]:
            client = docker.APIClient(self.daemon.address)
            try:
                held = client.images(all=True)
            finally:
                client.close()
            return sorted(
                name
                for image in held
                for name in (image["RepoTags"] or []) + (image["RepoDigests"] or []) or [image["Id"]]
            )

        return await asyncio.to_thread(work)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        engine = stack.enter_context(run_dockerd(tmp_path_factory.mktemp("dk")))
        source, private = (
            stack.enter_context(run_distribution(tmp_path_factory.mktemp(name), login=ALICE))
            for name in ("source", "private")
        )
        yield Scene(source, private, stack.enter_context(registries.serve()), engine)


@pytest.fixture
async def scene(parts: Scene) -> AsyncIterator[Scene]:
    yield parts
    for engine in parts.engines:
        await engine.close()
    parts.engines.clear()
    assert await parts.names() == []


async def test_a_private_image_arrives_with_another_digest_and_the_same_config(scene: Scene) -> None:
    await scene.push(SAMPLE)

    copied = await scene.copy(scene.engine())

    def read() -> tuple[images.Blob | None, bytes | None]:
        with scene.open(scene.private) as client:
            return (
                images.pull_manifest(client, GUID, "latest"),
                images.pull_blob(client, GUID, SAMPLE.config.digest),
            )

    manifest, config = await asyncio.to_thread(read)
    assert manifest is not None
    assert str(copied.digest) == manifest.digest
    assert copied.digest != parse_digest(SAMPLE.manifest.digest)
    assert config == SAMPLE.config.content
    assert copied.blobs[0] == parse_digest(SAMPLE.config.digest)


async def test_nothing_stays_in_the_daemon_after_a_copy(scene: Scene) -> None:
    await scene.push(SAMPLE)

    await scene.copy(scene.engine())

    assert await scene.names() == []


async def test_an_image_that_was_there_before_stays(scene: Scene) -> None:
    await scene.push(SAMPLE)
    digest = f"{scene.source.address}/team/app@{SAMPLE.manifest.digest}"
    login = {"username": ALICE.username, "password": ALICE.password}
    client = await asyncio.to_thread(docker.APIClient, scene.daemon.address)
    await asyncio.to_thread(client.pull, digest, auth_config=login)

    await scene.copy(scene.engine())

    assert await scene.names() == [digest]
    await asyncio.to_thread(client.remove_image, digest)
    client.close()


async def test_a_crashed_runs_leftovers_go_with_the_next_copy(scene: Scene) -> None:
    other = images.unpackable([images.archive(100, 21)])
    await scene.push(other, "team/crashed")
    await scene.push(SAMPLE)
    digest = f"{scene.source.address}/team/crashed@{other.manifest.digest}"
    login = {"username": ALICE.username, "password": ALICE.password}
    client = await asyncio.to_thread(docker.APIClient, scene.daemon.address)
    await asyncio.to_thread(client.pull, digest, auth_config=login)
    left = scene.at(scene.private.address, "1c0de7a8-0000-4000-8000-000000000001")
    await asyncio.to_thread(client.tag, digest, left.repository, "latest")
    client.close()

    await scene.copy(scene.engine())

    assert await scene.names() == []


async def test_a_layer_that_its_registry_lost_fails_the_pull(scene: Scene) -> None:
    """G1, docker-progress row 1: the failure stands in the stream."""
    lost = images.unpackable([images.archive(50_000, 31)])
    await scene.push(lost, "team/lost")
    engine = scene.engine()
    resolved = await scene.resolve(engine, "team/lost")
    digits = lost.layers[0].digest.removeprefix("sha256:")
    blob = scene.source.directory / "docker/registry/v2/blobs/sha256" / digits[:2] / digits
    await asyncio.to_thread(shutil.rmtree, blob)

    with pytest.raises(NotFound, match="unknown blob"):
        await engine.copy(resolved, scene.target, LOGIN)

    assert await scene.names() == []


async def test_a_push_without_login_is_denied(scene: Scene) -> None:
    """G1, docker-progress row 2."""
    await scene.push(SAMPLE)

    with pytest.raises(Denied):
        await scene.copy(scene.engine(push_login=None))

    assert await scene.names() == []


async def test_a_wrong_password_is_denied_and_not_shown(scene: Scene) -> None:
    await scene.push(SAMPLE)
    engine = scene.engine(Credentials("alice", Secret("marker-password")))

    with pytest.raises(Denied) as caught:
        await scene.copy(engine)

    assert "marker-password" not in str(caught.value)


async def test_a_private_registry_that_does_not_listen_is_unavailable(scene: Scene) -> None:
    await scene.push(SAMPLE)
    engine = scene.engine()

    with pytest.raises(Unavailable):
        await engine.copy(await scene.resolve(engine), scene.at("127.0.0.1:1"), LOGIN)

    assert await scene.names() == []


async def test_a_private_registry_that_is_read_only_is_an_error(scene: Scene, tmp_path: Path) -> None:
    await scene.push(SAMPLE)
    engine = scene.engine()
    extra: dict[str, object] = {
        "storage": {
            "filesystem": {"rootdirectory": str(tmp_path / "data")},
            "maintenance": {"readonly": {"enabled": True}},
        }
    }
    with ExitStack() as stack:
        private = await asyncio.to_thread(stack.enter_context, run_distribution(tmp_path, extra=extra))

        with pytest.raises(DockerCacheError, match="405"):
            await engine.copy(await scene.resolve(engine), scene.at(private.address), LOGIN)

    assert await scene.names() == []


async def test_a_cancelled_pull_ends_at_once_and_leaves_nothing(scene: Scene) -> None:
    """Without the cancellation the copy's thread would wait for the daemon, which waits for the source."""
    archive = images.archive(400_000, 41)
    sample = images.image([archive.layer], docker=True, diff_ids=[archive.diff_id])

    def push() -> None:
        with httpx.Client(base_url=scene.slow.url) as client:
            images.push_image(client, "team/slow", "1", sample)

    await asyncio.to_thread(push)
    scene.slow.fail("GET", f"/blobs/{sample.layers[0].digest}", Stall(after=1000), times=None)
    engine = scene.engine()
    source = parse_image_reference(f"{scene.slow.address}/team/slow:1")
    copying = asyncio.create_task(engine.copy(await engine.resolve(source, None), scene.target, None))
    stalled = asyncio.create_task(asyncio.to_thread(scene.slow.wait_for_stall))
    await asyncio.wait([copying, stalled], return_when=asyncio.FIRST_COMPLETED)
    assert not copying.done(), copying.exception()
    await stalled

    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await engine.close()
    await threads_ended()

    assert await scene.names() == []


async def test_two_images_that_share_a_layer_are_cleaned_up_apart(scene: Scene) -> None:
    await scene.push(SAMPLE)
    shared = images.archive(300_000, 11)
    await scene.push(images.unpackable([shared, images.archive(5, 51)]), "team/other")
    engine = scene.engine()
    other = scene.at(scene.private.address, "1c0de7a8-0000-4000-8000-000000000002")

    resolved = await scene.resolve(engine, "team/other")
    await asyncio.gather(scene.copy(engine), engine.copy(resolved, other, LOGIN))

    assert await scene.names() == []
