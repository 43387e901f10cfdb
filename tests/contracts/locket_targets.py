"""The Lockets that the contract is held against, as the other half of its test class.

Against a real one: TEST_LOCKET_ADDRESS, TEST_LOCKET_CA, TEST_LOCKET_CERT and TEST_LOCKET_KEY. The tests take locks with
random names for some seconds each, and give them back; they register no presence.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from controller.locket.client import LocketClient, open_locket
from controller.locket.connections import KeepAlive
from controller.mutual_tls import MutualTls
from protos.locket import locket_pb2 as pb
from protos.locket.locket_pb2_grpc import LocketStub
from tests.simulators.certificates import Certificates, make_certificates
from tests.simulators.locket import serve_locket

REAL_LOCKET_VARIABLES = ("TEST_LOCKET_ADDRESS", "TEST_LOCKET_CA", "TEST_LOCKET_CERT", "TEST_LOCKET_KEY")

TTL = 2
"""Seconds; short, and longer than a renewal takes."""

KEEP_ALIVE = KeepAlive(10, 22)


@dataclass(frozen=True)
class Target:
    """One Locket.

    Attributes:
        wait: Lets seconds pass there.
    """

    address: str
    tls: MutualTls
    wait: Callable[[float], Awaitable[None]]


class Scene:
    """A Locket with a key that nobody else uses."""

    def __init__(self, target: Target, client: LocketClient, stub: Any) -> None:
        self.target, self.client, self._stub = target, client, stub
        self.key = f"docker-cache-suite-{uuid.uuid4()}"

    def request(
        self, owner: str, *, value: str = "", ttl: int = TTL, kind: str = "lock", code: pb.TypeCode = pb.LOCK
    ) -> pb.LockRequest:
        resource = pb.Resource(key=self.key, owner=owner, value=value, type=kind, type_code=code)
        return pb.LockRequest(resource=resource, ttl_in_seconds=ttl)

    async def lock(self, request: pb.LockRequest) -> str:
        """Send a call, and return its status and its text; "OK" when it has succeeded."""
        return await self._status(self._stub.Lock(request, timeout=5.0))

    async def release(self, owner: str) -> str:
        resource = pb.Resource(key=self.key, owner=owner)
        return await self._status(self._stub.Release(pb.ReleaseRequest(resource=resource), timeout=5.0))

    async def fetch(self) -> pb.Resource | str:
        try:
            answer = await self._stub.Fetch(pb.FetchRequest(key=self.key), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            return _text(error)
        return pb.Resource.FromString(answer.resource.SerializeToString())

    async def fetch_all(self, code: pb.TypeCode, kind: str = "") -> list[str] | str:
        """List the keys of a type that are of this suite."""
        try:
            answer = await self._stub.FetchAll(pb.FetchAllRequest(type_code=code, type=kind), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            return _text(error)
        return [each.key for each in answer.resources if each.key == self.key]

    async def until_free(self) -> None:
        """Wait until nobody has the key."""
        async with asyncio.timeout(60.0):
            while not isinstance(await self.fetch(), str):
                await self.target.wait(0.5)

    async def _status(self, call: Awaitable[object]) -> str:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return _text(error)
        return "OK"


def _text(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name} {error.details()}"


class OnSomeLocket:
    """Gives each test a scene of its own on the `target` of a subclass."""

    @pytest.fixture
    async def scene(self, target: Target) -> AsyncIterator[Scene]:
        async with open_locket(target.address, target.tls, KEEP_ALIVE) as client, _channel(target) as channel:
            scene = Scene(target, client, LocketStub(channel))
            yield scene
            found = await scene.fetch()
            if not isinstance(found, str):
                await scene.release(found.owner)


class OnSimulator(OnSomeLocket):
    """The simulator, on whose clock time passes as a test wants it."""

    @pytest.fixture(scope="class")
    @classmethod
    def certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
        return make_certificates(tmp_path_factory.mktemp("certificates"))

    @pytest.fixture
    async def target(self, certificates: Certificates) -> AsyncIterator[Target]:
        now = 0.0

        async def wait(seconds: float) -> None:
            nonlocal now
            now += seconds

        async with serve_locket(certificates, clock=lambda: now) as locket:
            pair = certificates.client
            tls = MutualTls(certificates.ca, pair.certificate, pair.key)
            yield Target(locket.address, tls, wait)


class OnRealLocket(OnSomeLocket):
    """The Locket that the environment names."""

    @pytest.fixture
    def target(self) -> Target:
        address, *files = (os.environ[name] for name in REAL_LOCKET_VARIABLES)
        ca, certificate, key = map(Path, files)
        return Target(address, MutualTls(ca, certificate, key), asyncio.sleep)


@asynccontextmanager
async def _channel(target: Target) -> AsyncIterator[grpc.aio.Channel]:
    files = (target.tls.ca_cert_file, target.tls.key_file, target.tls.cert_file)
    ca, key, certificate = [await asyncio.to_thread(file.read_bytes) for file in files]
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    async with grpc.aio.secure_channel(target.address, credentials) as channel:
        yield channel
