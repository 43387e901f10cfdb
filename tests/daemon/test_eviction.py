"""Copies are deleted only when nothing can need them, with a real daemon's process and a BBS that may be wrong."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.task_pb2 import TaskDefinition
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.operator import Operator, Row, running_apps, until_deletable
from tests.simulators.bbs import Version, tasks
from tests.simulators.cloud_controller import App

pytestmark = pytest.mark.thorough

REFUSED = 4
PENDING = 2
GRACE = 1.0


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, start_delay=0.1, pulls=False, converge_interval=1.0
    ) as opened:
        opened.settings |= {"sync_interval": "1s", "eviction_grace": f"{GRACE}s"}
        opened.bbs.state.desired["other"] = DesiredLRP(process_guid="other", domain="other")
        yield opened


async def cached_app(env: Environment) -> tuple[App, str, DaemonProcess]:
    """Have an app run from its copy, and give the copy's GUID and the daemon."""
    (web,) = await running_apps(env, "web")
    daemon = await env.started_daemon()
    rootfs = await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    return web, rootfs.rpartition("/")[2].partition("#")[0], daemon


async def delete(env: Environment, app: App) -> None:
    await env.cloud.delete(app)
    await env.cloud.sync()
    await until(lambda: env.lrp(app) is None)


async def verdict_after_grace(operator: Operator) -> Row:
    """Give the verdict about the one copy, when it has had time to become another."""
    await asyncio.sleep(2 * GRACE)
    return (await operator.runs("evict", "--unused", "--dry-run")).row


def is_there(env: Environment, guid: str) -> bool:
    return env.cache.pull_manifest(guid, "latest") is not None


@pytest.mark.parametrize("what", ["all", "app"])
async def test_a_listing_that_wrongly_lacks_lrps_deletes_no_copy(env: Environment, what: str) -> None:
    web, guid, _ = await cached_app(env)
    operator = Operator(env)
    env.bbs.state.unlisted = {web.process_guid} | ({"other"} if what == "all" else set())

    at_once = await operator.runs("evict", "--yes", guid)
    later = await verdict_after_grace(operator)
    refused = await operator.runs("evict", "--yes", "--unused")

    expected = "the BBS lists no LRP at all" if what == "all" else f"did not list {web.process_guid}"
    assert at_once.status == REFUSED
    assert (later["verdict"], later["unused_since"]) == ("unknown", None)
    assert expected in later["detail"]
    assert (refused.status, refused.rows) == (0, [])
    assert is_there(env, guid)


async def test_a_pending_task_uses_the_copy_of_a_deleted_app_until_it_ends(env: Environment) -> None:
    web, guid, _ = await cached_app(env)
    operator = Operator(env)
    rootfs = f"docker://{env.cache.address}/{guid}#latest"
    tasks.desire(
        env.bbs.state, "once", "somebody-else", TaskDefinition(root_fs=rootfs, placement_tags=["nowhere"])
    )
    env.bbs.state.max_task_retries = 1_000_000
    await delete(env, web)

    used = await verdict_after_grace(operator)
    refused = await operator.runs("evict", "--yes", guid)
    tasks.cancel(env.bbs.state, "once")
    await until_deletable(operator, guid)
    evicted = await operator.runs("evict", "--yes", guid)

    assert (used["verdict"], used["detail"]) == ("in-use", "used by task once")
    assert refused.status == REFUSED
    assert evicted.status == 0
    assert not is_there(env, guid)


async def test_an_app_without_instances_needs_its_copy(env: Environment) -> None:
    web, guid, _ = await cached_app(env)
    env.bbs.state.desired[web.process_guid].instances = 0

    row = await verdict_after_grace(Operator(env))

    assert (row["verdict"], row["detail"]) == ("in-use", f"used by LRP without instances {web.process_guid}")
    assert is_there(env, guid)


async def test_what_nothing_uses_is_shown_with_the_time_and_deleted_after_it(env: Environment) -> None:
    env.settings |= {"eviction_grace": "1h"}
    web, guid, daemon = await cached_app(env)
    operator = Operator(env)
    await delete(env, web)
    row = (await operator.runs("evict", "--unused", "--dry-run")).row
    early = await operator.runs("evict", "--yes", guid)
    env.settings |= {"eviction_grace": f"{GRACE}s"}
    await daemon.stop()
    await env.started_daemon()
    await until_deletable(operator, guid)
    shown = await operator.reads("evict", "--unused", "--dry-run")
    unanswered = await operator.reads("evict", "--unused")
    kept = is_there(env, guid)
    done = await operator.reads("evict", "--unused", "--yes")

    assert row["verdict"] == "too-soon"
    assert row["deletable_from"] is not None
    assert (early.status, "first seen unused" in early.err) == (REFUSED, True)
    assert (shown.status, "1 copy can be deleted" in shown.out) == (PENDING, True)
    assert "give --yes" in unanswered.err
    assert kept
    assert (done.status, f"deleted {env.cache.address}/{guid}:latest" in done.out) == (0, True)
    assert not is_there(env, guid)
