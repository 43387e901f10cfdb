"""Slows down before a host says no, and keeps quiet for as long as it asked for.

A host counts per identity, so what one login has used up does not hold up another; all copies
that ask as the same one share what is known.

Source: Docker Hub's RateLimit headers; RFC 9110 section 10.2.3 (Retry-After).
"""

import re
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from controller.registry.errors import Headers, parse_remaining, parse_retry_after

_FIRST_HOLD, _LONGEST_HOLD = 5.0, 300.0  # seconds, where the host names none
_UNKNOWN_INTERVAL, _LONGEST_INTERVAL = 60.0, 3600.0  # seconds
_WINDOW = re.compile(r"([0-9]{1,9}) *; *w=([0-9]{1,9})")
_MOST_HOSTS = 1000


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a request must wait.

    Attributes:
        seconds: 0 when it may go.
        reason: "limited", "unavailable" or "few-pulls-left".
    """

    seconds: float = 0.0
    reason: str = ""


class Pace:
    """What one host has said about one identity's requests.

    Args:
        floor: Pulls left at which reading manifests slows down to what the host allows for ever.
        clock: Seconds that only grow.
    """

    def __init__(self, floor: int, clock: Callable[[], float]) -> None:
        self._floor, self._clock = floor, clock
        self._lock = threading.Lock()
        self._held_until, self._reason, self._holds = 0.0, "", 0
        self._interval: float | None = None
        self._next_pull = 0.0

    def ask(self, *, is_pull: bool) -> Wait:
        """Ask whether a request may go; a pull that may is counted.

        Args:
            is_pull: It is of the kind that hosts count: a read of a manifest.
        """
        now = self._clock()
        with self._lock:
            if now < self._held_until:
                return Wait(self._held_until - now, self._reason)
            if not is_pull or self._interval is None:
                return Wait()
            if now < self._next_pull:
                return Wait(self._next_pull - now, "few-pulls-left")
            self._next_pull = now + self._interval
            return Wait()

    def observe(self, status: int, headers: Headers) -> None:
        """Learn from an answer."""
        retry_after = parse_retry_after(headers.get("Retry-After"))
        left = parse_remaining(headers.get("RateLimit-Remaining"))
        now = self._clock()
        with self._lock:
            if status == 429 or (status == 503 and retry_after is not None):
                self._holds += 1
                own = min(_FIRST_HOLD * 2.0 ** min(self._holds - 1, 10), _LONGEST_HOLD)
                hold = own if retry_after is None else retry_after
                self._held_until = max(self._held_until, now + hold)
                self._reason = "limited" if status == 429 else "unavailable"
            elif status < 400:
                self._holds = 0
            if left is not None:
                self._slow_down(left, headers, now)

    def _slow_down(self, left: int, headers: Headers, now: float) -> None:
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


class Paces:
    """One pace per host and identity."""

    def __init__(self, floor: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._floor, self._clock = floor, clock
        self._lock = threading.Lock()
        self._paces: dict[Hashable, Pace] = {}

    def of(self, key: Hashable) -> Pace:
        """Give the pace of a host and an identity."""
        with self._lock:
            if len(self._paces) >= _MOST_HOSTS and key not in self._paces:
                self._paces.pop(next(iter(self._paces)))
            return self._paces.setdefault(key, Pace(self._floor, self._clock))
