"""Remembers the newest staging of each app and source that the watcher saw since it last subscribed.

A staging that begins and ends while the watcher is not subscribed leaves no trace in the BBS. So the
bindings from before such a gap may be out of date, and the daemon requests the copy again before it
migrates an LRP because of one.
"""

from reconcile.lrps import AppGuid
from reconcile.records import Binding, CacheRequest
from reconcile.references import ImageReference


class StagingCoverage:
    """The newest staging of each app and source since the last subscription."""

    def __init__(self) -> None:
        self._newest: dict[tuple[AppGuid, ImageReference], int] = {}

    def restart(self) -> None:
        """Forget all stagings, since some may have been missed."""
        self._newest.clear()

    def record(self, request: CacheRequest) -> None:
        """Remember the staging that a request for a copy came from."""
        key = (request.app_guid, request.source)
        self._newest[key] = max(request.staged_at, self._newest.get(key, 0))

    def is_current(self, binding: Binding) -> bool:
        """Whether the binding is from the newest staging: the watcher cannot have missed a later one."""
        newest = self._newest.get((binding.app_guid, binding.source))
        return newest is not None and binding.staged_at >= newest
