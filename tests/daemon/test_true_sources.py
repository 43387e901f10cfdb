"""Sources that do not answer, have dropped an image or moved a tag, and private registries that follow each other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.environment import (
    DaemonProcess,
    Environment,
    Registry,
    open_environment,
    simulate_registry,
    until,
)
from tests.daemon.invariants import Invariants
from tests.daemon.operator import Operator, running_apps
from tests.daemon.pushes import all_on_copies, copy_of, image_of, staged_and_cached
from tests.simulators.bbs import Version
from tests.simulators.cell_settings import Instance
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image
from tests.simulators.registry import Refuse

pytestmark = pytest.mark.thorough

MANIFESTS = "/manifests/"
DESIRE = "/v1/desired_lrp/desire.r2"


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        faulty_source=True,
        faulty_cache=True,
        start_delay=0.1,
        converge_interval=1.0,
    ) as opened:
        opened.settings["sync_interval"] = "1s"
        yield opened


def silence(registry: Registry) -> None:
    """Let a registry answer nothing but errors."""
    for method in ("GET", "HEAD"):
        registry.faults.fail(method, ".", Refuse(503), times=None)


async def restarted(env: Environment, daemon: DaemonProcess) -> DaemonProcess:
    await daemon.stop()
    again = await env.started_daemon()
    await again.logged("canary.cells-can-pull")
    return again


def image_named(app: App) -> str:
    """Read what an app's current droplet names."""
    return "" if app.droplet is None else app.droplet.text


async def row_of(env: Environment, app: App) -> dict[str, Any]:
    rows = (await Operator(env).runs("apps")).rows
    (row,) = [each for each in rows if each["process_guid"] == app.process_guid]
    return row


class TestUnreachableSource:
    """An app is restarted whose source does not answer, after the daemon may have missed a staging of it."""

    async def test_what_runs_from_a_tag_gets_the_newest_copy_that_its_app_had(self, env: Environment) -> None:
        daemon = await env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        app = await staged_and_cached(env, daemon, "web")
        await env.cloud.start_app(app)
        await all_on_copies(env, [app])
        copy = copy_of(env, daemon, app)
        silence(env.source)
        daemon = await restarted(env, daemon)

        await env.cloud.restart(app)
        await all_on_copies(env, [app])

        assert await env.replaced(app) == f"docker://{env.cache.address}/{copy}#latest"
        await daemon.logged("reconciler.used-known-copy", process_guid=app.process_guid)
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="migrated")
        row = await row_of(env, app)
        assert row["state"] == "cached"
        assert row["reason"] in {"migrated", "already-cached"}, "the latter where another pass came first"
        assert row["detail"].startswith("source-unreachable-known-copy-used: source-unreachable: ")

    async def test_what_a_digest_pins_gets_its_copy_and_its_source_is_not_asked(
        self, env: Environment
    ) -> None:
        sample = image_of("web")
        reference = await asyncio.to_thread(env.source.push, "team/web", "1", sample)
        pinned = f"{reference.rpartition(':')[0]}@{sample.manifest.digest}"
        daemon = await env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        app = await env.push_app("web", Image(pinned))
        await all_on_copies(env, [app])
        silence(env.source)
        daemon = await restarted(env, daemon)

        await env.cloud.restart(app)
        await all_on_copies(env, [app])

        assert daemon.named("cacher.queued-job") == []


async def test_a_pinned_image_that_its_source_has_dropped_is_cached_for_a_second_app(
    env: Environment,
) -> None:
    sample = image_of("web")
    reference = await asyncio.to_thread(env.source.push, "team/web", "1", sample)
    pinned = f"{reference.rpartition(':')[0]}@{sample.manifest.digest}"
    daemon = await env.started_daemon()
    await daemon.logged("canary.cells-can-pull")
    first = await env.push_app("web", Image(pinned))
    await all_on_copies(env, [first])
    await asyncio.to_thread(env.source.lose_manifest, "team/web", sample.manifest.digest)

    second = await env.push_app("worker", Image(pinned))
    await all_on_copies(env, [second])

    assert await env.replaced(second) == await env.replaced(first)
    assert daemon.named("cacher.failed-to-cache-image") == []


