"""Limits the bytes that failed copies of one organization may transfer in a day.

What was sent to the private registry for a copy that then failed may lie there until its garbage collection,
and whoever runs a source can let copies fail as often as they are tried. Pure: the caller brings the clock.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

DAY = 86_400.0
_PART = 3600.0
"""Seconds whose bytes are counted together."""

MOST_ORGANIZATIONS = 1000
"""Organizations whose failed bytes are remembered; the one that failed least recently is forgotten."""


@dataclass(frozen=True, slots=True)
class FailedBytes:
    """The bytes that one organization's failed copies have transferred, by the hour.

    Attributes:
        parts: Beginning of each hour with its bytes, the oldest first.
    """

    parts: tuple[tuple[float, int], ...] = ()

    def added(self, size: int, now: float) -> "FailedBytes":
        """Count the bytes of a copy that has failed; a negative size takes those of another back."""
        begun = now - now % _PART
        kept = [(at, count) for at, count in self.parts if 0 <= now - at < DAY]
        before = sum(count for at, count in kept if at == begun)
        return replace(
            self, parts=(*((at, count) for at, count in kept if at != begun), (begun, before + size))
        )

    def seconds_until_below(self, budget: int, now: float) -> float:
        """Count the seconds until a day's failed copies transferred less than the budget; 0 when it is so."""
        kept = [(at, count) for at, count in self.parts if 0 <= now - at < DAY]
        left = sum(count for _, count in kept)
        for at, count in kept:
            if left < budget:
                return 0.0
            left -= count
            if left < budget:
                return at + DAY - now
        return 0.0


class FailedBytesBudget:
    """What the organizations' failed copies have transferred, and who must wait for it.

    Args:
        budget: Bytes of one organization and day.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._organizations: OrderedDict[str, FailedBytes] = OrderedDict()

    def add(self, organizations: frozenset[str], size: int, now: float) -> None:
        """Count the bytes of a copy that has failed, for all who asked for it; see `FailedBytes.added`."""
        for name in organizations:
            self._organizations[name] = self._organizations.get(name, FailedBytes()).added(size, now)
            self._organizations.move_to_end(name)
        while len(self._organizations) > MOST_ORGANIZATIONS:
            self._organizations.popitem(last=False)

    def seconds_until_allowed(self, organizations: frozenset[str], now: float) -> float:
        """Count the seconds until a copy may be made: as soon as one of those who ask for it may have one."""
        waits = (
            self._organizations.get(name, FailedBytes()).seconds_until_below(self.budget, now)
            for name in organizations
        )
        return min(waits, default=0.0)
