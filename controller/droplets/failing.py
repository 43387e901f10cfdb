"""Remembers which copies in former private registries cells cannot pull, until their droplets name others.

What an LRP could not be started from no restart of its app can be started from either. A droplet that names
such a copy never names it again once it has another text, so nothing is to be forgotten for its sake.
"""

from collections import OrderedDict

from reconcile.droplet_actions import Leave
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.references import CacheGuid

MOST = 10_000
"""Copies that are remembered; of the oldest of more, the next failed start tells again."""


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
