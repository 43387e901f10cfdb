"""Compares what the daemon says of apps in a chaos run with what they run from."""

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from controller.admin.request_options import Filters
from reconcile.errors import DockerCacheError
from tests.daemon.chaos.scene import Scene
from tests.daemon.environment import DaemonProcess


class Claims:
    """Asks the daemon, and reads its log."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
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


def _time_of(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])
