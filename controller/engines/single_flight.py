"""Keeps any blob from being uploaded to one registry twice at the same time, whichever copies need it."""

import threading
from collections import OrderedDict

from controller.threads import Cancellation
from reconcile.references import Digest

_MOST_REMEMBERED = 4096

Key = tuple[str, Digest]
"""Host of a registry, and a blob."""


class SingleFlight:
    """Blobs that are being uploaded or were uploaded lately; safe to use from many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._under_way: set[Key] = set()
        self._finished: OrderedDict[Key, str] = OrderedDict()

    def find(self, key: Key) -> str | None:
        """Return a repository that a blob was uploaded to lately; None when there is none."""
        with self._condition:
            return self._finished.get(key)

    def join(self, key: Key, cancellation: Cancellation) -> str | None:
        """Wait while another copy uploads a blob, and return the repository that holds it afterwards.

        None means that the caller must upload the blob, and call `finish` in any case.

        Raises:
            Stopped: The copy was cancelled meanwhile.
        """
        has_waited = False
        with cancellation.waking(self._condition), self._condition:
            while key in self._under_way:
                has_waited = True
                self._condition.wait()
                cancellation.check()
            repository = self._finished.get(key)
            if has_waited and repository is not None:
                return repository
            self._under_way.add(key)
            return None

    def finish(self, key: Key, repository: str | None) -> None:
        """End an upload: name the repository that holds the blob, or None when the upload failed."""
        with self._condition:
            self._under_way.discard(key)
            if repository is not None:
                self._finished[key] = repository
                self._finished.move_to_end(key)
                if len(self._finished) > _MOST_REMEMBERED:
                    self._finished.popitem(last=False)
            self._condition.notify_all()
