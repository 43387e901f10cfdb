"""Lets droplets of which there is news go first, and only one of the backlog be looked at at a time.

A look at one of the backlog waits for the background's share of the requests, perhaps for long. It must not
take the place of another that an app waits for.
"""

from collections import OrderedDict

from controller.workqueue import Priority, PriorityLines
from reconcile.droplets import DropletGuid


class DropletLines:
    """The droplets that wait: those of which there is news by priority, and the backlog behind them."""

    def __init__(self) -> None:
        self._news: PriorityLines[DropletGuid] = PriorityLines()
        self._backlog: OrderedDict[DropletGuid, None] = OrderedDict()
        self._held_of_backlog: set[DropletGuid] = set()

    def __len__(self) -> int:
        return len(self._news) + len(self._backlog)

    def __contains__(self, key: object) -> bool:
        return key in self._news or key in self._backlog

    @property
    def backlog(self) -> int:
        """Number of droplets that wait, and of which there is no news."""
        return len(self._backlog)

    def put(self, key: DropletGuid, priority: Priority) -> None:
        """Let a droplet wait; one of the backlog leaves it once there is news."""
        if priority is Priority.ROUTINE and key not in self._news:
            self._backlog.setdefault(key)
            return
        self._backlog.pop(key, None)
        self._news.put(key, priority)

    def take(self) -> DropletGuid | None:
        """Take the next droplet; None when none may be taken now."""
        key = self._news.take()
        if key is None and self._backlog and not self._held_of_backlog:
            key, _ = self._backlog.popitem(last=False)
            self._held_of_backlog.add(key)
        return key

    def release(self, key: DropletGuid) -> None:
        """Note that a droplet is held no longer."""
        self._held_of_backlog.discard(key)

    def is_of_backlog(self, key: DropletGuid) -> bool:
        """Whether a droplet that is held was taken from the backlog."""
        return key in self._held_of_backlog
