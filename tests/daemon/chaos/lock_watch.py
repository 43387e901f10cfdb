"""Watches that only the instance with the lock in Locket changes the BBS and asks Cloud Controller, by its lease.

Each instance has a certificate of its own, by which the BBS knows who calls, and a client of UAA. The end of a
lease is reckoned from when Locket got its last renewal: the instance itself reckons from when it sent that, which
is earlier.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reconcile.lease import LeaseTimes
from tests.daemon.invariants import Invariants
from tests.simulators.bbs import Bbs
from tests.simulators.capi.server import CapiSimulator
from tests.simulators.locket import Row, State

LOCK = "diego-docker-cache"
CHANGES = (
    "/v1/domains/upsert",
    "/v1/desired_lrp/",
    "/v1/actual_lrps/retire",
    "/v1/tasks/desire",
    "/v1/tasks/cancel",
    "/v1/tasks/resolving",
    "/v1/tasks/delete",
)
"""Beginnings of the paths of calls that change something."""
TICK = 0.05
"""Seconds between two looks at how late this process is."""
REMEMBERED = 40
"""Number of ticks whose delay is kept: on a busy machine a request is read long after it was sent."""


class LockWatch:
    """Who holds the lock, and until when at most.

    Attributes:
        owner: Of the lock; empty when it was given back, and before the first.
        takeovers: How often it has gone to another owner.
        changes: Calls that have changed something in the BBS, by instance.
        questions: Requests to Cloud Controller and UAA, by instance.
        unjudged: How many calls and requests looked wrong, but may have been read too late on a busy machine.
    """

    def __init__(
        self,
        invariants: Invariants,
        state: State,
        times: LeaseTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = ""
        self.takeovers = 0
        self.changes = Counter[str]()
        self.questions = Counter[str]()
        self.unjudged = 0
        self._invariants, self._state, self._times, self._clock = invariants, state, times, clock
        self._last_owner = ""
        self._locked_at = 0.0
        self._ticked_at = time.monotonic()
        self._lags = deque[float](maxlen=REMEMBERED)
        self._lately = deque[str](maxlen=8)

    @contextmanager
    def watching(self, bbs: Bbs, capi: CapiSimulator | None = None) -> Iterator[None]:
        """Watch for the length of a block."""
        self._state.observers.append(self._see_lock)
        bbs.named_callers.append(self._see_call)
        services = () if capi is None else (capi.api, capi.uaa)
        for service in services:
            service.callers.append(self._see_request)
        ticking = asyncio.create_task(self._tick_forever())
        try:
            yield
        finally:
            ticking.cancel()
            self._state.observers.remove(self._see_lock)
            bbs.named_callers.remove(self._see_call)
            for service in services:
                service.callers.remove(self._see_request)

    def is_held_by(self, name: str) -> bool:
        """Whether an instance holds the lock, as far as it has not run out."""
        return self.owner.startswith(f"{name}-")

    async def _tick_forever(self) -> None:
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(TICK)
            self._lags.append(self._late())

    def _late(self) -> float:
        return max(0.0, time.monotonic() - self._ticked_at - TICK)

    def _see_lock(self, key: str, row: Row | None) -> None:
        if key != LOCK:
            return
        now = self._clock()
        owner = "" if row is None else row.owner
        if owner != self.owner:
            self._lately.append(f"{now - self._locked_at:.2f} s later {owner or 'nobody'} has the lock")
            self._invariants.note(f"the lock is with {owner or 'nobody'}")
        if owner:
            self.takeovers += owner != self._last_owner
            self._last_owner, self._locked_at = owner, now
        self.owner = owner

    def _see_call(self, name: str, path: str) -> None:
        if path.startswith(CHANGES):
            self.changes[name] += 1
            self._judge(name, f"changes the BBS by {path}")

    def _see_request(self, name: str, what: str) -> None:
        if name:  # else its token has ended meanwhile
            self.questions[name] += 1
            self._judge(name, f"asks Cloud Controller: {what}")

    def _judge(self, name: str, what: str) -> None:
        """Judge what an instance does by whether it has the lock, and for how long yet."""
        lag = max((*self._lags, self._late()))
        over = self._clock() - self._locked_at - self._times.length
        allowed = self._times.margin / 2
        problem = ""
        if not self.is_held_by(name):
            problem = f"{name} {what} while {self.owner or 'nobody'} has the lock"
        elif over > allowed:
            problem = f"{name} {what} {over:.2f} s after its lease has ended"
        if problem and lag > allowed:
            self.unjudged += 1
        elif problem:
            self._invariants.violate(problem, f"({lag:.2f} s late at most; {'; '.join(self._lately)})")
