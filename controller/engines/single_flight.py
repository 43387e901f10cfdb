"""Keeps two copies from uploading the same blob to one registry at the same time."""

import threading
from collections import OrderedDict

from controller.threads import Cancellation
from reconcile.references import Digest

_MOST_REMEMBERED = 4096

Key = tuple[str, str, Digest, int]
"""The host of a registry, the scope of whoever reads the blob at its source, its digest and its size."""


class SingleFlight:
    """The blobs that are being uploaded or were uploaded recently; safe to use from many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._uploading: set[Key] = set()
        self._finished: OrderedDict[Key, str] = OrderedDict()

    def find(self, key: Key) -> str | None:
        """Return the repository that a blob was uploaded to recently; None when there is none."""
        with self._condition:
            return self._finished.get(key)

    def join(self, key: Key, cancellation: Cancellation) -> str | None:
        """Wait while another copy uploads a blob, and return the repository that it was uploaded to.

        None means that the caller must upload the blob now, and then call `finish`, whether the upload
        succeeds or fails.

        Raises:
            Stopped: The caller's copy was cancelled while it waited.
        """
        has_waited = False
        with cancellation.waking(self._condition), self._condition:
            while key in self._uploading:
                has_waited = True
                self._condition.wait()
                cancellation.check()
            repository = self._finished.get(key)
            if has_waited and repository is not None:
                return repository
            self._uploading.add(key)
            return None

    def finish(self, key: Key, repository: str | None) -> None:
        """Report the end of an upload that `join` left to the caller.

        Args:
            key: The blob and its registry.
            repository: The repository that holds the blob now; None when the upload failed.
        """
        with self._condition:
            self._uploading.discard(key)
            if repository is not None:
                self._finished[key] = repository
                self._finished.move_to_end(key)
                if len(self._finished) > _MOST_REMEMBERED:
                    self._finished.popitem(last=False)
            self._condition.notify_all()
