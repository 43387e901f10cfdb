"""An answer whose body is still in the socket, and what becomes of its connection afterwards."""

import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from controller.registry.alarm import Deadline
from controller.registry.cancellation import Cancellation
from controller.registry.errors import MAX_ERROR_BODY, clean
from controller.registry.exchange import Work
from controller.registry.traffic import Bucket
from controller.registry.urls import Url
from controller.registry.wire import IllegalRequestError, Response, Wire, WireError
from controller.tls_causes import NO_TLS
from reconcile.errors import DockerCacheError, Invalid, Unavailable

LOST = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)
FAILURES = (OSError, WireError, UnicodeError)


class Finish:
    """Decides once what becomes of a connection after its answer.

    Attributes:
        is_reusable: Whether the request was sent completely.
        deadline: By when the answer must have been read.
        at_end: Called once when the exchange is over.
    """

    def __init__(self, connection: Wire, deadline: Deadline, *, keep: Callable[[], None], work: Work) -> None:
        self._connection, self._keep = connection, keep
        self.work, self.deadline = work, deadline
        self.is_reusable = True
        self.at_end: Callable[[], None] = _nothing
        self._sock = connection.sock
        self._is_done = False

    def keep(self) -> None:
        """Keep the connection for the next request, if it is fit for one."""
        if not self.is_reusable or not self._connection.is_open or self.deadline.has_passed:
            self.close()
        elif self._leave():
            self.at_end()  # before somebody else may have the connection
            self._keep()

    def close(self) -> None:
        """Close the connection."""
        if self._leave():
            self._connection.close()
            self.at_end()

    def failure(self, error: Exception, url: Url) -> DockerCacheError:
        """Say what a failed exchange means."""
        if self.deadline.has_passed:
            self.work.cancellation.check()
            return too_slow(url)
        return failure(error, url, self.work.cancellation)

    def _leave(self) -> bool:
        """Whether this was the first call: afterwards the connection may be somebody else's."""
        is_first, self._is_done = not self._is_done, True
        if is_first:
            self.work.cancellation.forget(self._sock)
        return is_first


def _nothing() -> None:
    """Do nothing at the end."""


class Answer:
    """Status and headers, with the body still in the socket; leave it with `with`.

    Attributes:
        url: Of the request that it answers.
    """

    def __init__(self, url: Url, response: Response, finish: Finish, throttle: Bucket | None = None) -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._finish = finish
        self._throttle = throttle
        self._held: bytes | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def length(self) -> int | None:
        """`Content-Length` as a number; None when the server gives none that can be read."""
        text = (self.headers.get("Content-Length") or "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the body goes; 0 at its end, wherever that is.

        Raises:
            Unavailable: The connection failed, or nothing came for too long; `too-slow` when the
                time for the whole is up.
        """
        try:
            count = self._response.readinto(buffer)
        except FAILURES as error:
            self._finish.close()
            raise self._finish.failure(error, self.url) from error
        if count == 0 and self._finish.deadline.has_passed:
            self._finish.close()
            raise too_slow(self.url)
        if self._throttle is not None:
            self._throttle.take(count, self._finish.work.cancellation.wait)
        return count

    def has_more(self) -> bool:
        """Whether the body goes on; reads one byte where its length was not stated."""
        return not self._response.is_at_end and self.read_into(memoryview(bytearray(1))) > 0

    def read(self, limit: int) -> bytes:
        """Read the body up to a number of bytes.

        Raises:
            Unavailable: The connection failed, or the body ended before its stated length.
        """
        if self._held is not None:
            return self._held
        stated = self._response.left
        try:
            body = self._response.read(limit)
        except FAILURES as error:
            self._finish.close()
            raise self._finish.failure(error, self.url) from error
        if stated is not None and len(body) < min(stated, limit):
            raise Unavailable("registry", "cut", f"{self.url}: ended after {len(body)} of {stated} bytes")
        return body

    def drain(self) -> bytes:
        """Read what it says beside its head, so that its connection can be used; lost is lost."""
        try:
            self._held = self.read(MAX_ERROR_BODY)
        except Unavailable:
            self._held = b""
        finally:
            self.close()
        return self._held

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._response.is_at_end and self._response.keeps_connection:
            self._finish.keep()
        else:
            self._finish.close()


def too_slow(url: Url) -> Unavailable:
    """Say that the time for a whole exchange is up."""
    return Unavailable("registry", "too-slow", f"{url}: not done in the time allowed for its size")


def failure(error: Exception, url: Url, cancellation: Cancellation) -> DockerCacheError:
    """Say what an exception of the network means.

    Raises:
        Stopped: It came of a cancellation.
    """
    cancellation.check()
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unavailable("registry", "certificate", f"{url}: {clean(error.verify_message)}")
    if isinstance(error, ssl.SSLError) and error.reason in NO_TLS:
        advice = "set plain_http for it if it is to be reached by plain HTTP"
        return Unavailable("registry", "no-tls", f"{url}: the server does not speak TLS: {advice}")
    if isinstance(error, IllegalRequestError):
        return Invalid("registry", "bad-request", f"{url} cannot be requested: {error}")
    if isinstance(error, UnicodeError):
        return Invalid("registry", "bad-url", f"{url} cannot be requested")
    if isinstance(error, TimeoutError):
        return Unavailable("registry", "timeout", f"{url}: no answer in time")
    if isinstance(error, socket.gaierror):
        return Unavailable("registry", "unknown-host", f"{url.origin}: the name cannot be resolved")
    return Unavailable("registry", "connection", f"{url}: {clean(str(error)) or type(error).__name__}")
