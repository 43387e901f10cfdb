"""Keeps two copies from uploading the same blob at the same time, where one may wait for the other.

A copy waits for an upload of the same size by a reader of its own scope only, see `reconcile.trust`, and only
while that upload keeps a minimum rate: else it uploads the blob itself.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from controller.threads import Cancellation
from reconcile.references import Digest

_MOST_REMEMBERED = 4096

PATIENCE = 5.0
"""Seconds over which the rate of an upload is measured that others wait for."""

Key = tuple[str, str, Digest, int]
"""The host of a registry, the scope of whoever reads the blob at its source, its digest and its size."""


@dataclass(eq=False, slots=True)
class BlobUpload:
    """One upload of a blob.

    Attributes:
        moved: Bytes that have arrived from the source so far; only the uploading thread changes it.
    """

    moved: int = 0


class SingleFlight:
    """The blobs that are being uploaded or were uploaded recently; safe to use from many threads.

    Args:
        slowest: Bytes per second below which nobody waits for an upload.
        patience: Seconds over which that is measured.
    """

    def __init__(self, slowest: float = 0.0, *, patience: float = PATIENCE) -> None:
        self._least, self._patience = slowest * patience, patience
        self._condition = threading.Condition()
        self._uploads: dict[Key, list[BlobUpload]] = {}
        self._finished: OrderedDict[Key, str] = OrderedDict()

    def find(self, key: Key) -> str | None:
        """Return the repository that a blob was uploaded to recently; None when there is none."""
        with self._condition:
            return self._finished.get(key)

    def join(
        self, key: Key, upload: BlobUpload, cancellation: Cancellation, *, tried: str | None = None
    ) -> str | None:
        """Wait while another copy uploads a blob, and return the repository that it was uploaded to.

        None means that the caller must upload the blob now, count what arrives in `upload`, and then call
        `finish`, whether the upload succeeds or fails.

        Args:
            key: The blob and its registry.
            upload: The caller's upload.
            cancellation: Of the caller's copy.
            tried: The repository that `find` named before, and that did not have the blob.

        Raises:
            Stopped: The caller's copy was cancelled while it waited.
        """
        has_waited = False
        with cancellation.waking(self._condition), self._condition:
            while (other := next(iter(self._uploads.get(key, ())), None)) is not None:
                has_waited = True
                if not self._may_wait_on(key, other, cancellation):
                    break
            repository = self._finished.get(key)
            if repository is not None and (has_waited or repository != tried):
                return repository
            self._uploads.setdefault(key, []).append(upload)
            return None

    def _may_wait_on(self, key: Key, upload: BlobUpload, cancellation: Cancellation) -> bool:
        """Wait for the end of an upload or for a while, and return whether it has ended or keeps its rate."""
        before = upload.moved
        has_ended = self._condition.wait_for(
            lambda: cancellation.is_cancelled or upload not in self._uploads.get(key, ()), self._patience
        )
        cancellation.check()
        return has_ended or upload.moved - before >= self._least

    def finish(self, key: Key, upload: BlobUpload, repository: str | None) -> None:
        """Report the end of an upload that `join` left to the caller.

        Args:
            key: The blob and its registry.
            upload: The upload.
            repository: The repository that holds the blob now; None when the upload failed.
        """
        with self._condition:
            uploads = self._uploads[key]
            uploads.remove(upload)
            if not uploads:
                del self._uploads[key]
            if repository is not None:
                self._finished[key] = repository
                self._finished.move_to_end(key)
                if len(self._finished) > _MOST_REMEMBERED:
                    self._finished.popitem(last=False)
            self._condition.notify_all()
