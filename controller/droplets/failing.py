"""Remembers the copies in former private registries that cells cannot pull, until droplets name other copies.

A restart of an app cannot start it from such a copy either. A droplet whose text was replaced never names
the copy again, so a copy is forgotten only when too many are remembered.
"""

from collections import OrderedDict

from reconcile.droplet_actions import Leave
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.references import CacheGuid

MOST = 10_000
"""Maximum number of copies; one that was forgotten is reported again by the next failed start."""


class FailingFormerCopies:
    """The copies that LRPs have left because cells could not pull them, each with the app of the LRP."""

    def __init__(self) -> None:
        self._details: OrderedDict[tuple[AppGuid, CacheGuid], str] = OrderedDict()

    def put(self, app_guid: AppGuid, cache_guid: CacheGuid, detail: str) -> None:
        """Remember what cells said of a copy."""
        self._details[app_guid, cache_guid] = detail
        self._details.move_to_end((app_guid, cache_guid))
        if len(self._details) > MOST:
            self._details.popitem(last=False)

    def why_not_named(self, app_guid: AppGuid, cache_guid: CacheGuid) -> Leave | None:
        """Say why a droplet of an app is to name such a copy no longer; None when nothing is known."""
        detail = self._details.get((app_guid, cache_guid))
        return None if detail is None else Leave(Reason.COPY_NOT_PULLED, detail)
