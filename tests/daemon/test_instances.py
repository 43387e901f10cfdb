"""Several instances on one database: the active one is killed, frozen and cut off, and no app notices."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests import databases
from tests.daemon.environment import PATIENCE, Environment, open_environment, until
from tests.daemon.instances import LOCK_TTL, LOST_LOCK, Instance, Instances, open_instances
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Fault, Version
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.simulators.registry.faults import Fault as RegistryFault
from tests.simulators.registry.faults import Meanwhile

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])
REMOVE = "/v1/desired_lrp/remove"
PHASES = ("prepared", "bridging", "bridged", "removing", "removed", "starting", "removing-bridge")
"""Of a replacement, in their order."""
READING = ("/list", "/get", "/ping", "/events")


@pytest.fixture
async def env(version: Version, limits: Mapping[str, float], tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        faulty_source=True,
        faulty_cache=True,
        start_delay=0.05,
        pulls=False,
        sync_interval=1.0,
        converge_interval=1.0,
        limits=limits,
    ) as opened:
        opened.settings["sync_interval"] = "1s"
        yield opened


@pytest.fixture
def count() -> int:
    """Say how many instances there are."""
    return 2


@pytest.fixture
async def instances(env: Environment, count: int, worker_id: str) -> AsyncIterator[Instances]:
    """Have the first one active, and the others as standbys."""
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    async with open_instances(env, url, count) as opened:
        for instance in opened.all:
            instance.start()
            await (opened.active() if instance is opened.all[0] else stands_by(instance))
        yield opened


async def stands_by(instance: Instance) -> None:
    """Wait until an instance runs as a standby."""
    await until(lambda: bool(instance.daemons))
    await instance.daemon.logged("leadership.lock-is-held")


@asynccontextmanager
async def watched(env: Environment) -> AsyncIterator[Invariants]:
    """Watch the apps for the length of a block, which ends well only without a violation."""
    invariants = Invariants(env.bbs, env.cells, env.cloud)
    with invariants.watching():
        yield invariants
        await until(lambda: not invariants.unrest())
    assert (invariants.told or invariants.violations) == []


async def push(env: Environment, name: str, *, sample: images.Image = SAMPLE) -> App:
    """Push an app and wait until it runs from its source; its image is cached as soon as a daemon runs."""
    reference = await asyncio.to_thread(env.source.push, "team/web", "1", sample)
    app = env.cloud.create(name, Image(reference))
    app.droplet, app.instances = app.package, 2
    await env.cloud.start_app(app)
    await until(lambda: len(env.rows(app)) == 2 and all(row.state == "RUNNING" for row in env.rows(app)))
    return app


async def moved(env: Environment, *apps: App) -> None:
    """Wait until apps run from the cache and no bridge is left."""
    await until(lambda: all(env.is_from_cache(app) for app in apps))
    await until(lambda: not any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired))


@contextmanager
def held_registry(env: Environment) -> Iterator[threading.Event]:
    """Let the private registry answer nothing about copies until the block ends; the event says that it was asked."""
    asked, released = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        released.wait(PATIENCE)

    faults = [RegistryFault(method, "/manifests/", Meanwhile(hold), times=None) for method in ("HEAD", "GET")]
    env.cache.faults.faults += faults
    try:
        yield asked
    finally:
        for fault in faults:
            env.cache.faults.faults.remove(fault)
        released.set()


async def killed_in(instances: Instances, phase: str, name: str) -> tuple[App, Instance]:
    """Push an app, and kill whoever migrates it in a phase of that; give the app and the instance."""
    env = instances.env
    if phase == "prepared":
        with held_registry(env) as asked:
            app = await push(env, name)
            await until(asked.is_set)
            killed = await instances.active()
            await killed.kill()
        return app, killed
    if phase == "removing":
        before = env.bbs.faults.happened[Fault.HANG]
        env.bbs.faults.order(Fault.HANG, REMOVE)
        app = await push(env, name)
        await until(lambda: env.bbs.faults.happened[Fault.HANG] > before)
        killed = await instances.active()
        await killed.kill()
        return app, killed
    app = await push(env, name)
    reason = "desire-unconfirmed" if phase == "starting" else phase
    killed, _ = await instances.logged("reconciler.reconciled", process_guid=app.process_guid, reason=reason)
    await killed.kill()
    return app, killed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
async def test_whichever_phase_the_active_one_is_killed_in_another_one_goes_on(
    env: Environment, instances: Instances
) -> None:
    env.cell.settings.stop_delay = 0.3
    async with watched(env):
        await moved(env, await push(env, "web"))  # the others have the same image, and meet its copy
        for phase in PHASES:
            app, killed = await killed_in(instances, phase, f"web-{phase}")
            taker = await instances.active(but=killed)
            await moved(env, app)
            assert taker.daemon.named("daemon.became-active")
            killed.start()
            await stands_by(killed)


@pytest.mark.slow
async def test_after_a_clean_stop_the_first_attempt_of_the_standby_takes_the_lock(
    env: Environment, instances: Instances
) -> None:
    stopped = await instances.active()
    (standby,) = instances.others(stopped)
    calls = instances.locket.calls

    assert await stopped.stop() == 0
    await instances.active(but=stopped)
    methods = [(call.method, call.owner.partition("-")[0]) for call in calls if call.method != "Fetch"]
    assert methods[methods.index(("Release", stopped.name)) + 1] == ("Lock", standby.name)
    assert len(standby.daemon.named("leadership.acquired-lock")) == 1
