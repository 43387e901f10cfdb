"""Keeps log lines until the agent has taken them; when too many wait, the oldest are dropped and counted.

A caller that adds a line never waits, and is never told of a failure. Counters take no line's place: only the
newest total of each waits.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from controller.backoff import backoff
from controller.process import Process
from reconcile.app_log_lines import AppLogLine, ComponentCounter
from reconcile.errors import DockerCacheError, Invalid

log = structlog.get_logger(scope="app-logs")

Entry = AppLogLine | ComponentCounter

MOST_WAITING = 5_000
"""Maximum number of lines that wait, some hundred bytes each."""

BATCH = 100
"""Entries of a batch, as in Loggregator's own client for Go (go-loggregator)."""

GATHER = 0.1
"""Seconds for which a batch that is not full waits for more lines."""

PAUSE = backoff(0.5, 30.0)
"""Seconds between attempts while the agent is away."""


class Agent(Protocol):
    """Loggregator's agent on this machine, or what takes its place."""

    async def send(self, entries: Sequence[Entry]) -> None:
        """Send one batch.

        Raises:
            DockerCacheError: The agent did not take the batch, as far as is known.
            Invalid: The agent will never take the batch.
        """


class LogQueue:
    """The entries that wait for the agent.

    Args:
        agent: Takes the entries.
        process: The running process.
        batch: Lines of a batch, which counters may come on top of; 0 for the usual number.
        most: Lines that wait at most.
    """

    def __init__(self, agent: Agent, process: Process, *, batch: int = 0, most: int = MOST_WAITING) -> None:
        self._agent, self._most, self._batch = agent, most, batch or BATCH
        self._lines: deque[AppLogLine] = deque()
        self._counters: dict[str, ComponentCounter] = {}
        self._has_entries = asyncio.Event()
        self.problem = ""
        """Why the agent takes no entries; empty while no reason is known."""
        metrics = process.metrics
        self._outcomes, self._agent_up = metrics.app_logs.entries, metrics.app_logs.agent_up
        metrics.app_logs.waiting.set_function(lambda: self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._lines) + len(self._counters)

    def put(self, line: AppLogLine) -> None:
        """Add a line, and drop the oldest one if too many wait."""
        self._lines.append(line)
        self._drop_oldest()
        self._has_entries.set()

    def put_counter(self, counter: ComponentCounter) -> None:
        """Add the total of a counter, in the place of an older total."""
        self._counters[counter.name] = counter
        self._has_entries.set()

    def _drop_oldest(self) -> None:
        while len(self._lines) > self._most:
            self._lines.popleft()
            self._outcomes.labels(outcome="dropped").inc()

    async def run(self) -> None:
        """Send the entries that wait, forever; the pauses grow while the agent does not answer."""
        failures = 0
        while True:
            await self._has_entries.wait()
            if len(self._lines) < self._batch:
                await asyncio.sleep(GATHER)
            error = await self._send_batch()
            if error is None:
                if failures:
                    log.info("agent-is-back", failed_attempts=failures)
                failures = 0
                continue
            failures += 1
            if failures == 1:
                log.info("failed-to-send-app-logs", error=str(error), waiting=self._waiting)
            await asyncio.sleep(PAUSE(min(failures, 16)))

    async def flush(self, seconds: float) -> None:
        """Send the entries that wait, until none is left, one fails, or some seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting and await self._send_batch() is None:
                    pass

    async def _send_batch(self) -> DockerCacheError | None:
        """Send all counters and the oldest lines; entries that the agent has not taken wait again.

        Returns:
            Why the agent has not taken the entries; None when it has taken them, or refused them for good.
        """
        counters, self._counters = self._counters, {}
        lines = [self._lines.popleft() for _ in range(min(self._batch, len(self._lines)))]
        entries: Sequence[Entry] = [*counters.values(), *lines]
        if not self._lines:
            self._has_entries.clear()
        try:
            await self._agent.send(entries)
        except Invalid as error:
            self._note_problem(error)
            self._outcomes.labels(outcome="refused").inc(len(entries))
            log.error("agent-refused-app-logs", error=str(error), entries=len(entries))  # noqa: TRY400 - see text
            return None
        except DockerCacheError as error:
            self._queue_again(counters, lines)
            self._note_problem(error)
            return error
        except Exception:
            self._outcomes.labels(outcome="refused").inc(len(entries))
            log.exception("failed-to-send-app-logs", entries=len(entries))
            return None
        except BaseException:  # cancelled: nobody knows whether it was taken
            self._queue_again(counters, lines)
            raise
        self._outcomes.labels(outcome="sent").inc(len(entries))
        self._agent_up.set(1)
        self.problem = ""
        return None

    def _note_problem(self, error: DockerCacheError) -> None:
        self._agent_up.set(0)
        self.problem = str(error)

    def _queue_again(self, counters: Mapping[str, ComponentCounter], lines: Sequence[AppLogLine]) -> None:
        self._counters = {**counters, **self._counters}
        self._lines.extendleft(reversed(lines))
        self._drop_oldest()
        self._has_entries.set()
