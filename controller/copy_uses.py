"""Lists the LRPs that run from copies, by process GUID and by copy."""

from collections.abc import Mapping

from reconcile.lrps import ProcessGuid
from reconcile.references import CacheGuid


class CopyUses:
    """Which LRP runs from which copy, as events and listings have reported it."""

    def __init__(self) -> None:
        self._copies: dict[ProcessGuid, CacheGuid] = {}
        self._lrps: dict[CacheGuid, set[ProcessGuid]] = {}

    def put(self, process_guid: ProcessGuid, cache_guid: CacheGuid) -> None:
        """Note that an LRP runs from a copy, and from no other."""
        if self._copies.get(process_guid) != cache_guid:
            self.remove(process_guid)
            self._copies[process_guid] = cache_guid
            self._lrps.setdefault(cache_guid, set()).add(process_guid)

    def remove(self, process_guid: ProcessGuid) -> None:
        """Note that an LRP runs from no copy, or is not desired."""
        cache_guid = self._copies.pop(process_guid, None)
        if cache_guid is None:
            return
        users = self._lrps[cache_guid]
        users.discard(process_guid)
        if not users:
            del self._lrps[cache_guid]

    def replace(
        self, listed: Mapping[ProcessGuid, CacheGuid], *, known_before: frozenset[ProcessGuid]
    ) -> None:
        """Take over a complete listing.

        Args:
            listed: The LRPs that run from copies.
            known_before: Those that were known when the listing began: events may have reported others since.
        """
        for gone in known_before - listed.keys():
            self.remove(gone)
        for process_guid, cache_guid in listed.items():
            self.put(process_guid, cache_guid)

    def copy_of(self, process_guid: ProcessGuid) -> CacheGuid | None:
        """Return the copy that an LRP runs from."""
        return self._copies.get(process_guid)

    def lrps_of(self, cache_guid: CacheGuid) -> frozenset[ProcessGuid]:
        """Return the LRPs that run from a copy."""
        return frozenset(self._lrps.get(cache_guid, ()))

    def process_guids(self) -> frozenset[ProcessGuid]:
        """Return all LRPs that run from copies."""
        return frozenset(self._copies)

    def copies(self) -> frozenset[CacheGuid]:
        """Return the copies that LRPs run from."""
        return frozenset(self._lrps)
