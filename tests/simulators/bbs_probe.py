"""The smallest client that can hold the simulated BBS to its facts: calls over httpx, streams over a raw socket."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx
from google.protobuf.message import Message

from protos.bbs.actions_pb2 import Action, RunAction
from protos.bbs.actual_lrp_pb2 import ActualLRP
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.task_pb2 import TaskDefinition
from protos.bbs.task_requests_pb2 import TaskLifecycleResponse
from tests.simulators.bbs import Bbs
from tests.simulators.bbs.state import SECOND
from tests.simulators.certificates import client_context

LIMIT = 60.0
INSTANCES = "/v1/events/lrp_instances.r1"
TASKS = "/v1/events/tasks.r1"

Response = TypeVar("Response", bound=Message)


class Probe:
    """Calls one BBS."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def call(self, path: str, request: Message, response: type[Response]) -> Response:
        """Make a call that is answered 200."""
        answer = await self.client.post(path, content=request.SerializeToString())
        assert answer.status_code == httpx.codes.OK
        return response.FromString(answer.content)

    async def error(self, path: str, request: Message) -> tuple[Error.Type, str]:
        """Make a call that fails, and give its error's type and text."""
        answer = await self.call(path, request, TaskLifecycleResponse)
        assert answer.HasField("error")
        return answer.error.type, answer.error.message

    async def ok(self, path: str, request: Message) -> None:
        """Make a call that succeeds."""
        answer = await self.call(path, request, TaskLifecycleResponse)
        assert not answer.HasField("error"), answer.error.message


@contextlib.asynccontextmanager
async def probe(bbs: Bbs) -> AsyncIterator[Probe]:
    """Connect to a BBS with its own client certificate."""
    context = client_context(bbs.certificates.ca, bbs.certificates.client)
    async with httpx.AsyncClient(verify=context, base_url=bbs.url, timeout=LIMIT) as client:
        yield Probe(client)


@dataclass(frozen=True, slots=True)
class RawStream:
    """An event stream whose bytes are read as they come."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes

    async def chunk(self) -> tuple[bytes, bytes]:
        """Read one chunk: its size line and its data."""
        async with asyncio.timeout(LIMIT):
            line = await self.reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            data = await self.reader.readexactly(size + 2)
        return line, data[:-2]

    async def event(self) -> tuple[int, str, bytes]:
        """Read one event: number, name and payload."""
        _, data = await self.chunk()
        number, name, payload = data.decode().removesuffix("\n\n").split("\n")
        return (
            int(number.removeprefix("id: ")),
            name.removeprefix("event: "),
            base64.b64decode(payload.removeprefix("data: "), validate=True),
        )

    async def rest(self) -> bytes:
        """Read to the end."""
        async with asyncio.timeout(LIMIT):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def raw_stream(bbs: Bbs, path: str, body: bytes = b"") -> AsyncIterator[RawStream]:
    """Open an event stream on a socket of its own."""
    context = client_context(bbs.certificates.ca, bbs.certificates.client)
    reader, writer = await asyncio.open_connection(bbs.host, bbs.port, ssl=context)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: bbs\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(head + body)
        async with asyncio.timeout(LIMIT):
            answer = await reader.readuntil(b"\r\n\r\n")
        yield RawStream(reader, writer, answer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Clock:
    """A clock in nanoseconds that a test moves."""

    def __init__(self) -> None:
        self.time = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        """Tell the time."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += int(seconds * SECOND)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, under a limit that only a failure meets."""
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 # what is waited for has no event of its own
            await asyncio.sleep(0.002)


def is_up(bbs: Bbs, process_guid: str, count: int) -> Callable[[], bool]:
    """Make the condition that exactly so many rows of a GUID are RUNNING."""
    return lambda: states(bbs, process_guid) == ["RUNNING"] * count


def states(bbs: Bbs, process_guid: str) -> list[str]:
    """List the states of a GUID's ordinary rows, by index."""
    rows = bbs.state.actual.get(process_guid, {})
    return [row.state for slot, row in sorted(rows.items()) if slot[1] == ActualLRP.ORDINARY]


def some_lrp(
    process_guid: str = "some-guid", *, instances: int = 1, rootfs: str = "preloaded:cflinuxfs4"
) -> DesiredLRP:
    """Make a valid desired LRP."""
    return DesiredLRP(
        process_guid=process_guid,
        domain="some-domain",
        root_fs=rootfs,
        instances=instances,
        action=some_action(),
        metric_tags={"source_id": MetricTagValue(static="some-source")},
    )


def some_task() -> TaskDefinition:
    """Make a valid task definition."""
    return TaskDefinition(root_fs="preloaded:cflinuxfs4", action=some_action(), result_file="/tmp/result")


def some_action() -> Action:
    """Make a valid action."""
    return Action(run_action=RunAction(path="/bin/true", user="vcap"))
