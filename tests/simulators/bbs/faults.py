"""Faults of calls that a test can order: each holds for a number of calls of a path, and is counted.

Faults of streams are orders to the streams themselves (`streams`).
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

ANY_PATH = "*"


class Fault(StrEnum):
    """What can go wrong with one call."""

    UNAVAILABLE = "unavailable"
    """Answered 503, nothing is done."""
    DROP_BEFORE = "drop-before"
    """The connection ends before anything is done."""
    DROP_AFTER = "drop-after"
    """The operation is done, then the connection ends without an answer."""
    HANG = "hang"
    """Nothing is done and nothing is answered until the client gives up."""


@dataclass
class _Order:
    fault: Fault
    path: str
    calls: int


class Faults:
    """The faults ordered for calls, in the order in which they were ordered.

    Attributes:
        happened: How often each fault has happened.
    """

    def __init__(self) -> None:
        self.happened: Counter[Fault] = Counter()
        self._orders: list[_Order] = []
        self._delays: dict[str, float] = {}

    def order(self, fault: Fault, path: str = ANY_PATH, *, calls: int = 1) -> None:
        """Let the next calls of a path fail; events streams are calls, too."""
        self._orders.append(_Order(fault, path, calls))

    def delay(self, path: str, seconds: float) -> None:
        """Answer a path late from now on; 0 ends that."""
        self._delays[path] = seconds

    def clear(self) -> None:
        """Forget all orders and delays."""
        self._orders.clear()
        self._delays.clear()

    def delay_of(self, path: str) -> float:
        """Look up how late a path is answered, in seconds."""
        return self._delays.get(path, self._delays.get(ANY_PATH, 0.0))

    def take(self, path: str) -> Fault | None:
        """Use up one call's worth of the first order for a path."""
        for order in self._orders:
            if order.calls > 0 and order.path in {ANY_PATH, path}:
                order.calls -= 1
                self.happened[order.fault] += 1
                return order.fault
        return None
