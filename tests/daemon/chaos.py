"""Lets everything go wrong at once around the daemon's process, from one seed, and watches the apps.

The daemon is killed, the BBS restarts, loses events and answers, cells lose stops and crash instances,
and owners push, scale, re-route, restart, stop and delete their apps meanwhile.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.admin.admin_client import AdminClient, open_client
from controller.admin.documents import PlanDocument
from controller.admin.request_options import Filters, PlanOptions
from reconcile.errors import DockerCacheError
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import Invariants
from tests.simulators import images
from tests.simulators.bbs import Fault, Version
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.faults import ANY_PATH
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
REST = 200.0
"""Seconds in which all must have come to rest when nothing goes wrong any more."""


@dataclass
class Report:
    """What a run came to."""

    seed: int
    seconds: float
    happened: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.happened.items()))
        return f"seed {self.seed}, {self.seconds:.0f} s: {counts}; {len(self.violations)} violations"


class Chaos:
    """One run of it."""

    def __init__(self, env: Environment, seed: int, *, apps: int = 10, operators: bool = False) -> None:
        self._env, self._seed, self._apps, self._has_operators = env, seed, apps, operators
        self._chance = random.Random(seed)
        self._daemon: DaemonProcess | None = None
        self._replaced = Counter[str]()
        self.invariants = Invariants(env.bbs, [env.cell], env.cloud)
        self.happened = Counter[str]()
        self._reference = ""
        self._names = 0

    async def run(self, seconds: float) -> Report:
        """Push some apps, let all go wrong for a while, and wait for rest."""
        env, begun = self._env, time.monotonic()
        sample = images.image([images.layer(1000, 1)])
        self._reference = await asyncio.to_thread(env.source.push, "team/web", "1", sample)
        for _ in range(self._apps):
            await self._push()
        with self.invariants.watching():
            await self._start()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._repeat(self._kill, 2.0, until=begun + seconds))
                group.create_task(self._repeat(self._disturb, 0.3, until=begun + seconds))
            await self._rest()
        assert self._daemon is not None
        self._count(self._daemon)
        status = await self._daemon.stop()
        self.happened |= self._replaced
        self.happened["bridges"] = len(self.invariants.bridges)
        self.happened["looks at all apps"] = self.invariants.looks
        violations = self.invariants.violations + ([f"the daemon ended with {status}"] if status else [])
        return Report(self._seed, time.monotonic() - begun, self.happened, violations, self.invariants.told)

    async def _repeat(self, act: Callable[[], Awaitable[None]], pause: float, *, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(0.0, pause))
            await act()

    async def _rest(self) -> None:
        """Let nothing go wrong any more, and wait until all is as its owners want."""
        env = self._env
        env.bbs.faults.clear()
        env.bbs.state.events.losing = False
        env.cell.lost_stops = env.cell.refused_stops = 0
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
            (5, "scalings", self._scale),
            (3, "routes mapped", self._map_route),
            (4, "restarts", self._restart),
            (5, "put back", self._put_back),
            (1, "stops", self._stop),
            (1, "deletions", self._delete),
            (2, "pushes", self._push),
        ]
        if self._has_operators:
            kinds.append((6, "operators' calls", self._operate))
        _, name, act = self._chance.choices(kinds, [weight for weight, _, _ in kinds])[0]
        self.happened[name] += 1
        self.invariants.note(name)
        await act()

    async def _start(self) -> None:
        self._daemon = await self._env.start_daemon()

    def _count(self, daemon: DaemonProcess) -> None:
        for line in daemon.lines:
            if line.get("message") == "docker-cache.reconciler.reconciled":
                reason = str(line["data"]["reason"])
                if reason in {
                    "migrated",
                    "reverted-externally",
                    "bridge-timeout",
                    "bridge-crashed",
                    "not-healthy",
                }:
                    self._replaced[reason] += 1

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
        await daemon.kill()
        self._count(daemon)
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.uniform(0.0, 2.0))
        await self._start()

    async def _operate(self) -> None:
        """Let an operator pause, resume, plan and apply, and go away in the middle of it."""
        app = self._app()
        with contextlib.suppress(DockerCacheError, TimeoutError):
            async with asyncio.timeout(3.0), open_client(*self._env.admin) as client:
                match self._chance.choice(["pause", "resume", "reconcile", "restore"]):
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
        if self._chance.random() < 0.5:
            self._env.cell.lost_stops = 1
        else:
            self._env.cell.refused_stops = 1

    async def _crash(self) -> None:
        running = [each for each in self._env.cell.instances.values() if each.is_running]
        if not running:
            return
        key = self._chance.choice(running).key
        self.invariants.will_crash(key.process_guid)
        self.invariants.note(f"crash of {key.process_guid}/{key.index}")
        with contextlib.suppress(BbsError):  # its LRP is gone
            self._env.cell.crash(key.process_guid, key.index)

    def _app(self) -> App | None:
        started = [app for app in self._env.cloud.apps.values() if app.is_started]
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
        self.invariants.will_restart(app)
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
            await self._push()

    async def _push(self) -> None:
        self._names += 1
        app = self._env.cloud.create(f"app-{self._names}", Image(self._reference))
        app.droplet, app.instances = app.package, self._chance.randint(1, 4)
        await self._env.cloud.start_app(app)


async def run_round(
    seed: int,
    seconds: float,
    directory: Path,
    *,
    operators: bool = False,
    limits: Mapping[str, float] | None = None,
) -> Report:
    """Run one seed in an environment of its own; with limits, whose those of the daemon are to be."""
    versions = list(Version)
    async with open_environment(
        directory,
        version=versions[seed % len(versions)],
        start_delay=0.1,
        pulls=False,
        sync_interval=1.0,
        converge_interval=1.0,
        limits=limits,
    ) as env:
        env.settings |= {"communication_timeout": "1s", "bridge_timeout": "20s", "start_timeout": "20s"}
        env.settings |= {"sync_interval": "1s", "max_consecutive_failures": 1000, "log_level": "debug"}
        report = await Chaos(env, seed, operators=operators).run(seconds)
        if report.violations:
            (directory / "violations.log").write_text("\n".join([*report.violations, *report.told]))
        return report
