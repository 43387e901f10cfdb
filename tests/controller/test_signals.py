"""Signals that end the process, or let it begin anew."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from controller.signals import EarlySignals, ReloadRequested, StopRequested, stop_on_signal
from reconcile.errors import Invalid

ENDING = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give the test run its handlers back."""
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
async def test_what_waits_for_the_lock_ends_at_once(number: signal.Signals) -> None:
    """A standby has no migration that a drain would wait for."""
    limited = list[str]()
    early = EarlySignals(lambda: None, lambda: limited.append("limited"))

    async def wait_for_lock() -> None:
        early.listen()
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wait_for_lock())

    assert limited == ["limited"]
    assert isinstance(early.request, StopRequested)
    assert not isinstance(early.request, ReloadRequested)


async def test_a_drain_that_comes_again_does_not_break_off_the_end() -> None:
    """What ends is giving its lock back, for which the next instance waits."""
    limited, given_back = list[str](), list[str]()
    early = EarlySignals(lambda: None, lambda: limited.append("limited"))

    async def wait_for_lock() -> None:
        early.listen()
        os.kill(os.getpid(), signal.SIGUSR2)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(0.01)
            given_back.append("lock")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wait_for_lock())

    assert (limited, given_back) == (["limited"], ["lock"])


class Gate:
    """Migrations that never end by themselves.

    Attributes:
        seconds: How long it was waited for each time.
    """

    def __init__(self) -> None:
        self.seconds = list[float | None]()
        self.handlers = list[dict[signal.Signals, object]]()

    def reset_circuit_breaker(self) -> None:
        """Do nothing."""

    async def finish_migrations(self, seconds: float | None) -> None:
        self.seconds.append(seconds)
        self.handlers.append({each: signal.getsignal(each) for each in ENDING})
        if seconds is None:
            await asyncio.Event().wait()


async def ended(read_config: Callable[[], object], gate: Gate, *numbers: signal.Signals) -> StopRequested:
    """Send signals, and give the request that they led to."""
    limited = list[str]()
    reconciler: Any = SimpleNamespace(gate=gate)
    waiting = asyncio.create_task(
        stop_on_signal(reconciler, EarlySignals(read_config, lambda: limited.append("limited")))
    )
    await asyncio.sleep(0)
    for number in numbers:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
    with pytest.raises(StopRequested) as caught:
        await waiting
    assert limited == ["limited"]
    return caught.value


@pytest.mark.parametrize("number", ENDING)
async def test_the_first_signal_gives_migrations_some_time_and_the_next_is_not_taken(
    number: signal.Signals,
) -> None:
    gate = Gate()
    request = await ended(lambda: None, gate, number)

    assert not isinstance(request, ReloadRequested)
    assert gate.seconds == [5.0]
    assert gate.handlers == [dict.fromkeys(ENDING, signal.SIG_DFL)]


async def test_two_signals_at_once_end_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes before the event loop has run what the first one asks for."""
    raised = list[int]()
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    loop = asyncio.get_running_loop()
    takers = list[Callable[[], object]]()
    add = loop.add_signal_handler

    def note(number: int, take: Callable[..., object], *arguments: object) -> None:
        if number == signal.SIGTERM:
            takers.append(lambda: take(*arguments))
        add(number, take, *arguments)

    monkeypatch.setattr(loop, "add_signal_handler", note)
    reconciler: Any = SimpleNamespace(gate=Gate())
    waiting = asyncio.create_task(stop_on_signal(reconciler, EarlySignals(lambda: None, lambda: None)))
    await asyncio.sleep(0)
    (taken,) = takers
    taken()
    taken()
    with pytest.raises(StopRequested):
        await waiting

    assert raised == [signal.SIGTERM]


async def test_a_drain_waits_without_a_limit_until_a_signal_ends_it() -> None:
    gate = Gate()
    request = await ended(lambda: None, gate, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM)

    assert not isinstance(request, ReloadRequested)
    assert gate.seconds == [None, 5.0]


async def test_a_config_that_cannot_be_used_keeps_the_daemon_as_it_is() -> None:
    readings = iter([Invalid("config", "bad", "no"), None])

    def read_config() -> None:
        if (problem := next(readings)) is not None:
            raise problem

    gate = Gate()
    request = await ended(read_config, gate, signal.SIGHUP, signal.SIGHUP)

    assert isinstance(request, ReloadRequested)
    assert gate.handlers == [dict.fromkeys(ENDING, signal.SIG_DFL)], "as after any signal that ends it"


@pytest.mark.parametrize("number", ENDING)
async def test_a_signal_while_the_config_is_read_ends_the_process(number: signal.Signals) -> None:
    """It must not begin anew: whoever sent the signal waits for its end."""
    is_read = threading.Event()
    limited = asyncio.get_running_loop().create_future()
    reconciler: Any = SimpleNamespace(gate=Gate())
    waiting = asyncio.create_task(
        stop_on_signal(
            reconciler,
            EarlySignals(lambda: is_read.wait(60), lambda: limited.set_result(is_read.is_set())),
        )
    )
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.01)
    os.kill(os.getpid(), number)
    was_read = await limited
    is_read.set()
    with pytest.raises(StopRequested) as caught:
        await waiting

    assert not isinstance(caught.value, ReloadRequested)
    assert not was_read, "the end is limited from the signal on, however long the reading takes"


async def test_a_config_that_is_read_when_the_loops_take_signals_does_not_let_an_ended_process_begin_anew() -> (
    None
):
    """SIGHUP came before the loops, SIGTERM after, and the reading takes longer than both."""
    is_read, begun, reads = threading.Event(), threading.Event(), list[int]()

    def read_config() -> None:
        reads.append(1)
        begun.set()
        is_read.wait(60)

    early = EarlySignals(read_config, lambda: None)
    reconciler: Any = SimpleNamespace(gate=Gate())

    async def run() -> None:
        early.listen()
        os.kill(os.getpid(), signal.SIGHUP)
        assert await asyncio.to_thread(begun.wait, 60)
        stopping = asyncio.create_task(stop_on_signal(reconciler, early))
        await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        is_read.set()
        await stopping

    with pytest.raises(StopRequested) as caught:
        await asyncio.create_task(run())

    assert not isinstance(caught.value, ReloadRequested)
    assert early.request is None
    assert len(reads) == 2, "what was asked for before the loops is not forgotten"
