"""Delays requests before a host refuses them, and for as long as a host has asked for after a refusal.

Hosts count requests per identity, so the requests of one login do not delay those of another; all
copies with the same login share one state.

Source: Docker Hub's RateLimit headers; RFC 9110 section 10.2.3 (Retry-After).
"""

import re
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from controller.backoff import exact_backoff
from controller.registry.http.refusals import ReadableHeaders, parse_remaining, parse_retry_after
from reconcile.errors import ErrorCode

_UNKNOWN_INTERVAL, _LONGEST_INTERVAL = 60.0, 3600.0  # seconds
_WINDOW = re.compile(r"([0-9]{1,9}) *; *w=([0-9]{1,9})")
_MOST_HOSTS = 1000

_hold = exact_backoff(5.0, 300.0)  # seconds, where the host names no time
_BELIEVED = 3
"""Times in a row that a host's word is enough: one that refuses ever again is asked ever more seldom."""


@dataclass(frozen=True, slots=True)
class RequiredDelay:
    """How long a request must wait.

    Attributes:
        seconds: 0 when it may be sent now.
        reason: The code of the error of a request that does not wait; empty when it may be sent now.
    """

    seconds: float = 0.0
    reason: str = ""


class BackoffState:
    """What one host has stated about the requests of one identity.

    Args:
        floor: Number of pulls left below which manifests are read no faster than the host's quota refills.
        clock: Seconds that only grow.
    """

    def __init__(self, floor: int, clock: Callable[[], float]) -> None:
        self._floor, self._clock = floor, clock
        self._lock = threading.Lock()
        self._held_until, self._reason, self._refusals = 0.0, "", 0
        self._interval: float | None = None
        self._next_pull = 0.0

    def delay(self, *, is_pull: bool) -> RequiredDelay:
        """Return how long a request must wait; a pull that need not wait is counted.

        Args:
            is_pull: The request reads a manifest, which is what hosts count.
        """
        now = self._clock()
        with self._lock:
            if now < self._held_until:
                return RequiredDelay(self._held_until - now, self._reason)
            if not is_pull or self._interval is None:
                return RequiredDelay()
            if now < self._next_pull:
                return RequiredDelay(self._next_pull - now, ErrorCode.FEW_PULLS_LEFT)
            self._next_pull = now + self._interval
            return RequiredDelay()

    def observe(self, status: int, headers: ReadableHeaders) -> None:
        """Update the state from a response."""
        retry_after = parse_retry_after(headers.get("Retry-After"))
        left = parse_remaining(headers.get("RateLimit-Remaining"))
        now = self._clock()
        with self._lock:
            if status == 429 or (status == 503 and retry_after is not None):
                if now >= self._held_until:  # else it answers what was sent before it refused the first time
                    self._refusals += 1
                self._held_until = max(self._held_until, now + _pause(self._refusals, retry_after))
                self._reason = ErrorCode.LIMITED if status == 429 else ErrorCode.UNAVAILABLE
            elif status < 400:
                self._refusals = 0
            if left is not None:
                self._slow_down(left, headers, now)

    def _slow_down(self, left: int, headers: ReadableHeaders, now: float) -> None:
        window = _WINDOW.fullmatch((headers.get("RateLimit-Limit") or "").strip())
        floor, interval = self._floor, _UNKNOWN_INTERVAL
        if window is not None:
            limit = max(int(window[1]), 1)
            floor, interval = min(floor, limit // 10), min(int(window[2]) / limit, _LONGEST_INTERVAL)
        if left > floor:
            self._interval = None
            return
        if self._interval is None or left == 0:
            self._next_pull = max(self._next_pull, now + interval)
        self._interval = interval


def _pause(refusals: int, named: float | None) -> float:
    """Return the seconds to leave a host alone after so many refusals in a row."""
    if named is None:
        return _hold(refusals)
    return named if refusals <= _BELIEVED else max(named, _hold(refusals - _BELIEVED))


class BackoffStates:
    """One back-off state for each host and identity."""

    def __init__(self, floor: int = 0) -> None:
        self._floor = floor
        self._lock = threading.Lock()
        self._states: dict[Hashable, BackoffState] = {}

    def of(self, key: Hashable) -> BackoffState:
        """Return the state of a host and an identity."""
        with self._lock:
            state = self._states.get(key)
            if state is None:
                if len(self._states) >= _MOST_HOSTS:
                    self._states.pop(next(iter(self._states)))
                state = self._states[key] = BackoffState(self._floor, time.monotonic)
            return state
