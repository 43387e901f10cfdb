"""Keeps the traffic to each host below what the operator allows: connections, requests and bytes.

All copies share the limits of a host. Where none is set, nothing is counted.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.registry.cancellation import Cancellation
from reconcile.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Limits:
    """What one host may be asked for; None is no limit.

    Attributes:
        connections: Open at the same time with a request on them.
        requests_per_second: On the long run; a burst of one second's worth passes.
        bytes_per_second: Of bodies, both directions together.
    """

    connections: int | None = None
    requests_per_second: float | None = None
    bytes_per_second: int | None = None


class Bucket:
    """Lets a rate pass; a token bucket that may run into debt, so that large amounts pass too."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._burst = max(rate, 1.0)
        self._lock = threading.Lock()
        self._level, self._at = self._burst, clock()

    def take(self, amount: float, pause: Callable[[float], None]) -> None:
        """Take an amount, and pause for as long as that makes the rate too high.

        Whoever comes later pauses longer: amounts are handed out in order.
        """
        with self._lock:
            now = self._clock()
            self._level = min(self._burst, self._level + (now - self._at) * self._rate) - amount
            self._at = now
            debt = -self._level
        if debt > 0:
            pause(debt / self._rate)


class Permits:
    """A number of connections that may be in use at once."""

    def __init__(self, most: int, longest_wait: float) -> None:
        self._most, self._longest_wait = most, longest_wait
        self._condition = threading.Condition()
        self._used = 0

    def take(self, cancellation: Cancellation, host: str) -> None:
        """Wait for a free one.

        Raises:
            Unavailable: `busy` when none becomes free in time.
            Stopped: The work was cancelled.
        """
        with cancellation.waking(self._condition), self._condition:
            free = self._condition.wait_for(
                lambda: self._used < self._most or cancellation.is_cancelled, self._longest_wait
            )
            cancellation.check()
            if not free:
                raise Unavailable("registry", "busy", f"{host}: all {self._most} connections are in use")
            self._used += 1

    def force(self) -> None:
        """Take one more, whether there is a free one or not."""
        with self._condition:
            self._used += 1

    def give_back(self) -> None:
        """Let the next one have it."""
        with self._condition:
            self._used -= 1
            self._condition.notify()


class HostTraffic:
    """The traffic to one host.

    Attributes:
        bytes: None when bytes are not limited.
    """

    def __init__(self, host: str, limits: Limits, longest_wait: float) -> None:
        self._host = host
        rate = limits.requests_per_second
        self._requests = None if rate is None else Bucket(rate)
        self._permits = None if limits.connections is None else Permits(limits.connections, longest_wait)
        self.bytes = None if limits.bytes_per_second is None else Bucket(limits.bytes_per_second)

    def enter(self, cancellation: Cancellation, *, is_urgent: bool) -> None:
        """Wait until a request may be sent; `leave` follows."""
        if self._requests is not None:
            self._requests.take(1.0, cancellation.wait)
        if self._permits is not None:
            if is_urgent:
                self._permits.force()
            else:
                self._permits.take(cancellation, self._host)

    def leave(self) -> None:
        """Tell that the answer was read."""
        if self._permits is not None:
            self._permits.give_back()


class Traffic:
    """The traffic to all hosts.

    Args:
        default: Of hosts that have no limits of their own.
        own: Host with port, as image references name it, to its limits.
        longest_wait: Seconds that a request waits for a free connection.
    """

    def __init__(self, default: Limits, own: Mapping[str, Limits], *, longest_wait: float) -> None:
        self._default, self._own, self._longest_wait = default, dict(own), longest_wait
        self._lock = threading.Lock()
        self._hosts: dict[str, HostTraffic] = {}
        self._free = HostTraffic("", Limits(), longest_wait)

    def of(self, host: str) -> HostTraffic:
        """Give the traffic to a host."""
        limits = self._own.get(host, self._default)
        if limits == Limits():
            return self._free
        with self._lock:
            if host not in self._hosts:
                self._hosts[host] = HostTraffic(host, limits, self._longest_wait)
            return self._hosts[host]
