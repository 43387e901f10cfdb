"""What real registries show of their health: full, read-only, with another login, and gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.health import HealthStates, ProbeObserver
from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.oci.manifests import Descriptor, digest_of
from controller.registry.registries import ClientPolicy, Registries
from controller.registry_probe import SIZE, RegistryProbe
from controller.threads import Cancellation
from reconcile.canary import TASK_IMAGE
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Unavailable
from reconcile.health import Failing, Fault
from reconcile.lrps import Credentials, Secret
from reconcile.references import CacheRepositories
from tests.contracts.distribution import ALICE, Distribution, free_port, run_distribution

pytestmark = pytest.mark.usefixtures("servers")

LARGE = bytes(range(256)) * 12_000  # about 3 MB


class Asked:
    """A registry that is asked, and what is known of it then."""

    def __init__(self, address: str, password: str | None) -> None:
        self.time = 0.0
        self.health = HealthStates(address, clock=lambda: self.time)
        login = None if password is None else Credentials(ALICE.username, Secret(password))
        settings = RegistrySettings(plain_http=True, any_address=True, credentials=login)
        self._registries = Registries(
            {address: settings},
            timeouts=Timeouts(connect=5.0, idle=20.0, total=20.0),
            retries=Retries(attempts=1),
            policy=ClientPolicy(observer=ProbeObserver(self.health)),
        )
        self._cache = CacheRepositories(address)
        self.probe = RegistryProbe(self._registries, self._cache)

    def upload(self, content: bytes) -> None:
        """Upload a blob as a copy does."""
        repository = self._registries.repository(self._cache.image(TASK_IMAGE), None, Cancellation())
        blob = Descriptor("application/octet-stream", digest_of(content), len(content))
        repository.uploads.upload(repository.uploads.start(blob.digest), blob, [memoryview(content)])

    async def fails(self, content: bytes = LARGE) -> DockerCacheError:
        """Upload a blob that is refused."""
        with pytest.raises(DockerCacheError) as caught:
            await asyncio.to_thread(self.upload, content)
        return caught.value

    async def probed(self) -> tuple[Failing | None, Failing | None]:
        """Probe three times within a minute, and return what is wrong with pulls and with pushes."""
        for _ in range(3):
            await self.probe.pull(None)
            await self.probe.push()
            self.time += 20.0
        return self.health.private.pull.unhealthy, self.health.private.push.unhealthy


Ask = Callable[[str, str | None], Asked]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    made: list[Asked] = []

    def make(address: str, password: str | None = None) -> Asked:
        made.append(Asked(address, password))
        return made[-1]

    yield make
    for asked in made:
        await asked.probe.close()


@asynccontextmanager
async def running(directory: Path, **options: object) -> AsyncIterator[Distribution]:
    await asyncio.to_thread(directory.mkdir)
    manager = run_distribution(directory, **options)  # type: ignore[arg-type]
    registry = await asyncio.to_thread(manager.__enter__)
    try:
        yield registry
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def test_one_that_is_well_is_well(tmp_path: Path, ask: Ask) -> None:
    async with running(tmp_path / "r", login=ALICE) as registry:
        asked = ask(registry.address, ALICE.password)

        assert await asked.probed() == (None, None)
        assert asked.health.private.is_served


async def test_one_whose_disk_is_full_says_so_until_there_is_room(tmp_path: Path, ask: Ask) -> None:
    async with running(tmp_path / "r", room=2_000_000) as registry:
        asked = ask(registry.address, None)
        await asyncio.to_thread(asked.upload, b"small")
        assert await asked.probed() == (None, None)

        error = await asked.fails()

        assert isinstance(error, Unavailable)
        assert error.code == ErrorCode.DISK_FULL
        assert "its disk is full (status 500: UNKNOWN: unknown error: " in error.detail
        assert "no space left on device" in error.detail
        pull, push = await asked.probed()
        assert pull is None, "it serves what it has"
        assert push is not None
        assert (push.fault.words, push.size) == ("its disk is full", len(LARGE))
        assert (await asked.fails(b"another")).code == ErrorCode.DISK_FULL

        for file in (registry.directory / "docker/registry/v2/repositories").glob("*/_uploads/*/data"):
            file.write_bytes(b"")
        _, push = await asked.probed()
        assert push is not None, "there is room for the probe, and not for what met the full disk"
        asked.time += 600.0
        assert await asked.probed() == (None, None)


async def test_one_in_read_only_maintenance_serves_and_stores_nothing(tmp_path: Path, ask: Ask) -> None:
    async with running(tmp_path / "r", is_read_only=True) as registry:
        asked = ask(registry.address, None)

        error = await asked.fails(b"x" * SIZE)

        assert (type(error), error.code) == (Unavailable, ErrorCode.READ_ONLY)
        assert "it is read-only (status 405: Method not allowed)" in error.detail
        pull, push = await asked.probed()
        assert pull is None
        assert push is not None
        assert push.fault is Fault.READ_ONLY


@pytest.mark.parametrize("password", ["wrong", None])
async def test_one_that_refuses_the_login_says_so_for_pulls_and_pushes(
    tmp_path: Path, ask: Ask, password: str | None
) -> None:
    async with running(tmp_path / "r", login=ALICE) as registry:
        asked = ask(registry.address, password)

        assert isinstance(await asked.fails(), Denied)
        for failing in await asked.probed():
            assert failing is not None
            assert failing.fault.words == "it refuses the login"
            assert "wrong" not in failing.said
        assert asked.health.serves_pulls, "it answers"


async def test_one_that_is_gone_does_not_answer(ask: Ask) -> None:
    asked = ask(f"127.0.0.1:{free_port()}", None)

    for failing in await asked.probed():
        assert failing is not None
        assert failing.fault.words == "it does not answer"
        assert "refused" in failing.said
    assert not asked.health.serves_pulls


async def test_the_probes_leave_one_blob_behind_however_often_they_push(tmp_path: Path, ask: Ask) -> None:
    async with running(tmp_path / "r") as registry:
        asked = ask(registry.address, None)
        for _ in range(3):
            await asked.probed()

        assert len(list(registry.directory.glob("docker/registry/v2/blobs/sha256/*/*/data"))) == 1
