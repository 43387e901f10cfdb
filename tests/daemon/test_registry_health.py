"""What operators see of registries that fail, and what the daemon does meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contracts.distribution import free_port
from tests.daemon.environment import PATIENCE, DaemonProcess, Environment, open_environment
from tests.daemon.operator import Operator, Row, running_apps
from tests.daemon.pushes import staged_and_cached
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.registry.faults import Fault, Refuse

pytestmark = pytest.mark.thorough

FULL = json.dumps(
    {
        "errors": [
            {
                "code": "UNKNOWN",
                "message": "unknown error",
                "detail": {
                    "DriverName": "filesystem",
                    "Enclosed": {"Op": "write", "Path": "/data/docker/registry/v2/x/startedat", "Err": 28},
                },
            }
        ]
    }
).encode()
"""What the CNCF registry answers when its disk is full."""


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.1, faulty_cache=True, faulty_source=True
    ) as opened:
        opened.settings |= {
            "sync_interval": "1s",
            "registry_timeout": "2s",
            "metrics_address": f"127.0.0.1:{free_port()}",
        }
        yield opened


@pytest.fixture
def operator(env: Environment) -> Operator:
    return Operator(env)


def break_cache(env: Environment, methods: str, refusal: Refuse) -> list[Fault]:
    """Let the private registry refuse every request with one of these methods."""
    faults = [Fault(method, "/v2/.+", refusal, times=None) for method in methods.split()]
    env.cache.faults.faults.extend(faults)
    return faults


def mend(faults: list[Fault]) -> None:
    for fault in faults:
        fault.times = 0


async def unhealthy(operator: Operator) -> list[Row]:
    rows: list[Row] = (await operator.runs("status")).row["unhealthy_registries"]
    return rows


async def metric(env: Environment, name: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{env.settings['metrics_address']}/metrics")).text
    return float(
        next(line.split()[-1] for line in text.splitlines() if line.startswith(f"docker_cache_{name} "))
    )


def lines(daemon: DaemonProcess, event: str, **data: object) -> list[dict[str, Any]]:
    return daemon.named(f"health.{event}", **data)


async def test_a_full_private_registry_is_said_to_be_full_until_it_has_room(
    env: Environment, operator: Operator
) -> None:
    faults = break_cache(env, "POST PUT PATCH", Refuse(500, FULL))
    (app,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    said = await daemon.logged("health.registry-unhealthy")

    assert said["level"] == "error"
    assert said["data"]["detail"] == "its disk is full"
    (row,) = await unhealthy(operator)
    assert (row["registry"], row["private"], row["use"]) == (env.cache.address, True, "push")
    assert row["fault"] == "its disk is full"
    assert '"Op":"write"' in row["error"]
    assert (row["waiting_jobs"], row["waiting_lrps"]) == (1, 1)
    text = (await operator.reads("status")).out
    assert "UNHEALTHY for pushes" in text
    assert "1 cache job and 1 LRP wait for it" in text
    job = await waiting_job(operator)
    assert "its disk is full" in job["error"]
    doctor = await operator.reads("doctor")
    assert "evict copies and run its garbage collection" in doctor.out
    assert "the daemon says: private registry: UNHEALTHY for pushes since" in " ".join(doctor.out.split())
    cache = env.settings["cache_registry"]["address"]
    assert await metric(env, f'registry_up{{registry="{cache}",side="private",use="push"}}') == 0
    assert await metric(env, f'registry_up{{registry="{cache}",side="private",use="pull"}}') == 1

    mend(faults)
    await env.replaced(app)
    well = await daemon.logged("health.registry-became-healthy")
    assert well["level"] == "info"
    assert await unhealthy(operator) == []
    assert len(lines(daemon, "registry-unhealthy")) == 1
    assert {line["level"] for line in daemon.lines} <= {"debug", "info", "error"}
    assert [line for line in daemon.lines if line["level"] == "error"] == [said]


async def waiting_job(operator: Operator) -> Row:
    """Read the only cache job once it waits for its next attempt."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (job,) = (await operator.runs("jobs")).rows
            if job["state"] == "queued":
                return job


@pytest.mark.slow
async def test_no_app_is_migrated_while_the_private_registry_serves_no_pulls(
    env: Environment, operator: Operator
) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    first, second = await running_apps(env, "first", "second", instances=1)
    await env.replaced(first)
    await env.replaced(second)
    third = await staged_and_cached(env, daemon, "third")
    faults = break_cache(env, "GET HEAD", Refuse(503, b"<html>maintenance</html>"))
    await daemon.logged("health.registry-unhealthy", use="pull")

    await env.cloud.start_app(third)
    await daemon.logged("reconciler.reconciled", reason="cache-registry-unhealthy")
    (row,) = [row for row in await unhealthy(operator) if row["use"] == "pull"]
    assert row["fault"] == "it says that it is unavailable"
    assert row["waiting_lrps"] == 1
    assert "new instances of migrated apps may not start" in (await operator.reads("status")).out
    plan = await operator.reads("reconcile")
    assert "the private registry is unhealthy for pulls" in " ".join(plan.out.split())
    assert not env.is_from_cache(third)
    assert env.is_from_cache(first), "what runs is left alone"

    mend(faults)
    await env.replaced(third)
    assert await unhealthy(operator) == []


async def test_a_source_that_is_gone_is_named_with_what_waits_for_it(
    env: Environment, operator: Operator
) -> None:
    daemon = await env.started_daemon()
    (app,) = await running_apps(env, "web")
    await env.replaced(app)
    env.source.faults.faults.extend(
        Fault(method, "/v2/", Refuse(502, b"<html>Bad Gateway</html>"), times=None)
        for method in ("GET", "HEAD")
    )
    await operator.runs("cache", f"{env.source.address}/team/gone:1")

    said = await daemon.logged("health.registry-unhealthy", side="source")
    assert said["data"]["registry"] == env.source.address
    (row,) = await unhealthy(operator)
    assert (row["private"], row["fault"]) == (False, "it says that it is unavailable")
    assert row["waiting_jobs"] >= 1
    assert await metric(env, "unhealthy_sources") == 1
    assert f"source {env.source.address}" in (await operator.reads("status")).out


async def test_a_host_that_nobody_has_ever_copied_from_is_no_unhealthy_source(
    env: Environment, operator: Operator
) -> None:
    daemon = await env.started_daemon()
    await operator.runs("cache", "registry.invalid/team/gone:1")
    await daemon.logged("cacher.postponed-job", count=3)

    assert await unhealthy(operator) == []
    assert await metric(env, "unhealthy_sources") == 0
    assert lines(daemon, "registry-unhealthy") == []


async def test_a_source_that_limits_the_rate_of_its_only_image_is_well(
    env: Environment, operator: Operator
) -> None:
    daemon = await env.started_daemon()
    env.source.push("team/web", "1", images.image([images.layer(5_000, 7)]))
    env.source.faults.faults.extend(
        Fault(method, "/v2/", Refuse(429, b"slow", {"Retry-After": "1"}), times=None)
        for method in ("GET", "HEAD")
    )
    await operator.runs("cache", f"{env.source.address}/team/web:1")
    await daemon.logged("cacher.postponed-job", count=4)

    assert await unhealthy(operator) == []
    assert lines(daemon, "registry-unhealthy") == []
