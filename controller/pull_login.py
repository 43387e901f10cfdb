"""Follows the file with the password that cells have at the private registry, and reports each change."""

import asyncio
from collections.abc import Callable

import structlog

from controller.file_values import FileValue
from reconcile.lrps import Credentials

log = structlog.get_logger(scope="pull-login")

CHECK_INTERVAL = 5.0
"""Seconds between two looks at the file."""


class PullLogin:
    """Looks whether the login of cells has changed.

    Args:
        login: None when cells need no login.
        report: Is given each new login.
    """

    def __init__(self, login: FileValue[Credentials] | None, report: Callable[[Credentials], None]) -> None:
        self._login, self._report = login, report
        self._known = None if login is None else login.known

    async def run(self) -> None:
        """Look at an interval forever."""
        if self._login is None:
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            found = await self._login.follow()
            if found != self._known:
                self._known = found
                log.info("login-changed", username=found.username)
                self._report(found)
