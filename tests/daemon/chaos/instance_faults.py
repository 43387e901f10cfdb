"""What goes wrong between the instances of a chaos run and what makes them one: Locket and the database."""

import asyncio
import random
import signal

from tests.daemon.chaos.instances_life import TIMES, InstancesLife
from tests.daemon.chaos.scene import Scene
from tests.simulators.locket import Fault


class _InstanceFault:
    """What these faults have in common: what ends by itself, and nothing to wait for."""

    def __init__(self, scene: Scene, chance: random.Random, life: InstancesLife) -> None:
        self._scene, self._chance, self._life = scene, chance, life

    def end(self) -> None:
        """Do nothing: each strike ends by itself."""

    def unrest(self) -> list[str]:
        """Say nothing: apps are looked at."""
        return []

    def _happens(self, what: str, more: str = "") -> None:
        self._scene.happened[what] += 1
        self._scene.invariants.note(f"{what} {more}")

    async def _last(self, least: float, most: float) -> None:
        await asyncio.sleep(min(self._chance.uniform(least, most), self._scene.seconds_left))


class InstanceFrozen(_InstanceFault):
    """Lets a daemon stand still, mostly for longer than the lock lives without it."""

    pause = 15.0

    async def act(self) -> None:
        """Let one stand still, and go on."""
        machine = self._life.choose(self._chance)
        if machine is None:
            return
        self._happens("instances frozen", machine.name)
        machine.freeze()
        self._life.look()
        try:
            await self._last(0.3 * TIMES.ttl, 3.0 * TIMES.ttl)
        finally:
            machine.thaw()
        self._scene.invariants.note(f"{machine.name} goes on")


class InstanceEnded(_InstanceFault):
    """Ends a daemon as its supervisor does."""

    pause = 25.0

    async def act(self) -> None:
        """End one."""
        machine = self._life.choose(self._chance)
        if machine is not None:
            await self._life.terminate(machine)


class LocketDown(_InstanceFault):
    """Lets one server of Locket be gone for a while, or all."""

    pause = 25.0

    async def act(self) -> None:
        """Let them be gone, and come back."""
        lockets = self._life.lockets
        chosen = lockets if self._chance.random() < 0.5 else [self._chance.choice(lockets)]
        self._happens(f"{len(chosen)} of {len(lockets)} servers of Locket gone")
        for each in chosen:
            await (each.kill() if self._chance.random() < 0.5 else each.stop())
        await self._last(0.3, 8.0)
        for each in chosen:
            await each.start()
        self._life.takeovers.grant_expiry()
        self._scene.invariants.note("Locket is back")


class LocketAnswersLost(_InstanceFault):
    """Lets a server of Locket lose its next answers, or fail otherwise."""

    pause = 8.0

    async def act(self) -> None:
        """Order it for the next calls."""
        fault = self._chance.choice(
            [
                Fault.LOST_ANSWER,
                Fault.HANG_AFTER,
                Fault.LATE,
                Fault.HANG,
                Fault.UNAVAILABLE,
                Fault.DATABASE_SLOW,
                Fault.DEADLOCK,
            ]
        )
        self._happens("faults of calls to Locket", fault)
        method = "Lock" if self._chance.random() < 0.8 else "Release"
        self._chance.choice(self._life.lockets).faults.order(fault, method, calls=self._chance.randint(1, 2))


class LocketCutOff(_InstanceFault):
    """Cuts one machine off from Locket."""

    pause = 15.0

    async def act(self) -> None:
        """Cut it off, or reset its connections."""
        machine = self._life.choose(self._chance)
        if machine is None:
            return
        if self._chance.random() < 0.2:
            self._happens("connections to Locket reset", machine.name)
            machine.proxy.reset()
            return
        self._happens("cut off from Locket", machine.name)
        machine.is_cut_off = True
        machine.proxy.cut()
        await self._last(0.3, 2.5 * TIMES.ttl)
        machine.proxy.mend()
        machine.is_cut_off = False
        self._scene.invariants.note(f"{machine.name} reaches Locket")


class DatabaseAway(_InstanceFault):
    """Lets the database be gone for some seconds, or for its restart."""

    pause = 25.0

    async def act(self) -> None:
        """Stop it, and start it."""
        how = self._chance.choice([signal.SIGINT, signal.SIGQUIT])
        self._happens("databases crashed" if how is signal.SIGQUIT else "databases stopped")
        self._life.note_outage()
        await self._life.database.stop(how)
        if self._chance.random() < 0.7:
            await self._last(0.0, 6.0)
        await self._life.database.start()
        self._life.note_outage()
        self._scene.invariants.note("the database is back")
