"""Measures what a call costs: processor time of its thread, and memory at its highest."""

import contextlib
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call took.

    Attributes:
        seconds: Of the processor, so a busy machine changes little.
        error: What it raised.
    """

    seconds: float
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an input may cost, by its length in bytes.

    Attributes:
        seconds: Of the processor for any input.
        seconds_per_mib: And for each MiB of it.
        memory: Bytes for any input.
        memory_per_byte: And for each byte of it.
    """

    seconds: float = 0.15
    seconds_per_mib: float = 0.6
    memory: int = 4 << 20
    memory_per_byte: int = 12

    def most_seconds(self, length: int) -> float:
        """Return what an input of a length may take."""
        return self.seconds + self.seconds_per_mib * length / (1 << 20)

    def most_bytes(self, length: int) -> int:
        """Return what an input of a length may hold."""
        return self.memory + self.memory_per_byte * length


class StoppedError(Exception):
    """A call was stopped, since it took much longer than it may."""


@contextlib.contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Stop what runs in a block of the main thread after a time of the processor, also within a pattern."""

    def stop(_signal: int, _frame: object) -> None:
        raise StoppedError(f"stopped after {seconds:.1f} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def timed(call: Callable[[], object], at_most: float) -> Cost:
    """Call something, and measure the processor's time; it is stopped after so many seconds of it."""
    error: Exception | None = None
    begun = time.thread_time()
    try:
        with _stopped_after(at_most):
            call()
    except Exception as raised:  # noqa: BLE001 - whether it may be raised is for the caller to say
        error = raised
    return Cost(time.thread_time() - begun, error)


def weighed(call: Callable[[], object], at_most: float) -> int:
    """Call something, and return the bytes of memory that it took at the highest; that takes several times as long."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        timed(call, at_most)
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return highest - before
