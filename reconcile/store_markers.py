"""Says which store a daemon on the BBS works with: a domain that is named for the store and kept fresh.

Two daemons that share a store exclude each other by its lock. Two with stores of their own would undo each
other's migrations; each sees the other's marker, and only one whose marker alone is fresh changes anything.

Whoever wants to begin looks, writes its own marker, and looks again. Of two that do so at once, the later to
write sees the other, so at most one of them begins. While a daemon works, its marker is only ever prolonged:
a request that is late can make it last longer, and never shorter, than its owner believes. One that ends
with nothing left to continue lets it expire at once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NewType

StoreId = NewType("StoreId", str)
"""A UUID in its usual form, made once for each store and kept in its backups."""

MARKER_TTL = 120
"""Seconds for which a marker is made fresh at a time, and after which a lost store's marker is gone."""

REFRESH_INTERVAL = MARKER_TTL / 4
"""Seconds between two refreshes."""

LOOK_INTERVAL = 5.0
"""Seconds between two looks while another marker is fresh, or the BBS does not answer."""

MARGIN = 30.0
"""Seconds for which a marker is fresh and not relied on: a call that was begun ends, and clocks differ."""

PATIENCE = MARKER_TTL + REFRESH_INTERVAL
"""Seconds after which a marker that is still fresh has been refreshed since: its daemon runs."""

COURTESY = 4 * LOOK_INTERVAL
"""Seconds that the store with the greater id waits longer after two have begun at once, so that they do not
do the same again and again."""

_PREFIX = "docker-cache-store-"
_MARKER = re.compile(rf"{_PREFIX}([0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}})")


def marker_of(store: StoreId) -> str:
    """Name the domain that marks a store."""
    return f"{_PREFIX}{store}"


def marked_stores(domains: Iterable[str]) -> frozenset[StoreId]:
    """Find the stores whose markers are among the fresh domains; a domain of another form is no marker."""
    found = (_MARKER.fullmatch(domain) for domain in domains)
    return frozenset(StoreId(match[1]) for match in found if match is not None)


@dataclass(frozen=True, slots=True)
class MarkerView:
    """What a daemon knows of the markers on the BBS; times are of one clock that also runs while it sleeps.

    Attributes:
        valid_until: Until when it relies on its own marker; 0 while it has none.
        others: The other stores whose markers were fresh when it looked last.
        others_since: Since when it has seen others at each look.
    """

    valid_until: float = 0.0
    others: frozenset[StoreId] = frozenset()
    others_since: float = 0.0

    def has_claim(self, now: float) -> bool:
        """Whether its own marker has been fresh without a gap since it began, whoever else is there."""
        return now < self.valid_until

    def may_change(self, now: float) -> bool:
        """Whether it may change anything on the BBS."""
        return self.has_claim(now) and not self.others

    def looked(self, others: frozenset[StoreId], now: float) -> "MarkerView":
        """Return the view after a look."""
        since = self.others_since if self.others else now
        return MarkerView(self.valid_until, others, since if others else 0.0)

    def marked(self, started_at: float) -> "MarkerView":
        """Return the view after its own marker was written, by a call that started at that time."""
        return replace(self, valid_until=started_at + MARKER_TTL - MARGIN)

    def without_claim(self) -> "MarkerView":
        """Return the view of one that stands by."""
        return replace(self, valid_until=0.0)

    def must_give_way(self, own: StoreId, now: float) -> bool:
        """Whether one that has a claim gives it up, since another daemon, which runs, has one as well.

        A daemon that has only tried to begin does not refresh its marker, so that is gone before.
        """
        return bool(self.others) and min(self.others) < own and now - self.others_since > PATIENCE
