"""Holds a response whose body is still in the socket, and gives its connection back or closes it."""

import errno
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from controller.registry.http.connection import Connection, IllegalRequestError, ProtocolError, RawResponse
from controller.registry.http.deadlines import Deadline
from controller.registry.http.rate_limiter import SlowSenderError, TokenBucket
from controller.registry.http.refusals import MAX_ERROR_BODY
from controller.registry.http.request import Request, RequestContext
from controller.registry.http.urls import Url
from controller.threads import Cancellation
from controller.tls_causes import NO_TLS
from reconcile.errors import DockerCacheError, ErrorCode, Invalid, Unavailable
from reconcile.foreign_text import clean

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Errors of the kernel by which this process, and not the peer, is why nothing can be opened."""

LOST = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)
FAILURES = (OSError, ProtocolError, UnicodeError)


class ConnectionLease:
    """Lends a connection to one exchange, which either gives it back to the pool or closes it, once.

    Attributes:
        context: Of the exchange.
        deadline: Of the exchange.
        is_reusable: Whether the request was sent completely.
        on_end: Called once when the exchange is over.
    """

    def __init__(
        self,
        connection: Connection,
        deadline: Deadline,
        *,
        give_back: Callable[[], None],
        context: RequestContext,
    ) -> None:
        self._connection, self._give_back = connection, give_back
        self.context, self.deadline = context, deadline
        self.is_reusable = True
        self.on_end: Callable[[], None] = _nothing
        self._sock = connection.sock
        self._is_over = False

    def give_back(self) -> None:
        """Return the connection back to the pool if another request may use it, else close it."""
        if not self.is_reusable or not self._connection.is_open or self.deadline.has_passed:
            self.close()
        elif self._end():
            self.on_end()  # before somebody else may have the connection
            self._give_back()

    def close(self) -> None:
        """Close the connection."""
        if self._end():
            self._connection.close()
            self.on_end()

    def failure(self, error: Exception, url: Url) -> DockerCacheError:
        """Turn an exception of the network into an error of ours."""
        if self.deadline.has_passed:
            self.context.cancellation.check()
            return too_slow(url)
        return failure(error, url, self.context.cancellation)

    def _end(self) -> bool:
        """Whether this was the first call: afterwards the connection may be somebody else's."""
        is_first, self._is_over = not self._is_over, True
        if is_first:
            self.context.cancellation.forget(self._sock)
        return is_first


def _nothing() -> None:
    """Do nothing at the end."""


class Response:
    """Status, headers and a body that is still in the socket; use it in a `with` statement.

    Attributes:
        url: Of the request, after redirects.
        method: Of the request.
        sent: Bytes of the request's body.
        secrets: The credentials that the request was sent with, which no message may show.
    """

    def __init__(
        self, request: Request, raw: RawResponse, lease: ConnectionLease, throttle: TokenBucket | None = None
    ) -> None:
        self.url, self.method, self.sent = request.url, request.method, request.length
        self.secrets = tuple(filter(None, [(request.headers.get("Authorization") or "").partition(" ")[2]]))
        self.status = raw.status
        self.headers = raw.headers
        self._raw = raw
        self._lease = lease
        self._throttle = throttle
        self._drained: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def length(self) -> int | None:
        """`Content-Length` as a number; None when the server sends none that can be read."""
        text = (self.headers.get("Content-Length") or "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer with the next bytes of the body, and return their number; 0 is the body's end.

        Raises:
            Unavailable: The connection failed, or nothing arrived for too long; `too-slow` when the bytes
                come too slowly, or the deadline of the whole exchange has passed.
        """
        try:
            count = self._raw.readinto(buffer)
        except SlowSenderError as error:
            self._lease.close()
            raise too_slow(self.url) from error
        except FAILURES as error:
            self._lease.close()
            raise self._lease.failure(error, self.url) from error
        if count == 0 and self._lease.deadline.has_passed:
            self._lease.close()
            raise too_slow(self.url)
        if self._throttle is not None:
            self._throttle.take(count, self._lease.context.cancellation.wait)
        return count

    def has_more(self) -> bool:
        """Whether there is more of the body; reads one byte of it where its length was not stated."""
        return not self._raw.is_at_end and self.read_into(memoryview(bytearray(1))) > 0

    def read(self, limit: int) -> bytes:
        """Read the body up to a number of bytes.

        Raises:
            Unavailable: The connection failed, or the body ended before its stated length.
        """
        if self._drained is not None:
            return self._drained
        stated = self._raw.left
        try:
            body = self._raw.read(limit)
        except FAILURES as error:
            self._lease.close()
            raise self._lease.failure(error, self.url) from error
        if stated is not None and len(body) < min(stated, limit):
            raise Unavailable(
                "registry", ErrorCode.CUT, f"{self.url}: ended after {len(body)} of {stated} bytes"
            )
        return body

    def drain(self) -> bytes:
        """Read a short body to its end, so that the connection can be used again; a failure is ignored."""
        try:
            self._drained = self.read(MAX_ERROR_BODY)
        except Unavailable:
            self._drained = b""
        finally:
            self.close()
        return self._drained

    def close(self) -> None:
        """Return the connection back if the body was read to its end, else close it."""
        if self._raw.is_at_end and self._raw.keeps_connection:
            self._lease.give_back()
        else:
            self._lease.close()


def too_slow(url: Url) -> Unavailable:
    """Build the error of an exchange that does not keep the minimum rate, or whose deadline has passed."""
    return Unavailable("registry", ErrorCode.TOO_SLOW, f"{url}: the server is slower than is allowed")


def failure(error: Exception, url: Url, cancellation: Cancellation) -> DockerCacheError:
    """Turn an exception of the network into an error of ours.

    Raises:
        Stopped: A cancellation was the cause.
    """
    cancellation.check()
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unavailable("registry", ErrorCode.CERTIFICATE, f"{url}: {clean(error.verify_message)}")
    if isinstance(error, ssl.SSLError) and error.reason in NO_TLS:
        advice = "set plain_http for it if it is to be reached by plain HTTP"
        return Unavailable("registry", ErrorCode.NO_TLS, f"{url}: the server does not speak TLS: {advice}")
    if isinstance(error, IllegalRequestError):
        return Invalid("registry", "bad-request", f"{url} cannot be requested: {error}")
    if isinstance(error, UnicodeError):
        return Invalid("registry", "bad-url", f"{url} cannot be requested")
    if isinstance(error, TimeoutError):
        return Unavailable("registry", ErrorCode.TIMEOUT, f"{url}: no response in time")
    if isinstance(error, socket.gaierror):
        return Unavailable("registry", ErrorCode.UNKNOWN_HOST, f"{url.origin}: the name cannot be resolved")
    if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
        return Unavailable("registry", ErrorCode.OUT_OF_RESOURCES, f"{url}: {error.strerror}")
    return Unavailable(
        "registry", ErrorCode.CONNECTION, f"{url}: {clean(str(error)) or type(error).__name__}"
    )
