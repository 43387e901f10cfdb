"""What events told of LRPs that are being replaced, or were lately.

An LRP that was removed cannot be read any more: its newest version stands in the events alone. And
an instance that outlived its definition is known only by its GUID, from before the removal.
"""

from collections import OrderedDict

from reconcile.bridges import bridge_of
from reconcile.lrps import DesiredLrp, ProcessGuid

REMEMBERED_MIGRATIONS = 10_000
"""Migrations whose instances are remembered after they have ended."""


class EventCache:
    """Versions of the LRPs that are followed, and the instances of definitions that were removed."""

    def __init__(self) -> None:
        self._keys: dict[ProcessGuid, ProcessGuid] = {}
        self._versions: dict[ProcessGuid, dict[str, DesiredLrp]] = {}
        self._stale: OrderedDict[ProcessGuid, frozenset[str]] = OrderedDict()

    def follow(self, process_guid: ProcessGuid) -> None:
        """Begin to remember what is told of an LRP and of its bridge."""
        self._keys[process_guid] = self._keys[bridge_of(process_guid)] = process_guid
        self._versions.setdefault(process_guid, {})

    def unfollow(self, process_guid: ProcessGuid, instance_guids: frozenset[str] = frozenset()) -> None:
        """Forget an LRP, but not the instances that ran before it was removed."""
        self._keys.pop(process_guid, None)
        self._keys.pop(bridge_of(process_guid), None)
        self._versions.pop(process_guid, None)
        if instance_guids:
            self._stale[process_guid] = instance_guids | self._stale.pop(process_guid, frozenset())
            if len(self._stale) > REMEMBERED_MIGRATIONS:
                self._stale.popitem(last=False)

    def key_of(self, process_guid: ProcessGuid) -> ProcessGuid | None:
        """Name the LRP that something told of a process GUID is about; None for one that is not followed."""
        return self._keys.get(process_guid)

    def saw(self, lrp: DesiredLrp) -> None:
        """Remember a version of an LRP that is followed; of each of its lives the newest."""
        versions = self._versions.get(lrp.process_guid)
        if versions is None:
            return
        known = versions.get(lrp.tag.epoch)
        if known is None or lrp.tag.index > known.tag.index:
            versions[lrp.tag.epoch] = lrp

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        """Give the newest version of each life of an LRP that an event told of."""
        return tuple(self._versions.get(process_guid, {}).values())

    def stale(self, process_guid: ProcessGuid) -> frozenset[str]:
        """Give the GUIDs of instances that ran before an LRP was removed."""
        return self._stale.get(process_guid, frozenset())
