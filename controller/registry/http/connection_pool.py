"""Sends one HTTP request over a kept or a new connection, and returns the response with its body unread.

A body is read straight into the caller's buffer, a connection belongs to one piece of work that
can be cancelled, and the peer's address is checked before a byte is sent. Proxies named in the
environment are not used: through one, the address that is really reached could not be checked.
Callers see to redirects, authentication and retries.
"""

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.file_values import FileValue
from controller.registry.http.connection import Connection, can_read
from controller.registry.http.deadlines import DeadlineTimer
from controller.registry.http.dialling import Dialler
from controller.registry.http.idle_connections import ConnectionKey, IdleConnections
from controller.registry.http.lookups import Lookups
from controller.registry.http.rate_limiter import (
    HostLimits,
    MinimumRate,
    RateLimiter,
    TokenBucket,
    TrafficLimits,
)
from controller.registry.http.request import Body, Request, RequestContext
from controller.registry.http.response import FAILURES, LOST, ConnectionLease, Response, failure
from controller.registry.http.settings import RegistrySettings, Timeouts, TlsFiles
from controller.registry.http.urls import Origin

_NO_MORE_FILES = frozenset({errno.EMFILE, errno.ENFILE})


class ConnectionPool:
    """Connections to registries, kept while they are idle; safe to use from many threads."""

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
        limits: TrafficLimits = TrafficLimits(),  # noqa: B008 - a frozen value
    ) -> None:
        self._timeouts = timeouts
        own = {host: each.limits for host, each in settings.items() if each.limits is not None}
        self._rate_limiter = RateLimiter(limits, own, longest_wait=timeouts.idle)
        self._clock: Callable[[], float] = time.monotonic
        self._timer = DeadlineTimer(self._clock)
        self._dialler = Dialler(self._timer, Lookups(), timeouts.idle, self._clock)
        self._idle = IdleConnections(self._timer.call_after, self._clock)
        self._lock = threading.Lock()
        self._tls: dict[TlsFiles, FileValue[ssl.SSLContext]] = {}

    def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._idle.close()
        self._timer.close()

    def send(self, request: Request, context: RequestContext) -> Response:
        """Send a request and wait for the head of its response.

        A kept connection that turns out to be dead is replaced once, where nothing is lost by that.

        Raises:
            Unavailable: No connection, no response, or not in time.
            Invalid: The URL, its origin, or the address behind it is refused.
            Stopped: The work was cancelled.
        """
        route = context.home.route(request.url.origin)
        limits = self._rate_limiter.of(route.limits)
        limits.acquire(context.cancellation, is_urgent=request.is_urgent)
        try:
            return self._send(request, context, limits, route.tls)
        except BaseException:
            limits.release()
            raise

    def _send(
        self, request: Request, context: RequestContext, limits: HostLimits, files: TlsFiles
    ) -> Response:
        try:
            tls = self._tls_of(request.url.origin, files)
        except FAILURES as error:
            raise failure(error, request.url, context.cancellation) from error
        key = ConnectionKey(request.url.origin, context.rules, files, tls)
        total = self._timeouts.total if request.total is None else request.total
        exchange = _Exchange(key, request, context, limits, self._clock() + total)
        kept = self._idle.take(key)
        if kept is not None:
            try:
                return self._exchange(kept, exchange)
            except LOST as error:
                if not isinstance(request.body, bytes | None):
                    raise failure(error, request.url, context.cancellation) from error
            except FAILURES as error:
                raise failure(error, request.url, context.cancellation) from error
        try:
            return self._exchange(self._open(exchange), exchange)
        except FAILURES as error:
            raise failure(error, request.url, context.cancellation) from error

    def _open(self, exchange: "_Exchange") -> Connection:
        """Open a connection; where too many files are open, those that are idle are closed first."""
        seconds = min(self._timeouts.connect, max(exchange.ends_at - self._clock(), 0.0))
        origin, context, tls = exchange.key.origin, exchange.context, exchange.key.tls
        try:
            return self._dialler.open(origin, context, tls, seconds=seconds)
        except OSError as error:
            # What the resolver could not open, it does not say.
            is_lookup = isinstance(error, socket.gaierror) and error.errno == socket.EAI_SYSTEM
            if not (is_lookup or error.errno in _NO_MORE_FILES) or not self._idle.close_all():
                raise
        return self._dialler.open(origin, context, tls, seconds=seconds)

    def _tls_of(self, origin: Origin, files: TlsFiles) -> ssl.SSLContext | None:
        """Return the present TLS context for an origin; None for an http origin."""
        if origin.scheme != "https":
            return None
        with self._lock:
            if files not in self._tls:
                self._tls[files] = files.context()
            tls = self._tls[files]
        return tls.current()

    def _exchange(self, connection: Connection, exchange: "_Exchange") -> Response:
        request, context, limits = exchange.request, exchange.context, exchange.limits
        deadline = self._timer.start(connection.sock, max(exchange.ends_at - self._clock(), 0.0))
        lease = ConnectionLease(
            connection, deadline, give_back=lambda: self._idle.keep(exchange.key, connection), context=context
        )
        lease.on_end = lambda: self._timer.cancel(deadline)
        _set_timeout(connection.sock, self._timeouts.idle)  # the last response may have had less
        try:
            context.cancellation.watch(connection.sock)
            try:
                body = _body(request, connection, lease, limits.bytes)
                connection.send(request.method, request.url.target, request.headers, body)
            except LOST:
                # An early refusal may be in the socket although the rest could not be written.
                lease.is_reusable = False
            raw = connection.receive(request.method)
            if request.is_blob:
                self._timer.cancel(deadline)
                deadline = lease.deadline = self._timer.start(connection.sock, self._timeouts.longest)
                raw.minimum = MinimumRate(self._timeouts.slowest, self._timeouts.window)
                _set_timeout(connection.sock, min(self._timeouts.idle, self._timeouts.window))
        except FAILURES as error:
            lease.close()
            if deadline.has_passed:
                raise lease.failure(error, request.url) from error
            raise
        except BaseException:
            lease.close()
            raise

        def end() -> None:
            self._timer.cancel(deadline)
            limits.release()

        lease.on_end = end
        return Response(request, raw, lease, limits.bytes)


