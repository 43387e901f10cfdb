"""The main job with the daemon as a real process: from a staging task to instances that run from the copy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconcile.canary import TASK_IMAGE
from tests.daemon.conftest import both_versions
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.recipes import Image
from tests.simulators.registry import BasicLogin, OtherBytes, Stall
from tests.simulators.registry.store import StoredManifest

SAMPLE = images.image([images.layer(200_000, n) for n in range(3)])
OTHER = images.image([images.layer(200_000, n) for n in (7, 8)])


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version) as opened:
        yield opened


@both_versions
async def test_an_app_runs_from_the_copy_also_when_the_source_is_gone(env: Environment) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    await env.started_daemon()
    app = await env.push_app("web", Image(reference), instances=2)
    before = env.cloud.definition(app)

    rootfs = await env.replaced(app)
    await until(lambda: env.running_from(app, rootfs) == 2)
    env.stop_source()
    await env.cloud.scale(app, 5)
    await until(lambda: env.running_from(app, rootfs) == 5)

    assert {each.manifest_digest for each in env.cell.instances.values()} == {SAMPLE.manifest.digest}
    after = env.lrp(app)
    assert after is not None
    assert (after.image_username, after.image_password) == ("", "")
    for unchanged in (
        "process_guid",
        "domain",
        "log_guid",
        "routes",
        "environment_variables",
        "action",
        "ports",
    ):
        assert getattr(after, unchanged) == getattr(before, unchanged), unchanged


async def test_a_running_lrp_may_be_left_alone_and_replaced_when_nothing_of_it_runs(
    env: Environment,
) -> None:
    env.settings["migrate_running"] = "never"
    reference = env.source.push("team/web", "1", SAMPLE)
    app = await env.push_app("web", Image(reference))
    await until(lambda: [row.state for row in env.rows(app)] == ["RUNNING"])
    daemon = await env.started_daemon()
    await daemon.logged("reconciler.reconciled", reason="waiting-until-stopped")

    lrp = (await Operator(env).runs("apps")).row
    assert (lrp["process_guid"], lrp["reason"]) == (app.process_guid, "waiting-until-stopped")
    assert not env.is_from_cache(app)

    env.cell.crash(app.process_guid, 0, reason="made up")
    rootfs = await env.replaced(app)
    await until(lambda: env.running_from(app, rootfs) == 1)


async def test_a_push_under_the_same_tag_runs_the_new_content(env: Environment) -> None:
    reference = env.source.push("team/web", "latest", SAMPLE)
    daemon = await env.started_daemon()
    app = await env.push_app("web", Image(reference))
    first = await env.replaced(app)

    env.source.push("team/web", "latest", OTHER)
    build = await env.cloud.stage(app)
    await daemon.logged(
        "watcher.requested-copy", task_guid=build
    )  # no staging is over before that is heard of
    await env.cloud.staged(app, build)
    await env.cloud.restart(app)
    second = await env.replaced(app)
    await until(lambda: env.running_from(app, second) == 1)

    assert second != first
    running = [each for each in env.cell.instances.values() if each.is_running and each.rootfs == second]
    assert {each.manifest_digest for each in running} == {OTHER.manifest.digest}


async def test_what_was_pushed_while_nobody_watched_is_what_runs(env: Environment) -> None:
    """The daemon knows an older staging of the app, and the tag has moved since."""
    reference = env.source.push("team/web", "latest", SAMPLE)
    daemon = await env.started_daemon()
    app = await env.push_app("web", Image(reference))
    first = await env.replaced(app)
    await daemon.stop()

    env.source.push("team/web", "latest", OTHER)
    await env.cloud.staged(app, await env.cloud.stage(app))
    await until(lambda: not env.bbs.state.tasks)
    env.cell.settings.start_delay = 5.0
    await env.cloud.restart(app)
    await env.started_daemon()
    second = await env.replaced(app)

    assert second != first
    repository = second.removeprefix(f"docker://{env.cache.address}/").partition("#")[0]
    copy = env.cache.pull_manifest(repository, "latest")
    assert copy is not None
    assert copy.digest == OTHER.manifest.digest


async def test_an_app_that_opted_in_by_a_variable_is_cached_and_others_are_not(env: Environment) -> None:
    env.settings["cache"] = "opt_in"
    reference = env.source.push("team/web", "1", SAMPLE)
    daemon = await env.started_daemon()
    silent = await env.push_app("silent", Image(reference))
    willing = await env.cloud.push("willing", Image(reference), env={"DIEGO_DOCKER_CACHE": "true"})

    await env.replaced(willing)
    await daemon.logged("reconciler.reconciled", process_guid=silent.process_guid, reason="not-opted-in")
    assert not env.is_from_cache(silent)


async def test_a_failed_staging_drops_its_binding(env: Environment) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    daemon = await env.started_daemon()
    env.cell.task_gate.clear()
    app = env.cloud.create("web", Image(reference))
    build = await env.cloud.stage(app)
    await daemon.logged("cacher.cached-image")

    env.bbs.handle("/v1/tasks/cancel", _task_guid(build))
    await daemon.logged("watcher.dropped-binding", task_guid=build)
    env.cell.task_gate.set()


def _task_guid(guid: str) -> bytes:
    return b"\x0a" + bytes([len(guid)]) + guid.encode()


async def test_a_private_image_is_copied_with_the_credentials_of_its_task_which_appear_nowhere(
    version: Version,
    tmp_path: Path,
) -> None:
    marker = "marker-password-4711"
    async with open_environment(tmp_path, version=version, faulty_source=True) as env:
        reference = env.source.push("team/web", "1", SAMPLE)
        env.source.faults.login = BasicLogin({"robot": marker})
        daemon = await env.started_daemon()
        app = await env.push_app("web", Image(reference, "robot", marker))
        await env.replaced(app)
        await daemon.stop()

        after = env.lrp(app)
        assert after is not None
        assert after.image_password == "", "what opens the source is not sent to the private registry"
        assert marker not in daemon.text
        for file in (tmp_path / "store").iterdir():
            assert marker.encode() not in file.read_bytes(), file.name


async def test_an_image_that_cells_refuse_is_named_at_staging_and_is_not_copied(env: Environment) -> None:
    daemon = await env.started_daemon()
    reference = env.source.push("team/empty", "1", images.image([]))
    app = env.cloud.create("web", Image(reference))
    build = await env.cloud.stage(app)
    line = await daemon.logged("cacher.failed-to-cache-image")
    await env.cloud.staged(app, build)
    await env.cloud.start_app(app)
    skipped = await daemon.logged(
        "reconciler.reconciled", process_guid=app.process_guid, reason="cannot-run-on-cells"
    )

    said = f"{reference}: it has no layers; cells refuse it from its source as well"
    assert line["data"]["reason"] == f"cannot-run-on-cells: {said}"
    assert skipped["data"]["detail"] == said
    lrp = env.lrp(app)
    assert lrp is not None
    assert lrp.root_fs == f"docker://{env.source.address}/team/empty#1"


async def test_an_image_that_no_copy_can_be_made_of_leaves_the_app_on_its_source(env: Environment) -> None:
    daemon = await env.started_daemon()
    app = env.cloud.create("web", Image(f"{env.source.address}/team/nothing:1"))
    build = await env.cloud.stage(app)
    line = await daemon.logged("cacher.failed-to-cache-image")
    await env.cloud.staged(app, build)
    await env.cloud.start_app(app)
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="copy-failed")

    assert "MANIFEST_UNKNOWN" in line["data"]["reason"] or "NAME_UNKNOWN" in line["data"]["reason"]
    lrp = env.lrp(app)
    assert lrp is not None
    assert lrp.root_fs == f"docker://{env.source.address}/team/nothing#1"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"x" * (4 * 1024 * 1024 + 1), "manifest-too-large"),
        (b"{not json", "manifest-malformed"),
        (
            b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}',
            "manifest-malformed",
        ),
    ],
    ids=["over-4-MiB", "no-json", "nothing-in-it"],
)
async def test_a_source_that_serves_nonsense_ends_in_a_clear_failure(
    version: Version, tmp_path: Path, body: bytes, problem: str
) -> None:
    async with open_environment(tmp_path, version=version, faulty_source=True) as env:
        manifest = StoredManifest(images.OCI_MANIFEST, body)
        env.source.faults.store.add_manifest("team/web", "1", manifest)
        daemon = await env.started_daemon()
        app = env.cloud.create("web", Image(f"{env.source.address}/team/web:1"))
        await env.cloud.stage(app)
        line = await daemon.logged("cacher.failed-to-cache-image")

        assert line["data"]["reason"].startswith(f"{problem}: ")
        assert (await Operator(env).runs("images")).rows == []


async def test_a_wrong_blob_is_never_visible_as_an_image(version: Version, tmp_path: Path) -> None:
    async with open_environment(tmp_path, version=version, faulty_source=True) as env:
        reference = env.source.push("team/web", "1", SAMPLE)
        wrong = b"y" * len(SAMPLE.layers[0].content)
        env.source.faults.fail("GET", SAMPLE.layers[0].digest, OtherBytes(wrong), times=None)
        daemon = await env.started_daemon()
        app = env.cloud.create("web", Image(reference))
        await env.cloud.stage(app)
        line = await daemon.logged("cacher.failed-to-cache-image")

        assert "digest-mismatch" in line["data"]["reason"]
        guids = [guid for guid in env.cache.list_guids() if guid != TASK_IMAGE]
        assert guids != []
        assert [guid for guid in guids if env.cache.pull_manifest(guid, "latest") is not None] == []


async def test_stopping_does_not_wait_for_a_copy_in_flight_and_the_copy_is_finished_later(
    version: Version,
    tmp_path: Path,
) -> None:
    async with open_environment(tmp_path, version=version, faulty_source=True) as env:
        reference = env.source.push("team/web", "1", SAMPLE)
        env.source.faults.fail("GET", SAMPLE.layers[0].digest, Stall(1000), times=1)
        env.settings |= {"registry_timeout": "1h", "min_rate_window": "1h"}
        daemon = await env.started_daemon()
        app = env.cloud.create("web", Image(reference))
        await env.cloud.stage(app)
        await asyncio.to_thread(env.source.faults.wait_for_stall)

        assert await daemon.stop() == 0

        again = await env.started_daemon()
        await again.logged("cacher.cached-image")
