"""Knows which droplets an app has, which name or are to name a copy, and how far each has come.

It is filled from the records, from builds that were followed and from listings. A droplet that is missing in
it is found by the next listing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid
from reconcile.reasons import AppState, Reason
from reconcile.references import CacheGuid

State = tuple[DropletPhase, Reason]

_SETTLED = frozenset({AppState.CACHED, AppState.SKIPPED})


class DropletIndex:
    """The droplets that are known, by app and by copy."""

    def __init__(self) -> None:
        self._apps: dict[DropletGuid, AppGuid] = {}
        self._copies: dict[DropletGuid, CacheGuid] = {}
        self._states: dict[DropletGuid, State] = {}
        self._of_app: dict[AppGuid, set[DropletGuid]] = {}
        self._of_copy: dict[CacheGuid, set[DropletGuid]] = {}
        self._counts: Counter[State] = Counter()

    def __len__(self) -> int:
        return len(self._apps)

    def __contains__(self, guid: DropletGuid) -> bool:
        return guid in self._apps

    @property
    def counts(self) -> Mapping[State, int]:
        """How many droplets with a record there are in each phase, for each reason."""
        return dict(self._counts)

    def count(self, phase: DropletPhase) -> int:
        """Count the droplets in a phase; scrapes ask in a thread of their own, while counts come and go."""
        return sum(number for (each, _), number in self.counts.items() if each is phase)

    def put(self, guid: DropletGuid, app_guid: AppGuid) -> None:
        """Note that an app has a droplet."""
        if self._apps.get(guid) == app_guid:
            return
        self._leave_app(guid)
        self._apps[guid] = app_guid
        self._of_app.setdefault(app_guid, set()).add(guid)

    def put_record(self, record: DropletRecord) -> None:
        """Note what the record of a droplet says."""
        guid, cache_guid = record.droplet_guid, record.cache_guid if record.may_name_copy else None
        self.put(guid, record.app_guid)
        self._leave_state(guid)
        self._states[guid] = (record.phase, record.reason)
        self._counts[record.phase, record.reason] += 1
        if self._copies.get(guid) == cache_guid:
            return
        self._leave_copy(guid)
        if cache_guid is not None:
            self._copies[guid] = cache_guid
            self._of_copy.setdefault(cache_guid, set()).add(guid)

    def remove(self, guids: Iterable[DropletGuid]) -> None:
        """Forget droplets."""
        for guid in guids:
            self._leave_app(guid)
            self._leave_copy(guid)
            self._leave_state(guid)

    def reason_of(self, guid: DropletGuid) -> Reason | None:
        """Return what the last look at a droplet came to; None when that is not recorded."""
        state = self._states.get(guid)
        return None if state is None else state[1]

    def is_settled(self, guid: DropletGuid) -> bool:
        """Whether a droplet names its copy, or is to stay as it is, whatever becomes of a job."""
        reason = self.reason_of(guid)
        return reason is not None and reason.state in _SETTLED

    def droplets(self) -> frozenset[DropletGuid]:
        """Return all droplets that are known."""
        return frozenset(self._apps)

    def droplets_of_app(self, app_guid: AppGuid) -> frozenset[DropletGuid]:
        """Return the droplets of one app."""
        return frozenset(self._of_app.get(app_guid, ()))

    def droplets_of_copy(self, cache_guid: CacheGuid) -> frozenset[DropletGuid]:
        """Return the droplets that name a copy, or may name it."""
        return frozenset(self._of_copy.get(cache_guid, ()))

    def names(self, cache_guid: CacheGuid) -> bool:
        """Whether a droplet names a copy, or may name it."""
        return cache_guid in self._of_copy

    def copies(self) -> frozenset[CacheGuid]:
        """Return the copies that droplets name, or may name."""
        return frozenset(self._of_copy)

    def _leave_app(self, guid: DropletGuid) -> None:
        app_guid = self._apps.pop(guid, None)
        if app_guid is None:
            return
        siblings = self._of_app[app_guid]
        siblings.discard(guid)
        if not siblings:
            del self._of_app[app_guid]

    def _leave_copy(self, guid: DropletGuid) -> None:
        cache_guid = self._copies.pop(guid, None)
        if cache_guid is None:
            return
        users = self._of_copy[cache_guid]
        users.discard(guid)
        if not users:
            del self._of_copy[cache_guid]

    def _leave_state(self, guid: DropletGuid) -> None:
        state = self._states.pop(guid, None)
        if state is None:
            return
        self._counts[state] -= 1
        if not self._counts[state]:
            del self._counts[state]
