"""A queue of keys: each key waits once, is held by one caller at a time, and comes back after a back-off.

A key names what a pass has to reconcile, never what happened to it. So adding a key that waits already
changes at most its priority, and a key that is added while it is held waits again after its release. A key
waits at the highest priority that it was given since the last pass over it that did not fail: `done` forgets
its priority and `again` gives it a new one, but a failed pass does not send an urgent key behind all others.

Two things keep a mistake elsewhere from becoming a loop without pauses. What happens while a key is held does
not shorten the back-off after its failure, since the failed work may itself have caused it. And a key that
comes back at once more often than `MAX_TURNS` is delayed, ever longer, whatever brings it back.

All methods run on the event loop's thread.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

import structlog

from controller.backoff import Backoff, backoff, exact_backoff
from controller.turns import CALM, MAX_TURNS, Turns

log = structlog.get_logger(scope="workqueue")

Key = TypeVar("Key", bound=Hashable)

FIRST_BACK_OFF = 0.5  # seconds
LONGEST_BACK_OFF = 60.0  # seconds
DEFAULT_BACKOFF = backoff(FIRST_BACK_OFF, LONGEST_BACK_OFF)

BUSY_DELAY = exact_backoff(CALM, LONGEST_BACK_OFF)
URGENT_BUSY_DELAY = exact_backoff(CALM, 1.0)
"""Seconds that a key waits, by how many turns it is above `MAX_TURNS`. An app with very many instances may
keep an urgent key busy, and waits for it."""


class Priority(IntEnum):
    """Which keys are taken first; keys of one priority are taken in the order in which they came."""

    ROUTINE = 0
    """A listing named the key, or something expected happened: it waits for all others, and does not shorten
    a waiting time."""
    FRESH = 1
    """Something happened to what the key names."""
    URGENT = 2
    """An app waits for the next pass."""


class Lines(Protocol[Key]):
    """The keys that wait to be taken, and the rule by which the next one is chosen."""

    def __len__(self) -> int:
        """Count the keys."""

    def __contains__(self, key: object) -> bool:
        """Whether a key waits."""

    def put(self, key: Key, priority: Priority) -> None:
        """Let a key wait; one that waits already at a lower priority is raised, and goes to the end."""

    def take(self) -> Key | None:
        """Take the next key; None when none may be taken now."""

    def release(self, key: Key) -> None:
        """Note that a key which was taken is held no longer."""


class PriorityLines(Generic[Key]):
    """Lines of which the highest goes first, each in the order in which its keys came."""

    def __init__(self) -> None:
        self._lines: dict[Priority, OrderedDict[Key, None]] = {
            priority: OrderedDict() for priority in sorted(Priority, reverse=True)
        }
        self._priorities: dict[Key, Priority] = {}

    def __len__(self) -> int:
        return len(self._priorities)

    def __contains__(self, key: object) -> bool:
        return key in self._priorities

    def put(self, key: Key, priority: Priority) -> None:
        """Let a key wait; one that waits already at a lower priority is raised, and goes to the end."""
        before = self._priorities.get(key)
        if before is not None and before is not priority:
            del self._lines[before][key]
        self._priorities[key] = priority
        self._lines[priority].setdefault(key)

    def take(self) -> Key | None:
        """Take the first key of the highest line; None when none waits."""
        for line in self._lines.values():
            if line:
                key, _ = line.popitem(last=False)
                del self._priorities[key]
                return key
        return None

    def release(self, key: Key) -> None:
        """Do nothing: what is held decides nothing here."""


class WorkQueue(Generic[Key]):
    """Keys that wait to be taken.

    Args:
        lines: How the next key is chosen; by priority when it is None.
    """

    def __init__(self, lines: Lines[Key] | None = None) -> None:
        self._lines: Lines[Key] = PriorityLines() if lines is None else lines
        self._priorities: dict[Key, Priority] = {}  # of each key that waits, is held or has a timer
        self._held: set[Key] = set()
        self._added_while_held: dict[Key, Priority] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._delayed: set[Key] = set()  # those with a timer that nothing shortens
        self._turns: Turns[Key] = Turns()
        self._failures: dict[Key, int] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def failing(self) -> int:
        """The number of keys whose last pass failed."""
        return len(self._failures)

    @property
    def pending(self) -> int:
        """The number of keys that wait, are held or come back by themselves."""
        return len(self._priorities)

    @property
    def is_idle(self) -> bool:
        """Whether no key waits to be taken, and none is held; some may come back by themselves."""
        return not self._held and not len(self._lines)

    def add(self, key: Key, priority: Priority = Priority.FRESH) -> None:
        """Queue a key. With routine priority, a key that has a timer stays until its timer ends."""
        if key in self._held:
            self._added_while_held[key] = max(priority, self._added_while_held.get(key, priority))
        elif key in self._timers and priority is Priority.ROUTINE:
            return
        else:
            self._come_back(key, priority)

    def add_later(self, key: Key, after: float) -> None:
        """Queue a new key after some seconds, unless it is added before."""
        if after > 0 and key not in self._priorities:
            self._priorities[key] = Priority.FRESH
            self._start_timer(key, after)
        else:
            self.add(key)

    async def take(self) -> Key:
        """Wait for a key and hold it until `done`, `again` or `back_off`."""
        while (key := self._lines.take()) is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                else:  # woken and cancelled at once: another waiter must get the key
                    self._wake_one()
                raise
        self._held.add(key)
        self.look_again()  # what let this key be taken, such as the end of another one, may let further ones
        return key

    def look_again(self) -> None:
        """Let a key be taken that waits already, if its lines let it go now, since they have changed."""
        if len(self._lines):
            self._wake_one()

    def done(self, key: Key) -> None:
        """Release a key that needs no further pass; its failures and its priority are forgotten."""
        self._failures.pop(key, None)
        added = self._release(key)
        del self._priorities[key]
        if added is not None:
            self._come_back(key, added)

    def again(self, key: Key, after: float, priority: Priority = Priority.FRESH) -> None:
        """Release a key and queue it again after some seconds, with a new priority and no failures.

        What was added while the key was held shortens the wait, unless it was added with routine priority.
        """
        self._failures.pop(key, None)
        added = self._release(key)
        self._priorities[key] = priority
        if added is None or added is Priority.ROUTINE:
            self._start_timer(key, after)
        else:
            self._come_back(key, added)

    def back_off(
        self, key: Key, pause: Backoff = DEFAULT_BACKOFF, priority: Priority = Priority.ROUTINE
    ) -> float:
        """Release a key whose pass failed, and return the seconds after which it is queued again.

        Args:
            key: A key that is held.
            pause: Computes the seconds from how many passes of the key have failed in a row.
            priority: The key comes back at the highest priority that it was given, this one included.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        added = self._release(key)
        self._priorities[key] = max(priority, self._priorities[key], added or Priority.ROUTINE)
        seconds = pause(failures)
        self._start_timer(key, seconds)
        return seconds

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._delayed.clear()

    def _come_back(self, key: Key, priority: Priority) -> None:
        """Queue a key, or delay it if it comes back at once too often."""
        if key in self._delayed:
            self._priorities[key] = max(priority, self._priorities[key])
            return
        excess = 0 if key in self._lines else self._turns.count_excess(key, _now())
        if not excess:
            self._enqueue(key, priority)
            return
        self._stop_timer(key)
        highest = self._priorities[key] = max(priority, self._priorities.get(key, priority))
        seconds = (URGENT_BUSY_DELAY if highest is Priority.URGENT else BUSY_DELAY)(excess)
        if self._turns.is_to_be_reported(key):
            log.error("delayed-busy-key", key=str(key), turns=MAX_TURNS + excess, retry_after_s=seconds)
        self._delayed.add(key)
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(seconds, self._end_delay, key)

    def _end_delay(self, key: Key) -> None:
        self._delayed.discard(key)
        self._enqueue(key, self._priorities[key])

    def _enqueue(self, key: Key, priority: Priority) -> None:
        """Let a key wait at the highest priority that it was given; one that is raised goes to the end."""
        self._stop_timer(key)
        highest = self._priorities[key] = max(priority, self._priorities.get(key, priority))
        self._lines.put(key, highest)
        self._wake_one()

    def _release(self, key: Key) -> Priority | None:
        """Let go of a key, and return the priority at which it was added while it was held."""
        self._held.discard(key)
        self._lines.release(key)
        self._turns.release(key, _now())
        self.look_again()  # what was held may have kept another key from being taken
        return self._added_while_held.pop(key, None)

    def _start_timer(self, key: Key, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(seconds, self._end_wait, key)

    def _end_wait(self, key: Key) -> None:
        del self._timers[key]
        self._come_back(key, self._priorities[key])

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


def _now() -> float:
    return asyncio.get_running_loop().time()
