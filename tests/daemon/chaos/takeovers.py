"""Times how long no instance works, and says what of that is too long.

Only time counts in which an instance could take over: one stands by, and Locket, the database and the BBS answer.
It begins anew when an instance ends that was just taking over.
"""

import time

from reconcile.lease import LeaseTimes

LATE_EXPIRY = 5.0
"""Seconds by which Locket may let a lock expire late."""
RECOVERY = 5.0
"""Seconds from the lock to the first list of the BBS, on a busy machine."""


class TakeOvers:
    """The time since an instance worked.

    Attributes:
        longest: The longest time that it took until one worked again, and how long it could have taken.
        longest_by_the_clock: The same with all that does not count.
    """

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._allowed_at_first = times.ttl + LATE_EXPIRY + times.retry_interval + RECOVERY
        self.longest = (0.0, self._allowed_at_first)
        self.longest_by_the_clock = 0.0
        self._since: float | None = None
        self._seconds, self._allowed = 0.0, self._allowed_at_first
        self._was_held = self._is_reported = False

    def work(self) -> None:
        """Note that an instance works."""
        if self._since is not None:
            self.longest_by_the_clock = max(self.longest_by_the_clock, time.monotonic() - self._since)
            self._compare()
        self._since = None

    def grant_calls(self, calls: int) -> None:
        """Give more time for calls to Locket that failed."""
        self._allowed += calls * self._times.retry_interval

    def grant_expiry(self) -> None:
        """Give more time since Locket was restarted: it lets the lock expire only a whole time to live later."""
        self._allowed += self._times.ttl + LATE_EXPIRY

    def wait(self, seconds: float, *, is_held: bool) -> str:
        """Let some seconds pass in which no instance works, and say what is wrong with that.

        Args:
            seconds: Those that count.
            is_held: Whether a running instance holds the lock.
        """
        if self._since is None or (self._was_held and not is_held):
            self._since = self._since or time.monotonic()
            self._seconds, self._allowed, self._is_reported = 0.0, self._allowed_at_first, False
        self._was_held = is_held
        self._seconds += seconds
        if self._seconds <= self._allowed or self._is_reported:
            return ""
        self._is_reported = True
        self._compare()
        return f"nobody has taken over within {self._allowed:.1f} s"

    def _compare(self) -> None:
        if self._seconds / self._allowed > self.longest[0] / self.longest[1]:
            self.longest = self._seconds, self._allowed

    def __str__(self) -> str:
        counted = "taken over within {:.1f} s of {:.1f} s at most".format(*self.longest)
        return f"{counted}, {self.longest_by_the_clock:.1f} s by the clock"
