"""Speaks HTTP/1.1 over one socket, one request at a time, and reads bodies into the caller's buffer.

llhttp parses heads and chunks strictly: what two parsers could read in two ways is refused.
Source: RFC 9112.
"""

import re
import select
import socket
from collections import deque
from collections.abc import Mapping

import httptools

from controller.registry.http.rate_limiter import MinimumRate
from controller.registry.http.request import Body
from controller.registry.http.urls import Origin

_MOST_HEAD = 65536
_HEAD_AT_A_TIME = 4096  # little, since the body behind the head bypasses the parser
_BODY_AT_A_TIME = 32768
_ILLEGAL = re.compile(r"[^\t\x20-\x7e]")
_ALWAYS = ("Accept-Encoding: identity", "User-Agent: diego-docker-cache")
_BODILESS = frozenset({204, 304})
_PARSER_ERRORS = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class ProtocolError(Exception):
    """The server sent something that is not an HTTP response."""


class IllegalRequestError(ProtocolError):
    """The head of a request holds characters that are not allowed there."""


class Headers:
    """Headers of a response, whose names are compared without regard to case."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        """Add one header line."""
        self._values.setdefault(name.lower(), []).append(value)

    def get(self, name: str, /) -> str | None:
        """Return the first value of a header; None when there is none."""
        values = self._values.get(name.lower())
        return None if values is None else values[0]

    def get_all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return list(self._values.get(name.lower(), ()))

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values


class RawResponse:
    """A response whose head has been read, as the parser found it.

    Attributes:
        left: Bytes of the body that were not read yet; None when its length is not stated.
        is_at_end: Whether the body has been read to its end.
        keeps_connection: Whether another request may follow on the connection.
        minimum: The rate at which the body must come; None when any will do.
    """

    def __init__(self, sock: socket.socket, method: str) -> None:
        self._sock = sock
        self._parser = httptools.HttpResponseParser(self)
        # As RFC 9112 allows: a proxy in front of Docker Hub ends its lines so when it refuses.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self._pieces: deque[bytes] = deque()
        self._has_head = self._is_complete = False
        self.headers = Headers()
        self.minimum: MinimumRate | None = None
        self.status = 0
        self.keeps_connection = False
        self._read_head()
        self.left = self._length(method)
        self._is_parsed = self.left is None and "Transfer-Encoding" in self.headers
        self.is_at_end = self.left == 0
        if self.left is not None and sum(map(len, self._pieces)) > self.left:
            self.keeps_connection = False  # more than was announced
        if not self._is_parsed:
            del self._parser  # which refers to this object as well

    # Called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; a trailer behind the chunks of a body is ignored."""
        if not self._has_head:
            self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers = Headers()  # an interim response; the final one follows
            return
        self._has_head = True
        self.keeps_connection = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """Keep bytes of the body that came with the head, or in chunks."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        self._is_complete = self._has_head

    def on_message_begin(self) -> None:
        """Note the start of a response; nobody has asked for a second one."""
        if self._is_complete:
            self.keeps_connection = False

    # Called by us

    def _read_head(self) -> None:
        count = 0
        while not self._has_head:
            data = self._sock.recv(_HEAD_AT_A_TIME)
            if not data:
                if count:
                    raise ProtocolError("the connection was closed within the head of a response")
                raise ConnectionResetError("the connection was closed without a response")
            count += len(data)
            if count > _MOST_HEAD:
                raise ProtocolError("the head of the response is too long")
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except _PARSER_ERRORS as error:
            if not self._is_complete:
                raise ProtocolError(f"the response is not HTTP: {error}") from error
            self.keeps_connection = False  # nobody asked for what follows the response

    def _length(self, method: str) -> int | None:
        if method == "HEAD" or self.status in _BODILESS:
            return 0
        stated = self.headers.get("Content-Length")
        return None if stated is None else int(stated)

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer with the next bytes of the body; fewer bytes than fit mean that it has ended.

        Raises:
            ProtocolError: A body in chunks ended before its end.
            SlowSenderError: The bytes come too slowly.
        """
        most = len(buffer) if self.left is None else min(len(buffer), self.left)
        count, minimum = 0, self.minimum
        if minimum is not None:
            minimum.begin()
        while count < most and not self.is_at_end:
            try:
                got = self._take(buffer[count:most]) if self._pieces else self._receive(buffer[count:most])
            except TimeoutError:
                if minimum is not None:
                    minimum.add(0)
                raise
            count += got
            if not got:
                break
            if minimum is not None:
                minimum.add(got)
        return count

    def _take(self, buffer: memoryview) -> int:
        """Move bytes that were read already."""
        piece = self._pieces.popleft()
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._pieces.appendleft(piece[count:])
        self._count(count)
        return count

    def _receive(self, buffer: memoryview) -> int:
        if self._is_parsed:
            return self._receive_chunks(buffer)
        count = self._sock.recv_into(buffer)
        if not count:
            self.is_at_end = True
            self.keeps_connection = False
        self._count(count)
        return count

    def _receive_chunks(self, buffer: memoryview) -> int:
        without_any = 0
        while not self._pieces and not self._is_complete:
            data = self._sock.recv(_BODY_AT_A_TIME)
            if not data:
                raise ProtocolError("the connection was closed within the body of a response")
            without_any += len(data)
            if without_any > _MOST_HEAD:
                raise ProtocolError("there is too much between the chunks of the response")
            self._feed(data)
        if self._pieces:
            return self._take(buffer)
        self.is_at_end = True
        return 0

    def _count(self, count: int) -> None:
        if self.left is not None:
            self.left -= count
            self.is_at_end = self.is_at_end or self.left == 0
        elif self._is_complete and not self._pieces:
            self.is_at_end = True

    def read(self, limit: int) -> bytes:
        """Read the body up to a number of bytes."""
        body = bytearray()
        buffer = memoryview(bytearray(min(limit, _BODY_AT_A_TIME)))
        while len(body) < limit and (count := self.readinto(buffer[: limit - len(body)])):
            body += buffer[:count]
        return bytes(body)


class Connection:
    """One connection to an origin."""

    def __init__(self, sock: socket.socket, origin: Origin) -> None:
        self.sock = sock
        self.is_open = True
        self._host = f"Host: {origin.domain}"

    @property
    def is_connected(self) -> bool:
        """Whether the server has neither closed the connection nor sent what nobody asked for."""
        return self.is_open and not can_read(self.sock)

    def send(self, method: str, target: str, headers: Mapping[str, str], body: Body | None) -> None:
        """Send a request; the pieces of a body are sent as they come.

        Raises:
            IllegalRequestError: Its head would hold characters that are not allowed there.
        """
        lines = [f"{method} {target} HTTP/1.1", self._host, *_ALWAYS]
        lines += (f"{name}: {value}" for name, value in headers.items())
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        if _ILLEGAL.search("\t".join(lines)):
            raise IllegalRequestError("its URL or its login has characters that cannot be sent")
        head = "\r\n".join((*lines, "", "")).encode("ascii")
        if body is None or isinstance(body, bytes):
            self.sock.sendall(head + (body or b""))
            return
        self.sock.sendall(head)
        for piece in body:
            self.sock.sendall(piece)

    def receive(self, method: str) -> RawResponse:
        """Wait for the head of the response.

        Raises:
            ConnectionResetError: The server closed the connection without a response.
            ProtocolError: What it sent is not a response.
        """
        return RawResponse(self.sock, method)

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False
        self.sock.close()


def can_read(sock: socket.socket) -> bool:
    """Whether a read would return at once, be it with the end of the stream."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
