"""The life of several instances in a chaos run: who works, how long nobody does, and what ends which of them."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Self

from controller.last_resort import END_WITHIN, HELD_UP
from reconcile.lease import LeaseTimes
from tests.daemon.chaos.daemon_life import count_passes
from tests.daemon.chaos.lock_watch import LockWatch
from tests.daemon.chaos.machines import BEFORE_START, FAILED, Machine, Part, make_own_settings
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.store_watch import StoreWatch
from tests.daemon.chaos.takeovers import TakeOvers
from tests.daemon.environment import PATIENCE, DaemonProcess, until
from tests.daemon.instances import LOST_LOCK
from tests.own_server import OwnServer, run_own_server
from tests.simulators.locket import Locket, State
from tests.simulators.tcp_proxy import TcpProxy

TIMES = LeaseTimes(ttl=4.0, retry_interval=1.5)
"""Of the lock: as short as renewals on a busy machine allow."""
WORKS_AGAIN_WITHIN = 15.0
"""Seconds for which whoever wants to kill an instance that works waits for one."""
TICK = 0.05
LONGEST_TICK = 0.1
"""Seconds that a tick counts at most: a busy machine lets all wait."""
AFTER_OUTAGE = 3.0
"""Seconds until a daemon asks again for what was away."""


class InstancesLife:
    """Starts daemons, ends them, and follows which of them works.

    Attributes:
        passes: How many passes of the daemons ended with which of the reasons that are counted.
        machines: One for each instance.
        lockets: Servers of Locket over one state.
        database: The server that all instances use.
    """

    def __init__(self, scene: Scene, seed: int, instances: int) -> None:
        self.passes = Counter[str]()
        self.machines: list[Machine] = []
        self._scene, self._seed, self._instances = scene, seed, instances
        state = State(time.monotonic)
        self.lockets = [Locket(scene.env.certificates, state) for _ in range(2)]
        self._lock_watch = LockWatch(scene.invariants, state, TIMES)
        self.takeovers = TakeOvers(TIMES)
        self._failed_calls = 0
        self._away_until = 0.0
        self._working: Machine | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._supervisors: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.database: OwnServer = await stack.enter_async_context(run_own_server())
            self._store_watch = StoreWatch(self.database)
            names = [f"instance-{number}" for number in range(1, self._instances + 1)]
            await self._store_watch.prepare(*names)
            for locket in self.lockets:
                await stack.enter_async_context(locket)
            for number, name in enumerate(names):
                locket = self.lockets[number % len(self.lockets)]
                proxy = await stack.enter_async_context(TcpProxy(locket.host, locket.port))
                times = {"lock_ttl": f"{TIMES.ttl:g}s", "lock_retry_interval": f"{TIMES.retry_interval:g}s"}
                own = make_own_settings(
                    self._scene.env, name, proxy.address, self._store_watch.url(name), times
                )
                chance = random.Random(f"{self._seed}/{name}")
                machine = Machine(name, self._scene.env, own, locket, proxy, chance, self._see_end)
                stack.push_async_callback(machine.close)
                self.machines.append(machine)
            stack.enter_context(self._lock_watch.watching(self._scene.env.bbs, self._scene.env.capi))
            stack.push_async_callback(self._stop_tasks)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _stop_tasks(self) -> None:
        tasks = [*self._supervisors, *([] if self._ticking is None else [self._ticking])]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self) -> None:
        """Start all."""
        self._scene.downtime.is_daemon_up = False
        self._supervisors = [asyncio.create_task(each.supervise()) for each in self.machines]
        self._ticking = asyncio.create_task(self._tick_forever())

    async def wait_until_up(self) -> None:
        """Wait until one of them works."""
        try:
            await until(lambda: self._scene.downtime.is_daemon_up)
        except TimeoutError:
            self._scene.invariants.violate("nobody works although nothing is wrong any more", self._parts())

    def choose(self, chance: random.Random) -> Machine | None:
        """Choose a machine whose daemon runs, mostly the one that works."""
        working = [each for each in self.machines if each.is_working]
        running = [each for each in self.machines if each.is_running]
        chosen = working if working and chance.random() < 0.7 else running
        return chance.choice(chosen) if chosen else None

    async def kill(self) -> None:
        """Kill the active daemon, around a phase of a migration, or a standby."""
        scene, chance = self._scene, self._scene.chance
        if chance.random() < 0.8:  # else as early as it comes
            with contextlib.suppress(TimeoutError):
                await until(lambda: scene.downtime.is_daemon_up, WORKS_AGAIN_WITHIN)
        machine = self.choose(chance)
        if machine is None or machine.daemon is None:
            return
        phase = chance.choice(["bridging", "bridged", "removed", "starting", "removing-bridge", "any"])
        daemon = machine.daemon
        if phase != "any" and machine.is_working:
            scene.happened[f"killed around {phase}"] += 1
            with contextlib.suppress(TimeoutError):
                await daemon.next_line(
                    lambda line: line.get("data", {}).get("reason") == f"{phase}", within=3.0
                )
        what = "active instances" if machine.is_working else "standbys"
        scene.happened[f"{what} killed"] += 1
        scene.invariants.note(f"{machine.name} killed around {phase}")
        machine.part = Part.ENDING
        self.look()
        await daemon.kill()

    async def terminate(self, machine: Machine) -> None:
        """End a daemon with SIGTERM, and wait for its end."""
        daemon = machine.daemon
        if daemon is None:
            return
        what = "active instances" if machine.is_working else "standbys"
        self._scene.happened[f"{what} ended"] += 1
        self._scene.invariants.note(f"{machine.name} is ended")
        machine.thaw()
        machine.part = Part.ENDING
        self.look()
        await daemon.stop()

    async def reload(self) -> None:
        """Let all daemons read the config that is written now."""
        for machine in self.machines:
            machine.write_config()
            if machine.daemon is not None and not machine.daemon.is_over:  # also one that stands still
                machine.part = Part.STARTING
                machine.daemon.signal_reload()
        self.look()

    def note_outage(self) -> None:
        """Expect no work while the database is away, and until daemons have found that it is back."""
        self._away_until = time.monotonic() + AFTER_OUTAGE

    async def mend(self) -> None:
        """Let all daemons run, and reach Locket and the database."""
        for machine in self.machines:
            machine.thaw()
            machine.proxy.mend()
            machine.is_cut_off = False
        for locket in self.lockets:
            locket.faults.clear()
            if not locket.is_running:
                await locket.start()
        if not self.database.is_running:
            await self.database.start()

    async def end(self) -> list[str]:
        """End all with SIGTERM, and say what was wrong, now or before."""
        for machine in self.machines:
            machine.is_given_up.set()
        running = [
            each.daemon for each in self.machines if each.daemon is not None and not each.daemon.is_over
        ]
        statuses = await asyncio.gather(*(each.stop() for each in running))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._supervisors)
        violations = [f"an instance ended with {status}" for status in statuses if status]
        violations += await self._store_watch.find_late_writes()
        happened, watch = self._scene.happened, self._lock_watch
        happened["take-overs"] = watch.takeovers
        happened["changes of the BBS by an instance"] = watch.changes.total()
        happened["requests to Cloud Controller by an instance"] = watch.questions.total()
        happened["of these not judged: a busy machine"] = watch.unjudged
        happened["transactions that were judged"] = self._store_watch.writes
        happened["terms"] = self._store_watch.terms
        happened["instances that lost the lock"] = sum(each.ends[LOST_LOCK] for each in self.machines)
        return violations

    @property
    def figures(self) -> str:
        """How long it took until somebody worked again, at most."""
        return str(self.takeovers)

    async def _tick_forever(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.look(min(now - before, LONGEST_TICK))
            before = now

    def look(self, seconds: float = 0.0) -> None:
        """Look who works after some seconds, and how long nobody has."""
        for machine in self.machines:
            machine.follow()
        working = [
            each for each in self.machines if each.is_working and self._lock_watch.is_held_by(each.name)
        ]
        has_database = not self._is_database_away()
        self._note_working(working[0] if working and has_database else None)
        failed = sum(locket.faults.happened.total() for locket in self.lockets)
        if working:
            self.takeovers.work()
        else:
            self.takeovers.grant_calls(failed - self._failed_calls)
            bbs = self._scene.env.bbs
            has_all = has_database and bbs.is_listening and not bbs.is_migrating
            can_take_over = has_all and any(each.is_standing_by for each in self.machines)
            is_held = any(
                each.is_running and self._lock_watch.is_held_by(each.name) for each in self.machines
            )
            if problem := self.takeovers.wait(seconds if can_take_over else 0.0, is_held=is_held):
                self._scene.invariants.violate(problem, self._parts())
        self._failed_calls = failed

    def _parts(self) -> str:
        parts = ", ".join(f"{each.name} {each.part}" for each in self.machines)
        return f"({parts}; the lock is with {self._lock_watch.owner or 'nobody'})"

    def _is_database_away(self) -> bool:
        return not self.database.is_running or time.monotonic() < self._away_until

    def _note_working(self, machine: Machine | None) -> None:
        """Tell the rest of the run which daemon works, and when none does."""
        scene = self._scene
        if machine is not None and machine is not self._working:
            scene.daemon = machine.daemon
            scene.env.settings["admin_address"] = machine.own["admin_address"]  # for operators
            scene.invariants.note(f"{machine.name} works")
        if self._working is not None and machine is not self._working:
            scene.downtime.note_kill()
        self._working = machine
        scene.downtime.is_daemon_up = machine is not None

    def _see_end(self, machine: Machine, daemon: DaemonProcess, status: int) -> None:
        """Judge the end of a process."""
        count_passes(self._scene, daemon, self.passes)
        self.look()
        was_working = bool(daemon.named("daemon.started"))
        if status == FAILED and not was_working and self._is_database_away():
            self._scene.happened["take-overs that ended without a database"] += 1
        elif _is_limited(daemon, status) and time.monotonic() - machine.went_on_at < END_WITHIN:
            self._scene.happened["ends that a freeze has held up"] += 1
        elif _is_limited(daemon, status):
            self._scene.invariants.violate(f"{machine.name} was held up until its end", daemon.text[-5000:])
        elif status not in {0, -9, LOST_LOCK, *BEFORE_START}:
            self._scene.invariants.violate(f"{machine.name} ended with {status}", daemon.text[-1500:])


def _is_limited(daemon: DaemonProcess, status: int) -> bool:
    """Whether a process has not ended by itself: it was ended by its last thread, or by the system."""
    return status in {HELD_UP, -signal.SIGALRM} or "Timeout (0:00:" in daemon.text[-100_000:]
