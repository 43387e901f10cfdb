"""The watches over apps themselves: what they call a violation, and what they do not."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from protos.bbs.actual_lrp_requests_pb2 import ActualLRPsRequest
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.daemon.downtime import AFTER_ANSWER, Downtime, Patience
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX, LIST_INSTANCES, UNSEEN_FOR, Invariants
from tests.simulators.bbs import desired
from tests.simulators.cell_network import Hangs, Refused
from tests.simulators.cloud_controller import App, CloudController, InProcess, Response
from tests.simulators.recipes import Image

COPY = "cache.example/x"
PATIENCE = Patience(down=5.0, hanging=3.0, call=2.0, kill=1.0, scaling=2.0, claim=3.0, another_copy=1.5)


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, start_delay=0.0, pulls=False, faulty_source=True) as opened:
        yield opened


@pytest.fixture
def invariants(env: Environment) -> Invariants:
    return Invariants(env.bbs, env.cells, env.cloud)


@pytest.fixture
def downtime(env: Environment, invariants: Invariants) -> Downtime:
    """That nobody tells of time but the test."""
    return Downtime(invariants, source=env.source.address, cache="cache.example", patience=PATIENCE)


async def running_app(env: Environment, *, instances: int = 1) -> App:
    """Push an app and wait until it runs from its source."""
    app = await started_app(env, instances=instances)
    await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"] * instances)
    return app


async def started_app(env: Environment, *, instances: int = 1) -> App:
    app = env.cloud.create("web", Image(f"{env.source.address}/team/web:1"))
    app.droplet, app.instances = app.package, instances
    await env.cloud.start_app(app)
    return app


def read_instances(env: Environment, app: App) -> None:
    """Say that the daemon has read them, and look at what there is."""
    for caller in env.bbs.callers:
        caller(LIST_INSTANCES, ActualLRPsRequest(process_guid=app.process_guid).SerializeToString())
    env.bbs.state.events.emit([])


async def has_served(env: Environment, app: App, invariants: Invariants) -> None:
    """Wait until an instance has run for so long that the daemon must know of it."""
    await until(lambda: time.monotonic() - min(invariants._since.values()) > UNSEEN_FOR)
    read_instances(env, app)


def move_to_copy(env: Environment, app: App) -> None:
    """Remove an app's LRP and desire it from a copy at once, as the daemon never should."""
    definition = DesiredLRP()
    definition.CopyFrom(env.bbs.state.desired[app.process_guid])
    definition.root_fs = f"docker://{COPY}#latest"
    desired.remove(env.bbs.state, app.process_guid)
    desired.desire(env.bbs.state, definition)


async def test_a_definition_that_is_changed_and_an_app_that_is_brought_back_are_seen(
    env: Environment, invariants: Invariants
) -> None:
    app = await running_app(env)
    definition = DesiredLRP()
    definition.CopyFrom(env.bbs.state.desired[app.process_guid])
    definition.process_guid = BRIDGE_PREFIX + app.process_guid
    definition.memory_mb += 1
    with invariants.watching():
        desired.desire(env.bbs.state, definition)
    assert invariants.violations == [f"{definition.process_guid} was changed: memory_mb"]

    del env.cloud.apps[app.guid]
    assert f"{app.process_guid} is desired, and nobody wants it" in invariants.unrest()
    assert f"{definition.process_guid} is left" in invariants.unrest()


@pytest.mark.parametrize(("is_owner", "seen"), [(True, []), (False, ["web: 0 of 1 instances serve"])])
async def test_an_owners_restart_is_told_from_an_outage(
    env: Environment,
    invariants: Invariants,
    is_owner: bool,  # noqa: FBT001 - a parameter of pytest
    seen: list[str],
) -> None:
    """Under the same process GUID, and with a stop that is lost: the instance of before goes later."""
    app = await running_app(env)
    (old,) = list(env.cell.instances.values())
    env.cell.lost_stops = 1
    with invariants.watching():
        if is_owner:
            await env.cloud.stop(app)
            app.is_started = True
        else:
            desired.remove(env.bbs.state, app.process_guid)
        await env.cloud.sync()
        assert old.is_running
        await has_served(env, app, invariants)
        env.cell.containers.remove(old)
        env.bbs.state.events.emit([])

    assert invariants.violations == seen


