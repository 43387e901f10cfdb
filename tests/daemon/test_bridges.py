"""Apps that run are moved without a moment in which they have fewer instances than before."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate, ProtoRoutes
from tests.daemon.conftest import both_versions
from tests.daemon.environment import PATIENCE, DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Fault, Version, actual, desired
from tests.simulators.bbs.state import upsert_domain
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])
REMOVE = "/v1/desired_lrp/remove"


OWNER_INTERVAL = 30.0
"""Seconds between Cloud Controller's syncs, as a real one has them.

A short interval on a slow machine lets a sync fall between removal and desire several rounds in a row.
"""


@pytest.fixture
async def env(version: Version, limits: Mapping[str, float], tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.05,
        pulls=False,
        sync_interval=OWNER_INTERVAL,
        converge_interval=1.0,
        limits=limits,
    ) as opened:
        opened.settings["sync_interval"] = "1s"
        yield opened


@asynccontextmanager
async def watched(env: Environment) -> AsyncIterator[Invariants]:
    """Watch the apps for the length of a block, which ends well only without a violation."""
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    with invariants.watching():
        yield invariants
    assert invariants.violations == []


async def running_app(env: Environment, name: str = "web", *, instances: int = 2) -> App:
    """Push an app and wait until it runs from its source; its image is cached as soon as a daemon runs."""
    reference = await asyncio.to_thread(env.source.push, f"team/{name}", "1", SAMPLE)
    app = env.cloud.create(name, Image(reference))
    app.droplet, app.instances = app.package, instances
    await env.cloud.start_app(app)
    await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * instances)
    return app


def bridge(env: Environment, app: App) -> DesiredLRP | None:
    return env.bbs.state.desired.get(BRIDGE_PREFIX + app.process_guid)


def bridge_rows(env: Environment, app: App) -> list[str]:
    guid = BRIDGE_PREFIX + app.process_guid
    return [row.state for row in env.bbs.state.rows() if row.actual_lrp_key.process_guid == guid]


async def moved(env: Environment, *apps: App, seconds: float = PATIENCE) -> None:
    """Wait until apps run from the cache and no bridge is left."""
    await until(lambda: all(env.is_from_cache(app) for app in apps), seconds=seconds)
    await until(lambda: not any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired))


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
async def test_many_running_apps_are_moved_and_no_instance_is_missed(
    env: Environment, count: int, record_property: Callable[[str, object], None]
) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    chance = random.Random(4)
    apps = []
    for n in range(count):
        app = env.cloud.create(f"app-{n}", Image(reference))
        app.droplet, app.instances = app.package, chance.randint(1, 5)
        await env.cloud.start_app(app)
        apps.append(app)
    instances = sum(app.instances for app in apps)
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    await until(lambda: sum(invariants.serving().values()) == instances)
    with invariants.watching():
        assert sum(invariants.held.values()) == instances
        daemon = await env.started_daemon()
        await moved(env, *apps, seconds=450.0)
        lines = [(await daemon.logged("reconciler.migrated", app_guid=app.guid))["data"] for app in apps]
    invariants.check_end()
    record_property(
        "figures",
        f"{len(apps)} apps with {instances} instances moved, {len(invariants.bridges)} bridges, "
        f"{invariants.looks} looks, moments with fewer instances than before: {len(invariants.violations)}",
    )

    assert invariants.violations == []
    assert min(invariants.lowest.values()) == 0
    assert len(invariants.bridges) == len(apps)
    assert [line["lowest-instances"] for line in lines] == [app.instances for app in apps]


@both_versions
async def test_the_naive_order_is_seen_as_an_outage(env: Environment) -> None:
    """What all the care is for, and the proof that the watch over it can see."""
    app = await running_app(env, instances=3)
    invariants = Invariants(env.bbs, [env.cell], env.cloud)
    with invariants.watching():
        definition = DesiredLRP()
        definition.CopyFrom(env.bbs.state.desired[app.process_guid])
        definition.root_fs = "docker://cache.example/x#latest"
        desired.remove(env.bbs.state, app.process_guid)
        desired.desire(env.bbs.state, definition)
        await until(lambda: env.running_from(app, definition.root_fs) == 3)

    assert invariants.violations == ["web: 0 of 3 instances serve"]


async def test_a_bridge_is_the_same_but_for_key_domain_image_and_a_tag(env: Environment) -> None:
    app = await running_app(env)
    env.cell.start_gate.clear()
    await env.started_daemon()
    await until(lambda: bridge(env, app) is not None)

    made, original = DesiredLRP(), DesiredLRP()
    found = bridge(env, app)
    assert found is not None
    made.CopyFrom(found)
    original.CopyFrom(env.bbs.state.desired[app.process_guid])
    assert made.domain == "docker-cache-bridge"
    assert made.root_fs.startswith(f"docker://{env.cache.address}/")
    assert "docker-cache-bridge" in env.bbs.state.fresh_domains()
    assert made.metric_tags.pop("docker_cache_bridge").static == "true"
    for message in (made, original):
        for name in ("process_guid", "domain", "root_fs", "modification_tag"):
            message.ClearField(name)
    assert made == original
    env.cell.start_gate.set()
    await moved(env, app)


PHASES = ["bridging", "bridged", "removed", "starting", "removing-bridge"]


async def reached(daemon: DaemonProcess, app: App, phase: str) -> None:
    """Wait for the first pass in a phase.

    On a busy machine the instances run before a pass can wait for them to start: the pass that desired the
    LRP tells that it starts.
    """
    reason = "desire-unconfirmed" if phase == "starting" else phase
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason=reason)


@pytest.mark.parametrize("phase", PHASES)
async def test_killed_in_any_phase_it_goes_on_and_the_app_notices_nothing(
    env: Environment, phase: str
) -> None:
    env.cell.settings.stop_delay = 0.3
    app = await running_app(env, instances=3)
    async with watched(env):
        daemon = await env.start_daemon()
        await reached(daemon, app, phase)
        await daemon.kill()
        again = await env.start_daemon()
        await again.logged("reconciler.resuming-migration", process_guid=app.process_guid)
        await moved(env, app)


@pytest.mark.parametrize("phase", ["bridging", "removed"])
async def test_drained_it_ends_once_the_app_is_migrated(env: Environment, phase: str) -> None:
    env.cell.settings.stop_delay = 0.3
    app = await running_app(env, instances=3)
    async with watched(env):
        daemon = await env.start_daemon()
        await reached(daemon, app, phase)
        daemon.signal_drain()
        await daemon.logged("daemon.received-signal", signal="SIGUSR2")  # of two at once SIGHUP comes first
        daemon.signal_reload()  # it does not begin anew instead

        assert await daemon.ended() == 0
        assert daemon.named("reconciler.left-migrations-open") == []
        assert daemon.named("reconciler.migrated")
        await moved(env, app)


async def test_a_drain_that_takes_too_long_is_ended_as_any_process(env: Environment) -> None:
    app = await running_app(env)
    async with watched(env):
        env.cell.start_gate.clear()
        daemon = await env.start_daemon()
        await reached(daemon, app, "bridging")
        daemon.signal_drain()
        await daemon.logged("daemon.received-signal", signal="SIGUSR2")

        assert await daemon.stop() == 0
        await daemon.logged("reconciler.left-migrations-open")
        env.cell.start_gate.set()
        await env.start_daemon()
        await moved(env, app)


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_killed_around_the_removal_it_goes_on(env: Environment, takes_effect: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """The row says "removing", and only the BBS knows whether it was."""
    app = await running_app(env)
    env.bbs.faults.order(Fault.HANG, REMOVE)
    async with watched(env):
        daemon = await env.started_daemon()
        await until(lambda: env.bbs.faults.happened[Fault.HANG] == 1)
        await daemon.kill()
        if takes_effect:
            desired.remove(env.bbs.state, app.process_guid)
        await env.start_daemon()
        await moved(env, app)


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.DROP_BEFORE, Fault.UNAVAILABLE])
@pytest.mark.parametrize("path", [REMOVE, "/v1/desired_lrp/desire.r2"])
async def test_an_answer_that_is_lost_costs_no_instance(env: Environment, fault: Fault, path: str) -> None:
    """The first desire is the bridge's, the second the app's own; the first removal is the app's."""
    app = await running_app(env)
    async with watched(env):
        daemon = await env.started_daemon()
        if path != REMOVE:
            await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="bridged")
        env.bbs.faults.order(fault, path)
        await moved(env, app)


