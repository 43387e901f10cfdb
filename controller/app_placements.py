"""Remembers the placement tags of apps, as listings and events report them with their LRPs."""

from collections.abc import Mapping

from reconcile.lrps import AppGuid


class AppPlacements:
    """The placement tags of apps; those of one app are the same for all its LRPs."""

    def __init__(self) -> None:
        self._tags: dict[AppGuid, frozenset[str]] = {}

    def put(self, app_guid: AppGuid, placement_tags: frozenset[str]) -> None:
        """Note the tags that the LRPs of an app have."""
        if placement_tags:
            self._tags[app_guid] = placement_tags
        else:  # most apps have none
            self._tags.pop(app_guid, None)

    def replace(self, listed: Mapping[AppGuid, frozenset[str]]) -> None:
        """Take over a complete listing."""
        self._tags = {app_guid: tags for app_guid, tags in listed.items() if tags}

    def tags_of(self, app_guid: AppGuid) -> frozenset[str]:
        """Return the tags of an app; none when it has none, or is not known."""
        return self._tags.get(app_guid, frozenset())
