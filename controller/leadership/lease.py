"""Says whether this process may act, to everything that is about to change something outside it."""

import time
from collections.abc import Callable
from math import isinf
from threading import Lock

from reconcile.errors import LeaseLost
from reconcile.lease import Lease, LeaseTimes

_CONFIRMED_WITHIN = 0.8
"""Share of the lease's margin within which the host of a peer must confirm what it was sent."""


def boot_time() -> float:
    """Return the seconds since the machine was started, those that it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ActiveLease:
    """Until when this process may act; used in every thread.

    Args:
        times: Those of the lock.
        clock: Gives seconds that go on while the machine sleeps.
        wall_clock: Gives UTC seconds since 1970.
    """

    def __init__(
        self,
        times: LeaseTimes,
        *,
        clock: Callable[[], float] = boot_time,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.times = times
        self.clock = clock
        self._wall_clock = wall_clock
        self._lease = Lease()
        self._since: float | None = None
        self._changing = Lock()

    @property
    def since(self) -> float | None:
        """When this process became active, in UTC seconds since 1970; None while it never was."""
        return self._since

    @property
    def lost(self) -> str:
        """Why this process may never act again; empty as long as it may."""
        return self._now().lost

    @property
    def has_end(self) -> bool:
        """Whether it ends without a renewal; false where this process needs no lock."""
        return not isinf(self.times.ttl)

    @property
    def confirmed_within(self) -> float | None:
        """Seconds within which a peer's host must confirm what it was sent; None where there is no end."""
        return self.times.margin * _CONFIRMED_WITHIN if self.has_end else None

    @property
    def is_active(self) -> bool:
        """Whether this process may act now."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """Return the seconds for which this process may act; infinite where it needs no lock."""
        return self._now().remaining(self.clock())

    def renewed(self, started_at: float) -> None:
        """Note that the lock was taken or renewed.

        Args:
            started_at: When the request for it was sent, by `clock`.

        Raises:
            LeaseLost: Too late: the lease had ended before.
        """
        with self._changing:
            self._lease = self._lease.renewed(started_at, self.clock(), self.times)
            lost = self._lease.at(self.clock()).lost
            if not lost and self._since is None:
                self._since = self._wall_clock()
        if lost:
            raise LeaseLost(lost)

    def revoke(self, why: str) -> None:
        """End the lease for good."""
        with self._changing:
            self._lease = self._lease.revoked(why)

    def check(self) -> None:
        """Let only an active process go on.

        Raises:
            LeaseLost: This process is not active, or not any more.
        """
        lease = self._now()
        if lease.lost:
            raise LeaseLost(lease.lost)
        if lease.valid_until is None:
            raise LeaseLost("another instance is active, or none yet")

    def _now(self) -> Lease:
        with self._changing:
            self._lease = self._lease.at(self.clock())
            return self._lease


def lease_without_lock() -> ActiveLease:
    """Return the lease of a process that needs no lock: it holds as long as nobody revokes it."""
    lease = ActiveLease(LeaseTimes(ttl=float("inf"), retry_interval=float("inf")))
    lease.renewed(lease.clock())
    return lease
