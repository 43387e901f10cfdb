"""Makes the few calls of Cloud Controller's API that droplets need, with values as arguments and results.

Source: cloud_controller_ng docs/v3 and app/controllers/v3/{builds,droplets,packages}_controller.rb.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import httpx

from controller.capi import messages
from controller.capi.api_calls import ApiCalls
from controller.capi.app_names import name_apps
from controller.capi.capi_errors import SYSTEM, effect_unknown
from controller.capi.discovery import ApiRoot, find_uaa, read_root
from controller.capi.documents import JsonObject
from controller.capi.exchanges import Exchanges
from controller.capi.gate import RequestGate
from controller.capi.origin import parse_origin
from controller.capi.pages import list_all, total_of
from controller.capi.settings import CapiSettings, Clocks
from controller.capi.state import ApiObserver, ApiState, NullApiObserver
from controller.capi.uaa import UaaToken, UaaTokens
from controller.transport import Tls, open_calls
from reconcile.cloud_controller_status import ApiCall, CloudControllerStatus
from reconcile.droplets import (
    STAGED,
    Build,
    BuildGuid,
    Droplet,
    DropletGuid,
    Package,
    PackageGuid,
)
from reconcile.errors import Invalid, NotFound
from reconcile.lease import always
from reconcile.lrps import AppGuid
from reconcile.selection import AppNames

APPS_PER_LIST = 50
"""GUIDs of apps in one request, whose line would become too long for proxies."""


@dataclass(frozen=True, slots=True)
class CloudController:
    """Makes the calls; see `reconcile.droplet_ports.CloudControllerApi` for their errors."""

    calls: ApiCalls

    def background(self) -> Self:
        """Return the same API, whose requests wait for the background's share of the budget."""
        return replace(self, calls=self.calls.for_background())

    def status(self) -> CloudControllerStatus:
        """Return how Cloud Controller has answered so far."""
        return self.calls.state.status()

    async def fetch_root(self) -> ApiRoot:
        """Read the root of the API, which needs no token and counts for no limit."""
        return await read_root(self.calls.exchanges, self.calls.api_url)

    async def fetch_token(self) -> UaaToken:
        """Fetch a token, unless there is one."""
        return await self.calls.tokens.token()

    async def count_droplets(self) -> int:
        """Count the staged droplets that the client can see."""
        params = {"states": STAGED, "per_page": "1"}
        return total_of(await self.calls.read(ApiCall.LIST_DROPLETS, "/v3/droplets", params))

    async def find_build(self, guid: BuildGuid) -> Build | None:
        """Read one build; it may have been deleted since."""
        found = await self._find(ApiCall.FIND_BUILD, "/v3/builds/{}", guid)
        return None if found is None else messages.build_from_json(found)

    async def find_droplet(self, guid: DropletGuid) -> Droplet | None:
        """Read one droplet."""
        found = await self._find(ApiCall.FIND_DROPLET, "/v3/droplets/{}", guid)
        return None if found is None else messages.droplet_from_json(found)

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        """Read the droplet that an app is started from; None when it has none, or there is no such app."""
        found = await self._find(ApiCall.FIND_CURRENT_DROPLET, "/v3/apps/{}/droplets/current", app_guid)
        return None if found is None else messages.droplet_from_json(found)

    async def find_package(self, guid: PackageGuid) -> Package | None:
        """Read one package."""
        found = await self._find(ApiCall.FIND_PACKAGE, "/v3/packages/{}", guid)
        return None if found is None else messages.package_from_json(found)

    async def update_image(self, guid: DropletGuid, image: str) -> Droplet:
        """Write the image text of a droplet, which must be staged and of Docker; it is not checked.

        Raises:
            NotFound: There is no such droplet.
            Unavailable: Also for a droplet in any other state, which Cloud Controller answers as a failure of
                its own, and for an answer that is not understood; `may_have_happened` where it may be
                written.
        """
        if not messages.is_guid(guid):
            raise NotFound(SYSTEM, "no-guid", f"{guid} is no GUID of a droplet")
        changed = await self.calls.change(ApiCall.UPDATE_IMAGE, f"/v3/droplets/{guid}", {"image": image})
        try:
            return messages.droplet_from_json(changed)
        except Invalid as error:
            raise effect_unknown(error) from error

    async def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        """List the staged droplets of Docker, of some apps or of all, the newest first, page by page.

        One may come twice when others are created or deleted meanwhile.
        """
        for filters in _filters_of(app_guids) if app_guids else ({},):
            listed = list_all(
                self.calls, ApiCall.LIST_DROPLETS, "/v3/droplets", {"states": STAGED, **filters}
            )
            async for item in listed:
                droplet = messages.droplet_from_json(item)
                if droplet.is_docker and droplet.is_staged:
                    yield droplet

    async def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        """List the builds of some apps, the newest first for each fifty apps, page by page."""
        for filters in _filters_of(app_guids):
            async for item in list_all(self.calls, ApiCall.LIST_BUILDS, "/v3/builds", filters):
                yield messages.build_from_json(item)

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Read what apps are chosen by, all of Docker when no GUIDs are given; hidden ones are missing."""
        return await name_apps(self.calls, app_guids)

    async def _find(self, call: ApiCall, path: str, guid: str) -> JsonObject | None:
        if not messages.is_guid(guid):
            return None
        try:
            return await self.calls.read(call, path.format(guid))
        except NotFound:
            return None


def _filters_of(app_guids: Collection[AppGuid]) -> Iterator[dict[str, str]]:
    guids = [each for each in app_guids if messages.is_guid(each)]
    for start in range(0, len(guids), APPS_PER_LIST):
        yield {"app_guids": ",".join(guids[start : start + APPS_PER_LIST])}


@asynccontextmanager
async def open_capi(
    settings: CapiSettings,
    *,
    tls: Tls,
    check_active: Callable[[], None] = always,
    observer: ApiObserver | None = None,
    clocks: Clocks = Clocks(),  # noqa: B008 - a frozen value
) -> AsyncIterator[CloudController]:
    """Open a client; nothing is sent yet.

    Args:
        settings: See there.
        tls: See `controller.transport`.
        check_active: Raises `LeaseLost` when this process must not ask anything any more.
        observer: Is told how requests end.
        clocks: See there.

    Raises:
        Invalid: The URL of the API is none.
    """
    parse_origin(settings.api_url)
    async with open_calls(
        settings.api_url, tls=tls, timeout=settings.timeout, unacknowledged=settings.unacknowledged
    ) as http:
        yield client_over(http, settings, check_active=check_active, observer=observer, clocks=clocks)


def client_over(
    http: httpx.AsyncClient,
    settings: CapiSettings,
    *,
    check_active: Callable[[], None] = always,
    observer: ApiObserver | None = None,
    clocks: Clocks = Clocks(),  # noqa: B008 - a frozen value
) -> CloudController:
    """Make a client that sends its requests through a connection pool; see `open_capi`."""
    api_observer = NullApiObserver() if observer is None else observer
    exchanges = Exchanges(http, settings.timeout, check_active, api_observer.answered)
    tokens = UaaTokens(
        exchanges, partial(find_uaa, exchanges, settings.api_url), settings.client, clocks.monotonic
    )
    gate = RequestGate(settings.budget, clocks)
    state = ApiState(
        settings,
        gate=gate,
        tokens=tokens,
        wall_clock=clocks.wall,
        observer=api_observer,
    )
    calls = ApiCalls(exchanges, settings.api_url, tokens, gate, state, per_page=settings.per_page)
    return CloudController(calls)
