"""Sends requests to a hostname at a steady rate, and counts which failed, when, and by which backend."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.simulators.router import Ending, Router
from tests.simulators.routing_table import Backend


@dataclass(frozen=True, slots=True)
class Load:
    """How many requests a second there are, and how long they take.

    Attributes:
        rate: Requests a second.
        slow_rate: How many of those are slow.
        fast, slow: Seconds that a request takes.
    """

    rate: float = 126.0
    slow_rate: float = 20.0
    fast: float = 0.005
    slow: float = 0.3
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered.

    Attributes:
        at: Seconds since the load began.
        backend: Whose fault it was; None when there was none.
    """

    at: float
    ending: Ending
    backend: Backend | None


@dataclass
class Counts:
    """What became of the requests."""

    sent: int = 0
    answered: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many failed although a backend was known."""
        return sum(each.ending is not Ending.NO_BACKEND for each in self.failures)

    @property
    def without_backend(self) -> int:
        """How many met a moment at which no backend was known."""
        return sum(each.ending is Ending.NO_BACKEND for each in self.failures)

    def failed_by(self, process_guid: str) -> int:
        """How many failed by an instance of one LRP."""
        return sum(
            each.backend is not None and each.backend.process_guid == process_guid for each in self.failures
        )

    def __str__(self) -> str:
        moments = ", ".join(
            f"{each.at:.2f} s {each.backend.process_guid if each.backend else '-'}: {each.ending}"
            for each in self.failures
        )
        return f"{self.sent} sent, {self.answered} answered, {self.failed} failed, {self.without_backend} without backend ({moments})"


@asynccontextmanager
async def load_on(router: Router, hostname: str, load: Load) -> AsyncIterator[Counts]:
    """Send requests for the length of a block, and let the last ones end."""
    generator = _Generator(router, hostname, load)
    work = asyncio.create_task(generator.run())
    try:
        yield generator.counts
    finally:
        work.cancel()
        await asyncio.wait([work])
        await generator.ended()


class _Generator:
    def __init__(self, router: Router, hostname: str, load: Load) -> None:
        self.counts = Counts()
        self._router, self._hostname, self._load = router, hostname, load
        self._chance = random.Random(load.seed)
        self._begun = asyncio.get_running_loop().time()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled. A machine that is too busy for the rate gets what was missed at once."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._begun + self.counts.sent / self._load.rate - now())
            is_slow = self._chance.random() < self._load.slow_rate / self._load.rate
            self.counts.sent += 1
            self._router.send(self._hostname, self._load.slow if is_slow else self._load.fast, self._end)

    async def ended(self) -> None:
        """Wait until no request is in flight."""
        while self.counts.answered + len(self.counts.failures) < self.counts.sent:
            self._changed.clear()
            await self._changed.wait()

    def _end(self, ending: Ending, backend: Backend | None) -> None:
        if ending is Ending.ANSWERED:
            self.counts.answered += 1
        else:
            at = asyncio.get_running_loop().time() - self._begun
            self.counts.failures.append(Failure(at, ending, backend))
        self._changed.set()
