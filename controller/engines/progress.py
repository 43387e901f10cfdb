"""Counts the bytes and retries of a copy; the copy's threads write the counts, other threads read them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reconcile.errors import DockerCacheError


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """The progress of a copy at one moment.

    Attributes:
        total: Bytes of all blobs; 0 until the manifest was read.
        transferred: Bytes that were copied from registry to registry.
        skipped: Bytes that the private registry held already, or that were mounted there.
        retries: Number of blobs that were copied again, and of transfers that were resumed, after a failure.
    """

    total: int = 0
    transferred: int = 0
    skipped: int = 0
    retries: int = 0


class ProgressMeter:
    """Adds up what the threads of one copy report.

    Attributes:
        has_concurrent_copy: Whether another copy to the same target was under way during this one.
    """

    def __init__(self) -> None:
        self.has_concurrent_copy = False
        self._lock = threading.Lock()
        self._total = self._transferred = self._skipped = self._retries = self._moved = 0
        self._mounted = 0

    def read(self) -> CopyProgress:
        """Return the current counts."""
        with self._lock:
            return CopyProgress(self._total, self._transferred, self._skipped, self._retries)

    @contextmanager
    def noting_bytes_in_errors(self) -> Iterator[None]:
        """Note in the error that ends the block how many bytes were transferred until then."""
        try:
            yield
        except DockerCacheError as error:
            with self._lock:
                error.moved = self._moved
            raise

    def set_total(self, size: int) -> None:
        """Set the total number of bytes."""
        with self._lock:
            self._total = size

    def add_transferred(self, size: int) -> None:
        """Count bytes that were copied."""
        with self._lock:
            self._transferred += size
            self._moved += size

    def correct_transferred(self, size: int) -> None:
        """Count bytes that an earlier attempt has copied; a negative size takes bytes back.

        The bytes that an error carries stay as they are, since they were transferred in any case.
        """
        with self._lock:
            self._transferred += size

    def add_skipped(self, size: int) -> None:
        """Count bytes that need not be copied."""
        with self._lock:
            self._skipped += size

    def add_mounted(self, size: int) -> None:
        """Count bytes that were mounted, and need not be copied."""
        with self._lock:
            self._skipped += size
            self._mounted += size

    @property
    def mounted(self) -> int:
        """The bytes that were mounted so far."""
        return self._mounted

    def add_retries(self, count: int = 1) -> None:
        """Count blobs that are copied again, or transfers that are resumed."""
        with self._lock:
            self._retries += count
