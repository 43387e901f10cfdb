"""Several instances on one database: the active one is killed, frozen and cut off, and no app notices."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from controller.leadership.lease import boot_time
from controller.store.leadership_tables import terms
from controller.store.tables import metadata
from tests import databases
from tests.daemon.environment import PATIENCE, DaemonProcess, Environment, open_environment, until
from tests.daemon.instances import LOCK_RETRY, LOCK_TTL, LOST_LOCK, Instance, Instances, open_instances
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Fault, Version
from tests.simulators.capi.faults import Afterwards
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.simulators.registry.faults import Fault as RegistryFault
from tests.simulators.registry.faults import Meanwhile

pytestmark = pytest.mark.thorough

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])
OTHER = images.image([images.layer(1000, 9)])
REMOVE = "/v1/desired_lrp/remove"
COPYING = "copying"
PHASES = ("prepared", "bridging", "bridged", "removing", "removed", "starting", "removing-bridge")
"""Of a replacement, in their order."""
SOME_PHASES = ("prepared", "bridged", "removed", "starting", "removing-bridge")
"""In "bridging" the active one is frozen and cut off by other tests."""
READING = ("/list", "/get", "/ping", "/events")
"""In the paths of calls that change nothing."""
TABLES = [table.name for table in (*metadata.sorted_tables, terms)]
WATCH_WRITES = (
    "CREATE TABLE seen_writes (address inet)",
    """CREATE FUNCTION see_write() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO seen_writes VALUES (inet_client_addr()); RETURN NULL; END $$""",
    *(
        f"CREATE TRIGGER see_write AFTER INSERT OR UPDATE OR DELETE ON {table} EXECUTE FUNCTION see_write()"
        for table in TABLES
    ),
)
WATCH_WRITES_NO_MORE = ("DROP FUNCTION see_write CASCADE", "DROP TABLE seen_writes")


KEEPS_LOCK = pytest.mark.parametrize("ttl", [4 * LOCK_TTL])
"""For an instance that must stay the active one while others keep the machine busy."""


@pytest.fixture
async def env(version: Version, limits: Mapping[str, float], tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        faulty_source=True,
        faulty_cache=True,
        start_delay=0.05,
        pulls=False,
        sync_interval=30.0,
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
def ttl() -> int:
    """Say for how many seconds the lock is kept."""
    return LOCK_TTL


@pytest.fixture
async def instances(env: Environment, count: int, ttl: int, worker_id: str) -> AsyncIterator[Instances]:
    """Have the first one active, and the others as standbys."""
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    async with open_instances(env, url, count, ttl=ttl) as opened:
        await opened.all[0].start()
        await opened.active()
        for instance in opened.all[1:]:
            await stand_by(instance)
        yield opened


async def stand_by(instance: Instance) -> DaemonProcess:
    """Start an instance, wait until it runs as a standby, and give the process."""
    daemon = await instance.start()
    await daemon.logged("leadership.lock-is-held")
    return daemon


@asynccontextmanager
async def watched(env: Environment) -> AsyncIterator[Invariants]:
    """Watch the apps for the length of a block, which ends well only without a violation."""
    invariants = Invariants(env.bbs, env.cells, env.cloud)
    with invariants.watching():
        yield invariants
        await until(lambda: not invariants.unrest())
    assert (invariants.details or invariants.violations) == []


async def push(
    env: Environment, name: str, repository: str = "team/web", sample: images.Image = SAMPLE
) -> App:
    """Push an app and wait until it runs from its source; its image is cached as soon as a daemon runs."""
    reference = await asyncio.to_thread(env.source.push, repository, "1", sample)
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
def held_when_prepared(instances: Instances) -> Iterator[threading.Event]:
    """Let the private registry answer nothing about the copy of a migration that is prepared.

    The event says that it was asked. The registry answers again when the block has ended.
    """
    asked, released, registry = threading.Event(), threading.Event(), instances.env.cache.faults

    def hold() -> None:
        if query(instances, "SELECT 1 FROM migrations WHERE phase = 'prepared'"):
            asked.set()
            released.wait(PATIENCE)

    fault = RegistryFault("HEAD", "/manifests/", Meanwhile(hold), times=None)
    registry.faults.append(fault)
    try:
        yield asked
    finally:
        registry.faults.remove(fault)
        released.set()


@contextmanager
def held_source(env: Environment, repository: str) -> Iterator[threading.Event]:
    """Let the source hold back layers until the block ends; the event says that it was asked for one."""
    asked, released = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        released.wait(PATIENCE)

    fault = RegistryFault("GET", f"/{repository}/blobs/", Meanwhile(hold), times=None)
    env.source.faults.faults.append(fault)
    try:
        yield asked
    finally:
        env.source.faults.faults.remove(fault)
        released.set()


@asynccontextmanager
async def watched_writes(instances: Instances) -> AsyncIterator[None]:
    """Let the database note from which address each statement comes that changes something, for a block."""
    await asyncio.to_thread(query, instances, *WATCH_WRITES)
    try:
        yield
    finally:
        await asyncio.to_thread(query, instances, *WATCH_WRITES_NO_MORE)


def writes_from(instances: Instances, instance: Instance) -> int:
    """Count the statements of an instance that have changed something, in transactions that were committed."""
    ((count,),) = query(instances, f"SELECT count(*) FROM seen_writes WHERE address = '{instance.address}'")
    return int(str(count))


def done_by(instances: Instances) -> list[tuple[int, int]]:
    """Count the requests of each instance to the BBS, and its statements that have changed something."""
    requests = instances.env.bbs.requests_from
    return [
        (
            sum(n for (address, _), n in requests.items() if address == each.address),
            writes_from(instances, each),
        )
        for each in instances.all
    ]


def changes(env: Environment, *, by: Instance | None = None) -> dict[str, int]:
    """Count the calls so far that may have changed something in the BBS, of all or of one, by path."""
    requests = env.bbs.requests_from
    calls = Counter[str]()
    for (address, path), number in requests.items():
        if (by is None or address == by.address) and not any(each in path for each in READING):
            calls[path] += number
    return calls


def query(instances: Instances, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in the database that the instances share, and return the rows of the last."""
    server = databases.run_server("postgresql")
    return server.execute(*statements, database=instances.database_url.rpartition("/")[2])


