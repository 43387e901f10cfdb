"""Sends one HTTP request over a kept or a new connection, and hands back the answer with its body unread.

Built on urllib3's connections without its pool: a body is read straight into the caller's
buffer, a connection belongs to one piece of work that can be cancelled, and the peer's address
is checked before a byte is sent. Proxies named in the environment are not used: through one,
the address that is really reached could not be checked. Redirects, authentication and
retries are the caller's.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from urllib3 import exceptions as urllib3_exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

from controller.registry.addresses import AddressRules
from controller.registry.cancellation import Cancellation
from controller.registry.errors import clean
from controller.registry.settings import RegistrySettings, Timeouts, settings_key
from controller.registry.urls import Origin, Url
from reconcile.errors import DockerCacheError, Invalid, Unavailable

Body = bytes | Iterable[memoryview]

_IDLE_PER_ORIGIN = 16
_LOST = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)
_FAILURES = (OSError, http.client.HTTPException, urllib3_exceptions.HTTPError, UnicodeError)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent.

    Attributes:
        headers: Without `Host`; hold `Content-Length` when the body is made of pieces.
        body: Pieces are sent as they come and cannot be sent twice.
    """

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Work:
    """On whose behalf a request is sent: what may be reached, and what stops it."""

    rules: AddressRules
    cancellation: Cancellation


def _dial(host: str, port: int, connect_timeout: float, work: Work) -> socket.socket:
    """Connect to the first permitted address that answers."""
    refused: list[str] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if not work.rules.permits(str(address[0])):
            refused.append(str(address[0]))
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(connect_timeout)
            with work.cancellation.watching(sock):
                sock.connect(address)
                peer = str(sock.getpeername()[0])
        except OSError as error:
            failure = error
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        if work.rules.permits(peer):
            return sock
        refused.append(peer)
        sock.close()
    if refused:
        raise Invalid(
            "registry", "address-refused", f"{host} is at {', '.join(refused)}, which is not a public address"
        )
    raise failure or OSError(f"{host} has no address")


class _PlainConnection(HTTPConnection):
    """A connection that is dialled by our rules."""

    def __init__(self, origin: Origin, timeouts: Timeouts, work: Work) -> None:
        super().__init__(origin.host, origin.port, timeout=timeouts.idle)
        self._dial = (origin.host, origin.port, timeouts.connect, work)

    def _new_conn(self) -> socket.socket:
        return _dial(*self._dial)


class _TlsConnection(HTTPSConnection):
    """The same over TLS."""

    def __init__(self, origin: Origin, timeouts: Timeouts, work: Work, context: ssl.SSLContext) -> None:
        super().__init__(origin.host, origin.port, timeout=timeouts.idle, ssl_context=context)
        self._dial = (origin.host, origin.port, timeouts.connect, work)

    def _new_conn(self) -> socket.socket:
        return _dial(*self._dial)


