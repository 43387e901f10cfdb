"""Copies of which the private registry has lost something while apps run from them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.daemon.environment import DaemonProcess, Environment, Registry, open_environment, until
from tests.daemon.invariants import Invariants
from tests.daemon.operator import Operator
from tests.daemon.pushes import all_on_copies, copy_of, image_of, staged_and_cached
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.cloud_controller import App

pytestmark = pytest.mark.thorough


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.2,
        cells=3,
        sync_interval=30.0,
        converge_interval=1.0,
    ) as opened:
        yield opened


def delete_manifest(registry: Registry, repository: str, tag: str) -> None:
    """Delete an image as a person, or a registry's own retention, does."""
    with httpx.Client(base_url=registry.url) as client:
        found = images.pull_manifest(client, repository, tag)
        assert found is not None
        answer = client.delete(f"/v2/{repository}/manifests/{found.digest}")
        assert answer.status_code == 202


def instances_of(env: Environment, app: App) -> set[str]:
    """The app's instances that run."""
    return {row.actual_lrp_instance_key.instance_guid for row in env.rows(app) if row.state == "RUNNING"}


async def on_its_copy(env: Environment, daemon: DaemonProcess, name: str, *, instances: int = 2) -> App:
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, name, instances=instances)
    await env.cloud.start_app(app)
    await all_on_copies(env, [app])
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="migrated")
    return app


async def state_of(env: Environment, name: str) -> tuple[str, str]:
    (listed,) = (await Operator(env).runs("apps", "--app", name)).rows
    return listed["state"], listed["reason"]


async def test_a_deleted_copy_is_sent_again_and_instances_that_run_are_not_touched(env: Environment) -> None:
    """The app is scaled up: its new instance cannot start, until the copy is there again."""
    daemon = await env.started_daemon()
    app = await on_its_copy(env, daemon, "web")
    copy, before = copy_of(env, daemon, app), instances_of(env, app)
    await asyncio.to_thread(delete_manifest, env.cache, copy, "latest")
    invariants = Invariants(env.bbs, env.cells, env.cloud)

    with invariants.watching():
        await env.cloud.scale(app, 3)
        await daemon.logged("presence.found-incomplete-copy")
        await daemon.logged("presence.copy-is-complete-again")
        await until(lambda: len(instances_of(env, app)) == 3)

    assert invariants.violations == []
    assert before < instances_of(env, app)
    assert env.is_from_cache(app)
    assert copy_of(env, daemon, app) == copy
    verified = await Operator(env).runs("verify")
    assert [(row["status"], verified.status) for row in verified.rows] == [("ok", 0)]
    assert (await state_of(env, "web"))[0] == "cached"


async def test_a_deleted_copy_is_found_on_schedule_and_shown_until_it_is_sent_again(env: Environment) -> None:
    """Nothing crashes: the app would have found out at its next restart."""
    env.settings["copy_check_interval"] = "2s"
    daemon = await env.started_daemon()
    app = await on_its_copy(env, daemon, "web")
    copy, before = copy_of(env, daemon, app), instances_of(env, app)
    await Operator(env).runs("pause")

    await asyncio.to_thread(delete_manifest, env.cache, copy, "latest")
    await daemon.logged("presence.found-incomplete-copy")
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="copy-incomplete")
    (image,) = (await Operator(env).runs("images")).rows
    assert image["missing"].startswith("its manifest")
    assert image["missing_since"] is not None
    assert await state_of(env, "web") == ("pending", "copy-incomplete")
    assert "something of 1 copy is missing" in (await Operator(env).reads("status")).out

    await Operator(env).runs("resume")
    await daemon.logged("presence.copy-is-complete-again")
    await until(lambda: bool(daemon.named("reconciler.reconciled", reason="already-cached")))

    (image,) = (await Operator(env).runs("images")).rows
    assert (image["missing"], image["missing_since"]) == ("", None)
    assert "is missing" not in (await Operator(env).reads("status")).out
    assert instances_of(env, app) == before


