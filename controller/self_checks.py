"""Keeps what is unwell, of this instance and of what it depends on, for health checks and metrics.

Each check is a function that says what is wrong, or nothing. The event loop calls them all at an interval;
what they said is read from other threads.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from controller.loop_lag import LoopLag
from controller.metrics.instance import InstanceMetrics, SelfCheck

INTERVAL = 2.0
"""Seconds between two looks at everything."""

LONGEST_LAG = 5.0
"""Seconds for which the event loop may do nothing else before it is unwell."""

Says = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Unwell:
    """Something that is unwell.

    Attributes:
        since: UTC seconds since 1970.
        reason: One line for an operator; never holds credentials.
    """

    check: SelfCheck
    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Question:
    check: SelfCheck
    problem: Says
    after: float


class SelfChecks:
    """The checks of one process.

    Args:
        metrics: Show for each check whether it found anything.
        lag: Of the event loop.
        clock: Gives UTC seconds since 1970.
    """

    def __init__(
        self, metrics: InstanceMetrics, lag: LoopLag, clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics, self._lag, self._clock = metrics, lag, clock
        self._questions = list[_Question]()
        self._since: dict[_Question, float] = {}
        self._found: dict[SelfCheck, Unwell] = {}
        self._reported: dict[SelfCheck, str] = {}
        metrics.event_loop_lag.set_function(lag.seconds)
        for check in SelfCheck:
            metrics.unwell.labels(check).set_function(partial(self._is_unwell, check))

    def add(self, check: SelfCheck, problem: Says, *, after: float = 0.0) -> None:
        """Look at something from now on.

        Args:
            check: What it is.
            problem: Says in one line what is wrong; empty when nothing is.
            after: Seconds for which it must be wrong.
        """
        self._questions.append(_Question(check, problem, after))

    def report_problem(self, check: SelfCheck, problem: str) -> None:
        """Report what is wrong with something that cannot be asked; empty when nothing is."""
        self._reported[check] = problem

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at an interval as long as the block lasts, in the running loop."""
        self._look_and_again()
        try:
            yield
        finally:
            self._timer.cancel()

    def look(self) -> None:
        """Ask all checks."""
        now, found = self._clock(), dict[SelfCheck, Unwell]()
        for question in self._questions:
            reason = question.problem()
            if not reason:
                self._since.pop(question, None)
                continue
            since = self._since.setdefault(question, now)
            if now - since >= question.after:
                found.setdefault(question.check, Unwell(question.check, since, reason))
        for check, reason in self._reported.items():
            if reason:
                before = self._found.get(check)
                found.setdefault(check, Unwell(check, now if before is None else before.since, reason))
        self._found = found

    @property
    def unwell(self) -> tuple[Unwell, ...]:
        """What is unwell, in the order of the checks; read from every thread."""
        found = self._by_check()
        return tuple(found[check] for check in SelfCheck if check in found)

    def _is_unwell(self, check: SelfCheck) -> bool:
        return check in self._by_check()

    def _by_check(self) -> dict[SelfCheck, Unwell]:
        found, lag = self._found, self._lag.seconds()
        if lag < LONGEST_LAG:
            return found
        reason = f"the event loop did nothing else for {lag:.1f} s within the last minute"
        return {**found, SelfCheck.EVENT_LOOP: Unwell(SelfCheck.EVENT_LOOP, self._clock() - lag, reason)}

    def _look_and_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look_and_again)
        self.look()
