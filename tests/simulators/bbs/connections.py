"""Reads requests from a connection and writes answers to it, with h11 for the framing."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate

import h11

READ_SIZE = 65536
PROTOBUF = "application/x-protobuf"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, whole.

    Attributes:
        query: What follows the path's question mark, as it came.
        headers: By names in lower case.
    """

    method: str
    path: str
    body: bytes
    trace_id: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, whole."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def text_answer(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    """Make an answer as Go's `http.Error` does."""
    fixed = (("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff"))
    return Answer(status, text.encode() + b"\n", (*fixed, *headers))


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off, so that the other side sees a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Connection:
    """The server's side of one keep-alive connection.

    Attributes:
        peer: The address of the client.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer: str = (writer.get_extra_info("peername") or ("",))[0]
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=READ_SIZE)
        self._is_head = False

    @property
    def client(self) -> str:
        """The DNS name in the client's certificate; empty where it has none."""
        certificate = self.writer.get_extra_info("peercert") or {}
        return next((name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"), "")

    async def next_call(self) -> Call | None:
        """Read a request; None if the client has gone, or speaks no HTTP."""
        try:
            return await self._read()
        except (ConnectionError, h11.RemoteProtocolError):
            return None

    async def _read(self) -> Call | None:
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        request: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._continue()
                self._http.receive_data(await self.reader.read(READ_SIZE))
            elif isinstance(event, h11.Request):
                request = event
                self._is_head = event.method == b"HEAD"
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return _call(request, bytes(body))
            else:
                return None

    async def _continue(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self.writer.write(self._http.send(go_on))
            await self.writer.drain()

    async def answer(self, answer: Answer) -> bool:
        """Write a response; False if the connection is of no more use."""
        headers = [
            *answer.headers,
            ("Date", formatdate(usegmt=True)),
            ("Content-Length", str(len(answer.body))),
        ]
        response = h11.Response(status_code=answer.status, headers=headers)
        try:
            body = () if self._is_head else (h11.Data(data=answer.body),)
            parts = (response, *body, h11.EndOfMessage())
            self.writer.write(b"".join(self._http.send(part) or b"" for part in parts))
            await self.writer.drain()
        except ConnectionError:
            return False
        return self._http.our_state is h11.DONE


def _call(request: h11.Request, body: bytes) -> Call:
    headers = {name.lower().decode("ascii"): value.decode("latin-1") for name, value in request.headers}
    path, _, query = request.target.decode("ascii").partition("?")
    trace_id = headers.get("x-vcap-request-id", "")
    return Call(request.method.decode("ascii"), path, body, trace_id, query, headers)
