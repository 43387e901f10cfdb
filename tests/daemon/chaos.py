"""Lets everything go wrong at once around the daemon's process, from one seed, and watches the apps.

The daemon is killed, the BBS restarts, loses events and answers, cells lose stops, crash instances and cannot
pull, and owners push, scale, re-route, restart, stop and delete their apps meanwhile. Waits of minutes last
seconds, all in the same ratio.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.admin.admin_client import AdminClient, open_client
from controller.admin.documents import PlanDocument
from controller.admin.request_options import Filters, PlanOptions
from reconcile.errors import DockerCacheError
from tests.daemon.downtime import Downtime, Patience
from tests.daemon.environment import DaemonProcess, Environment, Registry, open_environment, until
from tests.daemon.invariants import Invariants
from tests.simulators import images
from tests.simulators.bbs import Fault, Version
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.faults import ANY_PATH
from tests.simulators.cell import SimulatedCell
from tests.simulators.cell_network import Answers, Condition, Hangs, Refused, Slow, UnknownHost
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

WRITES = ("/v1/desired_lrp/remove", "/v1/desired_lrp/desire.r2", "/v1/desired_lrp/update")
READS = (
    "/v1/desired_lrps/get_by_process_guid.r3",
    "/v1/actual_lrps/list",
    "/v1/desired_lrp_scheduling_infos/list",
    "/v1/domains/upsert",
    ANY_PATH,
)
PROOF_WITHIN = 15.0
"""Seconds for which the way to the private registry is left alone, so that a canary may show that it is open."""
REST = 120.0
"""Seconds in which all must have come to rest when nothing goes wrong any more."""

SCALE = 20.0
"""By what the waits of BBS, cells, Cloud Controller and daemon are divided."""
ROUND = 30.0 / SCALE
"""Seconds between two convergences, between two syncs, until a crashed instance is restarted."""
LIMITS = {
    "stopgap": 0.3,
    "missing": 0.6 * ROUND,
    "stop": ROUND,
    "unknown": 2 * ROUND,
    "leftover": 4 * ROUND,
    "cloud_controller_sync": 6 * ROUND,
}
"""Fields of the daemon's `PhaseLimits`. The stopgap is not as short: it only spares containers."""
START_DELAYS = (0.1, 0.5, 1.0)
"""Seconds from the end of a pull to RUNNING: long enough for a daemon to meet apps that start."""
STAGING = 0.7
START_TIMEOUT = 4.0
BRIDGE_TIMEOUT = 5.0
COMMUNICATION_TIMEOUT = 1.0
SWEEP = 1.0

PATIENCE = Patience(
    # Old rows, a convergence, a start, and the passes on a busy machine.
    down=LIMITS["missing"] + ROUND + START_DELAYS[-1] + 2.0,
    hanging=START_TIMEOUT,
    call=COMMUNICATION_TIMEOUT + 1.5,
    kill=ROUND,
    scaling=2 * ROUND + 1.0,
    claim=3.0,
)


@dataclass(frozen=True, slots=True)
class Pace:
    """Longest pauses between what goes wrong, in seconds."""

    kills: float
    disturbances: float
    cache_cuts: float
    source_cuts: float


PACES = (Pace(2.0, 0.3, 6.0, 8.0), Pace(8.0, 0.6, 6.0, 8.0), Pace(60.0, 1.5, 4.0, 16.0))
"""Of seeds, in turn: a daemon that is killed again and again moves little, and loses what canaries have shown."""

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
    }
)
"""Reasons of passes that are counted."""


@dataclass
class Report:
    """What a run came to.

    Attributes:
        told: The violations with what was done before them.
        longest: The longest time that an app was down, and how long it could have been.
    """

    seed: int
    seconds: float
    happened: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    longest: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.happened.items()))
        down = "down for {:.1f} s of {:.1f} s at most".format(*self.longest)
        return f"seed {self.seed}, {self.seconds:.0f} s: {counts}; {down}; {len(self.violations)} violations"


