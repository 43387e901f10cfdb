"""Limits the total time of HTTP exchanges, however slowly or busily bytes trickle in.

A peer that sends one byte a minute keeps within a limit on idle time. One thread watches all exchanges, and
transferred bytes cost nothing. The same thread calls functions after a time.
"""

import contextlib
import heapq
import itertools
import math
import socket
import threading
import time
from collections.abc import Callable


class Deadline:
    """When one exchange must have ended.

    Attributes:
        at: By the timer's monotonic clock, in seconds.
        has_passed: Whether the timer has shut the socket down.
        is_over: Whether the exchange has ended, so that its deadline no longer matters.
    """

    def __init__(self, at: float, sock: socket.socket) -> None:
        self.at, self.sock = at, sock
        self.has_passed = False
        self.is_over = False


class DeadlineTimer:
    """Shuts down sockets whose deadline has passed, and calls functions after a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, Deadline]] = []
        # A queue of their own: `cancel` removes ended deadlines from the head of the other one, and a call
        # in front of them would keep them there.
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def start(self, sock: socket.socket, seconds: float) -> Deadline:
        """Set a deadline for what happens on a socket."""
        deadline = Deadline(self._clock() + seconds, sock)
        with self._condition:
            heapq.heappush(self._queue, (deadline.at, next(self._count), deadline))
            self._wake_by(deadline.at)
        return deadline

    def call_after(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function, which must not take long and raises nothing, in the thread of the timer."""
        at = self._clock() + seconds
        with self._condition:
            heapq.heappush(self._calls, (at, next(self._count), function))
            self._wake_by(at)

    def _wake_by(self, at: float) -> None:
        """Let the thread wake up by a time; the caller holds the condition."""
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="registry-deadlines", daemon=True)
            self._thread.start()
        if at < self._wakes_at:
            self._condition.notify()

    def cancel(self, deadline: Deadline) -> None:
        """Leave the socket of a deadline alone from now on."""
        with self._condition:
            deadline.is_over = True
            while self._queue and self._queue[0][2].is_over:
                heapq.heappop(self._queue)
            if len(self._queue) > 1000 and sum(each.is_over for _, _, each in self._queue) > 500:
                self._queue = [item for item in self._queue if not item[2].is_over]
                heapq.heapify(self._queue)

    def close(self) -> None:
        """End the thread; the deadlines that are still set have no effect any more."""
        with self._condition:
            self._is_closed = True
            self._queue.clear()
            self._calls.clear()
            self._condition.notify()

    def _run(self) -> None:
        while (function := self._next_call()) is not None:
            function()

    def _next_call(self) -> Callable[[], None] | None:
        """Wait for the next function that is due, and meanwhile shut sockets down; None at the end."""
        with self._condition:
            while not self._is_closed:
                ends_at = self._queue[0][0] if self._queue else math.inf
                called_at = self._calls[0][0] if self._calls else math.inf
                self._wakes_at = min(ends_at, called_at)
                left = self._wakes_at - self._clock()
                if left > 0:
                    self._condition.wait(None if math.isinf(left) else left)
                    continue
                if called_at <= ends_at:
                    return heapq.heappop(self._calls)[2]
                _, _, deadline = heapq.heappop(self._queue)
                if not deadline.is_over:
                    deadline.has_passed = True
                    # The plain socket's method: that of a TLS socket would change it under its reader.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(deadline.sock, socket.SHUT_RDWR)
        return None