@contextmanager
def held_table(instances: Instances, table: str) -> Iterator[None]:
    """Let nobody read a table until the block ends."""
    server, name = databases.run_server("postgresql"), instances.database_url.rpartition("/")[2]
    with closing(server.connect(name)) as connection:
        connection.execute("BEGIN")
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.execute("COMMIT")


async def killed_in(instances: Instances, phase: str, name: str) -> tuple[App, Instance]:
    """Push an app, and kill whoever works for it, in a phase of that; give the app and the instance."""
    env = instances.env
    if phase == COPYING:
        repository = f"team/{COPYING}"
        with held_source(env, repository) as asked:
            app = await push(env, name, repository, OTHER)
            await until(asked.is_set)
            killed = await instances.active()
            await killed.kill()
        return app, killed
    if phase == "prepared":
        with held_when_prepared(instances) as asked:
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
@pytest.mark.parametrize(
    ("count", "phases"),
    [
        (2, SOME_PHASES),
        pytest.param(3, (COPYING, *PHASES), marks=pytest.mark.long),
    ],
    ids=["two", "three-in-each-phase"],
)
async def test_whichever_phase_the_active_one_is_killed_in_another_one_goes_on(
    env: Environment, instances: Instances, phases: Sequence[str]
) -> None:
    env.cell.settings.stop_delay = 0.3
    async with watched(env):
        await moved(env, await push(env, "web"))  # the others have the same image, and meet its copy
        for phase in phases:
            app, killed = await killed_in(instances, phase, f"web-{phase}")
            taker = await instances.active(but=killed)
            await moved(env, app)
            assert taker.daemon.named("daemon.became-active")
            await stand_by(killed)
    assert {row[0] for row in query(instances, "SELECT state FROM jobs")} == {"cached"}


async def test_without_locket_the_row_in_the_database_says_who_is_active(
    env: Environment, worker_id: str
) -> None:
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    async with open_instances(env, url, 2, in_locket=False) as instances, watched(env):
        first, second = instances.all
        killed = await first.start()
        await killed.logged("daemon.started")
        taker = await stand_by(second)
        web = await push(env, "web")
        env.cell.start_gate.clear()
        await killed.logged("reconciler.reconciled", process_guid=web.process_guid, reason="bridging")
        await first.kill()
        await taker.logged("daemon.became-active", term=2)
        again = await stand_by(first)

        second.hold()
        second.to_database.cut()
        assert await taker.ended() == LOST_LOCK
        await again.logged("daemon.became-active", term=3)
        env.cell.start_gate.set()
        await moved(env, web)


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