class TestMovedTag:
    """A tag moves at its source while an app runs from it that was not migrated yet."""

    async def test_an_app_gets_what_it_was_staged_with_also_after_a_restart_of_the_daemon(
        self, env: Environment
    ) -> None:
        daemon = await env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        app = await staged_and_cached(env, daemon, "web")
        copy = copy_of(env, daemon, app)
        await Operator(env).runs("pause")
        await env.cloud.start_app(app)
        await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="paused")
        await asyncio.to_thread(env.source.push, "team/web", "1", image_of("another content"))
        await daemon.stop()
        await env.started_daemon()

        await Operator(env).runs("resume")
        await all_on_copies(env, [app])

        assert await env.replaced(app) == f"docker://{env.cache.address}/{copy}#latest"

    async def test_a_running_app_whose_staging_nobody_saw_is_named_in_the_plan(
        self, env: Environment
    ) -> None:
        env.settings["start_paused"] = True
        await running_apps(env, "web")
        await env.started_daemon()

        plan = await Operator(env).runs("reconcile")
        text = (await Operator(env).reads("reconcile")).out

        assert [row["gets_unseen_content"] for row in plan.kind("migration")] == [True]
        assert "their staging was not seen" in text

    async def test_it_waits_for_its_staging_if_the_operator_wants_that_and_is_migrated_once_it_stops(
        self, env: Environment
    ) -> None:
        env.settings["unseen_stagings"] = "wait"
        (app,) = await running_apps(env, "web")
        daemon = await env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        await daemon.logged(
            "reconciler.reconciled", process_guid=app.process_guid, reason="waiting-for-staging"
        )
        plan = await Operator(env).runs("reconcile")
        assert [row["reason"] for row in plan.kind("skipped")] == ["waiting-for-staging"]
        assert not env.is_from_cache(app)

        lrp = env.lrp(app)
        assert lrp is not None

        async def begin(instance: Instance) -> None:
            """Start nothing from the source again, however late the daemon sees that nothing runs."""
            if instance.rootfs == lrp.root_fs:
                await until(lambda: instance.is_stopping)

        env.cell.settings.begin_process = begin
        await env.cloud.restart(app)
        await all_on_copies(env, [app])


