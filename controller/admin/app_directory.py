"""Finds the names of apps: from their LRPs, and of apps that do not run from Cloud Controller.

A list is read page by page, and each page needs names. So what Cloud Controller has said is remembered for a
moment, also that it does not know an app.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid
from reconcile.selection import AppNames

RECENT = 60.0
"""Seconds for which names of apps that do not run are remembered."""


class RunningApps(Protocol):
    """The LRPs, as far as they name apps."""

    async def name_apps(self) -> Mapping[AppGuid, AppNames]:
        """Read what the apps of all LRPs are chosen by."""


class NamedApps(Protocol):
    """Cloud Controller, as far as it names apps."""

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Ask for the names of apps, of all of Docker when None; those that are not known are missing."""


class AppDirectory:
    """The names of apps."""

    def __init__(self, running: RunningApps, cloud_controller: NamedApps) -> None:
        self._running, self._cloud_controller = running, cloud_controller
        self._stopped: dict[AppGuid, AppNames | None] = {}

    async def names_of(self, apps: Collection[AppGuid]) -> Mapping[AppGuid, AppNames]:
        """Find the names of apps; those of which nobody says any are missing.

        Raises:
            Unavailable: The BBS does not list the LRPs.
        """
        running = await self._running.name_apps()
        missing = [app for app in apps if app not in running and app not in self._stopped]
        if missing:
            await self._ask(missing)
        stopped = {app: self._stopped.get(app) for app in apps}
        return {**{app: names for app, names in stopped.items() if names is not None}, **running}

    async def _ask(self, missing: Collection[AppGuid]) -> None:
        try:
            found = await self._cloud_controller.name_apps(missing)
        except DockerCacheError:  # what is listed has no names then
            return
        answers: dict[AppGuid, AppNames | None] = {**dict.fromkeys(missing), **found}
        self._stopped |= answers
        asyncio.get_running_loop().call_later(RECENT, self._forget, tuple(answers))

    def _forget(self, apps: Collection[AppGuid]) -> None:
        for app in apps:
            self._stopped.pop(app, None)
