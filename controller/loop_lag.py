"""Measures for how long the event loop does one thing only: then nothing else is watched."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK = 0.25
"""Seconds between two looks of the event loop at the clock."""

SLOT = 5.0
SLOTS = 12
"""The longest lag of the last minute is shown, in slots of some seconds."""


class LoopLag:
    """The lag of one event loop; read from every thread, also while the loop stands still.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: float | None = None
        self._largest = [(0, 0.0)] * SLOTS

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure the running loop as long as the block lasts."""
        self._start()
        try:
            yield
        finally:
            self._timer.cancel()
            self._due = None

    def seconds(self) -> float:
        """Return the longest lag of the last minute, the present one included."""
        now, due = self._clock(), self._due
        slot = int(now // SLOT)
        known = [lag for number, lag in self._largest if slot - number < SLOTS]
        return max(0.0, 0.0 if due is None else now - due, *known)

    def _start(self) -> None:
        self._due = self._clock() + TICK
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        now, due = self._clock(), self._due
        slot = int(now // SLOT)
        lag = 0.0 if due is None else max(0.0, now - due)
        number, before = self._largest[slot % SLOTS]
        self._largest[slot % SLOTS] = (slot, max(lag, before) if number == slot else lag)
        self._start()
