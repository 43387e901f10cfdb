"""A queue of keys: each waits once, is held once, and comes back after a back-off.

A key says where to look, never what happened, so adding one that waits already
changes nothing, and adding one that is held makes it wait again after its release.
Urgent keys go before fresh ones, and those before routine ones. All methods run on the
event loop's thread.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_BACK_OFF = 0.5  # seconds
MAX_BACK_OFF = 60.0  # seconds


class WorkQueue(Generic[Key]):
    """Keys with something to look at."""

    def __init__(self) -> None:
        self._urgent: OrderedDict[Key, None] = OrderedDict()
        self._fresh: OrderedDict[Key, None] = OrderedDict()
        self._routine: OrderedDict[Key, None] = OrderedDict()
        self._held: set[Key] = set()
        self._added_while_held: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._urgent) + len(self._fresh) + len(self._routine)

    def add(self, key: Key) -> None:
        """Let a key be looked at as soon as possible."""
        self._stop_timer(key)
        if key in self._held:
            self._added_while_held.add(key)
        elif key not in self._urgent:
            self._routine.pop(key, None)
            self._fresh.setdefault(key)
            self._wake_one()

    def add_urgent(self, key: Key) -> None:
        """Let a key be looked at next."""
        self._stop_timer(key)
        if key in self._held:
            self._added_while_held.add(key)
            return
        self._routine.pop(key, None)
        self._fresh.pop(key, None)
        self._urgent.setdefault(key)
        self._wake_one()

    def add_routine(self, key: Key) -> None:
        """Let a key be looked at when nothing fresh waits; a time set for it earlier stands."""
        if key in self._held:
            self._added_while_held.add(key)
            return
        if key in self._urgent or key in self._fresh or key in self._timers:
            return
        self._routine.setdefault(key)
        self._wake_one()

    async def take(self) -> Key:
        """Wait for a key and hold it until `done`, `again` or `back_off`."""
        while not self:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                else:  # woken and cancelled at once: somebody else must have the key
                    self._wake_one()
                raise
        line = self._urgent or self._fresh or self._routine
        key, _ = line.popitem(last=False)
        self._held.add(key)
        return key

    def done(self, key: Key) -> None:
        """Release a key that needs no further look; its failures are forgotten."""
        self._failures.pop(key, None)
        self._release(key)

    def again(self, key: Key, after: float) -> None:
        """Release a key that wants another look after some seconds; its failures are forgotten."""
        self._failures.pop(key, None)
        if not self._release(key):
            self._start_timer(key, after, self.add)

    def again_urgent(self, key: Key, after: float) -> None:
        """Release a key that wants to be looked at after some seconds, and then before all others."""
        self._failures.pop(key, None)
        if self._release(key):
            self.add_urgent(key)
        else:
            self._start_timer(key, after, self.add_urgent)

    def back_off(self, key: Key, most: float | None = None) -> float:
        """Release a key whose look failed, and tell after how many seconds (or fewer) it comes back."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        limit = MAX_BACK_OFF if most is None else most
        longest = min(limit, FIRST_BACK_OFF * 2.0 ** min(failures, 16))
        seconds = random.uniform(longest / 2, longest)  # noqa: S311 - spreads retries, guards nothing
        if self._release(key):
            return 0.0
        self._start_timer(key, seconds, self.add)
        return seconds

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _release(self, key: Key) -> bool:
        self._held.discard(key)
        if key not in self._added_while_held:
            return False
        self._added_while_held.discard(key)
        self.add(key)
        return True

    def _start_timer(self, key: Key, seconds: float, add: Callable[[Key], None]) -> None:
        self._stop_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, add, key)

    def _stop_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
