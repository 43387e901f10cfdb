"""How far a copy has come, told by its threads and read by others."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """One moment of a copy.

    Attributes:
        total: Bytes of all blobs; 0 until the manifest was read.
        moved: Bytes that went from registry to registry.
        skipped: Bytes that were in the private registry already, or were mounted there.
        retries: Blobs begun again and downloads gone on with after a failure.
    """

    total: int = 0
    moved: int = 0
    skipped: int = 0
    retries: int = 0


class ProgressMeter:
    """Adds up what the threads of one copy tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = self._moved = self._skipped = self._retries = 0

    def read(self) -> CopyProgress:
        """Give the state of this moment."""
        with self._lock:
            return CopyProgress(self._total, self._moved, self._skipped, self._retries)

    def expect(self, size: int) -> None:
        """Set how many bytes there are in all."""
        with self._lock:
            self._total = size

    def move(self, size: int) -> None:
        """Count bytes that were sent; negative for those of a try that failed."""
        with self._lock:
            self._moved += size

    def skip(self, size: int) -> None:
        """Count bytes that need not be moved."""
        with self._lock:
            self._skipped += size

    def retry(self, count: int = 1) -> None:
        """Count blobs begun again, or gone on with."""
        with self._lock:
            self._retries += count
