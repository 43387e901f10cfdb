"""Remembers what events reported of LRPs that are or recently were being migrated.

A removed LRP cannot be read from the BBS: only events have its newest version, and only they have the cell
of an instance that crashed. The GUIDs of the instances that ran before the removal are remembered too, since
only the GUID distinguishes such an instance from a new one. It runs on where its stop was lost, or where a
late heartbeat of its cell brought it back. Just after it has begun to run it can be stopped again; later its
app would lose it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from reconcile.bridges import bridge_of
from reconcile.lrps import DesiredLrp, ProcessGuid

REMEMBERED_MIGRATIONS = 10_000
"""Migrations whose instances are remembered after they have ended."""

HAS_JUST_BEGUN = 0.5
"""Seconds in which nobody relies on an instance that has begun to run: no router knows it, or hardly."""


class LrpEventCache:
    """Versions of the LRPs that are tracked, and the instances of definitions that were removed.

    Args:
        monotonic: Gives seconds since some moment.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._tracked: dict[ProcessGuid, ProcessGuid] = {}  # LRPs and bridges to the LRP in migration
        self._versions: dict[ProcessGuid, dict[str, DesiredLrp]] = {}
        self._crashed_on: dict[ProcessGuid, set[str]] = {}
        self._stale: OrderedDict[ProcessGuid, dict[str, float | None]] = OrderedDict()  # GUID to its begin

    def track(self, process_guid: ProcessGuid) -> None:
        """Start to remember the versions of an LRP and of its bridge that events report."""
        self._tracked[process_guid] = self._tracked[bridge_of(process_guid)] = process_guid
        self._versions.setdefault(process_guid, {})

    def untrack(self, process_guid: ProcessGuid, instance_guids: frozenset[str] = frozenset()) -> None:
        """Forget an LRP, but remember for a while the instances that ran before it was removed."""
        self._tracked.pop(process_guid, None)
        self._tracked.pop(bridge_of(process_guid), None)
        self._versions.pop(process_guid, None)
        self._crashed_on.pop(process_guid, None)
        if instance_guids:
            self._stale[process_guid] = dict.fromkeys(instance_guids) | self._stale.pop(process_guid, {})
            if len(self._stale) > REMEMBERED_MIGRATIONS:
                self._stale.popitem(last=False)

    def restore(self, stale: Mapping[ProcessGuid, frozenset[str]]) -> None:
        """Remember the instances that an earlier process has remembered."""
        for process_guid, instance_guids in stale.items():
            self.untrack(process_guid, instance_guids)

    def key_of(self, process_guid: ProcessGuid) -> ProcessGuid | None:
        """Name the tracked LRP that has this process GUID or whose bridge has it; None when there is none."""
        return self._tracked.get(process_guid)

    def record(self, lrp: DesiredLrp) -> None:
        """Remember a version of a tracked LRP: the newest of each epoch of its modification tag."""
        versions = self._versions.get(lrp.process_guid)
        if versions is None:
            return
        known = versions.get(lrp.tag.epoch)
        if known is None or lrp.tag.index > known.tag.index:
            versions[lrp.tag.epoch] = lrp

    def record_crash(self, process_guid: ProcessGuid, cell_id: str) -> None:
        """Remember the cell on which an instance of a tracked LRP, or of its bridge, has crashed."""
        tracked = self._tracked.get(process_guid)
        if tracked is not None:
            self._crashed_on.setdefault(tracked, set()).add(cell_id)

    def crashed_on(self, process_guid: ProcessGuid) -> frozenset[str]:
        """Name the cells on which instances of a tracked LRP, or of its bridge, have crashed."""
        return frozenset(self._crashed_on.get(process_guid, ()))

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        """Return the newest version of an LRP that events reported, for each epoch of its tag."""
        return tuple(self._versions.get(process_guid, {}).values())

    def note_begin(self, process_guid: ProcessGuid, instance_guid: str) -> bool:
        """Note that an instance runs, and return whether it ran before its LRP was removed."""
        stale = self._stale.get(process_guid, {})
        if instance_guid not in stale:
            return False
        if stale[instance_guid] is None:
            stale[instance_guid] = self._monotonic()
        return True

    def stale(self, process_guid: ProcessGuid) -> frozenset[str]:
        """Return the GUIDs of instances from before an LRP's removal that have just begun to run again."""
        oldest = self._monotonic() - HAS_JUST_BEGUN
        begins = self._stale.get(process_guid, {})
        return frozenset(guid for guid, at in begins.items() if at is not None and at >= oldest)