@pytest.mark.slow
async def test_one_that_stood_still_for_too_long_changes_nothing_any_more_and_ends(
    env: Environment, instances: Instances
) -> None:
    """Another one has taken over, and works, while it goes on in the middle of a migration."""
    async with watched(env), watched_writes(instances):
        web = await push(env, "web")
        env.cell.start_gate.clear()
        frozen, _ = await instances.logged(
            "reconciler.reconciled", process_guid=web.process_guid, reason="bridging"
        )
        frozen.daemon.freeze()
        taker = await instances.active(but=frozen)
        env.cell.start_gate.set()
        await moved(env, web)
        sent, written = changes(env, by=frozen), writes_from(instances, frozen)

        frozen.hold()
        frozen.daemon.thaw()
        assert await frozen.daemon.ended() == LOST_LOCK
        assert frozen.daemon.named("leadership.lost-lock")
        assert changes(env, by=frozen) == sent
        assert writes_from(instances, frozen) == written > 0
        assert await instances.active() is taker


async def test_without_locket_nobody_is_active_and_with_it_one_goes_on(
    env: Environment, instances: Instances
) -> None:
    active = await instances.active()
    async with watched(env):
        web = await push(env, "web")
        env.cell.start_gate.clear()
        await active.daemon.logged("reconciler.reconciled", process_guid=web.process_guid, reason="bridging")
        lost = active.daemon
        await instances.locket.kill()
        assert await lost.ended() == LOST_LOCK
        sent = changes(env)
        env.cell.start_gate.set()
        await instances.logged("leadership.failed-to-acquire-lock")
        assert changes(env) == sent

        await instances.locket.start()
        await moved(env, web)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("ttl", "retry_interval", "seconds"),
    [(LOCK_TTL, LOCK_RETRY, 12.0 * LOCK_TTL), (15, 5.0, 60.0)],
    ids=["twelve-lives", "a-minute"],
)
async def test_while_locket_is_down_for_long_nothing_is_written_and_no_app_loses_an_instance(
    env: Environment,
    worker_id: str,
    record_property: Callable[[str, object], None],
    ttl: int,
    retry_interval: float,
    seconds: float,
) -> None:
    """It goes down in the middle of a migration, and an app is pushed meanwhile."""
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    async with open_instances(env, url, 2, ttl=ttl, retry_interval=retry_interval) as instances:
        await instances.all[0].start()
        active = await instances.active()
        await stand_by(instances.all[1])
        async with watched(env), watched_writes(instances):
            web = await push(env, "web")
            env.cell.start_gate.clear()
            lost = active.daemon
            await lost.logged("reconciler.reconciled", process_guid=web.process_guid, reason="bridging")
            began = boot_time()
            await instances.locket.kill()
            assert await lost.ended() == LOST_LOCK
            ended = boot_time()
            done = done_by(instances)
            env.cell.start_gate.set()
            other = await push(env, "other", "team/other", OTHER)
            while boot_time() < began + seconds:
                await asyncio.sleep(1.0)
                assert sum(row.state == "RUNNING" for row in env.rows(web)) == web.instances
            assert done_by(instances) == done

            again = boot_time()
            await instances.locket.start()
            taker = await instances.active()
            taken = boot_time()
            await moved(env, web, other)
        assert len(instances.said("daemon.became-active")) == 2
        record_property(
            "figures",
            f"Locket down for {again - began:.1f} s: the active instance ended after {ended - began:.1f} s, "
            f"{taker.name} is active {taken - again:.1f} s after Locket is back, and both apps run from their "
            f"copies after {boot_time() - again:.1f} s",
        )


