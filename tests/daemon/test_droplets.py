"""Droplets that name their copies, with a real daemon: what is desired from them needs no migration."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment
from tests.simulators import images
from tests.simulators.capi import faults
from tests.simulators.recipes import Image

FIRST = images.image([images.layer(1000, n) for n in range(2)])
SECOND = images.image([images.layer(1000, n) for n in range(2, 4)])


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, start_delay=0.1, pulls=False, converge_interval=1.0) as opened:
        opened.tell_of_cloud_controller()
        opened.settings |= {"sync_interval": "1s"}
        yield opened


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
