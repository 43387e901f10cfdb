"""Sends one HTTP request over a kept or a new connection, and hands back the answer with its body unread.

A body is read straight into the caller's buffer, a connection belongs to one piece of work that
can be cancelled, and the peer's address is checked before a byte is sent. Proxies named in the
environment are not used: through one, the address that is really reached could not be checked.
Redirects, authentication and retries are the caller's.
"""

import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping

from controller.registry.alarm import Alarm
from controller.registry.answers import FAILURES, LOST, Answer, Finish, failure
from controller.registry.dialling import open_connection
from controller.registry.exchange import Body, Request, Work
from controller.registry.settings import RegistrySettings, Timeouts, settings_key
from controller.registry.traffic import Bucket, HostTraffic, Limits, Traffic
from controller.registry.urls import Origin
from controller.registry.wire import Wire, can_read

_IDLE_PER_ORIGIN = 16


class Transport:
    """Connections to registries, kept while they are idle; safe to use from many threads."""

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        self._settings = settings
        self._timeouts = timeouts
        own = {host: each.limits for host, each in settings.items() if each.limits is not None}
        self._traffic = Traffic(limits, own, longest_wait=timeouts.idle)
        self._alarm = Alarm()
        self._lock = threading.Lock()
        self._idle: dict[object, list[Wire]] = {}
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
        self._alarm.close()

    def _give_back(self, key: object, connection: Wire) -> None:
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
        traffic = self._traffic.of(settings_key(request.url.origin))
        traffic.enter(work.cancellation, is_urgent=request.is_urgent)
        try:
            return self._send(request, work, traffic)
        except BaseException:
            traffic.leave()
            raise

    def _send(self, request: Request, work: Work, traffic: HostTraffic) -> Answer:
        key = (request.url.origin, work.rules)
        kept = self._take_kept(key)
        if kept is not None:
            try:
                return self._exchange(kept, request, key=key, work=work, traffic=traffic)
            except LOST as error:
                if not isinstance(request.body, bytes | None):
                    raise failure(error, request.url, work.cancellation) from error
            except FAILURES as error:
                raise failure(error, request.url, work.cancellation) from error
        try:
            fresh = self._connect(request.url.origin, work)
            return self._exchange(fresh, request, key=key, work=work, traffic=traffic)
        except FAILURES as error:
            raise failure(error, request.url, work.cancellation) from error

    def _take_kept(self, key: object) -> Wire | None:
        while True:
            with self._lock:
                group = self._idle.get(key)
                connection = group.pop() if group else None
            if connection is None or connection.is_connected:
                return connection
            connection.close()

    def _connect(self, origin: Origin, work: Work) -> Wire:
        context = self._context(origin) if origin.scheme == "https" else None
        return open_connection(origin, self._timeouts, work, context)

    def _context(self, origin: Origin) -> ssl.SSLContext:
        settings = self._settings.get(settings_key(origin), RegistrySettings())
        with self._lock:
            if settings not in self._contexts:
                self._contexts[settings] = settings.tls_context()
            return self._contexts[settings]

    def _exchange(
        self, connection: Wire, request: Request, *, key: object, work: Work, traffic: HostTraffic
    ) -> Answer:
        total = self._timeouts.total if request.total is None else request.total
        deadline = self._alarm.set(connection.sock, total)
        finish = Finish(connection, deadline, keep=lambda: self._give_back(key, connection), work=work)
        finish.at_end = lambda: self._alarm.clear(deadline)
        try:
            work.cancellation.watch(connection.sock)
            try:
                body = _body(request, connection, finish, traffic.bytes)
                connection.send(request.method, request.url.target, request.headers, body)
            except LOST:
                # An early refusal may stand in the socket although the rest could not be written.
                finish.is_reusable = False
            response = connection.receive(request.method)
        except FAILURES as error:
            finish.close()
            if deadline.has_passed:
                raise finish.failure(error, request.url) from error
            raise
        except BaseException:
            finish.close()
            raise

        def end() -> None:
            self._alarm.clear(deadline)
            traffic.leave()

        finish.at_end = end
        return Answer(request.url, response, finish, traffic.bytes)


def _body(request: Request, connection: Wire, finish: Finish, throttle: Bucket | None) -> Body | None:
    if isinstance(request.body, bytes | None):
        return request.body
    pieces = request.body if throttle is None else _throttled(request.body, throttle, finish.work)
    return _until_answered(pieces, connection, finish, length=int(request.headers["Content-Length"]))


def _throttled(body: Iterable[memoryview], throttle: Bucket, work: Work) -> Iterator[memoryview]:
    for piece in body:
        throttle.take(len(piece), work.cancellation.wait)
        yield piece


def _until_answered(
    body: Iterable[memoryview], connection: Wire, finish: Finish, *, length: int
) -> Iterator[memoryview]:
    """Pass a body on until its end, or until the server answers early.

    TLS sockets are not asked: what is to be read there may be a session ticket.
    """
    is_plain = not isinstance(connection.sock, ssl.SSLSocket)
    finish.is_reusable = False
    for piece in body:
        yield piece
        length -= len(piece)
        if length and is_plain and can_read(connection.sock):
            return
    finish.is_reusable = length == 0
