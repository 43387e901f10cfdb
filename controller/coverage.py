"""Remembers the newest staging of each app and source that the watcher saw since it last subscribed.

A staging that begins and ends while the watcher is not subscribed leaves no trace in the BBS. So the
bindings from before such a gap may be out of date, and the daemon requests the copy again before it
migrates an LRP because of one.

What is remembered must never be newer than every binding: no request could satisfy it, and an LRP would ask
for its copy forever. So a staging that failed is forgotten with its binding, and the request of an LRP, which
asks the source registry after all stagings before it, takes their place.
"""

from reconcile.lrps import AppGuid
from reconcile.records import Binding, CacheRequest, is_of_droplet, is_of_lrp
from reconcile.references import ImageReference

MAX_STAGINGS = 16
"""Maximum number of stagings that are remembered of one app and source: the newest. When all of them fail,
the next pass over an LRP requests the copy again."""


class StagingCoverage:
    """The stagings of each app and source since the last subscription that have not failed."""

    def __init__(self) -> None:
        self._stagings: dict[tuple[AppGuid, ImageReference], dict[str, int]] = {}  # requester to time
        self._of_requester: dict[str, tuple[AppGuid, ImageReference]] = {}

    def restart(self) -> None:
        """Forget all stagings, since some may have been missed."""
        self._stagings.clear()
        self._of_requester.clear()

    def record(self, request: CacheRequest) -> None:
        """Remember the staging that a request for a copy came from, or that an LRP has confirmed.

        The staging of a droplet may be an old one, and confirms nothing of later ones.
        """
        if is_of_droplet(request.requester):
            return
        key = (request.app_guid, request.source)
        self.forget(request.requester)
        if is_of_lrp(request.requester):
            for earlier in tuple(self._stagings.get(key, ())):
                self.forget(earlier)
        stagings = self._stagings.setdefault(key, {})
        stagings[request.requester] = request.staged_at
        self._of_requester[request.requester] = key
        if len(stagings) > MAX_STAGINGS:
            self.forget(min(stagings, key=stagings.__getitem__))

    def forget(self, requester: str) -> None:
        """Forget the staging of a requester, since it has failed."""
        key = self._of_requester.pop(requester, None)
        if key is None:
            return
        stagings = self._stagings[key]
        del stagings[requester]
        if not stagings:
            del self._stagings[key]

    def is_current(self, binding: Binding) -> bool:
        """Whether the binding is from the newest staging: the watcher cannot have missed a later one."""
        stagings = self._stagings.get((binding.app_guid, binding.source))
        return stagings is not None and binding.staged_at >= max(stagings.values())
