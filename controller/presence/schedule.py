"""Decides which copy is looked for next, and when, so that all are, and the registry is asked evenly.

The pause between two looks follows from the number of copies: all of them are looked for within the interval,
never in a burst, and never faster than the private registry is to be asked, however many there are. Then the
interval becomes longer.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconcile.copying_ports import CheckDepth
from reconcile.records import CopyCheck
from reconcile.references import CacheGuid

MAX_REQUESTS_PER_SECOND = 5.0
"""Requests that the schedule sends to the private registry on average, at most."""

REQUESTS_FOR_BLOBS = 12
"""Requests that a look at the blobs of a copy of ordinary size takes."""

PAUSE_AFTER_BLOBS = 1.0
"""Seconds after such a look, at least."""

LONGEST_PAUSE = 60.0
"""Seconds between two looks, at most: few copies are not all that far apart."""

_SHARE_OF_INTERVAL = 0.8
"""The part of the interval within which all copies are looked for, so that delays can be caught up with."""

_JITTER = 0.15
"""The part of an interval by which a look may come early."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between two looks at one copy.

    Attributes:
        copies: For its manifest.
        blobs: For its blobs.
    """

    copies: float
    blobs: float


@dataclass(frozen=True, slots=True)
class DueLook:
    """The next look.

    Attributes:
        wait: Seconds until it is due; 0 or less when it is.
    """

    cache_guid: CacheGuid
    depth: CheckDepth
    wait: float


class Schedule:
    """When each copy was last looked for, and is due again.

    Args:
        intervals: Between two looks at one copy.
        random_part: Gives a number between 0 and 1.
    """

    def __init__(self, intervals: Intervals, *, random_part: Callable[[], float] = random.random) -> None:
        self._intervals, self._random = intervals, random_part
        self._due: list[tuple[float, CacheGuid]] = []
        self._due_at: dict[CacheGuid, float] = {}
        self._blobs_due_at: dict[CacheGuid, float] = {}
        self._no_blobs_before = 0.0
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._due_at)

    def has_new(self, in_use: Iterable[CacheGuid]) -> bool:
        """Whether copies are in use that are not followed yet."""
        return any(guid not in self._due_at for guid in in_use)

    def follow(self, in_use: Iterable[CacheGuid], known: Mapping[CacheGuid, CopyCheck], now: float) -> None:
        """Take over which copies are in use, with what was last seen of those that are new here."""
        wanted = frozenset(in_use)
        for gone in self._due_at.keys() - wanted:
            del self._due_at[gone], self._blobs_due_at[gone]
        for new in wanted - self._due_at.keys():
            self.looked(known.get(new, CopyCheck(new)), now)

    def looked(self, check: CopyCheck, now: float) -> None:
        """Take over when a copy was last looked for. A time in the future is none: the clock was changed."""
        guid = check.cache_guid
        seen, blobs_seen = (at if at <= now else 0.0 for at in (check.checked_at, check.blobs_checked_at))
        self._due_at[guid] = seen + self._varied(self._intervals.copies)
        self._blobs_due_at[guid] = blobs_seen + self._varied(self._intervals.blobs)
        heapq.heappush(self._due, (self._due_at[guid], guid))

    def next_look(self, now: float) -> DueLook | None:
        """Return the look that is due first; None when no copy is in use."""
        if now < self._now:
            self._set_back(self._now - now)
        self._now = now
        while self._due:
            at, guid = self._due[0]
            if self._due_at.get(guid) == at:
                is_blobs_due = max(self._blobs_due_at[guid], self._no_blobs_before) <= now
                return DueLook(guid, CheckDepth.BLOBS if is_blobs_due else CheckDepth.MANIFEST, at - now)
            heapq.heappop(self._due)  # it is not in use any more, or was looked for since
        return None

    def _set_back(self, seconds: float) -> None:
        """Keep what is due as far away as it was, since the clock was set back."""
        self._no_blobs_before -= seconds
        for guid in self._due_at:
            self._due_at[guid] -= seconds
            self._blobs_due_at[guid] -= seconds
        self._due = [(at, guid) for guid, at in self._due_at.items()]
        heapq.heapify(self._due)

    def pause_after(self, depth: CheckDepth, now: float) -> float:
        """Return the seconds until another look may follow, with jitter.

        Looks at blobs are spread by themselves, so that they never delay all others.
        """
        copies = max(len(self), 1)
        even, least = _SHARE_OF_INTERVAL * self._intervals.copies / copies, 1 / MAX_REQUESTS_PER_SECOND
        if depth is not CheckDepth.MANIFEST:
            apart = min(_SHARE_OF_INTERVAL * self._intervals.blobs / copies, LONGEST_PAUSE)
            self._no_blobs_before = now + max(apart, REQUESTS_FOR_BLOBS / MAX_REQUESTS_PER_SECOND)
            least = PAUSE_AFTER_BLOBS
        return max(min(even, LONGEST_PAUSE), least) * (0.75 + self._random() / 2)

    def _varied(self, seconds: float) -> float:
        return seconds * (1 - _JITTER * self._random())
