"""Keeps the names and GUIDs of apps, as their tasks and LRPs have them, for lines about their images."""

from collections import OrderedDict
from collections.abc import Mapping

from reconcile.app_log_lines import APP_TAGS
from reconcile.lrps import AppGuid

MOST_APPS = 20_000


def named(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the names in metric tags as log lines have them, empty where they are not known."""
    keys = ("app", "app_name"), ("space", "space_name"), ("organization", "organization_name")
    return {key: tags.get(tag, "") for key, tag in keys}


class AppTags:
    """The tags of the apps that something was noted of last."""

    def __init__(self) -> None:
        self._tags: OrderedDict[AppGuid, Mapping[str, str]] = OrderedDict()

    def note(self, app_guid: AppGuid, tags: Mapping[str, str]) -> None:
        """Note the tags of an app's task or LRP, as far as they say whose it is."""
        self._tags[app_guid] = {name: value for name, value in tags.items() if name in APP_TAGS}
        self._tags.move_to_end(app_guid)
        while len(self._tags) > MOST_APPS:
            self._tags.popitem(last=False)

    def of(self, app_guid: AppGuid) -> Mapping[str, str]:
        """Return what is known of an app, which may be nothing."""
        return self._tags.get(app_guid, {})
