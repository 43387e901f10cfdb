"""Counts how far a copy has come: its threads write, others read."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy has come at one moment.

    Attributes:
        total: Bytes of all blobs; 0 until the manifest was read.
        moved: Bytes that were copied from registry to registry.
        skipped: Bytes that the private registry held already, or that were mounted there.
        retries: Blobs started again and downloads resumed after a failure.
    """

    total: int = 0
    moved: int = 0
    skipped: int = 0
    retries: int = 0


class ProgressMeter:
    """Adds up what the threads of one copy report."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = self._moved = self._skipped = self._retries = 0

    def read(self) -> CopyProgress:
        """Return the current counts."""
        with self._lock:
            return CopyProgress(self._total, self._moved, self._skipped, self._retries)

    def expect(self, size: int) -> None:
        """Set the total."""
        with self._lock:
            self._total = size

    def move(self, size: int) -> None:
        """Count bytes that were copied; negative for those of an attempt that failed."""
        with self._lock:
            self._moved += size

    def skip(self, size: int) -> None:
        """Count bytes that need not be moved."""
        with self._lock:
            self._skipped += size

    def retry(self, count: int = 1) -> None:
        """Count blobs started again, or downloads resumed."""
        with self._lock:
            self._retries += count
