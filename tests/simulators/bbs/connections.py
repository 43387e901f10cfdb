"""Reads requests from a connection with httptools, and writes answers to it."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

import httptools

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


class _Incoming:
    """One request while it is read; httptools calls what begins with `on`."""

    def __init__(self) -> None:
        self.url = bytearray()
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.waits_for_continue = False
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("ascii").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.waits_for_continue = self.headers.get("expect", "").lower() == "100-continue"

    def on_body(self, body: bytes) -> None:
        self.waits_for_continue = False
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


class Connection:
    """The server's side of one keep-alive connection, whose client sends a request after the answer to the last.

    Attributes:
        peer: The address of the client.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer: str = (writer.get_extra_info("peername") or ("",))[0]
        self._is_head = False
        self._is_kept = True

    @property
    def client(self) -> str:
        """The DNS name in the client's certificate; empty where it has none."""
        certificate = self.writer.get_extra_info("peercert") or {}
        return next((name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"), "")

    async def next_call(self) -> Call | None:
        """Read a request; None if the client has gone, or speaks no HTTP."""
        try:
            return await self._read()
        except (ConnectionError, httptools.HttpParserError):
            return None

    async def _read(self) -> Call | None:
        incoming = _Incoming()
        parser = httptools.HttpRequestParser(incoming)
        while not incoming.is_complete:
            if incoming.waits_for_continue:
                incoming.waits_for_continue = False
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await self.writer.drain()
            data = await self.reader.read(READ_SIZE)
            if not data:
                return None
            parser.feed_data(data)
        method = parser.get_method().decode("ascii")
        self._is_head, self._is_kept = method == "HEAD", parser.should_keep_alive()
        path, _, query = incoming.url.decode("ascii").partition("?")
        trace_id = incoming.headers.get("x-vcap-request-id", "")
        return Call(method, path, bytes(incoming.body), trace_id, query, incoming.headers)

    async def answer(self, answer: Answer) -> bool:
        """Write a response; False if the connection is of no more use."""
        headers = [
            *answer.headers,
            ("Date", formatdate(usegmt=True)),
            ("Content-Length", str(len(answer.body))),
            *(() if self._is_kept else (("Connection", "close"),)),
        ]
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}", *(f"{k}: {v}" for k, v in headers)]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        try:
            self.writer.write(head + (b"" if self._is_head else answer.body))
            await self.writer.drain()
        except ConnectionError:
            return False
        return self._is_kept


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
