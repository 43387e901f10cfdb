"""Sees to it that no blob is on its way to one registry twice, whatever copies ask for it."""

import threading
from collections import OrderedDict

from controller.registry.cancellation import Cancellation
from reconcile.images import Digest

_MOST_REMEMBERED = 4096

Key = tuple[str, Digest]
"""Host of a registry, and a blob."""


class Flights:
    """Blobs that are on their way or have arrived lately; safe to use from many threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._under_way: set[Key] = set()
        self._arrived: OrderedDict[Key, str] = OrderedDict()

    def find(self, key: Key) -> str | None:
        """Name a repository that a blob arrived in lately."""
        with self._condition:
            return self._arrived.get(key)

    def board(self, key: Key, cancellation: Cancellation) -> str | None:
        """Wait while somebody else brings a blob, and name the repository that holds it then.

        None means that the caller is to bring it, and to tell with `land` how that ended.

        Raises:
            Stopped: The copy was cancelled meanwhile.
        """
        has_waited = False
        with cancellation.waking(self._condition), self._condition:
            while key in self._under_way:
                has_waited = True
                self._condition.wait()
                cancellation.check()
            arrived = self._arrived.get(key)
            if has_waited and arrived is not None:
                return arrived
            self._under_way.add(key)
            return None

    def land(self, key: Key, repository: str | None) -> None:
        """Tell where a blob is now; None when it could not be brought."""
        with self._condition:
            self._under_way.discard(key)
            if repository is not None:
                self._arrived[key] = repository
                self._arrived.move_to_end(key)
                if len(self._arrived) > _MOST_REMEMBERED:
                    self._arrived.popitem(last=False)
            self._condition.notify_all()