class TestNextRegistry:
    """The private registry is replaced by another one."""

    @pytest.fixture
    async def next_cache(self, env: Environment) -> AsyncIterator[Registry]:
        with simulate_registry() as registry:
            for cell in env.cells:
                assert isinstance(cell.settings.registry_map, dict)
                cell.settings.registry_map[registry.address] = registry.url
            yield registry

    async def app_on_copy(self, env: Environment) -> App:
        daemon = await env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        app = await staged_and_cached(env, daemon, "web", instances=2)
        await env.cloud.start_app(app)
        await all_on_copies(env, [app])
        if "cloud_controller_api_url" in env.settings:
            await until(lambda: image_named(app).startswith(f"{env.cache.address}/"))
        await Operator(env).runs("pause")
        await daemon.stop()
        return app

    def change(self, env: Environment, registry: Registry, *, former: bool) -> Registry:
        """Configure another private registry, and return the one before."""
        old, env.cache = env.cache, registry
        env.settings["cache_registry"] = {"address": registry.address, "plain_http": True}
        if former:
            env.settings["former_cache_registries"] = [{"address": old.address, "plain_http": True}]
        return old

    async def test_a_daemon_that_does_not_know_the_former_one_says_so_and_leaves_its_apps(
        self, env: Environment, next_cache: Registry
    ) -> None:
        app = await self.app_on_copy(env)
        before = await env.replaced(app)
        old = self.change(env, next_cache, former=False)

        daemon = await env.started_daemon()

        said = await daemon.logged("daemon.registry-not-configured", registry=old.address)
        assert f"list {old.address} in former_cache_registries" in said["data"]["detail"]
        await daemon.logged(
            "reconciler.reconciled", process_guid=app.process_guid, reason="registry-not-configured"
        )
        row = await row_of(env, app)
        assert (row["state"], row["reason"]) == ("failed", "registry-not-configured")
        assert "list it in former_cache_registries" in row["detail"]
        lrp = env.lrp(app)
        assert lrp is not None
        assert lrp.root_fs == before
        status = (await Operator(env).runs("status")).row
        assert status["images"] == 0
        (former,) = status["former_registries"]
        assert (former["address"], former["configured"], former["images"]) == (old.address, False, 1)
        _, out, err = await env.run_command("config", "check", "--config", str(env.config_path))
        assert f"former_cache_registries: 1 copy was made in {old.address}" in out + err

    @pytest.mark.parametrize("has_source", [True, False])
    async def test_apps_go_from_one_to_the_next_by_a_plan_and_keep_their_true_source(
        self,
        env: Environment,
        next_cache: Registry,
        has_source: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        """So do their droplets."""
        env.connect_cloud_controller()
        app = await self.app_on_copy(env)
        digest = image_of("web").manifest.digest
        if not has_source:
            await asyncio.to_thread(env.source.lose_manifest, "team/web", digest)
        old = self.change(env, next_cache, former=True)
        daemon = await env.started_daemon()

        status = (await Operator(env).runs("status")).row
        plan = await Operator(env).runs("reconcile")
        applied = await Operator(env).runs("reconcile", "--apply", "--yes")
        await all_on_copies(env, [app])

        assert [row["lrps"] for row in status["former_registries"]] == [1]
        (migration,) = plan.kind("migration")
        assert migration["from_rootfs"].startswith(f"docker://{old.address}/")
        assert migration["copy"] == f"{env.source.address}/team/web@{digest}"
        assert applied.status == 0, applied.out + applied.err
        (droplet,) = plan.kind("droplet")
        assert droplet["from_image"].startswith(f"{old.address}/")
        assert image_named(app).startswith(f"{next_cache.address}/")
        assert bool(daemon.named("cacher.copied-from-former-registry")) is not has_source
        images = (await Operator(env).runs("images")).rows
        assert [row["url"].partition("/")[0] for row in images] == [next_cache.address]
        assert [row["source"] for row in images] == [f"{env.source.address}/team/web:1"]

        await asyncio.to_thread(env.source.push, "team/web", "1", image_of("web"))
        restored = await Operator(env).runs("restore", "--all", "--yes")
        assert restored.status == 0, restored.out + restored.err
        lrp = env.lrp(app)
        assert lrp is not None
        assert lrp.root_fs == f"docker://{env.source.address}/team/web#1"
        assert image_named(app) == f"{env.source.address}/team/web:1"

    async def test_one_that_cloud_controller_desires_from_a_source_that_is_gone_gets_its_copy_all_the_same(
        self, env: Environment, next_cache: Registry
    ) -> None:
        """Its sync comes between removal and desire, and it knows nothing but the source."""
        app = await self.app_on_copy(env)
        env.stop_source()
        self.change(env, next_cache, former=True)
        invariants = Invariants(env.bbs, env.cells, env.cloud)
        with invariants.watching():
            daemon = await env.started_daemon()
            await Operator(env).runs("resume")
            await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="bridged")
            env.bbs.faults.delay(DESIRE, 2.0)
            await until(lambda: env.lrp(app) is None)
            await env.cloud.sync()
            lrp = env.lrp(app)
            assert lrp is not None
            assert lrp.root_fs == f"docker://{env.source.address}/team/web#1"
            env.bbs.faults.clear()

            await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="migrated")
            await all_on_copies(env, [app])

        assert invariants.violations == []

    async def test_an_app_on_the_former_one_is_restored_to_its_true_source(
        self, env: Environment, next_cache: Registry
    ) -> None:
        app = await self.app_on_copy(env)
        self.change(env, next_cache, former=True)
        silence(next_cache)
        await env.started_daemon()

        restored = await Operator(env).runs("restore", "--all", "--yes")

        assert restored.status == 0, restored.out + restored.err
        await until(lambda: env.running_from(app, f"docker://{env.source.address}/team/web#1") == 2)
