"""Restores the daemon's database from an older backup in a chaos run, while the daemon runs."""

import asyncio
import random

from tests.daemon.chaos.daemon_life import DaemonLife
from tests.daemon.chaos.scene import Scene


class DatabaseRestored:
    """Makes a backup, and restores it some time later, as an operator does: the daemon is paused after that."""

    pause = 12.0

    def __init__(self, scene: Scene, chance: random.Random, life: DaemonLife) -> None:
        self._scene, self._chance, self._life = scene, chance, life
        self._backups = 0

    async def act(self) -> None:
        """Do both; either fails when the daemon is killed meanwhile."""
        self._backups += 1
        file = str(self._scene.env.directory / f"backup-{self._backups}.db")
        if not await self._runs("backup", file):
            return
        self._scene.happened["backups"] += 1
        await asyncio.sleep(min(self._chance.uniform(0.5, 8.0), self._scene.seconds_left))
        self._scene.is_paused = True
        async with self._life.beginning_anew():
            if await self._runs("restore-backup", "--yes", file):
                self._scene.happened["databases restored"] += 1
                self._scene.invariants.note("an older database restored")
        await asyncio.sleep(self._chance.uniform(0.0, 1.0))
        await self._runs("rebuild")
        while not await self._runs("resume"):
            if not self._scene.seconds_left:
                return
            await asyncio.sleep(0.5)
        self._scene.is_paused = False

    async def _runs(self, *arguments: str) -> bool:
        env = self._scene.env
        status, _, _ = await env.run_command(*arguments, "--config", str(env.config_path))
        return status == 0

    def end(self) -> None:
        """Do nothing: the daemon puts its records right."""

    def unrest(self) -> list[str]:
        """Say nothing: apps and claims are looked at."""
        return []