@dataclass(slots=True)
class _Exchange:
    """A request that is being sent, and what it is sent with.

    Attributes:
        ends_at: When its response must have been read, in the time of the pool's clock.
    """

    key: ConnectionKey
    request: Request
    context: RequestContext
    limits: HostLimits
    ends_at: float


def _set_timeout(sock: socket.socket, seconds: float) -> None:
    if sock.gettimeout() != seconds:  # to set it is a system call
        sock.settimeout(seconds)


def _body(
    request: Request, connection: Connection, lease: ConnectionLease, throttle: TokenBucket | None
) -> Body | None:
    if isinstance(request.body, bytes | None):
        return request.body
    pieces = request.body if throttle is None else _throttled(request.body, throttle, lease.context)
    return _until_response(pieces, connection, lease, length=request.length)


def _throttled(
    body: Iterable[memoryview], throttle: TokenBucket, context: RequestContext
) -> Iterator[memoryview]:
    for piece in body:
        throttle.take(len(piece), context.cancellation.wait)
        yield piece


def _until_response(
    body: Iterable[memoryview], connection: Connection, lease: ConnectionLease, *, length: int
) -> Iterator[memoryview]:
    """Pass a body on until its end, or until the server responds early.

    TLS sockets are not asked: what can be read from one may be a session ticket.
    """
    is_plain = not isinstance(connection.sock, ssl.SSLSocket)
    lease.is_reusable = False
    for piece in body:
        yield piece
        length -= len(piece)
        if length and is_plain and can_read(connection.sock):
            return
    lease.is_reusable = length == 0
