"""Until when an instance that holds the lock may act.

A lock service lets another instance have the lock no earlier than its time to live after it got the last
renewal, and it got that after the renewal was sent. So an instance that acts no longer than that, counted
from the sending and less a margin, never acts beside another. The margin is for requests that are under way
when the time is up, and for clocks that do not run at the same rate.

Once a lease has ended it never begins anew: another instance may have held the lock in between, and no lock
service tells that.
"""

from dataclasses import dataclass, replace

MARGIN = 0.2
"""Share of a lock's time to live."""


def always() -> None:
    """Let everything be done: there is no other process."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times of a lock.

    Attributes:
        ttl: Seconds after its last renewal until another instance can have it.
        retry_interval: Seconds from the start of a renewal to that of the next one, and the longest that one
            may take.
    """

    ttl: float
    retry_interval: float

    @property
    def margin(self) -> float:
        """Seconds before the end of the time to live from which nothing is done any more."""
        return self.ttl * MARGIN

    @property
    def length(self) -> float:
        """Seconds for which a renewal lets an instance act, from when it was sent."""
        return self.ttl * (1 - MARGIN)

    @property
    def can_be_kept(self) -> bool:
        """Whether a lease outlasts the next renewal, though both that and the last one take their time."""
        return 0 < self.retry_interval * 2 < self.length


@dataclass(frozen=True, slots=True)
class Lease:
    """What an instance knows of its right to act.

    Attributes:
        valid_until: By the clock that does not stand still; None before it first held the lock.
        lost: Why it may never act again; empty as long as it may.
    """

    valid_until: float | None = None
    lost: str = ""

    def remaining(self, now: float) -> float:
        """Return the seconds for which the instance may still act; 0 where it may not."""
        if self.lost or self.valid_until is None:
            return 0.0
        return max(0.0, self.valid_until - now)

    def at(self, now: float) -> "Lease":
        """Return the lease as it is at a moment: one that has run out is lost."""
        if self.lost or self.valid_until is None or now < self.valid_until:
            return self
        return self.revoked(
            f"the lock was not renewed in time: the lease ended {now - self.valid_until:.1f} s ago"
        )

    def revoked(self, why: str) -> "Lease":
        """Return the lease without any right to act; the first reason stays."""
        return self if self.lost else replace(self, lost=why)

    def renewed(self, started_at: float, now: float, times: LeaseTimes) -> "Lease":
        """Return the lease after the lock was taken or renewed.

        Args:
            started_at: When the request was sent.
            now: When it was answered.
            times: Those of the lock.
        """
        before = self.at(now)
        if before.lost:
            return before
        until = started_at + times.length
        return replace(
            before, valid_until=until if before.valid_until is None else max(until, before.valid_until)
        )
