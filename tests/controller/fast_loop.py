"""An event loop whose clock is faster than the real one, for runs of minutes with real servers and threads.

Virtual time as of `looptime` jumps ahead while a thread works, so that a loop without pauses would hardly
turn in it. Here everything turns as often as the machine can.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")

FACTOR = 20.0
"""Seconds on the loop's clock in one real second."""


class _FastSelector(selectors.DefaultSelector):
    """Waits for a part of the time that it is told to wait."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for something to happen, at most for some seconds of the loop's clock."""
        return super().select(None if timeout is None else timeout / FACTOR)


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop with a fast clock: all its timers and timeouts follow that."""

    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        """Give the seconds of the fast clock."""
        return super().time() * FACTOR


def run_fast(work: Coroutine[None, None, Result]) -> Result:
    """Run something on a fast event loop."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(work)
