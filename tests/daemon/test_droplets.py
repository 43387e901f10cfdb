"""Droplets that name their copies, with a real daemon: what is desired from them needs no migration."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.capi import faults
from tests.simulators.capi.records import Droplet
from tests.simulators.capi.uaa import GLOBAL_AUDITOR, SMALLEST_USEFUL, UPDATE_BUILD_STATE, WRITE
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.simulators.registry import BasicLogin

FIRST = images.image([images.layer(1000, n) for n in range(2)])
SECOND = images.image([images.layer(1000, n) for n in range(2, 4)])
NOT_ALL_DONE = 5


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path, version=version, faulty_source=True, start_delay=0.1, pulls=False, converge_interval=1.0
    ) as opened:
        opened.connect_cloud_controller()
        opened.settings |= {"sync_interval": "1s", "drain_delay": "100ms"}
        yield opened


def droplet_of(app: App) -> Droplet:
    assert app.current is not None
    return app.current


def names_copy(env: Environment, app: App) -> bool:
    return (droplet_of(app).image or "").startswith(f"{env.cache.address}/")


def login_of(env: Environment, app: App) -> tuple[str, str]:
    lrp = env.lrp(app)
    return ("", "") if lrp is None else (lrp.image_username, lrp.image_password)


async def pushed(env: Environment, name: str, sample: images.Image) -> App:
    """Push an app, and wait until its LRP is desired from the copy."""
    app = await env.push_app(name, Image(env.source.push(f"team/{name}", "1", sample)))
    await env.replaced(app)
    return app


async def listing(daemon: DaemonProcess) -> DaemonProcess:
    """Wait until a daemon has listed the droplets, and cells have shown that they can pull."""
    await daemon.logged("droplets.listed-droplets")
    await daemon.logged("canary.cells-can-pull")
    return daemon


async def test_a_droplet_names_its_copy_before_its_app_starts_or_afterwards_for_the_next_time(
    env: Environment,
) -> None:
    daemon = await env.started_daemon()
    await daemon.logged("droplets.listed-droplets")
    await daemon.logged("canary.cells-can-pull")
    in_time = env.cloud.create("in-time", Image(env.source.push("team/in-time", "1", FIRST)))
    build = await env.cloud.stage(in_time)
    await env.cloud.staged(in_time, build)
    patched = await daemon.logged("droplets.patched-droplet", app_guid=in_time.guid)
    await env.cloud.start_app(in_time)

    assert env.is_from_cache(in_time), "the first LRP comes from the copy"
    asked = f"{build}|{patched['data']['droplet-guid']}"
    assert env.capi.api.count("*", asked) == 3

    env.capi.api.faults.order("PATCH", "^/v3/droplets", faults.fail(), times=1)
    late = await env.push_app("late", Image(env.source.push("team/late", "1", SECOND)))
    await env.replaced(late)
    await daemon.logged("droplets.patched-droplet", app_guid=late.guid)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await daemon.stop()

    await env.cloud.restart(late)
    assert env.is_from_cache(late), "Cloud Controller desires it from the copy, with no daemon running"
    daemon = await env.started_daemon()
    await daemon.logged("droplets.listed-droplets", patched=2, queued=0)
    assert not daemon.named("reconciler.reconciled", reason="migrated")


async def test_a_daemon_that_is_killed_around_a_change_of_a_droplet_reads_it_back(env: Environment) -> None:
    """On the way to the copy and back; apps are migrated meanwhile, and no original is lost."""
    api, operator = env.capi.api, Operator(env)
    daemon = await listing(await env.started_daemon())
    api.faults.order("PATCH", "^/v3/droplets", faults.Hang())
    api.faults.order("PATCH", "^/v3/droplets", faults.Hang(does=True))
    unsent = await pushed(env, "unsent", FIRST)
    await until(lambda: api.hanging == 1)
    unanswered = await pushed(env, "unanswered", SECOND)
    await until(lambda: api.hanging == 2)
    await daemon.kill()
    assert (names_copy(env, unsent), names_copy(env, unanswered)) == (False, True)

    daemon = await env.started_daemon()
    await daemon.logged("droplets.noted-droplet", droplet_guid=droplet_of(unanswered).guid, phase="patched")
    await daemon.logged("droplets.patched-droplet", droplet_guid=droplet_of(unsent).guid)
    assert api.count("PATCH", droplet_of(unanswered).guid) == 1

    api.faults.order("PATCH", droplet_of(unsent).guid, faults.Hang())
    api.faults.order("PATCH", droplet_of(unanswered).guid, faults.Hang(does=True))
    restoring = asyncio.create_task(operator.runs("restore", "--all", "--yes"))
    await until(lambda: api.hanging == 2)
    await daemon.kill()
    interrupted = await restoring
    assert (names_copy(env, unsent), names_copy(env, unanswered)) == (True, False)
    assert interrupted.status != 0

    daemon = await env.started_daemon()
    restored = await operator.runs("restore", "--all", "--yes")
    again = await operator.runs("restore", "--all", "--yes")
    assert restored.status == again.status == 0, restored.err
    assert [row["kind"] for row in again.rows] == ["plan"]
    for app in (unsent, unanswered):
        assert droplet_of(app).image == app.package.text
        assert not env.is_from_cache(app)
    assert api.count("PATCH", droplet_of(unanswered).guid) == 2


async def test_an_api_that_is_down_keeps_no_app_from_its_copy_nor_from_the_way_back(
    env: Environment,
) -> None:
    operator = Operator(env)
    daemon = await listing(await env.started_daemon())
    early = await pushed(env, "early", FIRST)
    await until(lambda: names_copy(env, early))
    await env.capi.api.stop_listening()

    late = await pushed(env, "late", SECOND)
    await daemon.logged("reconciler.reconciled", process_guid=late.process_guid, reason="migrated")
    await env.cloud.restart(early)
    assert env.is_from_cache(early)
    down = (await operator.runs("status")).row["cloud_controller"]
    assert (down["failing_since"] is not None, down["reachable_since"]) == (True, None)
    await env.capi.api.listen()
    await until(lambda: names_copy(env, late))

    await env.capi.api.stop_listening()
    restored = await operator.runs("restore", "--all", "--yes")
    assert restored.status == NOT_ALL_DONE
    assert "2 of 2 droplets were not changed" in restored.err
    assert not any(env.is_from_cache(app) for app in (early, late))
    assert all(names_copy(env, app) for app in (early, late))
    await daemon.kill()
    await env.capi.api.listen()
    await env.started_daemon()
    await until(lambda: all(droplet_of(app).image == app.package.text for app in (early, late)))
    again = await operator.runs("restore", "--all", "--yes")
    up = (await operator.runs("status")).row["cloud_controller"]
    assert (again.status, [row["kind"] for row in again.rows]) == (0, ["plan"])
    assert up["failing_since"] is None
    assert not any(env.is_from_cache(app) for app in (early, late))


async def test_a_client_without_its_scope_costs_the_droplets_alone(env: Environment) -> None:
    env.capi.add_client(authorities=(WRITE, GLOBAL_AUDITOR))
    operator = Operator(env)
    daemon = await listing(await env.started_daemon())
    first = await pushed(env, "first", FIRST)
    await daemon.logged("droplets.reconciled-droplet", reason="cloud-controller-denied")
    second = await pushed(env, "second", SECOND)
    await daemon.logged("droplets.followed-build", outcome="staged", count=2)

    status = (await operator.runs("status")).row["cloud_controller"]
    asked = env.capi.api.count("PATCH")
    assert status["missing_scopes"] == [UPDATE_BUILD_STATE]
    assert asked <= 2
    assert not any(names_copy(env, app) for app in (first, second))
    await daemon.stop()

    env.capi.add_client(authorities=SMALLEST_USEFUL)
    await listing(await env.started_daemon())
    applied = await operator.runs("reconcile", "--apply", "--yes")
    assert applied.status == 0, applied.err
    assert all(names_copy(env, app) for app in (first, second))
    assert (await operator.runs("status")).row["cloud_controller"]["missing_scopes"] == []


async def test_what_others_write_into_droplets_stays(env: Environment) -> None:
    """One writes the original again and again, another something else; LRPs stay on their copies."""
    env.settings |= {"droplet_sync_interval": "1s"}
    operator = Operator(env)
    daemon = await listing(await env.started_daemon())
    put_back = faults.Afterwards(lambda: env.cloud.patch(droplet_of(first), first.package.text))
    first = env.cloud.create("first", Image(env.source.push("team/first", "1", FIRST)))
    env.capi.api.faults.order("PATCH", "^/v3/droplets", put_back, times=3)
    await env.cloud.staged(first, await env.cloud.stage(first))
    await env.cloud.start_app(first)
    await daemon.logged("droplets.reconciled-droplet", reason="reverted-externally")
    second = await pushed(env, "second", SECOND)
    await until(lambda: names_copy(env, second))
    theirs = f"mirror.example.com/{uuid.uuid4()}:latest"
    env.cloud.patch(droplet_of(second), theirs)
    await daemon.logged("droplets.reconciled-droplet", reason="image-changed-externally")
    await daemon.logged("droplets.listed-droplets", count=len(daemon.named("droplets.listed-droplets")) + 2)

    rows = {row["app_name"]: row["reason"] for row in (await operator.runs("droplets")).rows}
    assert rows == {"first": "reverted-externally", "second": "image-changed-externally"}
    assert (droplet_of(first).image, droplet_of(second).image) == (first.package.text, theirs)
    assert env.capi.api.count("PATCH", droplet_of(first).guid) == 3
    await env.replaced(first)
    assert env.is_from_cache(second)
    restored = await operator.runs("restore", "--all", "--yes")
    assert restored.status == 0, restored.err
    assert (droplet_of(first).image, droplet_of(second).image) == (first.package.text, theirs)
    assert not any(env.is_from_cache(app) for app in (first, second))


async def test_what_is_desired_from_a_droplet_gets_the_cells_login_and_gives_the_sources_back(
    env: Environment, version: Version
) -> None:
    """Cloud Controller gives each LRP the login of its source; the way back needs that login, the copy another."""
    file = env.directory / "pull-password"
    file.write_text("marker-of-the-cells")
    file.chmod(0o600)
    env.settings |= {"cache_pull_username": "cells", "cache_pull_password_file": str(file)}
    daemon = await listing(await env.started_daemon())
    reference = env.source.push("team/web", "1", FIRST)
    env.source.faults.login = BasicLogin({"robot": "marker-of-the-source"})
    web = env.cloud.create("web", Image(reference, "robot", "marker-of-the-source"))
    await env.cloud.staged(web, await env.cloud.stage(web))
    await until(lambda: names_copy(env, web))

    for start in (env.cloud.start_app, env.cloud.restart):
        await start(web)
        assert login_of(env, web) == ("robot", "marker-of-the-source")
        assert env.is_from_cache(web)
        if version is Version.NEW:
            await until(lambda: login_of(env, web) == ("cells", "marker-of-the-cells"))
        else:  # that one cannot be changed in place, and cells can pull with it
            guid = web.process_guid
            await daemon.logged("reconciler.reconciled", process_guid=guid, reason="already-cached")
            assert login_of(env, web) == ("robot", "marker-of-the-source")
        await until(lambda: [row.state for row in env.rows(web)] == ["RUNNING"])
    task = await env.cloud.run_task(web)
    await env.cloud.ended(task)
    assert task.error == ""

    restored = await Operator(env).runs("restore", "--all", "--yes")
    lrp = env.lrp(web)
    assert restored.status == 0, restored.err
    assert lrp is not None
    assert (droplet_of(web).image, lrp.root_fs) == (reference, f"docker://{reference.replace(':1', '#1')}")
    assert login_of(env, web) == ("robot", "marker-of-the-source")
    assert "marker-of" not in daemon.text + restored.out + restored.err
