"""What the watcher knows: the stagings since it last subscribed, and the LRPs that run from a source.

A staging that begins and ends while nobody listens leaves no trace in the BBS. So what is
known of an app's stagings from before a gap may be out of date, and is asked for again
before an LRP is moved because of it.
"""

from dataclasses import dataclass

from controller.workqueue import WorkQueue
from reconcile.images import ImageReference
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo
from reconcile.records import Binding, CacheRequest


class Coverage:
    """The stagings seen since the last subscription, the newest of each app and source."""

    def __init__(self) -> None:
        self._newest: dict[tuple[AppGuid, ImageReference], int] = {}

    def restart(self) -> None:
        """Begin anew: something may have been missed."""
        self._newest.clear()

    def saw(self, request: CacheRequest) -> None:
        """Note a request for a copy."""
        key = (request.app_guid, request.source)
        self._newest[key] = max(request.staged_at, self._newest.get(key, 0))

    def is_current(self, binding: Binding) -> bool:
        """Whether no later staging of the binding's app can have been missed."""
        newest = self._newest.get((binding.app_guid, binding.source))
        return newest is not None and binding.staged_at >= newest


class LrpIndex:
    """The Docker LRPs that run from their source, by process GUID and by app."""

    def __init__(self) -> None:
        self._tags: dict[ProcessGuid, tuple[ModificationTag, AppGuid]] = {}
        self._of_app: dict[AppGuid, set[ProcessGuid]] = {}

    def __len__(self) -> int:
        return len(self._tags)

    def __contains__(self, process_guid: ProcessGuid) -> bool:
        return process_guid in self._tags

    def put(self, info: SchedulingInfo) -> bool:
        """Note an LRP, and tell whether it is new or has changed."""
        before = self._tags.get(info.process_guid)
        self._tags[info.process_guid] = (info.tag, info.app_guid)
        self._of_app.setdefault(info.app_guid, set()).add(info.process_guid)
        return before is None or before[0] != info.tag

    def remove(self, process_guid: ProcessGuid) -> None:
        """Forget an LRP."""
        known = self._tags.pop(process_guid, None)
        if known is None:
            return
        siblings = self._of_app[known[1]]
        siblings.discard(process_guid)
        if not siblings:
            del self._of_app[known[1]]

    def known(self) -> frozenset[ProcessGuid]:
        """All LRPs that are known now."""
        return frozenset(self._tags)

    def lrps_of(self, app_guid: AppGuid) -> frozenset[ProcessGuid]:
        """The LRPs of one app."""
        return frozenset(self._of_app.get(app_guid, ()))


@dataclass(frozen=True, slots=True)
class Followers:
    """Those who care about cache jobs: the coverage when one is asked for, an app's LRPs when one ends."""

    coverage: Coverage
    index: LrpIndex
    queue: WorkQueue[ProcessGuid]

    def requested(self, request: CacheRequest) -> None:
        """Note a request for a copy."""
        self.coverage.saw(request)

    def ended(self, app_guid: AppGuid) -> None:
        """Look at an app's LRPs again."""
        for process_guid in self.index.lrps_of(app_guid):
            self.queue.add(process_guid)
