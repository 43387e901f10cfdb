"""Remembers which stagings were seen since the watcher last subscribed, the newest of each app and source.

A staging that begins and ends while nobody listens leaves no trace in the BBS. What is known of an app's
stagings from before a gap may therefore be out of date, and is asked for again before an LRP is migrated
because of it.
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
        """Remember a request for a copy."""
        key = (request.app_guid, request.source)
        self._newest[key] = max(request.staged_at, self._newest.get(key, 0))

    def is_current(self, binding: Binding) -> bool:
        """Whether no later staging of the binding's app can have been missed."""
        newest = self._newest.get((binding.app_guid, binding.source))
        return newest is not None and binding.staged_at >= newest
