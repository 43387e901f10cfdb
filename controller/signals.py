"""Takes the signals that end a process, or let it begin anew with another config."""

import asyncio
import signal
from collections.abc import Callable
from typing import NoReturn

import structlog

from controller.reconciler import Reconciler
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="daemon")

FINISH_WITHIN = 5.0
"""Seconds that open migrations get after a signal; platforms give ten, the rest is for cancelled copies."""


_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


class StopRequested(Exception):
    """The process should end."""


class ReloadRequested(StopRequested):
    """The process should start again with another config."""


class EarlySignals:
    """What signals ask for before the loops run; then the loops take them.

    A request cancels what this process waits for, such as the lock, or its take-over.

    Args:
        read_config: Reads the config file again; what it raises keeps the daemon as it is.
        limit_ending: Is called as soon as the process is to end.

    Attributes:
        request: The one that was made; None for none.
    """

    def __init__(self, read_config: Callable[[], object], limit_ending: Callable[[], None]) -> None:
        self.request: StopRequested | None = None
        self.read_config, self.limit_ending = read_config, limit_ending
        self._process: asyncio.Task[object] | None = None
        self._reloading: asyncio.Future[None] | None = None

    def listen(self) -> None:
        """Take signals for the task that calls this, until the loops take them."""
        loop, self._process = asyncio.get_running_loop(), asyncio.current_task()
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGUSR2,
        ):  # nothing is under way that a drain awaits
            loop.add_signal_handler(number, self._end, number, StopRequested())
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        loop.add_signal_handler(signal.SIGUSR1, log.info, "ignored-signal")  # there is no circuit breaker yet

    def hand_over(self) -> None:
        """Leave signals to the loops; a config that is being read is read again for them.

        Else the end of the reading would let a process begin anew that another signal has ended meanwhile.
        """
        if self._reloading is not None and not self._reloading.done():
            self._reloading.cancel()
            signal.raise_signal(signal.SIGHUP)

    def _end(self, number: signal.Signals, request: StopRequested) -> None:
        if self.request is not None:
            if number in _ENDING:
                signal.raise_signal(number)  # it came before the first one was handled
            return  # it ends already, and may be giving its lock back
        self.limit_ending()  # first of all: a log that nobody reads may hold up the next line
        _end_at_next(asyncio.get_running_loop())
        log.info("received-signal", signal=number.name)
        self.request = request
        if self._process is not None:
            self._process.cancel()

    def _begin_reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        request = await _reload(self.read_config)
        if request is not None and self.request is None:
            self._end(signal.SIGHUP, request)


async def stop_on_signal(reconciler: Reconciler, early: EarlySignals) -> NoReturn:
    """Wait for a signal that ends the process, give migrations some time to end, and raise the request.

    SIGUSR2 gives them all the time they need, until another signal ends the process.

    Args:
        reconciler: Whose migrations get time.
        early: Has taken signals until now.
    """
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[signal.Signals]()

    taken = set[signal.Signals]()

    def take(number: signal.Signals) -> None:
        if number in _ENDING:
            if taken & _ENDING:
                signal.raise_signal(number)  # it came before the first one was handled
            else:
                early.limit_ending()  # also while the config is read
            _end_at_next(loop)
        taken.add(number)
        signals.put_nowait(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        loop.add_signal_handler(number, take, number)
    loop.add_signal_handler(signal.SIGUSR1, reconciler.gate.reset_circuit_breaker)
    early.hand_over()
    request: StopRequested | None = None
    while request is None:
        number = await signals.get()
        log.info("received-signal", signal=number.name)
        if number is signal.SIGUSR2:
            await _drain(reconciler, signals)
        request = await _reload(early.read_config) if number is signal.SIGHUP else StopRequested()
    if taken & _ENDING:
        request = StopRequested()  # one that came while the config was read ends the process, too
    else:
        early.limit_ending()
        _end_at_next(loop)
    await reconciler.gate.finish_migrations(FINISH_WITHIN)
    raise request


def _end_at_next(loop: asyncio.AbstractEventLoop) -> None:
    """Let the next signal that ends the process do so at once, whatever the process is doing."""
    for number in _ENDING:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)


async def _drain(reconciler: Reconciler, signals: asyncio.Queue[signal.Signals]) -> None:
    """Start no further migration, and wait until none is under way, or for a signal that ends the process."""
    async with asyncio.TaskGroup() as waits:
        finished = waits.create_task(reconciler.gate.finish_migrations(None), name="drain")
        ending = waits.create_task(_next_ending(signals), name="signals while draining")
        await asyncio.wait((finished, ending), return_when=asyncio.FIRST_COMPLETED)
        finished.cancel()
        ending.cancel()


async def _next_ending(signals: asyncio.Queue[signal.Signals]) -> None:
    """Wait for a signal that ends the process; it does not begin anew while it drains."""
    while (number := await signals.get()) not in _ENDING:
        log.info("ignored-signal", signal=number.name)
    log.info("received-signal", signal=number.name)


async def stop_after(work: asyncio.Future[None], reconciler: Reconciler) -> NoReturn:
    """Wait for the end of work, which a signal cancels, and of the migrations; then request a stop."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP when the terminal is gone
    for number in signals:
        loop.add_signal_handler(number, work.cancel)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    await asyncio.wait([work])
    for number in signals[:2]:
        loop.remove_signal_handler(number)  # the next one ends the process at once
    await reconciler.gate.finish_migrations(None)
    raise StopRequested


async def _reload(read_config: Callable[[], object]) -> ReloadRequested | None:
    """Read the config again; None when it cannot be used, and the daemon stays as it is."""
    try:
        await asyncio.to_thread(read_config)
    except DockerCacheError as error:
        log.error("failed-to-reload-config", error=str(error))  # noqa: TRY400 - the message says all
        return None
    return ReloadRequested()
