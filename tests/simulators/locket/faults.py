"""Faults of Locket's calls that a test can order: each holds for a number of calls of a method, and is counted."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

ANY_METHOD = "*"


class Fault(StrEnum):
    """What can go wrong with one call."""

    UNAVAILABLE = "unavailable"
    """Nothing is done; the server is going away."""
    LOST_ANSWER = "lost-answer"
    """It is done, and the connection breaks before the answer."""
    HANG = "hang"
    """Nothing is done and nothing is answered until the client gives up."""
    HANG_AFTER = "hang-after"
    """It is done, and nothing is answered until the client gives up."""
    LATE = "late"
    """Nothing is answered until the client gives up, and then it is done."""
    DATABASE_SLOW = "context deadline exceeded"
    """The server's own limit for its database is over; what became of the call is not known."""
    RESOURCE_EXISTS = "sql-resource-exists"
    """Two have locked a new key at the same instant, and this one has lost."""
    DEADLOCK = "sql-deadlock"
    UNRECOVERABLE = "sql-unrecoverable"
    """The table is missing; the server ends."""
    UNKNOWN = "sql-unknown, error code: 1205, flavor: mysql"

    @property
    def is_of_database(self) -> bool:
        """Whether it is answered with its own text, and nothing is done."""
        return self.startswith(("sql-", "context"))


@dataclass
class _Order:
    fault: Fault
    method: str
    calls: int


class Faults:
    """The faults ordered for calls, in the order in which they were ordered.

    Attributes:
        happened: How often each fault has happened.
    """

    def __init__(self) -> None:
        self.happened: Counter[Fault] = Counter()
        self._orders: list[_Order] = []

    def order(self, fault: Fault, method: str = ANY_METHOD, *, calls: int = 1) -> None:
        """Let the next calls of a method, such as "Lock", fail."""
        self._orders.append(_Order(fault, method, calls))

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()

    def take(self, method: str) -> Fault | None:
        """Use up one call's worth of the first order for a method."""
        for order in self._orders:
            if order.calls > 0 and order.method in {ANY_METHOD, method}:
                order.calls -= 1
                self.happened[order.fault] += 1
                return order.fault
        return None