async def test_an_instance_that_began_to_run_after_the_removal_of_its_lrp_is_not_held(
    env: Environment, invariants: Invariants
) -> None:
    """Its stop is lost, and the next desire fails: a convergence ends it, and nobody has lost anything."""
    env.cell.start_gate.clear()
    app = await started_app(env)
    await until(lambda: [each.has_process for each in env.cell.instances.values()] == [True])
    env.cell.lost_stops = 1
    with invariants.watching():
        desired.remove(env.bbs.state, app.process_guid)
        env.cell.start_gate.set()
        await until(lambda: invariants.serving() == {app.process_guid: 1})
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > UNSEEN_FOR)
        read_instances(env, app)
        env.cell.containers.remove(next(iter(env.cell.instances.values())))
        env.bbs.state.events.emit([])

    assert invariants.violations == []


class HeldBack:
    """Calls of an owner whose first answer comes late."""

    def __init__(self, calls: InProcess) -> None:
        self.gate = asyncio.Event()
        self._calls = calls

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call at once, and answer it later."""
        answer = await self._calls.call(path, request, response)
        await self.gate.wait()
        return answer


async def test_a_late_sync_of_the_owner_is_told_from_an_outage(
    env: Environment, invariants: Invariants
) -> None:
    """It has listed the LRP before the owner stopped the app, and removes what was desired again since."""
    app = await running_app(env)
    calls = HeldBack(InProcess(env.bbs))
    other = CloudController(calls)
    other.removing = env.cloud.removing
    with invariants.watching():
        late = asyncio.create_task(other.sync())  # to it, nobody wants the app
        await asyncio.sleep(0)
        await env.cloud.stop(app)
        await until(lambda: env.rows(app) == [])
        app.is_started = True
        await env.cloud.sync()
        await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"])
        await has_served(env, app, invariants)
        assert invariants.held[app.process_guid] == 1
        calls.gate.set()
        await late
        await until(lambda: env.rows(app) == [])

    assert invariants.lowest[app.process_guid] == 0
    assert invariants.violations == []


async def test_an_instance_that_starts_while_its_owner_restarts_the_app_is_not_held(
    env: Environment, invariants: Invariants
) -> None:
    """The daemon desires it after the owner has removed it, the owner's sync removes it, and that stop is lost."""
    app = await running_app(env)
    definition = DesiredLRP()
    definition.CopyFrom(env.bbs.state.desired[app.process_guid])
    with invariants.watching():
        await env.cloud.stop(app)
        await until(lambda: env.rows(app) == [])
        desired.desire(env.bbs.state, definition)
        await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"])
        (brought_back,) = list(env.cell.instances.values())
        env.cell.lost_stops = 1
        await env.cloud.sync()
        app.is_started = True
        await env.cloud.sync()
        await has_served(env, app, invariants)
        env.cell.containers.remove(brought_back)
        env.bbs.state.events.emit([])

    assert invariants.violations == []


async def test_an_instance_that_its_owner_gave_up_is_not_held_while_its_stop_is_lost(
    env: Environment, invariants: Invariants
) -> None:
    """Its index is beyond what the owner wants, and all that serves, until a convergence stops it again."""
    app = await running_app(env, instances=2)
    guid = app.process_guid
    with invariants.watching():
        await has_served(env, app, invariants)
        env.cell.start_gate.clear()
        invariants.will_crash(guid)
        env.cell.crash(guid, 0)
        await until(lambda: time.monotonic() - invariants._crashes[guid][0][0] > UNSEEN_FOR)
        env.cell.lost_stops = 1
        invariants.will_scale(app, 1)
        await env.cloud.scale(app, 1)
        read_instances(env, app)
        assert invariants.serving() == {guid: 1}
        await env.cloud.sync()
        await env.bbs.converge()
        await until(lambda: [row.state for row in env.rows(app)] == ["CLAIMED"], seconds=10.0)

    assert invariants.violations == []


