"""Several instances with a lock in Locket: one is active, the others change nothing."""

import http.client
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.leadership.lease import boot_time
from controller.locket.lock import LOCK_KEY
from tests.contracts.distribution import free_port
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.instances import LOST_LOCK
from tests.daemon.invariants import BRIDGE_PREFIX
from tests.daemon.operator import Operator, running_apps
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.capi.faults import Meanwhile
from tests.simulators.locket import Fault, Locket, serve_locket
from tests.simulators.recipes import Image

REFUSED = 4
LOCK_TTL = 15  # seconds
SHORT_TTL = 10  # seconds
SHORT = {"lock_ttl": f"{SHORT_TTL}s", "lock_retry_interval": "3s"}
"""For what waits for an end; the interval leaves renewals the time that a busy machine takes."""


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version, start_delay=0.3, pulls=False) as opened:
        yield opened


@pytest.fixture
async def locket(env: Environment) -> AsyncIterator[Locket]:
    async with serve_locket(env.certificates) as served:
        pair = env.certificates.client
        env.settings |= {
            "uuid": "first",
            "locket_address": served.address,
            "locket_ca_cert_file": str(env.certificates.ca),
            "locket_client_cert_file": str(pair.certificate),
            "locket_client_key_file": str(pair.key),
            "lock_ttl": f"{LOCK_TTL}s",
            "lock_retry_interval": "5s",
            "healthcheck_address": f"127.0.0.1:{free_port()}",
            "metrics_address": f"127.0.0.1:{free_port()}",
        }
        yield served


@pytest.fixture
async def second(env: Environment, locket: Locket) -> AsyncIterator[Environment]:
    """Another instance on the same platform."""
    directory = env.directory / "second"
    directory.mkdir()
    own = {
        "uuid": "second",
        "database_url": f"sqlite:///{directory}/store/docker-cache.db",
        "admin_address": f"127.0.0.1:{free_port()}",
        "healthcheck_address": f"127.0.0.1:{free_port()}",
        "metrics_address": f"127.0.0.1:{free_port()}",
    }
    other = replace(env, directory=directory, settings=env.settings | own, _daemons=[])
    yield other
    await other.close()


