"""Each fault that operators are told of: a real daemon meets it, and the alert rules judge what its metrics say.

What is scraped in the fault is held for as long as the rules want. Then exactly the expected alerts fire.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests import databases
from tests.contracts.distribution import free_port
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.instances import Instances, open_instances
from tests.daemon.operator import Operator, running_apps
from tests.daemon.test_incomplete_copies import delete_manifest
from tests.daemon.test_registry_health import FULL, break_cache, mend
from tests.prometheus import ALIVE, Scrape, assert_alerts, promtool
from tests.simulators import images
from tests.simulators.bbs import Fault as BbsFault
from tests.simulators.bbs import Version
from tests.simulators.capi import faults as capi_faults
from tests.simulators.cell_network import Refused
from tests.simulators.certificates import LOOPBACK_NAMES
from tests.simulators.loggregator import Agent, serve_agent
from tests.simulators.registry.faults import Fault, Refuse

pytestmark = [pytest.mark.thorough, pytest.mark.slow, pytest.mark.timeout(600)]

TASKS = "/v1/events/tasks.r1"
PAUSE = 1.0
"""Seconds between two scrapes."""

WAITING = re.compile(r"^docker_cache_event_loop_lag_seconds .*\n", flags=re.MULTILINE)
"""What says how busy this machine is with other tests."""

Condition = Callable[[Scrape], bool]


class Scraper:
    """Scrapes daemons, and lets the rules judge.

    Attributes:
        healthy: What each of them said when all was well.
    """

    def __init__(self, directory: Path, *environments: Environment) -> None:
        self._directory, self._environments = directory, environments
        self.healthy: tuple[Scrape, ...] = ()

    async def is_well(self) -> None:
        """Wait until no alert would fire, or be about to, and remember what was said then."""
        self.healthy = await self._judged(lambda _: True, (), 60.0)

    async def meets(self, condition: Condition, *expected: str, at: int = 0) -> None:
        """Wait until an instance has noticed a fault, and exactly these alerts would fire if that lasted.

        One scrape may have fallen into a moment that does not last, such as one in which a busy machine has kept
        the daemon from the next listing of the BBS.

        Args:
            condition: Holds for what the instance says then.
            expected: The names of the alerts.
            at: Which instance it is.
        """
        await self._judged(lambda scrapes: condition(scrapes[at]), expected, 180.0)

    async def _judged(
        self, condition: Callable[[tuple[Scrape, ...]], bool], expected: tuple[str, ...], seconds: float
    ) -> tuple[Scrape, ...]:
        """Scrape for so many seconds at most, until the condition holds and the rules judge as expected."""
        deadline = time.monotonic() + seconds
        while True:
            is_last = time.monotonic() > deadline
            scrapes = await self._scrape()
            if condition(scrapes):
                try:
                    await self._judge(scrapes, *expected)
                except AssertionError:
                    if is_last:
                        raise
                else:
                    return scrapes
            assert not is_last, f"not noticed within {seconds} s"
            await asyncio.sleep(PAUSE)

    async def _judge(self, scrapes: tuple[Scrape, ...], *expected: str) -> None:
        pairs = tuple(zip(self.healthy or scrapes, scrapes, strict=True))
        await asyncio.to_thread(assert_alerts, self._directory, expected, pairs)

    async def _scrape(self) -> tuple[Scrape, ...]:
        addresses = [str(each.settings["metrics_address"]) for each in self._environments]
        return tuple([await asyncio.to_thread(scrape, address) for address in addresses])


def scrape(address: str) -> Scrape:
    """Ask a daemon once."""
    try:
        with urlopen(f"http://{address}/metrics", timeout=10.0) as answer:
            return Scrape(address, time.time(), WAITING.sub("", answer.read().decode()))
    except OSError:
        return Scrape(address, time.time(), None)


def shows(name: str, value: float, **labels: str) -> Condition:
    """Give the condition that a metric has a value."""

    def holds(scrape: Scrape) -> bool:
        return scrape.find(f"docker_cache_{name}", **labels) == value

    return holds


def is_above_zero(name: str) -> Condition:
    """Give the condition that a metric says since when something is so."""
    return lambda scrape: (scrape.find(f"docker_cache_{name}") or 0) > 0


def listing_age(scrape: Scrape) -> float:
    """Give the seconds since the last successful listing of the BBS."""
    return scrape.at - (scrape.find("docker_cache_sweep_last_success_timestamp_seconds") or 0)


def ends_within(days: int) -> Condition:
    """Give the condition that a certificate is known to end, by a daemon that works."""

    def holds(scrape: Scrape) -> bool:
        end = scrape.find("docker_cache_certificate_end_timestamp_seconds", file="admin_server_cert_file")
        return end is not None and end < scrape.at + days * 86400 and listing_age(scrape) < ALIVE

    return holds


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    promtool()
    async with open_environment(
        tmp_path, version=version, start_delay=0.05, faulty_cache=True, faulty_source=True
    ) as opened:
        opened.settings |= {
            "sync_interval": "2s",
            "registry_timeout": "2s",
            "copy_check_interval": "2s",
            "metrics_address": f"127.0.0.1:{free_port()}",
        }
        yield opened


@pytest.fixture
def operator(env: Environment) -> Operator:
    return Operator(env)


def push(env: Environment, name: str) -> str:
    """Have an image in the source registry."""
    return env.source.push(f"team/{name}", "1", images.image([images.layer(2000, name)]))


async def test_faults_of_registries_and_of_copies(
    env: Environment, operator: Operator, tmp_path: Path
) -> None:
    scraper = Scraper(tmp_path, env)
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await scraper.is_well()

    # The source is down.
    broken = [
        Fault(method, "/v2/", Refuse(502, b"<html>Bad Gateway</html>"), times=None)
        for method in ("GET", "HEAD")
    ]
    env.source.faults.faults.extend(broken)
    await operator.runs("cache", push(env, "other"))
    source = {"registry": env.source.address, "use": "pull"}
    await scraper.meets(shows("registry_up", 0, **source), "DockerCacheSourceRegistryDown")
    mend(broken)
    await scraper.meets(shows("registry_up", 1, **source))

    # The private registry is down.
    broken = break_cache(env, "GET HEAD POST PUT PATCH", Refuse(503, b"<html>maintenance</html>"))
    pulls, pushes = ({"side": "private", "use": use} for use in ("pull", "push"))
    await scraper.meets(shows("registry_up", 0, **pulls), "DockerCachePrivateRegistryServesNoPulls")
    mend(broken)
    await scraper.meets(shows("registry_up", 1, **pulls))

    # It is full.
    broken = break_cache(env, "POST PUT PATCH", Refuse(500, FULL))
    await operator.runs("cache", push(env, "more"))
    await scraper.meets(shows("registry_up", 0, **pushes), "DockerCachePrivateRegistryTakesNoPushes")

    # And copies were deleted, which it cannot take again.
    (image,) = [row for row in (await operator.runs("images")).rows if row["source"].endswith("team/web:1")]
    await asyncio.to_thread(delete_manifest, env.cache, image["cache_guid"], "latest")
    await scraper.meets(
        shows("copies_incomplete", 1),
        "DockerCachePrivateRegistryTakesNoPushes",
        "DockerCacheCopiesIncomplete",
    )

    # Nor does the source have them any more.
    await asyncio.to_thread(delete_manifest, env.source, "team/web", "1")
    await scraper.meets(
        shows("copies_lost", 1), "DockerCachePrivateRegistryTakesNoPushes", "DockerCacheCopiesLost"
    )


@pytest.fixture
async def agent(env: Environment) -> AsyncIterator[Agent]:
    async with serve_agent(env.certificates) as agent:
        env.connect_loggregator(agent)
        yield agent


async def test_faults_of_the_platform(
    env: Environment, agent: Agent, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    env.connect_cloud_controller()
    env.settings["droplet_sync_interval"] = "2s"
    scraper = Scraper(tmp_path, env)
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    await env.replaced(web)
    await scraper.is_well()

    # The BBS is away.
    await env.bbs.stop_listening()
    is_long = pytestconfig.getoption("--long")  # after 90 seconds the daemon may not change anything

    def is_noticed(scrape: Scrape) -> bool:
        return listing_age(scrape) > 2 * ALIVE and (not is_long or scrape.find("docker_cache_ready") == 0)

    await scraper.meets(is_noticed, "DockerCacheBbsNotListed")
    await env.bbs.start_listening()
    await scraper.meets(lambda scrape: listing_age(scrape) < ALIVE)

    # It can be listed, and its events cannot be read.
    env.bbs.faults.order(BbsFault.UNAVAILABLE, TASKS, calls=1000)
    for stream in env.bbs.streams:
        stream.end()
    await scraper.meets(shows("bbs_stream_connected", 0, stream="tasks"), "DockerCacheBbsEventsLost")
    env.bbs.faults.clear()
    await scraper.meets(shows("bbs_stream_connected", 1, stream="tasks"))

    # Cloud Controller is away.
    env.capi.api.faults.order("*", "", capi_faults.fail(), times=1000)
    failing = "cloud_controller_failing_since_timestamp_seconds"
    await scraper.meets(is_above_zero(failing), "DockerCacheCloudControllerFails")
    env.capi.api.faults.clear()
    await scraper.meets(shows(failing, 0))

    # The Loggregator agent is away.
    await agent.stop()
    await scraper.meets(shows("loggregator_agent_up", 0), "DockerCacheLoggregatorAgentDown")
    await agent.start()
    await scraper.meets(shows("loggregator_agent_up", 1))

    # Cells do not reach the private registry any more, which a daemon that has just begun finds out.
    env.impose(env.cache, Refused())
    await reload(env, daemon)
    await scraper.meets(
        lambda scrape: is_above_zero("cells_not_proven")(scrape) and listing_age(scrape) < ALIVE,
        "DockerCacheCellsCannotPull",
    )


async def test_faults_of_the_daemon(env: Environment, operator: Operator, tmp_path: Path) -> None:
    env.settings["max_consecutive_failures"] = 1
    scraper = Scraper(tmp_path, env)
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    # To its end: a migration that goes well closes the circuit.
    await daemon.logged("reconciler.migrated", process_guid=web.process_guid)
    await scraper.is_well()

    # Somebody has forgotten a pause.
    await operator.runs("pause")
    await scraper.meets(shows("paused", 1), "DockerCachePaused")

    # The next app that is migrated does not run from its copy.
    failing = env.cloud.create("failing", web.package)
    failing.droplet = failing.package
    await env.cloud.start_app(failing)
    await until(lambda: any(row.state == "RUNNING" for row in env.rows(failing)))
    as_before = env.cell.settings.crash_reason
    env.cell.settings.crash_reason = lambda lrp: "no such file" if env.cache.address in lrp.root_fs else ""
    await operator.runs("resume")
    await scraper.meets(shows("circuit_breaker_open", 1), "DockerCacheCircuitBreakerOpen")
    await operator.runs("reset-circuit-breaker")
    env.cell.settings.crash_reason = as_before

    # The config cannot be used.
    env.config_path.write_text("{")
    daemon.signal_reload()
    await scraper.meets(shows("config_last_reload_successful", 0), "DockerCacheConfigNotReloaded")

    # A certificate is about to end, and then even more so.
    for days, alert in ((10, "DockerCacheCertificateEndsSoon"), (1, "DockerCacheCertificateEndsNow")):
        pair = env.certificates.authority.server(*LOOPBACK_NAMES, file=f"ends-in-{days}", days=days)
        env.settings["admin_server_cert_file"] = str(pair.certificate)
        env.settings["admin_server_key_file"] = str(pair.key)
        await reload(env, daemon)
        await scraper.meets(ends_within(days), alert)

    # The daemon is down.
    await daemon.kill()
    await scraper.meets(lambda scrape: scrape.text is None, "DockerCacheDown")


async def reload(env: Environment, daemon: DaemonProcess) -> None:
    """Let the daemon take up what the settings are now."""
    env.write_config()
    before = len(daemon.named("daemon.started"))
    daemon.signal_reload()
    await daemon.logged("daemon.started", count=before + 1)


@pytest.fixture
async def instances(env: Environment, worker_id: str) -> AsyncIterator[Instances]:
    url = await asyncio.to_thread(databases.empty_database, "postgresql", worker_id)
    async with open_instances(env, url, 2) as opened:
        for instance in opened.all:
            instance.env.settings["metrics_address"] = f"127.0.0.1:{free_port()}"
            await instance.start()
            await opened.active()
        yield opened


async def test_faults_of_several_instances(env: Environment, instances: Instances, tmp_path: Path) -> None:
    first, second = instances.all
    scraper = Scraper(tmp_path, first.env, second.env)
    await second.daemon.logged("leadership.lock-is-held")
    await scraper.is_well()

    # The database is away.
    first.to_database.cut()
    unavailable = "database_unavailable_since_timestamp_seconds"
    await scraper.meets(is_above_zero(unavailable), "DockerCacheDatabaseUnavailable")
    first.to_database.mend()
    await scraper.meets(shows(unavailable, 0))

    # The active one has lost its lease, and nobody gets the lock.
    for instance in (first, second):
        instance.to_locket.cut()
    await first.daemon.ended()
    await until(lambda: len(first.daemons) == 2)
    await scraper.meets(shows("lock_held", 0), "DockerCacheNoActiveInstance")

    # One of them is gone.
    for instance in (first, second):
        instance.to_locket.mend()
    gone = await instances.active()
    (other,) = instances.others(gone)
    await gone.kill()
    await instances.active(but=gone)
    await scraper.meets(
        lambda scrape: listing_age(scrape) < ALIVE,
        "DockerCacheInstanceDown",
        at=instances.all.index(other),
    )

    # A daemon with a store of its own comes to the same BBS.
    other_scraper = Scraper(tmp_path, env)
    await env.start_daemon()
    await other_scraper.meets(is_above_zero("other_stores"), "DockerCacheOtherStore")