async def test_one_that_is_cut_off_from_locket_ends_and_the_other_one_goes_on(
    env: Environment, instances: Instances
) -> None:
    cut_off = await instances.active()
    async with watched(env):
        web = await push(env, "web")
        env.cell.start_gate.clear()
        await cut_off.daemon.logged("reconciler.reconciled", process_guid=web.process_guid, reason="bridging")
        lost = cut_off.daemon
        cut_off.to_locket.cut()
        assert await lost.ended() == LOST_LOCK
        taker = await instances.active(but=cut_off)
        env.cell.start_gate.set()
        await moved(env, web)
        cut_off.to_locket.mend()
        await until(lambda: cut_off.daemon is not lost)
        await cut_off.daemon.logged("leadership.lock-is-held")
    assert await instances.active() is taker


@KEEPS_LOCK
async def test_a_database_that_was_away_costs_no_job_and_no_instance(
    env: Environment, instances: Instances
) -> None:
    """It goes away in the middle of a copy and of a migration, both of which have then nothing left to do."""
    active = await instances.active()
    daemon = active.daemon
    async with watched(env):
        with held_source(env, "team/other") as asked:
            other = await push(env, "other", "team/other", OTHER)
            web = await push(env, "web")
            env.cell.start_gate.clear()
            await daemon.logged("reconciler.reconciled", process_guid=web.process_guid, reason="bridging")
            await until(asked.is_set)
            active.to_database.refuse()
        await daemon.logged("cacher.failed-to-save-job")
        operator = Operator(active.env)
        away = (await operator.runs("status")).row
        text = (await operator.reads("status")).out
        env.cell.start_gate.set()
        await daemon.logged("reconciler.failed-to-reconcile", process_guid=web.process_guid)
        active.to_database.mend()
        await moved(env, web, other)

    assert active.daemon is daemon
    assert {row[0] for row in query(instances, "SELECT state FROM jobs")} == {"cached"}
    outage, again = away["database_outage"], (await operator.runs("status")).row
    assert (outage["since"] > 0, outage["waiting_migrations"], outage["waiting_jobs"]) == (True, 1, 1)
    assert outage["error"] in " ".join(text.split())
    assert "1 migration" in text
    assert (away["active"], away["jobs_by_state"]) == (True, {})
    assert (again["database_outage"], again["jobs_by_state"]) == (None, {"cached": 2})


@KEEPS_LOCK
async def test_one_that_loses_the_database_while_it_takes_over_waits_and_goes_on(
    env: Environment, instances: Instances
) -> None:
    """It has read a part of what the one before has left, and holds the lock in Locket."""
    killed = await instances.active()
    (taker,) = instances.others(killed)
    daemon = taker.daemon
    async with watched(env):
        web = await push(env, "web")
        env.cell.start_gate.clear()
        await killed.daemon.logged("reconciler.reconciled", process_guid=web.process_guid, reason="bridging")
        with held_table(instances, "stale_instances"):
            await killed.kill()
            await daemon.logged("daemon.became-active", term=2)
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'stale_instances'::regclass"
            await until(lambda: bool(query(instances, waits)))
            taker.to_database.refuse()
            await daemon.logged("daemon.waiting-for-database")
            env.cell.start_gate.set()
        sent = changes(env)
        status = (await Operator(taker.env).runs("status")).row
        assert (status["active"], "it waits for the database" in status["obstacle"]) == (True, True)
        assert changes(env) == sent
        taker.to_database.mend()
        await moved(env, web)

    assert taker.daemon is daemon


@pytest.mark.slow
async def test_a_droplet_that_a_frozen_instance_was_changing_is_changed_once(
    env: Environment, worker_id: str
) -> None:
    """It froze when Cloud Controller had done what it was asked for; the next one reads that back."""
    env.connect_cloud_controller()
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    async with open_instances(env, url, 2) as instances:
        first, second = instances.all
        frozen = await first.start()
        await instances.active()
        await frozen.logged("canary.cells-can-pull")
        await stand_by(second)
        reference = await asyncio.to_thread(env.source.push, "team/web", "1", SAMPLE)
        web = env.cloud.create("web", Image(reference))
        env.capi.api.faults.order("PATCH", "^/v3/droplets/", Afterwards(frozen.freeze))
        await env.cloud.staged(web, await env.cloud.stage(web))

        assert await instances.active(but=first) is second
        await second.daemon.logged("droplets.noted-droplet", phase="patched")
        frozen.thaw()

        assert await frozen.ended() == LOST_LOCK
        assert env.capi.api.count("PATCH") == 1
        assert web.current is not None
        assert (web.current.image or "").startswith(f"{env.cache.address}/")