def check(env: Environment, path: str, at: str = "healthcheck_address") -> tuple[int, str]:
    connection = http.client.HTTPConnection(env.settings[at], timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def gauges(env: Environment) -> dict[str, float]:
    """Scrape the gauges without labels."""
    status, text = check(env, "/metrics", at="metrics_address")
    assert status == 200
    pairs = (line.split() for line in text.splitlines() if line.startswith("docker_cache_"))
    return {name.removeprefix("docker_cache_"): float(value) for name, value in pairs if "{" not in name}


def changes(env: Environment) -> Counter[str]:
    """Count the calls so far that may have changed something."""
    reading = ("/list", "/get", "/ping", "/events")
    counts = {path: n for path, n in env.bbs.requests.items() if not any(each in path for each in reading)}
    return Counter(counts)


def owners(locket: Locket) -> set[str]:
    return {call.owner for call in locket.calls if call.method == "Lock"}


async def test_a_standby_says_who_is_active_and_takes_over_from_one_that_ends(
    env: Environment, second: Environment, locket: Locket
) -> None:
    first = await env.started_daemon()
    standby = await second.start_daemon()
    held = await standby.logged("leadership.lock-is-held")
    status = (await Operator(second).runs("status")).row
    paused = await Operator(second).runs("pause")
    active = (await Operator(env).runs("status")).row

    assert f"instance first at {env.settings['admin_address']}" in held["data"]["holder"]
    assert check(second, "/ping") == (200, "alive\n")
    assert check(second, "/ready")[0] == 503
    assert check(env, "/ready") == (200, "active\n")
    assert (status["active"], status["holder"]["instance_id"]) == (False, "first")
    assert (paused.status, "instance first at" in paused.err) == (REFUSED, True)
    assert (active["active"], active["instance_id"], active["holder"]) == (True, "first", None)
    assert 0 < active["lease_ms"] <= LOCK_TTL * 1000
    assert not standby.named("daemon.became-active")
    ours, theirs = gauges(env), gauges(second)
    assert (ours["lock_held"], ours["leadership_term"]) == (1, 1)
    assert (theirs["lock_held"], theirs["leadership_term"], theirs["ready"]) == (0, 0, 0)
    of_active = {"paused", "circuit_breaker_open", "copies_lost", "sweep_last_success_timestamp_seconds"}
    assert of_active <= set(ours)
    assert not of_active & set(theirs), "a sum over instances is that of the active one"
    assert check(second, "/health") == (200, '{"unwell": []}\n'), "to stand by is no problem"

    assert await first.stop() == 0
    await standby.logged("daemon.became-active", term=1)
    assert of_active <= set(gauges(second))
    assert [call.method for call in locket.calls if call.owner.startswith("first")].count("Release") == 1


async def test_a_process_that_begins_anew_keeps_its_lock(
    env: Environment, second: Environment, locket: Locket
) -> None:
    first = await env.started_daemon()
    standby = await second.start_daemon()
    await standby.logged("leadership.lock-is-held")
    first.signal_reload()
    await first.logged("daemon.became-active", term=2)

    assert not [call for call in locket.calls if call.method == "Release"]
    assert len([owner for owner in owners(locket) if owner.startswith("first-")]) == 1
    assert not standby.named("leadership.acquired-lock")


async def test_a_standby_reads_its_config_again_and_ends_when_it_is_told_to(
    env: Environment, second: Environment, locket: Locket
) -> None:
    await env.started_daemon()
    standby = await second.start_daemon()
    await standby.logged("leadership.lock-is-held")
    standby.signal_reload()
    await standby.logged("leadership.lock-is-held", count=2)

    assert await standby.stop() == 0


async def test_an_instance_that_stood_still_for_too_long_sends_nothing_and_ends(
    env: Environment, locket: Locket
) -> None:
    """It goes on in the middle of a migration, whose next step would remove the LRP."""
    (web,) = await running_apps(env, "web")
    env.settings |= SHORT
    daemon = await env.started_daemon()
    bridge = BRIDGE_PREFIX + web.process_guid
    await until(lambda: bridge in env.bbs.state.desired)
    daemon.freeze()
    until_over = boot_time() + SHORT_TTL
    locket.state.steal(LOCK_KEY, "another-instance")
    await until(lambda: boot_time() > until_over)
    before = changes(env)
    locket.faults.order(Fault.HANG, "Lock", calls=100)

    daemon.thaw()

    assert await daemon.ended() == LOST_LOCK
    assert daemon.named("leadership.lost-lock")
    assert changes(env) == before
    assert {web.process_guid, bridge} <= set(env.bbs.state.desired)

    locket.faults.clear()
    await env.start_daemon()
    await env.replaced(web)
    await until(lambda: bridge not in env.bbs.state.desired)


@pytest.mark.thorough
async def test_an_instance_that_stood_still_for_too_long_changes_no_droplet(
    env: Environment, locket: Locket
) -> None:
    """It goes on where it would write the name of the copy, and another instance is active."""
    env.connect_cloud_controller()
    env.settings |= SHORT
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    env.capi.api.faults.order("GET", "^/v3/droplets/", Meanwhile(daemon.freeze))
    reference = env.source.push("team/web", "1", images.image([images.layer(1000, 1)]))
    web = env.cloud.create("web", Image(reference))
    await env.cloud.staged(web, await env.cloud.stage(web))
    await until(lambda: env.capi.api.count("GET", "^/v3/droplets/") == 1)
    until_over = boot_time() + SHORT_TTL
    locket.state.steal(LOCK_KEY, "another-instance")
    await until(lambda: boot_time() > until_over)
    locket.faults.order(Fault.HANG, "Lock", calls=100)

    daemon.thaw()

    assert await daemon.ended() == LOST_LOCK
    assert web.current is not None
    assert (env.capi.api.count("PATCH"), web.current.image) == (0, reference)

    locket.faults.clear()
    daemon = await env.start_daemon()
    await daemon.logged("droplets.patched-droplet")
    assert (web.current.image or "").startswith(f"{env.cache.address}/")


@pytest.mark.thorough
async def test_without_locket_the_active_instance_ends_and_a_standby_waits(
    env: Environment, locket: Locket
) -> None:
    env.settings |= SHORT
    daemon = await env.started_daemon()
    await locket.kill()

    assert await daemon.ended() == LOST_LOCK
    again = await env.start_daemon()
    await again.logged("leadership.failed-to-acquire-lock")
    assert check(env, "/ready")[0] == 503
    await locket.start()
    await again.logged("daemon.started")


async def test_an_operator_at_the_store_itself_is_refused_while_an_instance_holds_the_lock(
    env: Environment, second: Environment, locket: Locket
) -> None:
    await env.started_daemon()
    second.write_config()
    direct = await Operator(second).runs("images", "--direct")

    assert direct.status == REFUSED
    assert "instance first at" in direct.err
