"""What a daemon looks up in Cloud Controller, with real processes: what apps were staged with, ran from, and need."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.bbs.desired_lrp_pb2 import DesiredLRP
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.operator import Operator, until_deletable, until_use_is
from tests.simulators import images
from tests.simulators.capi import faults
from tests.simulators.recipes import Image

pytestmark = pytest.mark.thorough

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])
REFUSED = 4


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, start_delay=0.1, pulls=False, converge_interval=1.0) as opened:
        opened.connect_cloud_controller()
        opened.settings |= {"sync_interval": "1s", "eviction_grace": "1s", "update_droplets": False}
        opened.bbs.state.desired["other"] = DesiredLRP(process_guid="other", domain="other")
        yield opened


async def test_Y3_an_app_that_is_restarted_with_its_source_down_asks_for_no_copy(  # noqa: N802 - row Y3
    env: Environment,
) -> None:
    daemon = await env.started_daemon()
    web = await env.push_app("web", Image(env.source.push("team/web", "1", SAMPLE)))
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await daemon.stop()
    env.stop_source()
    daemon = await env.started_daemon()

    await env.cloud.restart(web)
    await env.replaced(web)
    await daemon.logged("reconciler.reconciled", reason="migrated")

    assert "queued-job" not in daemon.text, "nobody asked the source whether its tag has moved"


async def test_what_a_droplet_of_a_stopped_app_names_is_evicted_only_when_no_droplet_does(
    env: Environment,
) -> None:
    daemon = await env.started_daemon()
    web = await env.push_app("web", Image(env.source.push("team/web", "1", SAMPLE)))
    url = (await env.replaced(web)).removeprefix("docker://").replace("#", ":")
    await daemon.logged("reconciler.reconciled", reason="migrated")
    guid, operator = url.rpartition("/")[2].partition(":")[0], Operator(env)
    assert web.current is not None
    web.current.image = url
    await env.cloud.stop(web)
    await until(lambda: env.lrp(web) is None)
    await until_use_is(operator, guid, "droplet")  # first by its staging, which has ended just now

    used = await operator.runs("evict", "--yes", guid)
    env.capi.api.faults.order("GET", "^/v3/droplets", faults.fail(), times=None)
    unknown = await operator.runs("evict", "--yes", guid)
    env.capi.api.faults.clear()
    await env.cloud.delete(web)
    await until_deletable(operator, guid)
    evicted = await operator.runs("evict", "--yes", guid)

    assert used.status == unknown.status == REFUSED
    assert f"used by droplet {web.current.guid}" in used.err
    assert "Cloud Controller does not list them" in unknown.err
    assert evicted.status == 0


async def test_Y8_after_the_loss_of_the_database_packages_say_what_apps_were_pushed_from(  # noqa: N802 - row Y8
    env: Environment,
) -> None:
    env.settings |= {"update_droplets": True, "copy_notes": False}
    daemon = await env.started_daemon()
    web = await env.push_app("web", Image(env.source.push("team/web", "1", SAMPLE)))
    source = web.current.image if web.current is not None else None
    await env.replaced(web)
    await daemon.logged("droplets.patched-droplet")
    await daemon.logged("reconciler.reconciled", reason="migrated")
    await daemon.stop()
    env.forget_stores()
    shutil.rmtree(env.directory / "store")
    env.settings |= {"start_paused": True}
    await env.started_daemon()
    operator = Operator(env)

    rebuilt = await operator.runs("rebuild")
    restored = await operator.runs("restore", "--app", "web", "--yes")

    assert [(row["status"], row["process_guids"]) for row in rebuilt.rows] == [
        ("adopted", [web.process_guid])
    ]
    assert restored.status == 0, restored.err
    assert not env.is_from_cache(web)
    assert web.current is not None
    assert web.current.image == source
