"""Opens connections to registries, to permitted addresses alone, within one time limit for all of it.

A name may have many addresses, of which some do not answer: the next one is attempted when one has failed,
or has not answered for a moment, and the first that accepts wins.
Source: RFC 8305 (Happy Eyeballs), sections 4 and 5.
"""

import errno
import math
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, zip_longest

from controller.registry.http.connection import Connection
from controller.registry.http.deadlines import DeadlineTimer
from controller.registry.http.lookups import Address, Lookups
from controller.registry.http.request import RequestContext
from controller.registry.http.urls import Origin
from reconcile.errors import ErrorCode, Invalid

MOST_ADDRESSES = 16
"""Addresses of one name that are attempted."""

NEXT_AFTER = 0.25
"""Seconds without an answer after which the next address is attempted as well."""

_PENDING = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})


@dataclass(frozen=True, slots=True)
class Dialler:
    """Opens the connections of one pool.

    Attributes:
        timer: Limits the time of TLS handshakes.
        lookups: Finds the addresses of hosts.
        idle: Seconds without a byte after which an open connection fails.
        clock: Monotonic time in seconds.
    """

    timer: DeadlineTimer
    lookups: Lookups
    idle: float
    clock: Callable[[], float] = time.monotonic

    def open(
        self, origin: Origin, context: RequestContext, tls: ssl.SSLContext | None, *, seconds: float
    ) -> Connection:
        """Connect to an origin and do the TLS handshake.

        Args:
            origin: The host and its port.
            context: The addresses that may be connected to, and the cancellation of the work.
            tls: Of an https origin; None for an http origin.
            seconds: For the lookup, all addresses and the handshake together.

        Raises:
            Invalid: No address of the host may be connected to.
            TimeoutError: Not in time.
            OSError: No address accepts.
            Stopped: The work was cancelled.
        """
        ends_at = self.clock() + seconds
        found = self.lookups.find(origin.host, origin.port, seconds, context.cancellation)
        sock = _Race(_permitted(origin.host, found, context), context, ends_at, self.clock).run()
        try:
            if tls is not None:
                # Wrapped first, so that a cancellation finds the socket that the handshake waits on.
                sock = tls.wrap_socket(sock, server_hostname=origin.host, do_handshake_on_connect=False)
                self._shake_hands(sock, context, ends_at - self.clock())
            sock.settimeout(self.idle)
        except BaseException:
            sock.close()
            raise
        return Connection(sock, origin)

    def _shake_hands(self, sock: ssl.SSLSocket, context: RequestContext, seconds: float) -> None:
        """Do a handshake; a peer that sends a byte now and then cannot make it last."""
        deadline = self.timer.start(sock, max(seconds, 0.0))
        try:
            with context.cancellation.watching(sock):
                sock.settimeout(max(seconds, 0.001))
                sock.do_handshake()
        except OSError as error:
            if deadline.has_passed:
                raise TimeoutError("the TLS handshake took too long") from error
            raise
        finally:
            self.timer.cancel(deadline)


def _permitted(host: str, found: Iterable[Address], context: RequestContext) -> list[Address]:
    """Return the addresses that are attempted, those of both families in turn.

    Raises:
        Invalid: There are addresses, and none may be connected to.
    """
    addresses = list(found)
    permitted = [each for each in addresses if context.rules.permits(str(each))]
    if addresses and not permitted:
        raise _refused(host, addresses)
    first = [each for each in permitted if each.family == permitted[0].family]
    others = [each for each in permitted if each.family != permitted[0].family]
    both = chain.from_iterable(zip_longest(first, others))
    return [each for each in both if each is not None][:MOST_ADDRESSES]


def _refused(host: str, addresses: Iterable[object]) -> Invalid:
    shown = [str(each) for each in addresses][:MOST_ADDRESSES]
    detail = f"{host} is at {', '.join(shown)}, which is not a public address"
    return Invalid("registry", ErrorCode.ADDRESS_REFUSED, detail)


class _Race:
    """One attempt to connect to any of several addresses.

    Args:
        addresses: In the order in which they are attempted.
        context: Of the work.
        ends_at: When an address must have accepted.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        addresses: Iterable[Address],
        context: RequestContext,
        ends_at: float,
        clock: Callable[[], float],
    ) -> None:
        self._waiting: Iterator[Address] = iter(addresses)
        self._context, self._ends_at, self._clock = context, ends_at, clock
        self._poll = select.poll()
        self._under_way: dict[int, socket.socket] = {}
        self._next_at = -math.inf
        self._failure: OSError | Invalid | None = None

    def run(self) -> socket.socket:
        """Return the socket of the first address that accepts.

        Raises:
            Invalid, OSError: None does; what the last failure was.
        """
        with ExitStack() as watched:
            try:
                while True:
                    winner = self._begin(watched) or self._await()
                    if winner is not None:
                        del self._under_way[winner.fileno()]
                        return winner
            finally:
                for each in self._under_way.values():
                    each.close()

    def _begin(self, watched: ExitStack) -> socket.socket | None:
        """Begin with the next address when it is due; return its socket if it accepts at once."""
        if self._under_way and self._clock() < self._next_at:
            return None
        address = next(self._waiting, None)
        if address is None:
            if not self._under_way:
                raise self._failure or OSError("the host has no address")
            self._next_at = math.inf
            return None
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        self._under_way[sock.fileno()] = sock
        watched.enter_context(self._context.cancellation.watching(sock))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        code = sock.connect_ex(address.target)
        if code in _PENDING:
            self._poll.register(sock, select.POLLOUT)
            self._next_at = self._clock() + NEXT_AFTER
            return None
        return self._outcome(sock, code)

    def _await(self) -> socket.socket | None:
        """Wait until an address answers or the next one is due."""
        if not self._under_way:
            return None
        left = self._ends_at - self._clock()
        if left <= 0:
            raise self._failure or TimeoutError("no address answered in time")
        wait = min(left, max(0.0, self._next_at - self._clock()))
        for number, _ in self._poll.poll(math.ceil(wait * 1000)):
            sock = self._under_way[number]
            self._poll.unregister(number)
            self._context.cancellation.check()
            winner = self._outcome(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if winner is not None:
                return winner
        return None

    def _outcome(self, sock: socket.socket, code: int) -> socket.socket | None:
        """Return a socket that is connected to a permitted address; close another."""
        peer = ""
        if code == 0:
            try:
                peer = str(sock.getpeername()[0])
            except OSError as error:
                code = error.errno or errno.ENOTCONN
        if code == 0 and self._context.rules.permits(peer):
            return sock
        self._failure = OSError(code, os.strerror(code)) if code else _refused("the host", [peer])
        del self._under_way[sock.fileno()]
        sock.close()
        self._next_at = -math.inf
        return None
