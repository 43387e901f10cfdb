"""Lets droplets with a reason for a look go first, and looks at one at a time of the backlog.

A look at one of the backlog waits for the background's share of the requests, perhaps for long. It must not
take the place of another that an app waits for.
"""

from collections import OrderedDict

from controller.workqueue import Priority, PriorityLines
from reconcile.droplets import DropletGuid


class DropletLines:
    """The droplets that wait: those with a reason for a look by priority, and behind them the backlog."""

    def __init__(self) -> None:
        self._prioritized: PriorityLines[DropletGuid] = PriorityLines()
        self._backlog: OrderedDict[DropletGuid, None] = OrderedDict()
        self._held_of_backlog: set[DropletGuid] = set()

    def __len__(self) -> int:
        return len(self._prioritized) + len(self._backlog)

    def __contains__(self, key: object) -> bool:
        return key in self._prioritized or key in self._backlog

    @property
    def backlog(self) -> int:
        """Number of droplets that wait without a reason for a look."""
        return len(self._backlog)

    def put(self, key: DropletGuid, priority: Priority) -> None:
        """Let a droplet wait; one of the backlog leaves it once there is a reason for a look."""
        if priority is Priority.ROUTINE and key not in self._prioritized:
            self._backlog.setdefault(key)
            return
        self._backlog.pop(key, None)
        self._prioritized.put(key, priority)

    def take(self) -> DropletGuid | None:
        """Take the next droplet; None when none may be taken now."""
        key = self._prioritized.take()
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
