"""Remembers which blobs were lately sent to registries or read there, so that each is read once an hour."""

import threading
import time
from collections import OrderedDict

from reconcile.references import Digest

PROVEN_FOR = 3600.0  # seconds
REMEMBERED = 100_000

BlobKey = tuple[str, Digest]
"""Domain of a registry, and the digest of a blob."""


class ProvenBlobs:
    """The blobs whose bytes a registry had when they were last sent or read; many threads use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._proven_at: OrderedDict[BlobKey, float] = OrderedDict()

    def __contains__(self, key: BlobKey) -> bool:
        with self._lock:
            at = self._proven_at.get(key)
        return at is not None and time.monotonic() - at <= PROVEN_FOR

    def add(self, key: BlobKey) -> None:
        """Remember that a registry has the bytes of a blob."""
        with self._lock:
            self._proven_at[key] = time.monotonic()
            self._proven_at.move_to_end(key)
            if len(self._proven_at) > REMEMBERED:
                self._proven_at.popitem(last=False)

    def discard(self, key: BlobKey) -> None:
        """Forget a blob, since its bytes were not there."""
        with self._lock:
            self._proven_at.pop(key, None)
