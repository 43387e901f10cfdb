"""Lists the Docker LRPs that run from their source, by process GUID and by app."""

from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo


class LrpIndex:
    """The Docker LRPs that run from their source, as events and listings have reported them."""

    def __init__(self) -> None:
        self._tags: dict[ProcessGuid, tuple[ModificationTag, AppGuid]] = {}
        self._of_app: dict[AppGuid, set[ProcessGuid]] = {}

    def __contains__(self, process_guid: ProcessGuid) -> bool:
        return process_guid in self._tags

    def put(self, info: SchedulingInfo) -> bool:
        """Add an LRP, or its newer version, and tell whether it is new or has changed."""
        before = self._tags.get(info.process_guid)
        self._tags[info.process_guid] = (info.tag, info.app_guid)
        self._of_app.setdefault(info.app_guid, set()).add(info.process_guid)
        return before is None or before[0] != info.tag

    def remove(self, process_guid: ProcessGuid) -> None:
        """Remove an LRP, if it is there."""
        known = self._tags.pop(process_guid, None)
        if known is None:
            return
        siblings = self._of_app[known[1]]
        siblings.discard(process_guid)
        if not siblings:
            del self._of_app[known[1]]

    def process_guids(self) -> frozenset[ProcessGuid]:
        """Return the process GUIDs of all LRPs in the index."""
        return frozenset(self._tags)

    def lrps_of(self, app_guid: AppGuid) -> frozenset[ProcessGuid]:
        """Return the process GUIDs of one app's LRPs."""
        return frozenset(self._of_app.get(app_guid, ()))
