"""Keeps the traffic to each host within limits on connections, requests and bytes, and above a minimum rate.

All copies share the limits of a host. Where the operator has set none, nothing is counted.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.threads import Cancellation
from reconcile.errors import ErrorCode, Unavailable


@dataclass(frozen=True, slots=True)
class TrafficLimits:
    """The operator's limits on the traffic to one host; None is no limit.

    Attributes:
        connections: Connections with a request on them at the same time.
        requests_per_second: Average rate; a burst of one second's worth is let through.
        bytes_per_second: Rate of the bytes of bodies, both directions together.
    """

    connections: int | None = None
    requests_per_second: float | None = None
    bytes_per_second: int | None = None


class TokenBucket:
    """Limits a rate; the bucket may run into debt, so that an amount larger than it passes too."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._burst = max(rate, 1.0)
        self._lock = threading.Lock()
        self._level, self._at = self._burst, clock()

    def take(self, amount: float, pause: Callable[[float], None]) -> None:
        """Take an amount, and pause for as long as the rate would otherwise be exceeded.

        Amounts are given out in the order of the calls, so a later caller pauses longer.
        """
        with self._lock:
            now = self._clock()
            self._level = min(self._burst, self._level + (now - self._at) * self._rate) - amount
            self._at = now
            debt = -self._level
        if debt > 0:
            pause(debt / self._rate)


class SlowSenderError(Exception):
    """A sender did not keep the minimum rate."""


class MinimumRate:
    """Ends the receipt of bytes that come too slowly, measured over one window after the other.

    Only time counts in which the sender is waited for: what the receiver does meanwhile slows nobody down.
    """

    def __init__(self, rate: float, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._window, self._clock = rate, window, clock
        self._since = clock()
        self._waited, self._received = 0.0, 0

    def begin(self) -> None:
        """Begin to wait for the sender."""
        self._since = self._clock()

    def add(self, count: int) -> None:
        """Count bytes that have come, and the time since `begin` or the last call.

        Raises:
            SlowSenderError: A window is over, and too little has come in it.
        """
        now = self._clock()
        self._waited += now - self._since
        self._since, self._received = now, self._received + count
        if self._waited >= self._window:
            if self._received < self._rate * self._waited:
                raise SlowSenderError
            self._waited, self._received = 0.0, 0


class Semaphore:
    """Limits the connections that are in use at once.

    Unlike the standard library's, a cancellation ends the wait, and an urgent request may exceed the limit.
    Copies leave a quarter of the connections to other work, such as the question whether a copy is there:
    tenants decide how long copies use theirs.
    """

    def __init__(self, most: int, longest_wait: float) -> None:
        self._most, self._longest_wait = most, longest_wait
        self._most_of_copies = max(1, most - max(1, most // 4))
        self._condition = threading.Condition()
        self._used = 0

    def acquire(self, cancellation: Cancellation, host: str) -> None:
        """Wait until a connection may be used.

        Raises:
            Unavailable: `busy` when none becomes free in time.
            Stopped: The work was cancelled.
        """
        most = self._most_of_copies if cancellation.is_of_copy else self._most
        with cancellation.waking(self._condition), self._condition:
            free = self._condition.wait_for(
                lambda: self._used < most or cancellation.is_cancelled, self._longest_wait
            )
            cancellation.check()
            if not free:
                detail = f"{host}: all {most} connections are in use"
                raise Unavailable("registry", ErrorCode.BUSY, detail)
            self._used += 1

    def acquire_at_once(self) -> None:
        """Count one more connection as used, even above the limit."""
        with self._condition:
            self._used += 1

    def release(self) -> None:
        """Count one connection less as used."""
        with self._condition:
            self._used -= 1
            self._condition.notify_all()  # the first that waits may not have this one


class HostLimits:
    """Applies the limits of one host.

    Attributes:
        bytes: Limits the bytes of bodies; None when they are not limited.
    """

    def __init__(self, host: str, limits: TrafficLimits, longest_wait: float) -> None:
        self._host = host
        rate, most = limits.requests_per_second, limits.connections
        self._requests = None if rate is None else TokenBucket(rate)
        self._connections = None if most is None else Semaphore(most, longest_wait)
        self.bytes = None if limits.bytes_per_second is None else TokenBucket(limits.bytes_per_second)

    def acquire(self, cancellation: Cancellation, *, is_urgent: bool) -> None:
        """Wait until a request may be sent; the caller releases it when its response was read."""
        if self._requests is not None:
            self._requests.take(1.0, cancellation.wait)
        if self._connections is not None:
            if is_urgent:
                self._connections.acquire_at_once()
            else:
                self._connections.acquire(cancellation, self._host)

    def release(self) -> None:
        """Count a request as ended."""
        if self._connections is not None:
            self._connections.release()


_NO_LIMITS = TrafficLimits()

MOST_HOSTS = 1000
"""Hosts whose traffic is remembered, those that were asked last: tenants may name any number."""


class RateLimiter:
    """The limits of all hosts.

    Args:
        default: Limits of each host that has none of its own.
        own: Host with port, as image references name it, to its limits.
        longest_wait: Seconds that a request waits for a free connection.
    """

    def __init__(
        self, default: TrafficLimits, own: Mapping[str, TrafficLimits], *, longest_wait: float
    ) -> None:
        self._default, self._own, self._longest_wait = default, dict(own), longest_wait
        self._lock = threading.Lock()
        self._hosts: OrderedDict[str, HostLimits] = OrderedDict()
        self._unlimited = HostLimits("", TrafficLimits(), longest_wait)

    def of(self, host: str) -> HostLimits:
        """Return the limits of a host."""
        limits = self._own.get(host, self._default)
        if limits == _NO_LIMITS:
            return self._unlimited
        with self._lock:
            if host not in self._hosts:
                self._hosts[host] = HostLimits(host, limits, self._longest_wait)
            self._hosts.move_to_end(host)
            if len(self._hosts) > MOST_HOSTS:
                self._hosts.popitem(last=False)
            return self._hosts[host]
