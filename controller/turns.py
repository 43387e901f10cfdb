"""Counts how often a key comes back at once after it was released, so that a loop without pauses is seen.

A key that comes back after the shortest pause of a wait counts as calm, however often it does so. What counts
is the time from a release to the call that brings the key back, not the time that it then waits for its turn.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

CALM = 0.25  # seconds between a release and a return that make up for one turn
MAX_TURNS = 40
"""Turns in a row without pauses that are in order, such as those of a migration with many instances."""
FORGET_AFTER = CALM * MAX_TURNS * 2  # seconds


@dataclass(slots=True)
class _Streak:
    turns: float
    released_at: float
    is_reported: bool = False


class Turns(Generic[Key]):
    """The streaks of the keys that were released lately."""

    def __init__(self) -> None:
        self._streaks: OrderedDict[Key, _Streak] = OrderedDict()

    def release(self, key: Key, now: float) -> None:
        """Note that a key is released."""
        streak = self._streaks.setdefault(key, _Streak(0.0, now))
        streak.released_at = now
        self._streaks.move_to_end(key)
        while now - next(iter(self._streaks.values())).released_at > FORGET_AFTER:
            self._streaks.popitem(last=False)

    def count_excess(self, key: Key, now: float) -> int:
        """Count the return of a key, and return how many turns it is above what is in order; 0 for none."""
        streak = self._streaks.get(key)
        if streak is None:
            return 0
        streak.turns = max(0.0, streak.turns - (now - streak.released_at) / CALM) + 1
        if streak.turns <= 1:
            streak.is_reported = False
        return max(0, int(streak.turns) - MAX_TURNS)

    def is_to_be_reported(self, key: Key) -> bool:
        """Whether the present streak of a key was not reported yet; from now on it counts as reported."""
        streak = self._streaks.get(key)
        if streak is None or streak.is_reported:
            return False
        streak.is_reported = True
        return True
