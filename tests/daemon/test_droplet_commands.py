"""What operators see of droplets and do about them, with a real daemon's process and a Cloud Controller."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.bbs import Version
from tests.simulators.capi.records import Droplet
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

SAMPLE = images.image([images.layer(1000, 1)])


@pytest.fixture
async def env(version: Version, tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(
        tmp_path,
        version=version,
        start_delay=0.05,
        pulls=False,
        sync_interval=1.0,
        converge_interval=1.0,
    ) as opened:
        opened.connect_cloud_controller()
        opened.settings |= {"sync_interval": "1s"}
        yield opened


def droplet_of(app: App) -> Droplet:
    assert app.current is not None
    return app.current


@pytest.mark.thorough
@pytest.mark.slow
async def test_droplets_are_listed_planned_and_put_back_before_the_lrps(env: Environment) -> None:
    """Also that of an app that does not run; a second restoration has nothing to do."""
    reference = await asyncio.to_thread(env.source.push, "team/web", "1", SAMPLE)
    await env.started_daemon()
    web, batch = [await env.push_app(name, Image(reference)) for name in ("web", "batch")]
    await env.cloud.stop(batch)
    prefix = f"{env.cache.address}/"
    both = (droplet_of(web), droplet_of(batch))
    await until(lambda: all((each.image or "").startswith(prefix) for each in both))
    await env.replaced(web)
    operator = Operator(env)

    listed = (await operator.runs("droplets")).rows
    status = (await operator.runs("status")).row["cloud_controller"]
    of_batch = (await operator.runs("droplets", "--app", "batch", "--org", "acme")).rows
    (app,) = (await operator.runs("apps")).rows

    assert {(row["app_name"], row["phase"], row["original_image"]) for row in listed} == {
        ("web", "patched", reference),
        ("batch", "patched", reference),
    }
    assert [row["droplet_guid"] for row in of_batch] == [droplet_of(batch).guid]
    assert (status["droplets_by_phase"], status["failing_since"]) == ({"patched": 2}, None)
    assert (app["droplet_phase"], app["droplet_reason"]) == ("patched", "droplet-patched")

    restored = await operator.runs("restore", "--all", "--yes")
    events = [row for row in restored.rows if "kind" not in row]
    ends = [row["droplet_guid"] or row["process_guid"] for row in events if row["state"] == "done"]
    assert restored.status == 0, restored.err
    assert {row["droplet_guid"] for row in restored.kind("droplet")} == {each.guid for each in both}
    assert {each.image for each in both} == {reference}
    assert ends.index(droplet_of(web).guid) < ends.index(web.process_guid)
    assert not env.is_from_cache(web)

    again = await operator.runs("restore", "--all", "--yes")
    assert again.status == 0
    assert [row["kind"] for row in again.rows] == ["plan"]

    planned = await operator.runs("reconcile", "--include-pinned")
    changes = {row["app_name"]: row for row in planned.kind("droplet")}
    assert planned.status == 2
    assert {name: (row["change"], row["running"]) for name, row in changes.items()} == {
        "web": ("patch", True),
        "batch": ("patch", False),
    }
    applied = await operator.runs("reconcile", "--include-pinned", "--apply", "--yes")
    assert applied.status == 0, applied.err
    assert all((each.image or "").startswith(prefix) for each in both)
    entries = [row for row in (await operator.runs("audit")).rows if row["call"] == "Apply"]
    assert json.loads(entries[0]["arguments"])["droplets"] == 2
