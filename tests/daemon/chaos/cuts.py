"""Cuts cells off from registries for a while, or makes the way to them slow."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.timing import PATIENCE, PROOF_WITHIN
from tests.daemon.environment import Registry, until
from tests.simulators.cell import SimulatedCell
from tests.simulators.cell_network import Condition, ErrorResponse, Hangs, Refused, Slow, UnknownHost


class Cuts:
    """Cuts some cells, or all, off.

    Args:
        scene: What they are part of.
        restart: Has an owner restart an app, so that apps start while they are cut off.
    """

    def __init__(self, scene: Scene, restart: Callable[[], Awaitable[None]]) -> None:
        self._scene, self._env, self._chance, self._restart = scene, scene.env, scene.chance, restart

    async def cut_off_cache(self) -> None:
        """Let some cells, or all, not pull from the private registry for a while."""
        conditions: list[Condition] = [
            Refused(),
            Refused(),
            UnknownHost(),
            ErrorResponse(500),
            ErrorResponse(404),
            Hangs(),
            Hangs(layers_only=True),
            Slow(self._chance.uniform(0.5, 6.0)),
        ]
        with contextlib.suppress(TimeoutError):  # else nothing would be migrated
            await until(self._are_cells_proven, min(PROOF_WITHIN, self._scene.seconds_left))
        for _ in range(self._chance.choice([0, 3, 6])):
            self._scene.happened["restarts before a cut"] += 1
            await self._restart()
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        await self._cut_off(self._env.cache, "cache", self._chance.choice(conditions))

    def _are_cells_proven(self) -> bool:
        """Whether the last canary has shown that cells can pull, as far as the daemon's log tells."""
        lines = self._scene.daemon.lines if self._scene.daemon is not None else []
        said = (line["message"] for line in reversed(lines) if ".canary." in line.get("message", ""))
        return next(said, "") == "docker-cache.canary.cells-can-pull"

    async def cut_off_source(self) -> None:
        """Let some cells, or all, not pull from the source, or slowly."""
        conditions: list[Condition] = [
            Refused(),
            Hangs(),
            Hangs(layers_only=True),
            Slow(self._chance.uniform(0.5, 6.0)),
        ]
        await self._cut_off(self._env.source, "source", self._chance.choice(conditions))

    async def _cut_off(self, registry: Registry, name: str, condition: Condition) -> None:
        cells: list[SimulatedCell] = self._env.cells
        if self._chance.random() < 0.4:
            cells = [self._chance.choice(cells)]
        seconds = self._chance.uniform(0.5, 4.0)
        if registry is self._env.cache and self._chance.random() < 0.3:
            seconds = 4 * PATIENCE.down  # what the daemon does not mend lasts too long
        what = f"{name} {type(condition).__name__} for {len(cells)} of {len(self._env.cells)} cells"
        self._scene.happened[what] += 1
        self._scene.invariants.note(what)
        self._env.impose(registry, condition, *cells)
        await asyncio.sleep(min(seconds, self._scene.seconds_left))
        self._env.mend(registry, *cells)
        self._scene.invariants.note(f"{name} mended")
