"""Remembers since when a database fails, and its last error, for operators.

Reading and writing are remembered apart: a server that has become a replica, or whose disk is full,
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
    """A time in which all requests of one kind to a database fail.

    Attributes:
        since: When the first request was sent that failed, in UTC seconds since 1970.
        error: The last error.
    """

    since: float
    error: str


class Availability:
    """Whether reading from and writing to a database work; used in every thread.

    Args:
        clock: Gives UTC seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._outages: dict[Use, Outage] = {}
        self._changing = Lock()

    def failed(self, use: Use, error: str, *, asked_at: float) -> None:
        """Note that a request failed; it was sent at `asked_at`, in UTC seconds since 1970."""
        with self._changing:
            before = self._outages.get(use, Outage(asked_at, error))
            self._outages[use] = replace(before, error=error)

    def answered(self, use: Use) -> None:
        """Note that a request succeeded."""
        if self._outages:
            with self._changing:
                self._outages.pop(use, None)

    def is_away(self, use: Use) -> bool:
        """Whether the last request of this kind failed."""
        return use in self._outages

    @property
    def outage(self) -> Outage | None:
        """The earliest failure that still lasts, with the error of the latest; None while all works."""
        with self._changing:
            found = sorted(self._outages.items(), key=lambda each: each[1].since)
        return replace(found[0][1], error=found[-1][1].error) if found else None
