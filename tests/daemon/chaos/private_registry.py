"""What happens to the private registry in a chaos run: its disk is full, or another one takes its place."""

import asyncio
import json
import random
from contextlib import ExitStack

from tests.daemon.chaos.daemon_life import Life
from tests.daemon.chaos.scene import Scene
from tests.daemon.environment import Registry, simulate_registry
from tests.simulators.registry import Fault, Refuse

_NO_SPACE = {
    "code": "UNKNOWN",
    "message": "unknown error",
    "detail": {
        "DriverName": "filesystem",
        "Enclosed": {"Op": "mkdir", "Path": "/var/lib/registry/docker/registry/v2", "Err": 28},
    },
}
"""What a distribution registry says when its disk is full."""


class RegistryFull:
    """Lets the private registry take nothing more for a while; what it has it still gives."""

    pause = 8.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene, self._chance = scene, chance
        self._full: list[tuple[Registry, Fault]] = []

    async def act(self) -> None:
        """Fill its disk, and make room again."""
        registry = self._scene.env.cache
        answer = Refuse(
            500, json.dumps({"errors": [_NO_SPACE]}).encode(), {"Content-Type": "application/json"}
        )
        for method in ("POST", "PATCH", "PUT"):
            fault = Fault(method, r"^/v2/", answer, times=None)
            registry.faults.faults.append(fault)
            self._full.append((registry, fault))
        self._scene.note_loss("private registry full", registry.address)
        await asyncio.sleep(min(self._chance.uniform(1.0, 6.0), self._scene.seconds_left))
        self.end()

    def end(self) -> None:
        """Make room."""
        while self._full:
            registry, fault = self._full.pop()
            registry.faults.faults.remove(fault)
        self._scene.invariants.note("private registry has room")

    def unrest(self) -> list[str]:
        """Say nothing: what could not be copied is copied later."""
        return []


class RegistryReplaced:
    """Replaces the private registry by an empty one, and keeps the old one as a former one."""

    pause = 30.0

    def __init__(self, scene: Scene, chance: random.Random, life: Life, opened: ExitStack) -> None:
        self._scene, self._chance, self._life, self._opened = scene, chance, life, opened
        self._former = scene.former_registries

    async def act(self) -> None:
        """Change the address in the config, and let the daemon read it."""
        env = self._scene.env
        if self._former:  # one is enough for a run: all apps move
            return
        new = self._opened.enter_context(simulate_registry())
        new.faults.login = env.cache.faults.login
        self._former.append(env.cache)
        env.cache = new
        former = env.settings["cache_registry"]
        env.settings["former_cache_registries"] = [former]
        env.settings["cache_registry"] = {**former, "address": new.address}
        self._scene.downtime.follow_cache(new.address)
        self._scene.note_loss("private registry replaced", new.address)
        await self._life.reload()

    def end(self) -> None:
        """Do nothing: the daemon moves the apps."""

    def unrest(self) -> list[str]:
        """Name the LRPs that run from a former registry."""
        return [
            f"{guid} runs from a former registry"
            for guid, lrp in self._scene.env.bbs.state.desired.items()
            for former in self._former
            if lrp.root_fs.startswith(f"docker://{former.address}/")
        ]
