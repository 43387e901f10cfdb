"""Finds instances that take much longer to start from a copy than others did.

A registry that gives no bytes of a blob makes a cell ask for ever, and no crash is ever reported.
"""

from collections import deque
from collections.abc import Callable

from reconcile.lrps import ActualLrp, ActualLrpState
from reconcile.references import CacheGuid

SHORTEST = 30.0
"""Seconds below which no start is slow."""

UNKNOWN = 90.0
"""Seconds after which a start is slow while none has been seen to end."""

_TIMES = 3
_REMEMBERED = 100
_MOST = 20_000


class SlowStarts:
    """The instances that are being started from copies.

    Args:
        monotonic: Gives seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: dict[str, tuple[CacheGuid, float]] = {}
        self._reported: set[str] = set()
        self._lasted: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def limit(self) -> float:
        """Seconds after which a start is slow: three times as long as the longest of the last ones."""
        return max(SHORTEST, _TIMES * max(self._lasted)) if self._lasted else UNKNOWN

    def note(self, row: ActualLrp, cache_guid: CacheGuid | None) -> None:
        """Note the state of an instance, and the copy that its LRP runs from."""
        guid = row.instance_guid
        if not guid:
            return
        if row.state is ActualLrpState.CLAIMED and cache_guid is not None:
            if guid not in self._since and len(self._since) < _MOST:
                self._since[guid] = cache_guid, self._monotonic()
            return
        started = self.forget(guid)
        if started is not None and row.state is ActualLrpState.RUNNING:
            self._lasted.append(self._monotonic() - started)

    def forget(self, instance_guid: str) -> float | None:
        """Forget an instance that is gone, and return since when it was being started."""
        self._reported.discard(instance_guid)
        found = self._since.pop(instance_guid, None)
        return None if found is None else found[1]

    def take_slow(self) -> frozenset[CacheGuid]:
        """Return the copies of instances that have become slow since the last call."""
        limit, now = self.limit, self._monotonic()
        slow = {
            guid: cache_guid
            for guid, (cache_guid, since) in self._since.items()
            if now - since > limit and guid not in self._reported
        }
        self._reported |= slow.keys()
        return frozenset(slow.values())
