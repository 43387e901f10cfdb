"""Ends exchanges that take longer in all than they may, however busy their connections look.

A limit on silence alone is met by a peer that sends one byte a minute. One thread serves all
exchanges, and none is touched between its begin and its end.
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
        has_passed: Its socket was shut down.
    """

    def __init__(self, at: float, sock: socket.socket) -> None:
        self.at, self.sock = at, sock
        self.has_passed = False
        self.is_over = False


class Alarm:
    """Shuts down sockets whose time is up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, Deadline]] = []
        self._count = itertools.count()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def set(self, sock: socket.socket, seconds: float) -> Deadline:
        """Begin to watch over a socket."""
        deadline = Deadline(self._clock() + seconds, sock)
        with self._condition:
            heapq.heappush(self._queue, (deadline.at, next(self._count), deadline))
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="registry-alarm", daemon=True)
                self._thread.start()
            if deadline.at < self._wakes_at:
                self._condition.notify()
        return deadline

    def clear(self, deadline: Deadline) -> None:
        """Leave a socket alone from now on."""
        with self._condition:
            deadline.is_over = True
            while self._queue and self._queue[0][2].is_over:
                heapq.heappop(self._queue)
            if len(self._queue) > 1000 and sum(each.is_over for _, _, each in self._queue) > 500:
                self._queue = [item for item in self._queue if not item[2].is_over]
                heapq.heapify(self._queue)

    def close(self) -> None:
        """Let the thread end; what is still watched is left alone."""
        with self._condition:
            self._is_closed = True
            self._queue.clear()
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while not self._is_closed:
                self._wakes_at = self._queue[0][0] if self._queue else math.inf
                left = self._wakes_at - self._clock()
                if left > 0:
                    self._condition.wait(None if math.isinf(left) else left)
                    continue
                _, _, deadline = heapq.heappop(self._queue)
                if not deadline.is_over:
                    deadline.has_passed = True
                    # The plain socket's method: that of a TLS socket would change it under its reader.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(deadline.sock, socket.SHUT_RDWR)
