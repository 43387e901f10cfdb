"""Speaks HTTP/1.1 over one socket, one request at a time, and reads bodies into the caller's buffer.

llhttp parses heads and chunks strictly: what two parsers could read in two ways is refused. It is given
a head and no byte more, and nothing of what follows the response: a connection on which anything follows
is not used again, since that would become the response to the next request.
Source: RFC 9112.
"""

import re
import select
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from typing import NoReturn

import httptools

from controller.registry.http.rate_limiter import MinimumRate
from controller.registry.http.request import Body
from controller.registry.http.urls import Origin

_MOST_HEAD = 65536
_MOST_LINE = 16384  # of a header, name included; the longest that are needed are signed URLs
_MOST_HEADERS = 256
_HEAD_AT_A_TIME = 4096  # little, since the body behind the head bypasses the parser
_BODY_AT_A_TIME = 32768
_ILLEGAL = re.compile(r"[^\t\x20-\x7e]")
_ALWAYS = ("Accept-Encoding: identity", "User-Agent: diego-docker-cache")
_BODILESS = frozenset({204, 304})
_HEAD_END = re.compile(rb"\n\r?\n")
_ONE_END = re.compile(rb"[^\r\n]\r?\n\r?\n\Z")
"""What a message in chunks ends with: its last line, and an empty one."""
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
        self._header_lines, self._problem = 0, ""
        self.headers = Headers()
        self.minimum: MinimumRate | None = None
        self.status = 0
        self.keeps_connection = False
        behind = self._read_head()
        self.left = self._length(method)
        self._is_parsed = self.left is None and "Transfer-Encoding" in self.headers
        self.is_at_end = self.left == 0
        self._last = b""
        if self._is_parsed:
            self._feed_chunks(behind)
            return
        del self._parser  # which refers to this object as well
        if behind:
            self._pieces.append(behind)
        if self.left is not None and len(behind) > self.left:
            self.keeps_connection = False  # more than was announced

    # Called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; a trailer behind the chunks of a body is ignored."""
        if self._has_head:
            return
        self._header_lines += 1
        if len(name) + len(value) > _MOST_LINE:
            self._refuse("a header of the response is too long")
        if self._header_lines > _MOST_HEADERS:
            self._refuse("the response has too many headers")
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
        """Keep bytes of a body in chunks."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        self._is_complete = self._has_head

    def on_message_begin(self) -> None:
        """Stop the parser at a second response, which nobody has asked for."""
        if self._is_complete:
            self._refuse("another response follows")

    def _refuse(self, problem: str) -> NoReturn:
        """Make the parser stop."""
        self._problem = self._problem or problem
        raise ProtocolError(problem)

    # Called by us

    def _read_head(self) -> bytes:
        """Read up to the end of the final head, and return what came with it."""
        count, last = 0, b""
        while True:
            data = self._sock.recv(_HEAD_AT_A_TIME)
            if not data:
                if count:
                    raise ProtocolError("the connection was closed within the head of a response")
                raise ConnectionResetError("the connection was closed without a response")
            count += len(data)
            begin = 0
            # The end of a head may be cut anywhere.
            for end in _HEAD_END.finditer(last + data if last else data):
                at = end.end() - len(last)
                self._feed(data[begin:at])
                begin = at
                if self._has_head:
                    return data[begin:]
            self._feed(data[begin:])
            if self._has_head:
                raise ProtocolError("the head of the response has no empty line at its end")
            if count > _MOST_HEAD:
                raise ProtocolError("the head of the response is too long")
            last = (last + data)[-2:]

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except _PARSER_ERRORS as error:
            if not self._is_complete:
                problem = self._problem or f"the response is not HTTP: {error}"
                raise ProtocolError(problem) from error
            self.keeps_connection = False  # nobody asked for what follows the response

    def _feed_chunks(self, data: bytes) -> None:
        """Parse a part of a body in chunks, and see whether anything follows its end."""
        self._feed(data)
        self._last = (self._last + data)[-5:] if len(data) < 5 else data[-5:]
        if self._is_complete and not _ONE_END.search(self._last):
            self.keeps_connection = False

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
            self._feed_chunks(data)
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
        self._poll: select.poll | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the server has neither closed the connection nor sent what nobody asked for.

        TLS decrypts whole records: what it holds of one beyond what was read is not in the socket any more.
        """
        if not self.is_open or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            return False
        self._poll = self._poll or _poll_of(self.sock)
        return not self._poll.poll(0)

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
    return bool(_poll_of(sock).poll(0))


def _poll_of(sock: socket.socket) -> "select.poll":
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return poll
