"""A TLS server for tests that plays prepared answers, byte for byte, and notes what it was asked."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.conftest import PassTime


class Then(Enum):
    """What happens to the connection after an answer."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()
    HANG = auto()


@dataclass(frozen=True)
class Answer:
    data: bytes = b""
    then: Then = Then.KEEP


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Peer:
    """What happened at the server.

    Attributes:
        hangs: How many answers were followed by silence.
    """

    port: int
    hangs: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"https://localhost:{self.port}"


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode()


def answer(body: bytes = b"", *, status: str = "200 OK", then: Then = Then.KEEP) -> Answer:
    lines = ("Content-Type: application/x-protobuf", f"Content-Length: {len(body)}")
    return Answer(head(*lines, status=status) + body, then)


STREAM_HEAD = head("Content-Type: text/event-stream; charset=utf-8", "Transfer-Encoding: chunked")


def chunks(*pieces: bytes) -> bytes:
    """Frame pieces as the BBS does: the size in lower-case hex, a lone semicolon."""
    return b"".join(f"{len(piece):x};\r\n".encode() + piece + b"\r\n" for piece in pieces)


@asynccontextmanager
async def passing_time(peer: Peer, pass_time: PassTime, seconds: float) -> AsyncIterator[None]:
    """Within a block, let each silence of the peer last so many seconds of the event loop's clock."""

    async def watch() -> None:
        seen = 0
        while True:
            await asyncio.sleep(0.01)
            if peer.hangs > seen:
                seen += 1
                await pass_time(seconds)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


LAST_CHUNK = b"0\r\n\r\n"


@asynccontextmanager
async def serve(
    tls: ssl.SSLContext, answers: Iterable[Answer], *, host: str = "127.0.0.1"
) -> AsyncIterator[Peer]:
    """Serve one answer after the other, whoever asks; then close every new connection."""
    script = iter(answers)
    peer = Peer(0)
    conversations: list[tuple[asyncio.StreamWriter, asyncio.Future[None]]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        number = peer.connections
        done = asyncio.get_running_loop().create_future()
        conversations.append((writer, done))
        try:
            while await play(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            peer.hung_up.set()
            writer.close()
            done.set_result(None)

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        text = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = text.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        peer.requests.append(Request(line, headers, body, number))
        step = next(script, Answer(then=Then.CLOSE))
        writer.write(step.data)
        await writer.drain()
        if step.then is Then.HANG:
            peer.hangs += 1
            await reader.read()
        if step.then is Then.RESET:
            writer.transport.abort()
        return step.then is Then.KEEP

    server = await asyncio.start_server(converse, host, 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for writer, done in conversations:
            writer.transport.abort()
            await done
        await server.wait_closed()
