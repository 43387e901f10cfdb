"""Compares what the daemon says of apps in a chaos run with what they run from."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from controller.admin.request_options import Filters
from reconcile.errors import DockerCacheError
from tests.daemon.chaos.cold_starts import ColdStarts
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import NOTICED_WITHIN
from tests.daemon.environment import DaemonProcess


class Claims:
    """Asks the daemon, and reads its log.

    Args:
        scene: The chaos run.
        cold_starts: Pulls what is called cached, as an empty cell would; None where cells pull nothing.
    """

    def __init__(self, scene: Scene, cold_starts: ColdStarts | None) -> None:
        self._scene, self._cold_starts = scene, cold_starts
        self._daemon: DaemonProcess | None = None
        self._lines = 0

    async def check(self) -> None:
        """Ask the daemon which apps run from their copies, and read in its log which it has migrated."""
        scene, asked_at = self._scene, time.monotonic()
        daemon, downtime = scene.daemon, scene.downtime
        if daemon is None or not downtime.is_daemon_up:
            return
        if daemon is not self._daemon:
            self._daemon, self._lines = daemon, 0
        lines, self._lines = daemon.lines[self._lines :], len(daemon.lines)
        for line in lines:
            if line.get("message") == "docker-cache.reconciler.reconciled":
                data = line["data"]
                if data["reason"] == "migrated":
                    said_at = asked_at - (datetime.now(UTC) - _time_of(line)).total_seconds()
                    downtime.check_claim(data["process-guid"], "its log", said_at)
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with scene.operator() as client:
                rows = await client.list_apps(Filters(), ["cached"])
                scene.happened["apps called cached"] += len(rows)
                for row in rows:
                    downtime.check_claim(row["process_guid"], "its API", asked_at)
            if self._cold_starts is not None:
                await self._cold_starts.check([row["process_guid"] for row in rows], asked_at)

    async def check_in_the_end(self) -> None:
        """Ask once more, and until all that is called cached can be started, or could not for too long."""
        await self.check()
        if self._cold_starts is None:
            return
        end = time.monotonic() + 2 * NOTICED_WITHIN
        while self._cold_starts.failing and time.monotonic() < end:
            await asyncio.sleep(0.5)
            await self.check()


def _time_of(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])
