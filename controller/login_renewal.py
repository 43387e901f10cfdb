"""Spreads updates of logins over time, and counts the LRPs whose login is not the configured one."""

from collections import OrderedDict

from reconcile.lrps import ProcessGuid

UPDATES_A_SECOND = 10
"""Maximum number of updates in a second; each of them is an event for all who subscribe to the BBS."""

MISSED_AFTER = 1.0
"""Seconds after its turn in which an LRP may still take it: those that come later would come all at once."""

AGAIN_AFTER = 60.0
"""Seconds after which one LRP may be updated again: somebody else may keep giving it another login."""


class LoginRenewal:
    """The turns of LRPs whose logins are to be updated in place.

    All times are seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self._next_turn = 0.0
        self._turns: OrderedDict[ProcessGuid, float] = OrderedDict()
        self._updated: OrderedDict[ProcessGuid, float] = OrderedDict()
        self._outdated: set[ProcessGuid] = set()

    def seconds_until_turn(self, key: ProcessGuid, now: float) -> float:
        """Return when it is an LRP's turn: 0 for now, and then it is used up."""
        self._forget(now)
        turn = self._turns.pop(key, None)
        if turn is None or now - turn > MISSED_AFTER:
            turn = max(now, self._next_turn)
            self._next_turn = turn + 1 / UPDATES_A_SECOND
            turn = max(turn, self._updated.get(key, now - AGAIN_AFTER) + AGAIN_AFTER)
        if turn > now:
            self._turns[key] = turn
            return turn - now
        self._updated.pop(key, None)  # so that the order is that of the updates
        self._updated[key] = now
        return 0.0

    def _forget(self, now: float) -> None:
        """Forget the turns that nobody has come for, and updates that are long over."""
        for times in (self._turns, self._updated):
            while times and next(iter(times.values())) < now - AGAIN_AFTER:
                times.popitem(last=False)

    def note(self, key: ProcessGuid, *, is_outdated: bool) -> None:
        """Note whether an LRP has another login than the configured one."""
        if is_outdated:
            self._outdated.add(key)
        else:
            self._outdated.discard(key)

    @property
    def outdated(self) -> int:
        """The number of LRPs with another login than the configured one, as passes have seen them."""
        return len(self._outdated)
