"""Tracks the uploads that last for a while, so that they can be cancelled also after a crash."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controller.registry.http.urls import Url
from reconcile.copying_ports import OpenUpload
from reconcile.references import ImageReference

SHORT = 10.0
"""Seconds that an upload must have lasted: shorter ones leave little behind, and are many."""


class OpenUploads:
    """The uploads that are under way; many threads use it.

    Args:
        monotonic: Gives seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._open: dict[int, tuple[float, ImageReference, list[Url]]] = {}

    @contextmanager
    def watching(self, target: ImageReference, sessions: list[Url]) -> Iterator[None]:
        """Track an upload during a block; its last session URL is the current one."""
        key = id(sessions)
        with self._lock:
            self._open[key] = self._monotonic(), target, sessions
        try:
            yield
        finally:
            with self._lock:
                del self._open[key]

    def list_long(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while."""
        now = self._monotonic()
        with self._lock:
            found = [(target, sessions) for at, target, sessions in self._open.values() if now - at >= SHORT]
        return tuple(OpenUpload(target, sessions[-1].complete) for target, sessions in found if sessions)