async def test_a_copy_and_its_source_that_are_gone_are_reported_and_the_app_stays(env: Environment) -> None:
    env.settings["copy_check_interval"] = "2s"
    daemon = await env.started_daemon()
    app = await on_its_copy(env, daemon, "web")
    copy, before = copy_of(env, daemon, app), instances_of(env, app)
    await asyncio.to_thread(delete_manifest, env.source, "team/web", "1")

    await asyncio.to_thread(delete_manifest, env.cache, copy, "latest")
    await daemon.logged("presence.lost-copy")
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="copy-and-source-lost")

    assert await state_of(env, "web") == ("failed", "copy-and-source-lost")
    (image,) = (await Operator(env).runs("images")).rows
    assert image["lost_since"] is not None
    (status,) = (await Operator(env).runs("status")).rows
    assert (status["incomplete_images"], status["lost_images"]) == (1, 1)
    assert "1 LOST: no known source has it any more" in (await Operator(env).reads("status")).out
    assert instances_of(env, app) == before
    assert env.is_from_cache(app)


async def test_an_app_whose_copy_is_lost_goes_back_to_its_source_behind_a_bridge(env: Environment) -> None:
    """The source has the tag, and not any more what the tag named."""
    env.settings["copy_check_interval"] = "2s"
    daemon = await env.started_daemon()
    app = await on_its_copy(env, daemon, "web")
    copy = copy_of(env, daemon, app)
    await asyncio.to_thread(delete_manifest, env.source, "team/web", "1")
    await asyncio.to_thread(env.source.push, "team/web", "1", image_of("other"))
    invariants = Invariants(env.bbs, env.cells, env.cloud)

    with invariants.watching():
        await asyncio.to_thread(delete_manifest, env.cache, copy, "latest")
        await daemon.logged("presence.lost-copy")
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="restored")
        await until(lambda: len(instances_of(env, app)) == 2)

    assert invariants.violations == []


async def test_an_app_that_was_started_from_its_droplet_goes_back_with_it_when_its_copy_is_lost(
    env: Environment,
) -> None:
    env.connect_cloud_controller()
    env.settings["copy_check_interval"] = "2s"
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    app = await staged_and_cached(env, daemon, "web")
    droplet, copy = app.current, copy_of(env, daemon, app)
    assert droplet is not None
    await until(lambda: copy in (droplet.image or ""))
    await env.cloud.start_app(app)
    assert env.is_from_cache(app)
    await all_on_copies(env, [app])
    await asyncio.to_thread(delete_manifest, env.source, "team/web", "1")
    await asyncio.to_thread(env.source.push, "team/web", "1", image_of("other"))
    invariants = Invariants(env.bbs, env.cells, env.cloud)

    with invariants.watching():
        await asyncio.to_thread(delete_manifest, env.cache, copy, "latest")
        await daemon.logged("presence.lost-copy")
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="restored")
        await daemon.logged("droplets.restored-droplet")
        await until(lambda: len(instances_of(env, app)) == 1)

    assert invariants.violations == []
    assert droplet.image == app.package.text
    await env.cloud.restart(app)
    assert not env.is_from_cache(app)


async def test_verify_sends_again_what_is_missing_when_it_is_asked_to(env: Environment) -> None:
    daemon = await env.started_daemon()
    app = await on_its_copy(env, daemon, "web")
    copy, before = copy_of(env, daemon, app), instances_of(env, app)
    await Operator(env).runs("pause")
    env.cache.lose_layers(copy)

    found = await Operator(env).runs("verify")
    assert [(row["status"], found.status) for row in found.rows] == [("corrupt", 5)]
    mended = await Operator(env).runs("verify", "--repair")

    assert [(row["status"], mended.status) for row in mended.rows] == [("repaired", 0)]
    assert "blob" in mended.rows[0]["error"].lower()
    again = await Operator(env).runs("verify")
    assert [(row["status"], again.status) for row in again.rows] == [("ok", 0)]
    assert instances_of(env, app) == before
