"""The daemon's life in a chaos run: it is started, killed around its phases, and started again."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from tests.daemon.chaos.scene import Scene
from tests.daemon.environment import PATIENCE, DaemonProcess

REASONS = frozenset(
    {
        "migrated",
        "restored",
        "reverted-externally",
        "bridge-timeout",
        "bridge-crashed",
        "not-healthy",
        "not-pulled",
        "copy-not-pulled",
        "not-started",
        "cells-not-proven",
        "circuit-breaker-open",
        "similar-migrations-failed",
    }
)
"""Reasons of passes that are counted."""


def _has_listed(line: Mapping[str, Any]) -> bool:
    return line.get("message") == "docker-cache.watcher.listed-bbs"


class Life(Protocol):
    """What a run does with its daemons.

    Attributes:
        passes: How many passes of the daemons ended with which of the reasons that are counted.
        figures: What else there is to say in the end; empty for nothing.
    """

    passes: Counter[str]

    @property
    def figures(self) -> str: ...

    async def start(self) -> None:
        """Start them."""

    async def wait_until_up(self) -> None:
        """Wait until a daemon works."""

    async def kill(self) -> None:
        """Kill a daemon around a phase of a migration, and start another one."""

    async def reload(self) -> None:
        """Let the daemons read the config that is written now."""

    async def mend(self) -> None:
        """Let daemons run, and reach what only they need."""

    async def end(self) -> list[str]:
        """End the daemons, and say what was wrong."""


class DaemonLife:
    """Starts and kills the daemon.

    Attributes:
        passes: How many passes of the daemons ended with which of the reasons that are counted.
    """

    def __init__(self, scene: Scene) -> None:
        self.passes = Counter[str]()
        self._scene = scene
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a daemon, and note when it works."""
        scene = self._scene
        scene.daemon = daemon = await scene.env.start_daemon()

        async def wait_until_up() -> None:
            with contextlib.suppress(TimeoutError, AssertionError):  # it was killed before
                await daemon.logged("watcher.listed-bbs")
                scene.downtime.is_daemon_up = scene.daemon is daemon

        self._starting = asyncio.create_task(wait_until_up())

    async def wait_until_up(self) -> None:
        """Wait until the last daemon works, also when it begins anew: before that, SIGTERM ends any process."""
        if self._starting is not None:
            await self._starting

    async def kill(self) -> None:
        """Kill the daemon around a phase of a migration, and start another one."""
        scene, chance = self._scene, self._scene.chance
        daemon = scene.daemon
        if daemon is None:
            return
        if chance.random() < 0.8:  # else as early as it comes
            with contextlib.suppress(TimeoutError):
                await daemon.logged("watcher.listed-bbs")
        scene.happened["daemons killed"] += 1
        phase = chance.choice(["bridging", "bridged", "removed", "starting", "removing-bridge", "any"])
        if phase != "any":
            scene.happened[f"killed around {phase}"] += 1
            with contextlib.suppress(TimeoutError):
                await daemon.next_line(lambda line: line["data"].get("reason") == f"{phase}", within=3.0)
        scene.invariants.note(f"killed around {phase}")
        scene.downtime.is_daemon_up = False
        scene.downtime.note_kill()
        await daemon.kill()
        count_passes(scene, daemon, self.passes)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0.0, 2.0))
        await self.start()

    async def reload(self) -> None:
        """Let the daemon read the config that is written now, whichever daemon runs."""
        self._scene.env.write_config()
        async with self.beginning_anew() as daemon:
            daemon.signal_reload()

    @contextlib.asynccontextmanager
    async def beginning_anew(self) -> AsyncIterator[DaemonProcess]:
        """Give the daemon, which begins anew by what is done in the block, and note when it works again."""
        scene = self._scene
        daemon = scene.daemon
        assert daemon is not None
        with contextlib.suppress(AssertionError):  # it is killed: the next one begins anew anyway
            await daemon.logged("daemon.started")
        starts = len(daemon.named("daemon.started"))
        yield daemon

        async def wait_until_up() -> None:
            with contextlib.suppress(TimeoutError, AssertionError):  # it was killed before
                await daemon.logged("daemon.started", count=starts + 1)
                await daemon.next_line(_has_listed, within=PATIENCE)
                scene.downtime.is_daemon_up = scene.daemon is daemon

        if scene.daemon is daemon:
            scene.downtime.is_daemon_up = False
            scene.downtime.note_kill()
            self._starting = asyncio.create_task(wait_until_up())

    async def mend(self) -> None:
        """Start a daemon if none was ever started."""
        if self._scene.daemon is None:
            await self.start()

    async def end(self) -> list[str]:
        """End the daemon with SIGTERM, and say what was wrong with that."""
        daemon = self._scene.daemon
        assert daemon is not None
        count_passes(self._scene, daemon, self.passes)
        status = await daemon.stop()
        return [f"the daemon ended with {status}"] if status else []

    @property
    def figures(self) -> str:
        """Nothing: nobody takes over."""
        return ""


def count_passes(scene: Scene, daemon: DaemonProcess, passes: Counter[str]) -> None:
    """Count what the passes of a daemon came to."""
    bridged = set[str]()
    for line in daemon.named("daemon.failed-to-reload-config"):
        scene.invariants.violate(f"a config was refused: {line['data']['error']}", "")
    for line in daemon.named("reconciler.reconciled"):
        guid, reason = line["data"]["process-guid"], str(line["data"]["reason"])
        if reason in REASONS:
            passes[reason] += 1
        if reason == "bridging":
            bridged.add(guid)
        if reason == "migrated" and guid not in bridged:
            passes["migrated while they started"] += 1