class Chaos:
    """One run of it."""

    def __init__(self, env: Environment, seed: int, *, apps: int, operators: bool) -> None:
        self._env, self._seed, self._apps, self._has_operators = env, seed, apps, operators
        self._chance = random.Random(seed)
        self._daemon: DaemonProcess | None = None
        self._replaced = Counter[str]()
        self.invariants = Invariants(env.bbs, env.cells, env.cloud)
        self.downtime = Downtime(
            self.invariants, source=env.source.address, cache=env.cache.address, patience=PATIENCE
        )
        self.happened = Counter[str]()
        self._references = list[str]()
        self._end = 0.0
        self._lines = 0
        self._names = 0

    async def run(self, seconds: float) -> Report:
        """Push some apps, let all go wrong for a while, and wait for rest."""
        begun = time.monotonic()
        await asyncio.gather(*(self._push() for _ in range(self._apps)))
        with self.invariants.watching(), self.downtime.watching():
            await self._start()
            self._end = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                pace = PACES[self._seed % len(PACES)]
                group.create_task(self._repeat(self._kill, pace.kills))
                group.create_task(self._repeat(self._disturb, pace.disturbances))
                group.create_task(self._repeat(self._start_one, 1.2))
                group.create_task(self._repeat(self._cut_off_cache, pace.cache_cuts))
                group.create_task(self._repeat(self._cut_off_source, pace.source_cuts))
                group.create_task(self._repeat(self._check_claims, 2.0))
            await self._rest()
            await self._check_claims()
        assert self._daemon is not None
        self._count(self._daemon)
        status = await self._daemon.stop()
        self.happened |= self._replaced
        self.happened["bridges"] = len(self.invariants.bridges)
        self.happened["looks at all apps"] = self.invariants.looks
        violations = self.invariants.violations + ([f"the daemon ended with {status}"] if status else [])
        lasted = time.monotonic() - begun
        told, longest = self.invariants.told, self.downtime.longest
        return Report(self._seed, lasted, self.happened, violations, told, longest)

    async def _repeat(self, act: Callable[[], Awaitable[None]], pause: float) -> None:
        while time.monotonic() < self._end:
            await asyncio.sleep(self._chance.uniform(0.0, pause))
            await act()

    async def _rest(self) -> None:
        """Let nothing go wrong any more, and wait until all is as its owners want."""
        env = self._env
        env.bbs.faults.clear()
        env.bbs.state.events.losing = False
        for cell in env.cells:
            cell.lost_stops = cell.refused_stops = 0
            cell.network.mend()
        if not env.bbs.is_listening:
            await env.bbs.start_listening()
        if self._daemon is None:
            await self._start()
        assert self._daemon is not None
        await self._daemon.logged("daemon.started")  # before that, SIGTERM ends any process at once
        if self._has_operators:
            await self._resume()
        try:
            await until(lambda: not self.invariants.unrest(), seconds=REST)
        except TimeoutError:
            self.invariants.check_end()

    async def _disturb(self) -> None:
        kinds: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (2, "failovers", self._fail_over),
            (3, "streams ended with events lost", self._lose_events),
            (2, "streams reset", self._reset_streams),
            (10, "calls that failed", self._fail_calls),
            (4, "stops lost", self._lose_stop),
            (3, "crashes", self._crash),
            (2, "stores cleaned", self._clean),
            (2, "starts made faster or slower", self._change_speed),
            (5, "scalings", self._scale),
            (3, "routes mapped", self._map_route),
            (2, "restarts", self._restart),
            (5, "put back", self._put_back),
            (1, "stops", self._stop),
        ]
        if self._has_operators:
            kinds.append((6, "operators' calls", self._operate))
        _, name, act = self._chance.choices(kinds, [weight for weight, _, _ in kinds])[0]
        self.happened[name] += 1
        self.invariants.note(name)
        await act()

    async def _start(self) -> None:
        self._daemon = daemon = await self._env.start_daemon()
        self._lines = 0

        async def wait_until_up() -> None:
            with contextlib.suppress(TimeoutError, AssertionError):  # it was killed before
                await daemon.logged("watcher.listed-bbs")
                self.downtime.is_daemon_up = self._daemon is daemon

        self._starting = asyncio.create_task(wait_until_up())

    def _count(self, daemon: DaemonProcess) -> None:
        bridged = set[str]()
        for line in daemon.named("reconciler.reconciled"):
            guid, reason = line["data"]["process-guid"], str(line["data"]["reason"])
            if reason in REASONS:
                self._replaced[reason] += 1
            if reason == "bridging":
                bridged.add(guid)
            if reason == "migrated" and guid not in bridged:
                self._replaced["migrated while they started"] += 1

    async def _kill(self) -> None:
        daemon = self._daemon
        if daemon is None:
            return
        if self._chance.random() < 0.8:  # else as early as it comes
            with contextlib.suppress(TimeoutError):
                await daemon.logged("watcher.listed-bbs")
        self.happened["daemons killed"] += 1
        phase = self._chance.choice(["bridging", "bridged", "removed", "starting", "removing-bridge", "any"])
        if phase != "any":
            self.happened[f"killed around {phase}"] += 1
            with contextlib.suppress(TimeoutError):
                await daemon.news(lambda line: line["data"].get("reason") == f"{phase}", within=3.0)
        self.invariants.note(f"killed around {phase}")
        self.downtime.is_daemon_up = False
        self.downtime.note_kill()
        await daemon.kill()
        self._count(daemon)
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.uniform(0.0, 2.0))
        await self._start()

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[AdminClient]:
        with self.invariants.operator_reading():
            async with asyncio.timeout(3.0), open_client(*self._env.admin) as client:
                yield client

    async def _operate(self) -> None:
        """Let an operator pause, resume, plan and apply, and go away in the middle of it."""
        app = self._app()
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with self._client() as client:
                match self._chance.choice(["pause", "resume", "resume", "reconcile", "restore"]):
                    case "pause":
                        await client.pause()
                    case "resume":
                        await client.resume()
                    case "reconcile":
                        plan = await client.plan(Filters(), PlanOptions(include_pinned=True))
                        await self._follow(client, plan)
                    case _ if app is not None:
                        chosen = Filters(apps=(app.owner.app_name,))
                        await self._follow(client, await client.plan(chosen, PlanOptions("source")))

    async def _follow(self, client: AdminClient, plan: PlanDocument) -> None:
        left = self._chance.randint(0, 10)
        async with contextlib.aclosing(client.apply(plan, None)) as news:
            async for _ in news:
                left -= 1
                if left < 0:
                    return

    async def _resume(self) -> None:
        """Have the daemon go on, whoever paused it."""
        assert self._daemon is not None
        async with open_client(*self._env.admin) as client:
            await client.resume()

    async def _fail_over(self) -> None:
        await self._env.bbs.fail_over(self._chance.uniform(0.0, 1.0), self._chance.uniform(0.0, 0.5))

    async def _lose_events(self) -> None:
        bus = self._env.bbs.state.events
        bus.losing = True
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        bus.losing = False
        for stream in list(self._env.bbs.streams):
            stream.end()

    async def _reset_streams(self) -> None:
        for stream in list(self._env.bbs.streams):
            stream.reset()

    async def _fail_calls(self) -> None:
        path = self._chance.choice(WRITES if self._chance.random() < 0.7 else READS)
        fault = self._chance.choice(list(Fault))
        self._env.bbs.faults.order(fault, path, calls=self._chance.randint(1, 2))

    async def _lose_stop(self) -> None:
        cell = self._chance.choice(self._env.cells)
        if self._chance.random() < 0.5:
            cell.lost_stops = 1
        else:
            cell.refused_stops = 1

    async def _crash(self) -> None:
        cell = self._chance.choice(self._env.cells)
        running = [each for each in cell.instances.values() if each.is_running]
        if not running:
            return
        key = self._chance.choice(running).key
        self.invariants.will_crash(key.process_guid)
        self.invariants.note(f"crash of {key.process_guid}/{key.index}")
        with contextlib.suppress(BbsError):  # its LRP is gone
            cell.crash(key.process_guid, key.index)

    async def _clean(self) -> None:
        """Let a cell forget the layers that it does not use, so that it must pull them again."""
        self._chance.choice(self._env.cells).clean()

    async def _change_speed(self) -> None:
        """Let a cell take as long for the start of an instance as it sees fit."""
        self._chance.choice(self._env.cells).settings.start_delay = self._chance.choice(START_DELAYS)

    async def _cut_off_cache(self) -> None:
        """Let some cells, or all, not pull from the private registry for a while."""
        conditions: list[Condition] = [
            Refused(),
            Refused(),
            UnknownHost(),
            Answers(500),
            Answers(404),
            Hangs(),
            Hangs(layers_only=True),
            Slow(self._chance.uniform(0.5, 6.0)),
        ]
        with contextlib.suppress(TimeoutError):  # else nothing would be migrated
            await until(self._are_cells_proven, min(PROOF_WITHIN, self._end - time.monotonic()))
        for _ in range(self._chance.choice([0, 3, 6])):
            self.happened["restarts before a cut"] += 1
            await self._restart()
        await asyncio.sleep(self._chance.uniform(0.0, 0.5))
        await self._cut_off(self._env.cache, "cache", self._chance.choice(conditions))

    def _are_cells_proven(self) -> bool:
        """Whether the last canary has shown that cells can pull, as far as the daemon's log tells."""
        lines = self._daemon.lines if self._daemon is not None else []
        said = (line["message"] for line in reversed(lines) if ".canary." in line.get("message", ""))
        return next(said, "") == "docker-cache.canary.cells-can-pull"

    async def _cut_off_source(self) -> None:
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
        self.happened[what] += 1
        self.invariants.note(what)
        self._env.impose(registry, condition, *cells)
        await asyncio.sleep(min(seconds, self._end - time.monotonic()))
        self._env.mend(registry, *cells)
        self.invariants.note(f"{name} mended")

    async def _check_claims(self) -> None:
        """Ask the daemon which apps run from their copies, and read in its log which it has migrated."""
        daemon, asked_at = self._daemon, time.monotonic()
        if daemon is None or not self.downtime.is_daemon_up:
            return
        lines, self._lines = daemon.lines[self._lines :], len(daemon.lines)
        for line in lines:
            if line.get("message") == "docker-cache.reconciler.reconciled":
                data = line["data"]
                if data["reason"] == "migrated":
                    said_at = asked_at - (datetime.now(UTC) - _time_of(line)).total_seconds()
                    self.downtime.check_claim(data["process-guid"], "its log", said_at)
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with self._client() as client:
                rows = await client.list_apps(Filters(), ["cached"])
                self.happened["apps called cached"] += len(rows)
                for row in rows:
                    self.downtime.check_claim(row["process_guid"], "its API", asked_at)

    def _app(self) -> App | None:
        """Choose an app that is not down: an outage is to last as long as the daemon lets it."""
        apps = self._env.cloud.apps.values()
        started = [app for app in apps if app.is_started and not self.downtime.is_down(app)]
        return self._chance.choice(started) if started else None

    async def _scale(self) -> None:
        app = self._app()
        if app is not None:
            instances = self._chance.randint(1, 4)
            self.invariants.will_scale(app, instances)
            self.invariants.note(f"{app.process_guid}: {app.instances} to {instances}")
            await self._env.cloud.scale(app, instances)

    async def _map_route(self) -> None:
        app = self._app()
        if app is not None:
            await self._env.cloud.map_route(app, f"r{self._chance.randrange(10**6)}.apps.example.com")

    async def _restart(self) -> None:
        app = self._app()
        if app is not None:
            await self._env.cloud.restart(app)

    async def _put_back(self) -> None:
        """Stop and start under the same version, as nobody but a test would: it runs from the source again."""
        app = self._app()
        if app is None:
            return
        self.invariants.note(f"put back {app.process_guid}")
        await self._env.cloud.stop(app)
        app.is_started = True
        await self._env.cloud.sync()

    async def _stop(self) -> None:
        app = self._app()
        if app is not None:
            await self._env.cloud.stop(app)
            await self._push()

    async def _delete(self) -> None:
        app = self._app()
        if app is not None:
            await self._env.cloud.delete(app)

    async def _start_one(self) -> None:
        """Push an app, or restart one: those that start are migrated at once, and differently."""
        if self._chance.random() < 0.4:
            self.happened["restarts"] += 1
            await self._restart()
            return
        self.happened["pushes"] += 1
        if len(self._env.cloud.apps) > 1.5 * self._apps:
            await self._delete()
        await self._push()

    async def _push(self) -> None:
        """Push an app, often with an image of which there is a copy."""
        self._names += 1
        number = self._names
        if not self._references or self._chance.random() < 0.3:
            image = images.image([images.layer(1000, number)])
            self._references.append(
                await asyncio.to_thread(self._env.source.push, f"team/web-{number}", "1", image)
            )
        app = self._env.cloud.create(f"app-{number}", Image(self._chance.choice(self._references)))
        app.droplet, app.instances = app.package, self._chance.randint(1, 4)
        if self._chance.random() < 0.8:  # else as before the daemon was installed
            await self._env.cloud.staged(app, await self._env.cloud.stage(app))
        await self._env.cloud.start_app(app)


