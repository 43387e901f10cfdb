"""Sends one HTTP request over a kept or a new connection, and returns the response with its body unread.

A body is read straight into the caller's buffer, a connection belongs to one piece of work that
can be cancelled, and the peer's address is checked before a byte is sent. Proxies named in the
environment are not used: through one, the address that is really reached could not be checked.
Callers see to redirects, authentication and retries.
"""

import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.file_values import FileValue
from controller.registry.http.addresses import AddressRules
from controller.registry.http.connection import Connection, can_read
from controller.registry.http.deadlines import DeadlineTimer
from controller.registry.http.dialling import open_connection
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

_IDLE_PER_ORIGIN = 16


@dataclass(frozen=True, slots=True)
class _Key:
    """What the requests that may share a connection have in common; `tls` is None for an http origin."""

    origin: Origin
    rules: AddressRules
    files: TlsFiles
    tls: ssl.SSLContext | None


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
        self._timer = DeadlineTimer()
        self._lock = threading.Lock()
        self._idle: dict[_Key, list[Connection]] = {}
        self._tls: dict[TlsFiles, FileValue[ssl.SSLContext]] = {}
        self._is_closed = False

    def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        with self._lock:
            self._is_closed = True
            connections = [each for group in self._idle.values() for each in group]
            self._idle.clear()
        for connection in connections:
            connection.close()
        self._timer.close()

    def _keep(self, key: "_Key", connection: Connection) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            group = self._idle.setdefault(key, [])
            if not self._is_closed and len(group) < _IDLE_PER_ORIGIN:
                group.append(connection)
                return
        connection.close()

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
        key = _Key(request.url.origin, context.rules, files, tls)
        kept = self._take_kept(key)
        if kept is not None:
            try:
                return self._exchange(kept, request, key=key, context=context, limits=limits)
            except LOST as error:
                if not isinstance(request.body, bytes | None):
                    raise failure(error, request.url, context.cancellation) from error
            except FAILURES as error:
                raise failure(error, request.url, context.cancellation) from error
        try:
            fresh = open_connection(request.url.origin, self._timeouts, context, tls)
            return self._exchange(fresh, request, key=key, context=context, limits=limits)
        except FAILURES as error:
            raise failure(error, request.url, context.cancellation) from error

    def _take_kept(self, key: "_Key") -> Connection | None:
        self._close_outdated(key)
        while True:
            with self._lock:
                group = self._idle.get(key)
                connection = group.pop() if group else None
            if connection is None or connection.is_connected:
                return connection
            connection.close()

    def _close_outdated(self, key: "_Key") -> None:
        """Close the idle connections to an origin that were opened before its certificates changed."""
        with self._lock:
            outdated = [
                each
                for each in self._idle
                if each.origin == key.origin and each.files == key.files and each.tls is not key.tls
            ]
            connections = [connection for each in outdated for connection in self._idle.pop(each)]
        for connection in connections:
            connection.close()

    def _tls_of(self, origin: Origin, files: TlsFiles) -> ssl.SSLContext | None:
        """Return the present TLS context for an origin; None for an http origin."""
        if origin.scheme != "https":
            return None
        with self._lock:
            if files not in self._tls:
                self._tls[files] = files.context()
            tls = self._tls[files]
        return tls.current()

    def _exchange(
        self,
        connection: Connection,
        request: Request,
        *,
        key: "_Key",
        context: RequestContext,
        limits: HostLimits,
    ) -> Response:
        total = self._timeouts.total if request.total is None else request.total
        deadline = self._timer.start(connection.sock, total)
        lease = ConnectionLease(
            connection, deadline, give_back=lambda: self._keep(key, connection), context=context
        )
        lease.on_end = lambda: self._timer.cancel(deadline)
        connection.sock.settimeout(self._timeouts.idle)  # the last response may have had less
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
                connection.sock.settimeout(min(self._timeouts.idle, self._timeouts.window))
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
