"""Keeps whether Cloud Controller answers, and how long nobody is to ask one that does not.

Each droplet has a back-off of its own, but thousands of them would still ask an API that is down, or has no
requests left for us, many times a second. So one failure makes all wait, ever longer while none is answered.
"""

import asyncio

from controller.backoff import Backoff, backoff
from controller.process import Process
from reconcile.errors import Denied, DockerCacheError, LeaseLost, Unavailable

FAILURE_PAUSE = backoff(0.5, 30.0)
"""Seconds in which nobody asks, by how many requests in a row were not answered."""

REFUSAL_PAUSE = backoff(10.0, 300.0)
"""The same, by how many in a row were denied to this client: somebody must give it a scope first."""


SHORTEST_SLEEP = 0.001
"""Seconds; a clock may not tell two moments apart that are closer together."""


class ApiStanding:
    """What Cloud Controller last answered to requests of one kind.

    Args:
        process: Its clocks.
        failure_pause: See `FAILURE_PAUSE`.
        refusal_pause: See `REFUSAL_PAUSE`.
    """

    def __init__(
        self,
        process: Process,
        *,
        failure_pause: Backoff = FAILURE_PAUSE,
        refusal_pause: Backoff = REFUSAL_PAUSE,
    ) -> None:
        self._process, self._failure_pause, self._refusal_pause = process, failure_pause, refusal_pause
        self._failures = 0
        self._not_before = 0.0
        self.failing_since = 0.0
        """Since when it has not, in UTC seconds since 1970; 0 while it does."""
        self.problem: DockerCacheError | None = None
        """What it last answered instead; None while it does what it is asked for."""

    def note_answer(self) -> None:
        """Note that Cloud Controller did what it was asked for, or said that there is no such thing."""
        self._failures, self._not_before, self.failing_since, self.problem = 0, 0.0, 0.0, None

    def note_failure(self, error: DockerCacheError) -> None:
        """Note that Cloud Controller did not answer, or denied this client the request.

        An error about one droplet alone is not counted. A request that fails while nobody is to ask was sent
        before, together with others: it makes the next wait no longer.
        """
        if isinstance(error, LeaseLost) or not isinstance(error, Unavailable | Denied):
            return
        if not self.seconds_left:
            self._failures += 1
        self.failing_since = self.failing_since or self._process.clock()
        self.problem = error
        pause = self._refusal_pause if isinstance(error, Denied) else self._failure_pause
        named = error.retry_after if isinstance(error, Unavailable) else None
        self._not_before = max(self._not_before, _now() + max(pause(self._failures), named or 0.0))

    @property
    def seconds_left(self) -> float:
        """Seconds in which nobody is to ask."""
        return max(0.0, self._not_before - _now())

    @property
    def refusal(self) -> Denied | None:
        """What it said when it last refused this client, as long as nobody is to ask again; else None."""
        return self.problem if isinstance(self.problem, Denied) and self.seconds_left else None

    async def wait(self) -> None:
        """Wait until somebody may ask."""
        while (seconds := self.seconds_left) > 0:  # noqa: ASYNC110 - failures meanwhile make it longer
            await asyncio.sleep(max(seconds, SHORTEST_SLEEP))


def _now() -> float:
    return asyncio.get_running_loop().time()
