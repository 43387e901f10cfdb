"""One chaos run: everything that goes wrong is begun at its pace, and in the end all must come to rest."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from tests.daemon.chaos.claims import Claims
from tests.daemon.chaos.cold_starts import ColdStarts
from tests.daemon.chaos.cuts import Cuts
from tests.daemon.chaos.daemon_life import DaemonLife, Life
from tests.daemon.chaos.disturbances import Disturbances
from tests.daemon.chaos.droplet_watch import DropletWatch
from tests.daemon.chaos.faults import Surroundings, make_faults
from tests.daemon.chaos.instances_life import InstancesLife
from tests.daemon.chaos.operators import Operators
from tests.daemon.chaos.owners import Owners
from tests.daemon.chaos.report import Report, find_last_lines
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.settings import Database, Settings
from tests.daemon.chaos.timing import (
    BRIDGE_TIMEOUT,
    COMMUNICATION_TIMEOUT,
    EVICTION_GRACE,
    FAULT_PAUSES,
    INSTANCE_KILLS,
    LIMITS,
    PATIENCE,
    PLANS,
    RARER_CUTS,
    REACHED_WITHIN,
    REQUESTS_PER_HOUR,
    REST,
    REST_AFTER_PLAN,
    ROUND,
    SCALE,
    SOON,
    STAGING,
    START_DELAYS,
    START_TIMEOUT,
    SWEEP,
    WATCHING,
)
from tests.daemon.downtime import Downtime
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.simulators.bbs import Version


class Chaos:
    """One run of it.

    Args:
        env: Where; cells pull for real if there are faults.
        opened: Closes what the run opens.
        seed: Decides what goes wrong.
        settings: The rest of what is asked for.
    """

    def __init__(self, env: Environment, opened: ExitStack, seed: int, settings: Settings) -> None:
        self._env, self._seed, self._settings = env, seed, settings
        self._chance = random.Random(seed)
        self._invariants = Invariants(env.bbs, env.cells, env.cloud)
        self._downtime = Downtime(
            self._invariants, source=env.source.address, cache=env.cache.address, patience=PATIENCE
        )
        self._scene = scene = Scene(env, self._chance, self._invariants, self._downtime)
        self._instances = (
            None if settings.database is Database.SQLITE else InstancesLife(scene, seed, settings.instances)
        )
        only_life = DaemonLife(scene)
        self._life: Life = self._instances or only_life
        self._owners = Owners(scene, settings.apps)
        self._disturbances = Disturbances(scene)
        self._cuts = Cuts(scene, self._owners.restart)
        self._operators = Operators(scene)
        self._cold_starts = ColdStarts(scene) if settings.losses else None
        self._claims = Claims(scene, self._cold_starts)
        surroundings = Surroundings(
            scene, self._life, None if self._instances else only_life, self._instances, opened
        )
        self._droplets = DropletWatch(scene, reaches_all=settings.reaches_all_droplets)
        self._faults = make_faults(surroundings, seed, settings.faults)
        self._downtime.is_hopeless = scene.is_hopeless
        self._downtime.has_source = lambda app: (
            scene.texts.wanted(app.droplet_of(app.web)) not in scene.lost_images
        )

    async def run(self, seconds: float) -> Report:
        """Push some apps, let all go wrong for a while, and wait for rest."""
        async with self._instances or contextlib.nullcontext():
            return await self._run(seconds)

    async def _run(self, seconds: float) -> Report:
        begun, scene = time.monotonic(), self._scene
        await asyncio.gather(*(self._owners.push() for _ in range(self._settings.apps)))
        with self._invariants.watching(), self._downtime.watching():
            await self._life.start()
            if self._settings.losses or self._instances is not None:
                await self._reach_copies()
            scene.end = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                pauses = FAULT_PAUSES[self._seed % len(FAULT_PAUSES)]
                rarer = RARER_CUTS if self._settings.losses else 1.0
                kills = pauses.kills if self._instances is None else INSTANCE_KILLS
                group.create_task(self._repeat(self._life.kill, kills))
                group.create_task(self._repeat(self._disturb, pauses.disturbances))
                group.create_task(self._repeat(self._owners.start_one, 1.2))
                group.create_task(self._repeat(self._cuts.cut_off_cache, pauses.cache_cuts * rarer))
                group.create_task(self._repeat(self._cuts.cut_off_source, pauses.source_cuts * rarer))
                group.create_task(self._repeat(self._claims.check, 2.0))
                group.create_task(self._repeat(self._look_at_droplets, 1.0))
                for each in self._faults:
                    group.create_task(self._repeat(each.fault.act, each.fault.pause, each.chance))
            await self._rest()
            if not self._settings.cloud_controller:
                await self._claims.check_in_the_end()
        return await self._end(begun)

    async def _end(self, begun: float) -> Report:
        """Stop the daemons, and sum up."""
        scene = self._scene
        ends = await self._life.end()
        happened = scene.happened | self._life.passes
        if self._cold_starts is not None:
            happened["starts tried on an empty cell"] = self._cold_starts.tries
        happened["bridges"] = len(self._invariants.bridges)
        happened["looks at all apps"] = self._invariants.looks
        violations = self._invariants.violations + ends
        lasted = time.monotonic() - begun
        details, longest = self._invariants.details, self._downtime.longest
        return Report(self._seed, lasted, happened, violations, details, longest, self._life.figures)

    async def _repeat(
        self, act: Callable[[], Awaitable[None]], pause: float, chance: random.Random | None = None
    ) -> None:
        chance = chance or self._chance
        while (at := time.monotonic() + chance.uniform(0.0, pause)) < self._scene.end:
            await asyncio.sleep(at - time.monotonic())
            await act()

    async def _reach_copies(self) -> None:
        """Let most apps reach their copies before anything goes wrong: what runs from none can lose none."""

        def have_most_reached_them() -> bool:
            running = self._invariants.serving()
            lrps = self._env.bbs.state.desired.values()
            from_copies = [each for each in lrps if self._downtime.is_copy(each.root_fs)]
            return sum(each.process_guid in running for each in from_copies) > self._settings.apps / 2

        with contextlib.suppress(TimeoutError):
            await until(have_most_reached_them, REACHED_WITHIN)

    async def _rest(self) -> None:
        """Let nothing go wrong any more, and wait until all is as its owners want."""
        env = self._env
        env.bbs.faults.clear()
        env.bbs.state.events.losing = False
        for cell in env.cells:
            cell.lost_stops = cell.refused_stops = 0
            cell.network.mend()
        for each in self._faults:
            each.fault.end()
        if not env.bbs.is_listening:
            await env.bbs.start_listening()
        await self._life.mend()
        await self._life.wait_until_up()
        if self._settings.operators or self._settings.losses:
            await self._operators.resume()
        if not await self._comes_to_rest(REST) and not await self._comes_to_rest_with_plans():
            self._invariants.violations += self._unrest()
        if self._settings.cloud_controller:
            await self._rest_droplets()

    async def _rest_droplets(self) -> None:
        """Wait until droplets name their copies, and then put all back: droplets have what they were staged with."""
        unpatched = await self._wait_for_droplets(SOON)
        if unpatched:
            # What failed because of a fault is tried again after minutes, unless an operator wants it.
            self._scene.happened["plans for droplets applied in the end"] += 1
            await self._operators.apply_all()
            half_restored = self._droplets.find_half_restored(await self._operators.list_droplets() or ())
            if half_restored:
                await self._operators.restore_again(half_restored)
            unpatched = await self._wait_for_droplets(REST)
        self._invariants.violations += unpatched
        await self._claims.check_in_the_end()
        await self._operators.restore_all_droplets()
        self._invariants.violations += self._droplets.find_unrestored()

    async def _wait_for_droplets(self, seconds: float) -> list[str]:
        """Wait until all droplets are as they should be, and say what is not when it takes longer."""
        end = time.monotonic() + seconds
        while True:
            rows = await self._operators.list_droplets()
            self._droplets.check(rows or ())
            wrong = ["the daemon lists no droplets"] if rows is None else self._droplets.find_unpatched(rows)
            if not wrong or time.monotonic() > end:
                return wrong
            await asyncio.sleep(0.2)

    async def _look_at_droplets(self) -> None:
        self._droplets.look()
        if self._settings.cloud_controller and self._downtime.is_daemon_up:
            self._droplets.check(await self._operators.list_droplets() or ())

    async def _comes_to_rest_with_plans(self) -> bool:
        """Let an operator ask for what failed because of a fault, which is tried again after minutes.

        A plan is one attempt, which may fail on a busy machine: its bridge has a few seconds to start.
        """
        for _ in range(PLANS if self._settings.losses else 0):
            self._scene.happened["plans applied in the end"] += 1
            await self._operators.apply_all()
            if await self._comes_to_rest(REST_AFTER_PLAN):
                return True
        return False

    async def _comes_to_rest(self, seconds: float) -> bool:
        try:
            await until(lambda: not self._unrest(), seconds=seconds)
        except TimeoutError:
            return False
        return True

    def _unrest(self) -> list[str]:
        """Say what is not yet as it should be in the end."""
        return [
            *self._invariants.unrest(),
            *self._droplets.unrest(),
            *chain.from_iterable(each.fault.unrest() for each in self._faults),
        ]

    async def _disturb(self) -> None:
        kinds: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (2, "failovers", self._disturbances.fail_over),
            (3, "streams ended with events lost", self._disturbances.lose_events),
            (2, "streams reset", self._disturbances.reset_streams),
            (10, "calls that failed", self._disturbances.fail_calls),
            (4, "stops lost", self._disturbances.lose_stop),
            (3, "crashes", self._disturbances.crash),
            (2, "stores cleaned", self._disturbances.clean),
            (2, "starts made faster or slower", self._disturbances.change_speed),
            (5, "scalings", self._owners.scale),
            (3, "routes mapped", self._owners.map_route),
            (2, "restarts", self._owners.restart),
            (5, "put back", self._owners.put_back),
            (1, "stops", self._owners.stop),
            (2, "pushes of another image", self._owners.push_again),
            (3, "deployments", self._owners.deploy),
            (2, "droplets copied", self._owners.copy_droplet),
            (3, "tasks run", self._owners.run_task),
        ]
        if self._settings.operators:
            kinds.append((6, "operators' calls", self._operators.operate))
        _, name, act = self._chance.choices(kinds, [weight for weight, _, _ in kinds])[0]
        self._scene.happened[name] += 1
        self._invariants.note(name)
        await act()


async def run_round(seed: int, seconds: float, directory: Path, settings: Settings) -> Report:
    """Run one seed in an environment of its own."""
    settings = settings.of_round(seed)
    versions, has_losses = list(Version), bool(settings.losses)
    with ExitStack() as opened:
        async with open_environment(
            directory,
            version=versions[seed % len(versions)],
            faulty_source=has_losses,
            faulty_cache=has_losses,
            start_delay=START_DELAYS[1],
            pulls=has_losses,
            cells=3,
            sync_interval=ROUND,
            converge_interval=ROUND,
            limits=LIMITS,
        ) as env:
            _hurry(env)
            if has_losses:
                env.settings |= WATCHING
            if settings.cloud_controller:
                env.connect_cloud_controller()
                env.settings |= {
                    "droplet_sync_interval": f"{SWEEP}s",
                    "cloud_controller_requests_per_hour": REQUESTS_PER_HOUR,
                }
            report = await Chaos(env, opened, seed, settings).run(seconds)
            if report.violations:
                report.logged = find_last_lines(directory, report.violations)
                (directory / "violations.log").write_text("\n".join([*report.violations, *report.details]))
            return report


def _hurry(env: Environment) -> None:
    """Let BBS, cells and daemon wait as long as a chaos run lets all wait."""
    env.bbs.state.crash_backoff = env.bbs.state.stale_unclaimed = ROUND
    env.bbs.rep_timeout /= SCALE
    for cell in env.cells:
        cell.settings.poll_interval /= SCALE
        cell.settings.first_pause /= SCALE
        cell.settings.reconnect_pause /= SCALE
        cell.settings.task_delay = STAGING
    env.settings |= {
        "communication_timeout": f"{COMMUNICATION_TIMEOUT}s",
        "bridge_timeout": f"{BRIDGE_TIMEOUT}s",
        "start_timeout": f"{START_TIMEOUT}s",
        "drain_delay": "0.1s",
        "sync_interval": f"{SWEEP}s",
        "max_consecutive_failures": 1000,
        "eviction_grace": f"{EVICTION_GRACE}s",
    }