def _time_of(line: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


async def run_round(
    seed: int, seconds: float, directory: Path, *, apps: int = 10, operators: bool = False
) -> Report:
    """Run one seed in an environment of its own."""
    versions = list(Version)
    async with open_environment(
        directory,
        version=versions[seed % len(versions)],
        start_delay=START_DELAYS[1],
        pulls=False,
        cells=3,
        sync_interval=ROUND,
        converge_interval=ROUND,
        limits=LIMITS,
    ) as env:
        env.bbs.state.crash_backoff = env.bbs.state.stale_unclaimed = ROUND
        env.bbs.rep_timeout /= SCALE
        for cell in env.cells:
            cell.settings.poll_interval /= SCALE
            cell.settings.first_pause /= SCALE
            cell.settings.task_delay = STAGING
        env.settings |= {
            "communication_timeout": f"{COMMUNICATION_TIMEOUT}s",
            "bridge_timeout": f"{BRIDGE_TIMEOUT}s",
            "start_timeout": f"{START_TIMEOUT}s",
            "drain_delay": "0.1s",
            "sync_interval": f"{SWEEP}s",
            "max_consecutive_failures": 1000,
        }
        report = await Chaos(env, seed, apps=apps, operators=operators).run(seconds)
        if report.violations:
            (directory / "violations.log").write_text("\n".join([*report.violations, *report.told]))
        return report