async def test_a_failover_in_mid_phase_costs_no_instance(env: Environment) -> None:
    env.cell.settings.stop_delay = 0.5
    app = await running_app(env, instances=3)
    async with watched(env):
        daemon = await env.started_daemon()
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="removed")
        await env.bbs.fail_over(1.0, 0.5)
        await moved(env, app)


@both_versions
async def test_stops_that_are_lost_are_made_good(env: Environment) -> None:
    app = await running_app(env, instances=3)
    env.cell.lost_stops = 2
    async with watched(env):
        await env.started_daemon()
        await moved(env, app)
    assert env.running_from(app, env.bbs.state.desired[app.process_guid].root_fs) == 3


@both_versions
async def test_an_instance_that_comes_back_with_a_late_heartbeat_is_retired(env: Environment) -> None:
    """Its row says RUNNING, and nothing but its GUID tells that it runs the old definition."""
    app = await running_app(env, instances=1)
    (old,) = list(env.cell.instances.values())
    daemon = await env.started_daemon()
    await moved(env, app)
    rootfs = env.bbs.state.desired[app.process_guid].root_fs
    await until(lambda: env.running_from(app, rootfs) == 1)
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="migrated")
    # The new container ends, and the old cell says again what it knows before another one starts.
    key = old.key
    env.cell.crash(key.process_guid, 0)
    env.cell.instances[old.instance_key.instance_guid] = old
    old.is_running, old.is_stopping = True, False
    actual.start(env.bbs.state, env.cell.containers.start_request(old))

    await daemon.logged(
        "reconciler.reconciled", process_guid=app.process_guid, reason="retired-stale-instances"
    )
    await until(lambda: env.running_from(app, rootfs) == 1)