async def test_what_serves_counts_as_held_when_the_daemon_has_read_it(
    env: Environment, invariants: Invariants
) -> None:
    app = await running_app(env)
    with invariants.watching():
        invariants.held.clear()
        guid = app.process_guid
        await until(lambda: time.monotonic() - min(invariants._since.values()) > UNSEEN_FOR)
        env.bbs.state.events.emit([])
        unread = invariants.held[guid]
        with invariants.operator_reading():
            read_instances(env, app)
        read_for_operator = invariants.held[guid]
        read_instances(env, app)

        assert (unread, read_for_operator, invariants.held[guid]) == (0, 0, 1)


async def down_app(env: Environment) -> App:
    """Push an app, and let the daemon move it at once to a copy that no cell can pull."""
    for cell in env.cells:
        cell.network.impose("cache.example", Refused())
        cell.start_gate.clear()
    app = await started_app(env)
    await until(lambda: [row.state for row in env.rows(app)] == ["CLAIMED"])
    move_to_copy(env, app)
    for cell in env.cells:
        cell.start_gate.set()
    await until(lambda: env.rows(app) == [])
    await env.bbs.converge()
    await until(lambda: [row.state for row in env.rows(app)] == ["CRASHED"])
    return app


async def test_an_app_whose_copy_cannot_be_pulled_is_down_because_of_the_daemon(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await down_app(env)

    downtime.pass_time(4.9)
    assert invariants.violations == []
    downtime.pass_time(0.2)
    downtime.pass_time(0.2)

    assert invariants.violations == ["web: down for 5.1 of 5.0 s"]
    assert "on copy, 0 CRASHED after 3 crashes by copy" in invariants.details[0]
    assert app.process_guid in invariants.details[0]


async def test_an_app_gets_time_for_each_copy_that_it_tries_but_not_without_end(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    """Its copies in two private registries are lost, and it is desired from one after the other."""
    app = await down_app(env)
    downtime.follow_cache("former.example")
    lrp = env.lrp(app)
    assert lrp is not None
    present, former = lrp.root_fs, lrp.root_fs.replace("cache.example", "former.example")
    for rootfs in [former, present, former, present]:
        lrp.root_fs = rootfs
        downtime.pass_time(1.9)
        downtime.pass_time(0.1)

    assert invariants.violations == []
    downtime.pass_time(0.1)

    assert invariants.violations == ["web: down for 8.1 of 8.0 s"]


async def test_an_app_whose_copy_an_operator_keeps_the_daemon_from_leaving_is_not_held_against_the_daemon(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await down_app(env)
    lrp = env.lrp(app)
    assert lrp is not None
    hopeless = {lrp.root_fs}
    downtime.is_hopeless = hopeless.__contains__

    downtime.pass_time(60.0)
    assert invariants.violations == []
    hopeless.clear()
    downtime.pass_time(5.1)

    assert invariants.violations == ["web: down for 5.1 of 5.0 s"]


async def test_an_app_that_is_missing_is_down_because_of_the_daemon(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await running_app(env)
    desired.remove(env.bbs.state, app.process_guid)
    await until(lambda: env.rows(app) == [])

    downtime.pass_time(5.1)

    assert invariants.violations == ["web: down for 5.1 of 5.0 s"]


async def test_time_without_a_source_a_bbs_or_a_daemon_is_not_held_against_the_daemon(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    await down_app(env)
    downtime.pass_time(3.0)
    env.impose(env.source, Refused())
    downtime.pass_time(60.0)
    env.mend(env.source)
    downtime.is_daemon_up = False
    downtime.pass_time(60.0)
    downtime.is_daemon_up = True
    downtime.pass_time(AFTER_ANSWER)
    await env.bbs.stop_listening()
    downtime.pass_time(60.0)
    await env.bbs.start_listening()
    downtime.pass_time(AFTER_ANSWER)
    downtime.pass_time(1.9)
    assert invariants.violations == []

    downtime.pass_time(0.2)
    assert invariants.violations == ["web: down for 5.1 of 5.0 s"]


async def test_an_app_that_is_on_its_source_gets_its_time_anew_when_that_was_cut_off(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    env.cell.start_gate.clear()
    await started_app(env)
    downtime.pass_time(4.9)
    env.impose(env.source, Refused())
    downtime.pass_time(0.2)
    env.mend(env.source)
    downtime.pass_time(4.9)
    assert invariants.violations == []

    downtime.pass_time(0.2)
    assert invariants.violations == ["web: down for 5.1 of 5.0 s"]


async def test_failed_calls_killed_daemons_and_hanging_copies_give_the_daemon_more_time(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await down_app(env)
    for cell in env.cells:
        cell.network.impose("cache.example", Hangs())
    with downtime.watching():
        downtime.pass_time(1.0)
        downtime.note_kill()
        for caller in env.bbs.failed_callers:
            caller("/v1/desired_lrp/remove", app.process_guid.encode())
            caller("/v1/desired_lrp/remove", b"another")
        downtime.pass_time(9.9)
        assert invariants.violations == []
        downtime.pass_time(0.2)

    assert invariants.violations == ["web: down for 11.1 of 11.0 s"]


@pytest.mark.parametrize("change", ["stop", "put back", "crash"])
async def test_what_an_owner_or_the_app_itself_does_is_not_held_against_the_daemon(
    env: Environment, invariants: Invariants, downtime: Downtime, change: str
) -> None:
    app = await down_app(env)
    with downtime.watching():
        downtime.pass_time(4.9)
        if change == "crash":
            for row in env.rows(app):
                row.crash_reason = "APP/PROC/WEB: Exited with status 1"
            downtime.pass_time(4.9)
        else:
            await env.cloud.stop(app)
            app.is_started = change == "put back"
            if app.is_started:
                env.cell.start_gate.clear()
                await env.cloud.sync()
        downtime.pass_time(4.9)

    assert invariants.violations == []


async def test_an_app_with_another_number_of_instances_than_asked_for_is_seen(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await running_app(env)
    await env.cloud.scale(app, 2)
    env.bbs.state.desired[app.process_guid].instances = 1

    downtime.pass_time(2.0)
    assert invariants.violations == []
    downtime.pass_time(0.1)
    downtime.pass_time(0.1)

    assert invariants.violations == ["web: 1 instances are desired, not 2"]


async def test_an_app_that_is_called_cached_must_run_from_its_copy(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await running_app(env)
    guid, now = app.process_guid, time.monotonic()

    downtime.check_claim("another", "its API", now)
    assert invariants.violations == []
    downtime.check_claim(guid, "its API", now)
    downtime.check_claim(guid, "its API", now)
    assert invariants.violations == [f"{guid} is called cached by its API, and does not run from its copy"]


async def test_an_app_that_has_just_run_from_its_copy_may_be_called_cached(
    env: Environment, invariants: Invariants, downtime: Downtime
) -> None:
    app = await running_app(env)
    move_to_copy(env, app)
    await until(lambda: env.rows(app) == [])
    await env.bbs.converge()
    await until(lambda: env.running_from(app, f"docker://{COPY}#latest") == 1)
    downtime.check_claim(app.process_guid, "its API", time.monotonic())
    downtime.pass_time(0.1)
    desired.remove(env.bbs.state, app.process_guid)
    await until(lambda: env.rows(app) == [])

    downtime.check_claim(app.process_guid, "its API", time.monotonic())
    assert invariants.violations == []
    downtime.check_claim(app.process_guid, "its API", time.monotonic() + 10)
    assert len(invariants.violations) == 1
