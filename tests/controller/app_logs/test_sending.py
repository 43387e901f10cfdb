"""The queue before the agent, in virtual time: nobody waits for it, and it never grows without bound."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.app_logs.sending import BATCH, Entry, LogQueue
from controller.process import Process
from reconcile.app_log_lines import AppLogLine, ComponentCounter, SourceType
from reconcile.errors import Invalid, Unavailable
from reconcile.lrps import AppGuid

pytestmark = pytest.mark.looptime

AWAY = Unavailable("loggregator", "unavailable", "nobody is there")


@dataclass
class MemoryAgent:
    """An agent that fails as often as it is told.

    Attributes:
        batches: The lines that it took.
        counters: The counters that it took.
        failures: What it answers before that.
        times: When it was asked, in seconds.
    """

    batches: list[list[str]] = field(default_factory=list)
    counters: list[ComponentCounter] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    hangs: bool = False

    async def send(self, entries: Sequence[Entry]) -> None:
        self.times.append(asyncio.get_running_loop().time())
        if self.hangs:
            await asyncio.Event().wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append([each.text for each in entries if isinstance(each, AppLogLine)])
        self.counters += [each for each in entries if isinstance(each, ComponentCounter)]

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


@pytest.fixture
def agent() -> MemoryAgent:
    return MemoryAgent()


def line(number: int) -> AppLogLine:
    return AppLogLine(AppGuid("app"), SourceType.STAGING, str(number), number)


def counted(process: Process, outcome: str) -> float:
    value = process.metrics.registry.get_sample_value(
        "docker_cache_app_log_entries_total", {"outcome": outcome}
    )
    assert value is not None
    return value


@asynccontextmanager
async def running(queue: LogQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_together_goes_in_one_batch_in_order(agent: MemoryAgent) -> None:
    process = Process("run")
    queue = LogQueue(agent, process)
    async with running(queue):
        for number in range(3):
            queue.put(line(number))
        await asyncio.sleep(1)
        queue.put(line(3))
        await asyncio.sleep(1)

    assert agent.batches == [["0", "1", "2"], ["3"]]
    assert counted(process, "sent") == 4
    assert process.metrics.registry.get_sample_value("docker_cache_loggregator_agent_up") == 1


async def test_a_batch_has_a_largest_size(agent: MemoryAgent) -> None:
    queue = LogQueue(agent, Process("run"))
    for number in range(2 * BATCH + 1):
        queue.put(line(number))
    async with running(queue):
        await asyncio.sleep(1)

    assert [len(each) for each in agent.batches] == [BATCH, BATCH, 1]


async def test_an_agent_that_is_away_costs_nothing_and_gets_all_lines_in_order_when_it_is_back(
    agent: MemoryAgent,
) -> None:
    process = Process("run")
    queue = LogQueue(agent, process, batch=2)
    agent.failures = [AWAY] * 12
    async with running(queue):
        for number in range(5):
            queue.put(line(number))
        await asyncio.sleep(5)
        assert process.metrics.registry.get_sample_value("docker_cache_loggregator_agent_up") == 0
        assert process.metrics.registry.get_sample_value("docker_cache_app_log_entries_waiting") == 5
        await asyncio.sleep(600)

    assert agent.texts == ["0", "1", "2", "3", "4"]
    pauses = [later - earlier for earlier, later in zip(agent.times, agent.times[1:], strict=False)]
    assert max(pauses) <= 30.5, "it is found within half a minute"
    assert max(pauses[:10]) >= 10, "and not asked all the time"


async def test_of_too_many_lines_the_oldest_are_dropped_and_counted(agent: MemoryAgent) -> None:
    process = Process("run")
    queue = LogQueue(agent, process, most=10)
    agent.failures = [AWAY]
    for number in range(25):
        queue.put(line(number))
    async with running(queue):
        await asyncio.sleep(60)

    assert agent.texts == [str(number) for number in range(15, 25)]
    assert counted(process, "dropped") == 15


async def test_counters_of_a_long_outage_take_no_line_s_place_and_only_the_newest_are_sent(
    agent: MemoryAgent,
) -> None:
    process = Process("run")
    queue = LogQueue(agent, process, most=3)
    agent.failures = [AWAY] * 10
    async with running(queue):
        for number in range(3):
            queue.put(line(number))
        for total in range(20):
            for name in ("ImagesCached", "CopiesFailed"):
                queue.put_counter(ComponentCounter(name, total, total))
            await asyncio.sleep(15)

    assert agent.texts == ["0", "1", "2"]
    assert counted(process, "dropped") == 0
    first, second, *later = agent.counters
    assert first == dataclasses.replace(second, name="ImagesCached")
    assert first.total > 1, "those of the outage are one"
    assert [each.total for each in later] == [total for total in range(first.total + 1, 20) for _ in range(2)]


async def test_what_waits_again_makes_no_queue_longer_than_it_may_be(agent: MemoryAgent) -> None:
    process = Process("run")
    queue = LogQueue(agent, process, most=4, batch=4)
    agent.hangs = True
    for number in range(4):
        queue.put(line(number))
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(1)
    for number in range(4, 7):
        queue.put(line(number))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    agent.hangs = False
    await queue.flush(1.0)

    assert agent.texts == ["3", "4", "5", "6"]
    assert counted(process, "dropped") == 3


async def test_a_batch_that_is_refused_is_counted_and_keeps_nobody_up(agent: MemoryAgent) -> None:
    process = Process("run")
    queue = LogQueue(agent, process, batch=2)
    agent.failures = [Invalid("loggregator", "resource-exhausted", "too large")]
    for number in range(4):
        queue.put(line(number))
    async with running(queue):
        await asyncio.sleep(1)

    assert agent.texts == ["2", "3"]
    assert counted(process, "refused") == 2


async def test_an_agent_that_refused_the_last_batch_has_not_taken_it(agent: MemoryAgent) -> None:
    process = Process("run")
    queue = LogQueue(agent, process)
    refused = Invalid("loggregator", "resource-exhausted", "too large")
    agent.failures = [refused]

    def up() -> float | None:
        return process.metrics.registry.get_sample_value("docker_cache_loggregator_agent_up")

    async with running(queue):
        queue.put(line(0))
        await asyncio.sleep(1)
        assert (up(), queue.problem) == (0, str(refused))
        queue.put(line(1))
        await asyncio.sleep(1)
        assert (up(), queue.problem) == (1, "")


async def test_a_fault_of_this_program_costs_the_batch_and_nothing_else(
    agent: MemoryAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    process = Process("run")
    queue = LogQueue(agent, process, batch=2)
    agent.failures = [ValueError("what a bug might raise")]
    for number in range(4):
        queue.put(line(number))
    async with running(queue):
        await asyncio.sleep(1)

    assert agent.texts == ["2", "3"]
    assert counted(process, "refused") == 2
    assert "failed-to-send-app-logs" in capsys.readouterr().out


async def test_the_end_waits_for_an_agent_that_hangs_no_longer_than_it_may(agent: MemoryAgent) -> None:
    queue = LogQueue(agent, Process("run"))
    agent.hangs = True
    queue.put(line(0))
    before = asyncio.get_running_loop().time()
    await queue.flush(1.0)

    assert asyncio.get_running_loop().time() - before == pytest.approx(1.0, abs=0.1)


async def test_the_end_gives_up_an_agent_that_is_away(agent: MemoryAgent) -> None:
    queue = LogQueue(agent, Process("run"))
    agent.failures = [AWAY] * 100
    queue.put(line(0))
    await queue.flush(1.0)

    assert len(agent.times) == 1
