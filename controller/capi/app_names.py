"""Reads the names of apps, of their spaces and their organizations: three short lists.

Source: cloud_controller_ng docs/v3, "List apps", "List spaces", "List organizations".
"""

from collections.abc import AsyncIterator, Collection, Iterator

from controller.capi import messages
from controller.capi.api_calls import ApiCalls
from controller.capi.documents import JsonObject
from controller.capi.messages import NamedResource
from controller.capi.pages import list_all
from reconcile.cloud_controller_status import ApiCall
from reconcile.lrps import AppGuid
from reconcile.selection import AppNames, Owner

NAMED_AT_ONCE = 50
"""Maximum number of GUIDs in one request, whose line would become too long for proxies."""

MOST_NAMED = 500
"""Maximum number of GUIDs that are asked for by name; for more the whole list is read."""


async def name_apps(calls: ApiCalls, app_guids: Collection[AppGuid] | None) -> dict[AppGuid, AppNames]:
    """Read the names of some apps, or of all Docker apps; apps that the client may not read are missing."""
    apps = await _list(calls, ApiCall.LIST_APPS, "/v3/apps", app_guids)
    spaces = await _list(calls, ApiCall.LIST_SPACES, "/v3/spaces", {each.parent for each in apps.values()})
    organizations = await _list(
        calls, ApiCall.LIST_ORGANIZATIONS, "/v3/organizations", {each.parent for each in spaces.values()}
    )
    names = dict[AppGuid, AppNames]()
    for app in apps.values():
        space = spaces.get(app.parent, NamedResource("", "", ""))
        organization = organizations.get(space.parent, NamedResource("", "", ""))
        owner = Owner(organization.name, space.name, app.name)
        names[AppGuid(app.guid)] = AppNames((app.guid,), owner, organization.guid, space.guid)
    return names


async def _list(
    calls: ApiCalls, call: ApiCall, path: str, guids: Collection[str] | None
) -> dict[str, NamedResource]:
    found = dict[str, NamedResource]()
    for filters in _filters_of(call, guids):
        listed: AsyncIterator[JsonObject] = list_all(calls, call, path, filters)
        async for item in listed:
            resource = messages.named_resource_from_json(item)
            found[resource.guid] = resource
    return found


def _filters_of(call: ApiCall, guids: Collection[str] | None) -> Iterator[dict[str, str]]:
    wanted = None if guids is None else sorted(filter(messages.is_guid, guids))
    if wanted is not None and len(wanted) <= MOST_NAMED:
        for start in range(0, len(wanted), NAMED_AT_ONCE):
            yield {"guids": ",".join(wanted[start : start + NAMED_AT_ONCE])}
        return
    yield {"lifecycle_type": messages.DOCKER} if call is ApiCall.LIST_APPS else {}