class Answer:
    """Status and headers, with the body still in the socket; leave it with `with`.

    Attributes:
        url: Of the request that it answers.
    """

    def __init__(self, url: Url, response: http.client.HTTPResponse, finish: "_Finish") -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._finish = finish

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def length(self) -> int | None:
        """`Content-Length` as a number; None when the server gives none that can be read."""
        text = self.headers.get("Content-Length", "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the body goes; 0 at its end, wherever that is.

        Raises:
            Unavailable: The connection failed, or nothing came for too long.
        """
        try:
            return self._response.readinto(buffer)
        except _FAILURES as error:
            self._finish.close()
            raise _failure(error, self.url, self._finish.work.cancellation) from error

    def has_more(self) -> bool:
        """Whether the body goes on; reads one byte where its length was not stated."""
        return not self._response.isclosed() and self.read_into(memoryview(bytearray(1))) > 0

    def read(self, limit: int) -> bytes:
        """Read the body up to a number of bytes.

        Raises:
            Unavailable: The connection failed, or the body ended before its stated length.
        """
        stated = self._response.length
        try:
            body = self._response.read(limit)
        except _FAILURES as error:
            self._finish.close()
            raise _failure(error, self.url, self._finish.work.cancellation) from error
        if stated is not None and len(body) < min(stated, limit):
            raise Unavailable("registry", "cut", f"{self.url}: ended after {len(body)} of {stated} bytes")
        return body

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._response.length == 0:
            self._response.read(0)  # nothing is to come, but it does not yet know
        if self._response.isclosed():
            self._finish.keep()
        else:
            self._response.close()
            self._finish.close()


class _Finish:
    """Decides once what becomes of a connection after its answer."""

    def __init__(
        self, transport: "Transport", connection: HTTPConnection, *, key: object, work: Work
    ) -> None:
        self._transport, self._connection, self._key = transport, connection, key
        self.work = work
        self.is_reusable = True
        self._sock = connection.sock
        self._is_done = False

    def keep(self) -> None:
        if not self.is_reusable or self._connection.sock is None:
            self.close()
        elif self._leave():
            self._transport.give_back(self._key, self._connection)

    def close(self) -> None:
        if self._leave():
            self._connection.close()

    def _leave(self) -> bool:
        """Whether this was the first call: afterwards the connection may be somebody else's."""
        is_first, self._is_done = not self._is_done, True
        if is_first and self._sock is not None:
            self.work.cancellation.forget(self._sock)
        return is_first


def _failure(error: Exception, url: Url, cancellation: Cancellation) -> DockerCacheError:
    cancellation.check()
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unavailable("registry", "certificate", f"{url}: {clean(error.verify_message)}")
    if isinstance(error, http.client.InvalidURL | UnicodeError):
        return Invalid("registry", "bad-url", f"{url} cannot be requested")
    if isinstance(error, TimeoutError):
        return Unavailable("registry", "timeout", f"{url}: no answer in time")
    if isinstance(error, socket.gaierror):
        return Unavailable("registry", "unknown-host", f"{url.origin}: the name cannot be resolved")
    return Unavailable("registry", "connection", f"{url}: {clean(str(error)) or type(error).__name__}")


class Transport:
    """Connections to registries, kept while they are idle; safe to use from many threads."""

    def __init__(self, settings: Mapping[str, RegistrySettings], timeouts: Timeouts = Timeouts()) -> None:  # noqa: B008 - a frozen value
        self._settings = settings
        self._timeouts = timeouts
        self._lock = threading.Lock()
        self._idle: dict[object, list[HTTPConnection]] = {}
        self._contexts: dict[RegistrySettings, ssl.SSLContext] = {}
        self._is_closed = False

    def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        with self._lock:
            self._is_closed = True
            connections = [each for group in self._idle.values() for each in group]
            self._idle.clear()
        for connection in connections:
            connection.close()

    def give_back(self, key: object, connection: HTTPConnection) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            group = self._idle.setdefault(key, [])
            if not self._is_closed and len(group) < _IDLE_PER_ORIGIN:
                group.append(connection)
                return
        connection.close()

    def send(self, request: Request, work: Work) -> Answer:
        """Send a request and wait for the head of its answer.

        A kept connection that turns out to be dead is replaced once, where nothing is lost by that.

        Raises:
            Unavailable: No connection, no answer, or not in time.
            Invalid: The URL or the address behind it is refused.
            Stopped: The work was cancelled.
        """
        key = (request.url.origin, work.rules)
        kept = self._take_kept(key)
        if kept is not None:
            try:
                return self._exchange(kept, request, key=key, work=work)
            except (http.client.RemoteDisconnected, *_LOST) as error:
                if not isinstance(request.body, bytes | None):
                    raise _failure(error, request.url, work.cancellation) from error
            except _FAILURES as error:
                raise _failure(error, request.url, work.cancellation) from error
        try:
            fresh = self._connect(request.url.origin, work)
            return self._exchange(fresh, request, key=key, work=work)
        except _FAILURES as error:
            raise _failure(error, request.url, work.cancellation) from error

    def _take_kept(self, key: object) -> HTTPConnection | None:
        while True:
            with self._lock:
                group = self._idle.get(key)
                connection = group.pop() if group else None
            if connection is None or connection.is_connected:
                return connection
            connection.close()

    def _connect(self, origin: Origin, work: Work) -> HTTPConnection:
        connection: _PlainConnection | _TlsConnection
        if origin.scheme == "https":
            connection = _TlsConnection(origin, self._timeouts, work, self._context(origin))
        else:
            connection = _PlainConnection(origin, self._timeouts, work)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(self._timeouts.idle)
        return connection

    def _context(self, origin: Origin) -> ssl.SSLContext:
        settings = self._settings.get(settings_key(origin), RegistrySettings())
        with self._lock:
            if settings not in self._contexts:
                self._contexts[settings] = settings.tls_context()
            return self._contexts[settings]

    def _exchange(self, connection: HTTPConnection, request: Request, *, key: object, work: Work) -> Answer:
        finish = _Finish(self, connection, key=key, work=work)
        try:
            work.cancellation.watch(connection.sock)
            try:
                connection.request(
                    request.method,
                    request.url.target,
                    body=_body(request, connection, finish),  # type: ignore[arg-type]
                    headers=request.headers,
                )
            except _LOST:
                # An early refusal may stand in the socket although the rest could not be written.
                finish.is_reusable = False
            response = http.client.HTTPConnection.getresponse(connection)
        except BaseException:
            finish.close()
            raise
        return Answer(request.url, response, finish)


def _body(request: Request, connection: HTTPConnection, finish: _Finish) -> Body | None:
    if isinstance(request.body, bytes | None):
        return request.body
    return _until_answered(request.body, connection, finish, length=int(request.headers["Content-Length"]))


def _until_answered(
    body: Iterable[memoryview], connection: HTTPConnection, finish: _Finish, *, length: int
) -> Iterator[memoryview]:
    """Pass a body on until its end, or until the server answers early.

    TLS sockets are not asked: what is to be read there may be a session ticket.
    """
    is_plain = not isinstance(connection.sock, ssl.SSLSocket)
    finish.is_reusable = False
    for piece in body:
        yield piece
        length -= len(piece)
        if length and is_plain and wait_for_read(connection.sock, timeout=0.0):
            return
    finish.is_reusable = length == 0
