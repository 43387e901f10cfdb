"""What a process says of its part in the leadership: to health checks, to operators, and in its status."""

from collections.abc import Callable
from dataclasses import dataclass

from controller.leadership.lease import ActiveLease
from controller.leadership.ports import Holder


@dataclass(frozen=True, slots=True)
class Position:
    """The part of a process in the leadership at one moment.

    Attributes:
        instance_id: Of this process.
        is_active: Whether it may act.
        since: When it became active, in UTC seconds since 1970; None while it never was.
        lease: Seconds for which it may act without a further renewal; infinite where it needs no lock.
        holder: Who is active instead, as far as that is known.
        obstacle: Why it is not ready; empty when it is active and does its work.
    """

    instance_id: str
    is_active: bool
    since: float | None
    lease: float
    holder: Holder | None
    obstacle: str


class Standing:
    """Follows what this process waits for until it is active and ready; read from every thread.

    Args:
        instance_id: Of this process.
        lease: Of this process.
        holder: Names who is active instead; None when that is not known.
    """

    def __init__(
        self, instance_id: str, lease: ActiveLease, holder: Callable[[], Holder | None] = lambda: None
    ) -> None:
        self._instance_id = instance_id
        self._lease = lease
        self._holder = holder
        self._stage = "it is starting"
        self._obstacles = list[Callable[[], str]]()

    def reach(self, stage: str) -> None:
        """Note what this process does now, such as "it waits for the lock"; empty when its loops run."""
        self._stage = stage

    def add_obstacle(self, obstacle: Callable[[], str]) -> None:
        """Be not ready while a function returns why; it returns an empty text when nothing is in the way."""
        self._obstacles.append(obstacle)

    @property
    def position(self) -> Position:
        """The part of this process now."""
        is_active, holder = self._lease.is_active, self._holder()
        return Position(
            self._instance_id,
            is_active,
            self._lease.since,
            self._lease.remaining(),
            None if is_active else holder,
            self._obstacle(holder),
        )

    def _obstacle(self, holder: Holder | None) -> str:
        if self._lease.lost:
            return f"it is not active any more: {self._lease.lost}"
        if not self._lease.is_active and holder is not None:
            return f"it stands by: {holder} is active"
        return next(filter(None, (obstacle() for obstacle in self._obstacles)), self._stage)