class TestOwnersAtWork:
    """Cloud Controller changes the app at any moment of a migration."""

    @pytest.mark.parametrize("phase", PHASES)
    async def test_scaling_and_new_routes_survive(self, env: Environment, phase: str) -> None:
        env.cell.settings.stop_delay = 0.3
        app = await running_app(env)
        async with watched(env) as invariants:
            daemon = await env.started_daemon()
            await reached(daemon, app, phase)
            await env.cloud.scale(app, 4)
            await env.cloud.map_route(app, "second.apps.example.com")
            await moved(env, app)
            await until(lambda: not invariants.unrest())
        assert (
            b"second.apps.example.com" in env.bbs.state.desired[app.process_guid].routes.routes["cf-router"]
        )

    @pytest.mark.parametrize("phase", PHASES)
    async def test_an_app_that_is_deleted_goes_with_its_bridge(self, env: Environment, phase: str) -> None:
        env.cell.settings.stop_delay = 0.3
        app = await running_app(env)
        daemon = await env.started_daemon()
        await reached(daemon, app, phase)
        await env.cloud.delete(app)
        env.cloud.spawn(env.cloud.sync_forever(1.0))  # not before, or syncs would revert the migration

        await until(lambda: not env.bbs.state.desired and not list(env.bbs.state.rows()))
        syncs, sweeps = env.cloud.syncs, len(daemon.named("watcher.listed-bbs"))
        await until(lambda: env.cloud.syncs >= syncs + 2)
        await daemon.logged("watcher.listed-bbs", count=sweeps + 2)
        assert not env.bbs.state.desired, "nothing comes back"

    async def test_an_owner_who_keeps_putting_it_back_is_left_alone_after_three_rounds(
        self, env: Environment
    ) -> None:
        app = await running_app(env)
        async with watched(env):
            daemon = await env.started_daemon()

            def put_back() -> None:
                """Desire it from its source as soon as it is away."""
                if app.process_guid not in env.bbs.state.desired and not env.rows(app):
                    desired.desire(env.bbs.state, env.cloud.definition(app))

            env.bbs.state.events.observers.append(put_back)
            await daemon.logged(
                "reconciler.reconciled", process_guid=app.process_guid, reason="reverted-externally"
            )
            await until(lambda: bridge(env, app) is None)
        assert env.bbs.state.desired[app.process_guid].root_fs == f"docker://{env.source.address}/team/web#1"
        await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * 2)


