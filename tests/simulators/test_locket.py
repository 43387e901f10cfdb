"""The simulated Locket beyond its contract: several servers over one state, restarts, and faults."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
import pytest

from protos.locket import locket_pb2 as pb
from protos.locket.locket_pb2_grpc import LocketStub
from tests.simulators.certificates import Certificates
from tests.simulators.locket import Fault, Locket, State

pytestmark = pytest.mark.usefixtures("servers")

TTL = 15

GAVE_UP = "DEADLINE_EXCEEDED Deadline Exceeded"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """Two servers over one state, and a stub of each."""

    def __init__(self, certificates: Certificates) -> None:
        self.clock = Clock()
        self.state = State(self.clock)
        self.servers = [Locket(certificates, self.state) for _ in range(2)]
        self._channels = AsyncExitStack()

    async def stub_of(self, server: Locket) -> Any:
        files = server.certificates
        credentials = await asyncio.to_thread(
            lambda: grpc.ssl_channel_credentials(
                files.ca.read_bytes(), files.client.key.read_bytes(), files.client.certificate.read_bytes()
            )
        )
        channel = grpc.aio.secure_channel(server.address, credentials)
        return LocketStub(await self._channels.enter_async_context(channel))

    async def __aenter__(self) -> Self:
        for server in self.servers:
            await self._channels.enter_async_context(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channels.aclose()


@pytest.fixture
async def scene(certificates: Certificates) -> AsyncIterator[Scene]:
    async with Scene(certificates) as scene:
        yield scene


def request_of(owner: str) -> pb.LockRequest:
    resource = pb.Resource(key="k", owner=owner, type="lock", type_code=pb.LOCK)
    return pb.LockRequest(resource=resource, ttl_in_seconds=TTL)


async def status_of(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {error.details()}"
    return "OK"


async def test_servers_share_what_they_know(scene: Scene) -> None:
    first, second = [await scene.stub_of(server) for server in scene.servers]
    await first.Lock(request_of("one"))

    assert await status_of(second.Lock(request_of("two"))) == "ALREADY_EXISTS lock-collision"
    assert await status_of(second.Lock(request_of("one"))) == "OK"


async def test_a_key_outlives_the_server_that_has_renewed_it_by_five_seconds_at_most(scene: Scene) -> None:
    first, second = [await scene.stub_of(server) for server in scene.servers]
    scene.clock.now += 1
    await first.Lock(request_of("one"))
    await scene.servers[0].kill()

    scene.clock.now += TTL
    assert await status_of(second.Lock(request_of("two"))) == "ALREADY_EXISTS lock-collision"
    scene.clock.now += 4
    assert await status_of(second.Lock(request_of("two"))) == "OK"


async def test_a_server_keeps_its_port_and_the_keys_over_a_restart(scene: Scene) -> None:
    server = scene.servers[0]
    await (await scene.stub_of(server)).Lock(request_of("one"))
    address = server.address
    await server.stop()
    assert not server.is_running
    assert (await status_of((await scene.stub_of(server)).Fetch(pb.FetchRequest(key="k")))).startswith(
        "UNAVAILABLE"
    )

    await server.start()
    assert server.address == address
    assert (await (await scene.stub_of(server)).Fetch(pb.FetchRequest(key="k"))).resource.owner == "one"


async def test_a_request_without_a_resource_ends_the_server(scene: Scene) -> None:
    server = scene.servers[0]

    assert (await status_of((await scene.stub_of(server)).Lock(pb.LockRequest()))).startswith("UNAVAILABLE")
    assert not server.is_running


@pytest.mark.parametrize(
    ("fault", "status", "is_taken"),
    [
        (Fault.UNAVAILABLE, "UNAVAILABLE the server is shutting down", False),
        (Fault.LOST_ANSWER, "UNAVAILABLE error reading from server: EOF", True),
        (Fault.HANG, GAVE_UP, False),
        (Fault.HANG_AFTER, GAVE_UP, True),
        (Fault.DATABASE_SLOW, "DEADLINE_EXCEEDED context deadline exceeded", False),
        (Fault.RESOURCE_EXISTS, "UNKNOWN sql-resource-exists", False),
        (Fault.UNKNOWN, "UNKNOWN sql-unknown, error code: 1205, flavor: mysql", False),
    ],
)
async def test_a_fault_does_what_it_says_once(
    scene: Scene, fault: Fault, status: str, *, is_taken: bool
) -> None:
    server = scene.servers[0]
    server.faults.order(fault, "Lock")
    stub = await scene.stub_of(server)
    await status_of(stub.Fetch(pb.FetchRequest(key="k")))  # the connection is there

    limit = 1.0 if status == GAVE_UP else 60.0
    assert await status_of(stub.Lock(request_of("one"), timeout=limit)) == status
    assert ("k" in scene.state.rows) is is_taken
    assert await status_of(stub.Lock(request_of("one"))) == "OK"
    assert server.faults.happened == {fault: 1}


async def test_a_late_call_takes_effect_when_its_caller_has_gone(scene: Scene) -> None:
    server = scene.servers[0]
    server.faults.order(Fault.LATE, "Lock")
    stub = await scene.stub_of(server)

    assert (await status_of(stub.Lock(request_of("one"), timeout=0.2))).startswith("DEADLINE_EXCEEDED")
    async with asyncio.timeout(60.0):
        while "k" not in scene.state.rows:  # noqa: ASYNC110 - the simulator has no event for it
            await asyncio.sleep(0.01)


async def test_what_a_server_that_stops_still_answers_has_its_effect(scene: Scene) -> None:
    server = scene.servers[0]
    stub = await scene.stub_of(server)
    server.faults.order(Fault.HANG)
    hanging = asyncio.create_task(status_of(stub.Lock(request_of("hanging"))))
    while not server.calls:  # noqa: ASYNC110 - the simulator has no event for it
        await asyncio.sleep(0.01)

    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    server.lock(request_of("one"))  # as for a call that had come in before

    assert scene.state.rows["k"].owner == "one"
    await asyncio.gather(stopping, hanging)
    server.lock(request_of("two"))
    assert scene.state.rows["k"].index == 1


async def test_a_missing_table_ends_the_server(scene: Scene) -> None:
    server = scene.servers[0]
    server.faults.order(Fault.UNRECOVERABLE)
    stub = await scene.stub_of(server)

    assert await status_of(stub.Lock(request_of("one"))) in {
        "UNKNOWN sql-unrecoverable",
        "UNAVAILABLE Socket closed",
        "UNAVAILABLE Cancelling all calls",
    }
    assert not server.is_running


async def test_calls_are_noted_with_their_metadata(scene: Scene) -> None:
    stub = await scene.stub_of(scene.servers[0])
    await stub.Lock(request_of("one"), metadata=(("uuid", "some-uuid"),))
    await stub.Fetch(pb.FetchRequest(key="k"))

    noted = [(call.method, call.key, call.owner, call.uuid) for call in scene.servers[0].calls]
    assert noted == [("Lock", "k", "one", "some-uuid"), ("Fetch", "k", "", None)]


async def test_it_runs_alone_until_it_is_told_to_end(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.simulators.locket"),
        *("--certificates", str(tmp_path), "--servers", "2"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60.0):
        ready = json.loads(await process.stdout.readline())
        files = [
            await asyncio.to_thread(Path(ready[name]).read_bytes) for name in ("ca", "key", "certificate")
        ]
        statuses = []
        for address, owner in zip(ready["addresses"], ("one", "two"), strict=True):
            async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*files)) as channel:
                statuses.append(await status_of(LocketStub(channel).Lock(request_of(owner))))
        process.send_signal(signal.SIGTERM)
        left, _ = await process.communicate()

    assert statuses == ["OK", "ALREADY_EXISTS lock-collision"]
    assert (process.returncode, left) == (0, b"")
