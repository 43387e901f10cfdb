# ruff: noqa: N802 - names carry the numbers of known bugs
"""The daemon killed at any moment, and a BBS that goes away: nothing is lost, no app is harmed."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Fault, Version
from tests.simulators.recipes import Image

SAMPLE = images.image([images.layer(200_000, n) for n in range(3)])


@pytest.fixture
async def env(version: Version, limits: Mapping[str, float], tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, version=version, limits=limits) as opened:
        yield opened


async def test_killed_between_removal_and_desire_the_app_comes_back_from_the_cache(env: Environment) -> None:
    """Nobody else would bring it back here: no owner keeps the domain fresh."""
    reference = env.source.push("team/web", "1", SAMPLE)
    env.cell.settings.start_delay = 600.0  # a daemon that waited for the old instance would not end
    env.lose_stops()
    daemon = await env.started_daemon()
    app = await env.push_app("web", Image(reference))
    await until(lambda: env.lrp(app) is None)
    await daemon.kill()
    env.cell.settings.start_delay = 0.05
    env.end_instances()

    again = await env.start_daemon()
    await again.logged("reconciler.resuming-migration", process_guid=app.process_guid)
    # A container whose pull ends only now says that it runs, and is retired half a minute later.
    await until(lambda: env.is_from_cache(app))
    rootfs = await env.replaced(app)
    await until(lambda: env.running_from(app, rootfs) == 1)


async def test_without_a_journal_key_a_stop_in_mid_migration_still_desires_the_app(
    env: Environment,
) -> None:
    del env.settings["journal_key_file"]
    reference = env.source.push("team/web", "1", SAMPLE)
    env.cell.settings.start_delay = 600.0  # a daemon that waited for the old instance would not end
    env.lose_stops()
    daemon = await env.started_daemon()
    await daemon.logged("daemon.journal-in-memory-only")
    app = await env.push_app("web", Image(reference))
    await until(lambda: env.lrp(app) is None)

    assert await daemon.stop() == 0
    assert env.is_from_cache(app)


@pytest.mark.parametrize("copies", [0, 1, 2])
async def test_killed_again_and_again_one_staging_is_one_image(env: Environment, copies: int) -> None:
    """It is killed after so many of the journal's changes of state."""
    reference = env.source.push("team/web", "1", SAMPLE)
    env.cell.settings.start_delay = 60.0
    env.cell.task_gate.clear()
    app = env.cloud.create("web", Image(reference))
    build = await env.cloud.stage(app)
    moments = ["cacher.queued-job", "cacher.copying-image", "cacher.cached-image"]
    for moment in moments[: copies + 1]:
        daemon = await env.start_daemon()
        await daemon.logged(moment)
        await daemon.kill()
    env.cell.task_gate.set()
    await env.cloud.staged(app, build)
    await env.started_daemon()
    await env.cloud.start_app(app)
    rootfs = await env.replaced(app)

    repository = rootfs.removeprefix(f"docker://{env.cache.address}/").partition("#")[0]
    copy = env.cache.pull_manifest(repository, "latest")
    assert copy is not None
    assert copy.content == SAMPLE.manifest.content
    assert len((await Operator(env).runs("images")).rows) == 1


async def test_events_that_were_lost_in_a_failover_are_made_up_for(env: Environment) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    env.cell.settings.start_delay = 60.0
    daemon = await env.started_daemon()
    await env.bbs.stop_listening()
    app = await env.push_app("web", Image(reference))
    await daemon.logged("watcher.lost-bbs-events")
    await env.bbs.start_listening()

    await env.replaced(app)


async def test_P2_a_stream_that_ends_cleanly_is_opened_again_and_all_is_listed(env: Environment) -> None:
    daemon = await env.started_daemon()
    for stream in list(env.bbs.streams):
        stream.end()

    await daemon.logged("watcher.subscribed-to-bbs-events", count=2)
    await daemon.logged("watcher.listed-bbs", count=2)


async def test_a_broken_event_costs_a_listing_and_not_the_stream(env: Environment) -> None:
    daemon = await env.started_daemon()
    for stream in list(env.bbs.streams):
        stream.inject_event("desired_lrp_created", "!!!")
        stream.inject_event("something_new", "")

    await daemon.logged("watcher.skipped-broken-event")
    await daemon.logged("watcher.skipped-unknown-event")
    await daemon.logged("watcher.listed-bbs", count=2)
    assert sum("subscribed" in line["message"] for line in daemon.lines) == 1


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        (Fault.DROP_AFTER, "/v1/desired_lrp/remove"),
        (Fault.UNAVAILABLE, "/v1/desired_lrp/remove"),
        (Fault.DROP_AFTER, "/v1/desired_lrp/desire.r2"),
        (Fault.DROP_BEFORE, "/v1/desired_lrp/desire.r2"),
        (Fault.UNAVAILABLE, "/v1/desired_lrp/desire.r2"),
    ],
)
async def test_a_write_whose_answer_is_lost_is_not_repeated_blindly(
    env: Environment, fault: Fault, path: str
) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    env.cell.settings.start_delay = 60.0
    await env.started_daemon()
    app = env.cloud.create("web", Image(reference))
    build = await env.cloud.stage(app)
    await env.cloud.staged(app, build)
    env.bbs.faults.order(fault, path)
    await env.cloud.start_app(app)

    await env.replaced(app)
    assert env.bbs.faults.happened[fault] == 1


async def test_an_owner_who_desires_first_is_replaced_again_and_left_alone_after_three_rounds(
    env: Environment,
) -> None:
    reference = env.source.push("team/web", "1", SAMPLE)
    env.cell.settings.start_delay = 60.0
    daemon = await env.started_daemon()
    app = await env.push_app("web", Image(reference))
    for _ in range(3):
        await env.replaced(app)
        await env.cloud.stop(app)
        app.is_started = True
        await until(lambda: not env.rows(app))
        await env.cloud.sync()
    await daemon.logged("reconciler.reconciled", process_guid=app.process_guid, reason="reverted-externally")

    lrp = env.lrp(app)
    assert lrp is not None
    assert lrp.root_fs == f"docker://{env.source.address}/team/web#1"