class TestWhenACopyDoesNotRun:
    async def test_the_app_stays_and_no_other_is_moved_before_the_copy_was_read_back(
        self, env: Environment
    ) -> None:
        """The bridge is the test of the copy: what crashes in it never replaces what runs."""
        first = await running_app(env, "web")
        tag = env.bbs.state.desired[first.process_guid].modification_tag.epoch
        env.cell.settings.crash_reason = lambda lrp: "broken" if lrp.domain == "docker-cache-bridge" else ""
        async with watched(env):
            daemon = await env.started_daemon()
            await daemon.logged(
                "reconciler.reconciled", process_guid=first.process_guid, reason="bridge-crashed"
            )
            await until(lambda: bridge(env, first) is None)
            assert env.bbs.state.desired[first.process_guid].modification_tag.epoch == tag

            env.cell.settings.crash_reason = lambda _lrp: ""
            second = await running_app(env, "other")  # the same content
            await daemon.logged("verifier.verified-copy")
            await moved(env, second)
        assert not env.is_from_cache(first)

    async def test_after_two_in_a_row_no_app_like_them_is_moved_until_an_operator_says_so(
        self, env: Environment
    ) -> None:
        env.settings |= {"max_in_flight": 1, "max_consecutive_failures": 2, "bridge_timeout": "1s"}
        apps = [await running_app(env, f"web-{n}", instances=1) for n in range(4)]
        env.cell.start_gate.clear()  # no bridge ever runs
        async with watched(env):
            daemon = await env.started_daemon()
            await daemon.logged("reconciler.set-migrations-aside")  # all are of one organization
            waiting = await daemon.logged("reconciler.reconciled", reason="similar-migrations-failed")
            assert "bridge-timeout" in waiting["data"]["detail"]
            reasons = [row["reason"] for row in (await Operator(env).runs("apps")).rows]
            assert reasons.count("bridge-timeout") == 2

            env.cell.start_gate.set()
            daemon.signal_user()
            await daemon.logged("reconciler.reset-circuit-breaker")
            await until(lambda: sum(map(env.is_from_cache, apps)) == 2)


async def test_without_a_journal_key_running_apps_are_left_alone_with_a_warning(env: Environment) -> None:
    del env.settings["journal_key_file"]
    app = await running_app(env)
    daemon = await env.started_daemon()

    line = await daemon.logged(
        "reconciler.reconciled", process_guid=app.process_guid, reason="waiting-until-stopped"
    )
    assert "journal_key_file" in line["data"]["detail"]
    assert any("no LRP is migrated while it runs" in str(line.get("data")) for line in daemon.lines)


async def test_the_operator_excepts_an_org(env: Environment) -> None:
    env.settings["migrate_running_rules"] = [{"org": "acme", "migrate_running": "never"}]
    app = await running_app(env)
    daemon = await env.started_daemon()

    line = await daemon.logged(
        "reconciler.reconciled", process_guid=app.process_guid, reason="waiting-until-stopped"
    )
    assert line["data"]["detail"] == "migrate_running is never"


async def test_a_bridge_whose_record_was_lost_is_removed_once_it_is_not_needed(env: Environment) -> None:
    app = await running_app(env)
    env.settings["migrate_running"] = "never"
    left = DesiredLRP()
    left.CopyFrom(env.bbs.state.desired[app.process_guid])
    left.process_guid, left.domain = BRIDGE_PREFIX + app.process_guid, "docker-cache-bridge"
    upsert_domain(env.bbs.state, "docker-cache-bridge", 120)
    desired.desire(env.bbs.state, left)
    await until(lambda: bridge_rows(env, app) == ["RUNNING"] * 2)
    async with watched(env):
        daemon = await env.started_daemon()
        await daemon.logged("reconciler.checked-orphaned-bridge", reason="orphaned-bridge")
        await until(lambda: bridge(env, app) is None)


async def test_an_app_without_routes_whose_record_was_lost_gets_them_back_from_its_bridge(
    env: Environment,
) -> None:
    """A daemon had taken them away to remove the app, and its store is gone."""
    app = await running_app(env)
    env.settings["migrate_running"] = "never"
    owned = env.bbs.state.desired[app.process_guid]
    left = DesiredLRP()
    left.CopyFrom(owned)
    left.process_guid, left.domain = BRIDGE_PREFIX + app.process_guid, "docker-cache-bridge"
    upsert_domain(env.bbs.state, "docker-cache-bridge", 120)
    desired.desire(env.bbs.state, left)
    await until(lambda: bridge_rows(env, app) == ["RUNNING"] * 2)
    routes = dict(owned.routes.routes)
    kept = {key: route for key, route in routes.items() if key == "diego-ssh"}
    assert kept != routes
    desired.update(env.bbs.state, app.process_guid, DesiredLRPUpdate(routes=ProtoRoutes(routes=kept)))
    async with watched(env):
        daemon = await env.started_daemon()
        line = await daemon.logged("reconciler.checked-orphaned-bridge", reason="bridge-in-use")
        await daemon.logged("reconciler.checked-orphaned-bridge", reason="orphaned-bridge")
        await until(lambda: bridge(env, app) is None)

    assert "routes back" in line["data"]["detail"]
    assert dict(env.bbs.state.desired[app.process_guid].routes.routes) == routes
