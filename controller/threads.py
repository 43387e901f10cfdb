"""Runs blocking work in threads, and stops it when its caller is cancelled."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_SECONDS_TO_STOP = 3.0
"""How long cancelled work may take to stop; a process that is told to stop has ten seconds in all."""


class Stopped(Exception):
    """The work was cancelled while one of its threads was busy."""


class Cancellation:
    """The means to cancel one piece of work: its requests under way then fail, and it begins no new one.

    Attributes:
        is_of_copy: Whether the work is a copy. Copies use connections for long, so they may not use all
            connections to a host.
    """

    def __init__(self, *, is_of_copy: bool = False) -> None:
        self.is_of_copy = is_of_copy
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._conditions: set[threading.Condition] = set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the work must end."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Do nothing while the work may go on.

        Raises:
            Stopped: The work was cancelled.
        """
        if self._cancelled.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep; a cancellation ends the sleep early.

        Raises:
            Stopped: The work was cancelled.
        """
        self._cancelled.wait(seconds)
        self.check()

    def cancel(self) -> None:
        """Cancel the work: every thread that waits on a watched socket or condition wakes up."""
        with self._lock:
            self._cancelled.set()
            for each in self._sockets:
                _shut_down(each)
            conditions = tuple(self._conditions)
        for condition in conditions:
            with condition:
                condition.notify_all()

    def watch(self, sock: socket.socket) -> None:
        """Shut a socket down if the work is cancelled, from now until `forget`.

        Raises:
            Stopped: The work was cancelled before.
        """
        with self._lock:
            self.check()
            self._sockets.add(sock)

    def forget(self, sock: socket.socket) -> None:
        """Leave a socket alone from now on."""
        with self._lock:
            self._sockets.discard(sock)

    @contextlib.contextmanager
    def watching(self, sock: socket.socket) -> Iterator[None]:
        """Watch a socket within a block."""
        self.watch(sock)
        try:
            yield
        finally:
            self.forget(sock)

    @contextlib.contextmanager
    def waking(self, condition: threading.Condition) -> Iterator[None]:
        """Notify a condition if the work is cancelled within a block; the caller does not hold it yet.

        Raises:
            Stopped: The work was cancelled before.
        """
        with self._lock:
            self.check()
            self._conditions.add(condition)
        try:
            yield
        finally:
            with self._lock:
                self._conditions.discard(condition)


def _shut_down(sock: socket.socket) -> None:
    # The plain socket's method: that of a TLS socket would change it under its reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


async def in_thread(
    work: Callable[[], ResultT], threads: ThreadPoolExecutor, cancellation: Cancellation
) -> ResultT:
    """Run blocking work in a thread; when the caller is cancelled, cancel the work and wait for its end."""
    running = threads.submit(work)
    future = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancellation.cancel()
        running.cancel()  # if it has not begun
        await asyncio.wait([future], timeout=_SECONDS_TO_STOP)
        if future.done() and not future.cancelled():
            future.exception()
        raise


def in_parallel(
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    most: int,
    cancellation: Cancellation,
    pool: Executor | None = None,
) -> list[ResultT]:
    """Apply a function to many items in a bounded number of threads, and return the results in order.

    The first error but `Stopped` is raised; where several threads work, it is `cancellation.cancel()` that
    stops the others at once.

    Args:
        function: Applied to each item.
        items: What it is applied to.
        most: Threads at a time.
        cancellation: The cancellation of the work; it cannot be used again after an error.
        pool: Provides the threads, a free one for each nested call. None starts threads for this call alone.
    """
    if len(items) <= 1 or most <= 1:
        return [function(item) for item in items]
    results: dict[int, ResultT] = {}
    errors: list[BaseException] = []
    waiting, lock = iter(enumerate(items)), threading.Lock()

    def run() -> None:
        while not errors:
            with lock:
                following = next(waiting, None)
            if following is None:
                return
            number, item = following
            try:
                results[number] = function(item)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                errors.append(error)
                cancellation.cancel()

    count = min(most, len(items))
    with _threads(pool, count) as threads:
        wait([threads.submit(run) for _ in range(count)])
    for error in errors:
        if not isinstance(error, Stopped):
            raise error
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


@contextlib.contextmanager
def _threads(pool: Executor | None, count: int) -> Iterator[Executor]:
    if pool is not None:
        yield pool
        return
    with ThreadPoolExecutor(count, thread_name_prefix="in-parallel") as own:
        yield own
