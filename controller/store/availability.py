"""Remembers since when a database does not do what it is asked, and what it says, for operators.

Reading and writing are remembered by themselves: a server that has become a replica, or whose disk is full,
still answers what only reads.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from threading import Lock


class Use(Enum):
    """What is asked of a database."""

    READING = auto()
    WRITING = auto()


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a database does not do what it is asked.

    Attributes:
        since: When it was first asked in vain, in UTC seconds since 1970.
        error: What it said last.
    """

    since: float
    error: str


class Availability:
    """Whether a database does what it is asked; used in every thread.

    Args:
        clock: Gives UTC seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._outages: dict[Use, Outage] = {}
        self._changing = Lock()

    def failed(self, use: Use, error: str, *, asked_at: float) -> None:
        """Note that it did not do what it was asked at some time."""
        with self._changing:
            before = self._outages.get(use, Outage(asked_at, error))
            self._outages[use] = replace(before, error=error)

    def answered(self, use: Use) -> None:
        """Note that it did."""
        if self._outages:
            with self._changing:
                self._outages.pop(use, None)

    def is_away(self, use: Use) -> bool:
        """Whether it did not do what it was asked last."""
        return use in self._outages

    @property
    def outage(self) -> Outage | None:
        """Since when it does not do all that it is asked; None while it does."""
        with self._changing:
            found = sorted(self._outages.items(), key=lambda each: each[1].since)
        return replace(found[0][1], error=found[-1][1].error) if found else None
