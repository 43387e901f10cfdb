"""Stops threads that wait on sockets, from outside and at once."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Stopped(Exception):
    """The copy was cancelled while a request was under way."""


class Cancellation:
    """Belongs to one piece of work: once cancelled, its requests fail and none begins."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._conditions: set[threading.Condition] = set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the work must end."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise when the work must end.

        Raises:
            Stopped: It was cancelled.
        """
        if self._cancelled.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Pause, or end.

        Raises:
            Stopped: It was cancelled meanwhile.
        """
        self._cancelled.wait(seconds)
        self.check()

    def cancel(self) -> None:
        """End the work: whoever waits on one of its sockets or conditions wakes up."""
        with self._lock:
            self._cancelled.set()
            for each in self._sockets:
                _shut_down(each)
            conditions = tuple(self._conditions)
        for condition in conditions:
            with condition:
                condition.notify_all()

    def watch(self, sock: socket.socket) -> None:
        """Count a socket in while a request uses it.

        Raises:
            Stopped: It was cancelled.
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
        """Count a socket in for the length of a block."""
        self.watch(sock)
        try:
            yield
        finally:
            self.forget(sock)

    @contextlib.contextmanager
    def waking(self, condition: threading.Condition) -> Iterator[None]:
        """Notify a condition, which is not yet held, when the work is cancelled within a block.

        Raises:
            Stopped: It was cancelled before.
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
