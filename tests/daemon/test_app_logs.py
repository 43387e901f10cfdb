"""What `cf push` and `cf logs` show of the daemon's work, from the agent that it hands its lines to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.app_logs.counters import COUNTERS
from tests.daemon.environment import Environment, open_environment
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.loggregator import Agent, cf_logs, cf_push, serve_agent
from tests.simulators.recipes import Image

FIRST = images.image([images.layer(1000, n) for n in range(2)])
SECOND = images.image([images.layer(1000, n) for n in range(2, 4)])


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, start_delay=0.1, pulls=False, converge_interval=1.0) as opened:
        opened.settings["sync_interval"] = "1s"
        yield opened


@pytest.fixture
async def agent(env: Environment) -> AsyncIterator[Agent]:
    async with serve_agent(env.certificates) as agent:
        env.tell_of_loggregator(agent)
        yield agent


async def test_developers_read_of_the_copy_the_migration_and_the_restore(
    env: Environment, agent: Agent
) -> None:
    daemon = await env.started_daemon()
    reference = env.source.push("team/web", "1", FIRST)
    app = await env.push_app("web", Image(reference))
    await env.replaced(app)
    cached = await agent.until(" is cached as ", app_guid=app.guid)
    await agent.until("instances run from ", app_guid=app.guid)
    await Operator(env).reads("restore", "--app", app.guid, "--yes")
    await agent.until("instances run from the image's own registry again", app_guid=app.guid)
    await daemon.stop()

    expected = {"source_type": "STG", "origin": "docker_cache", "app_id": app.guid, "app_name": "web"}
    assert expected.items() <= dict(cached.tags).items()
    begun, kept, *_ = cf_push(agent.logs(app.guid))
    assert begun == f"   Image cache: copying {reference} to the platform's registry."
    assert kept.startswith(f"   Image cache: {reference} is cached as {env.cache.address}/")
    told = [line.partition("+0000 ")[2] for line in cf_logs(agent.logs(app.guid))]
    starts = (
        "[STG/0] OUT Image cache: copying",
        f"[STG/0] OUT Image cache: {reference} is cached",
        "[CELL/0] OUT Image cache: the app's instances are replaced by ones that run the same image",
        f"[CELL/0] OUT Image cache: the app's instances run from {env.cache.address}/",
        "[CELL/0] OUT Image cache: the app's instances are replaced by ones that run from the image's own",
        "[CELL/0] OUT Image cache: the app's instances run from the image's own registry again",
    )
    assert len(told) == len(starts)
    assert all(line.startswith(start) for line, start in zip(told, starts, strict=True)), told
    totals = agent.totals("docker_cache")
    assert totals == {
        **dict.fromkeys(COUNTERS, 0),
        "BytesTransferred": totals["BytesTransferred"],
    } | dict.fromkeys(("ImagesCached", "AppsMigrated", "AppsRestored"), 1)
    assert totals["BytesTransferred"] > 0


async def test_a_copy_that_fails_is_told_in_plain_words_without_its_password(
    env: Environment, agent: Agent
) -> None:
    await env.started_daemon()
    reference = f"{env.source.address}/team/missing:1"
    app = env.cloud.create("web", Image(reference))
    await env.cloud.stage(app)
    failed = await agent.until("was not copied", app_guid=app.guid)

    assert failed.log.payload.decode() == (
        f"Image cache: {reference} was not copied: its registry does not have it: check its name and tag. "
        "Without a copy the app runs from that registry itself, as if there were no cache."
    )
    assert failed.log.type == failed.log.ERR


async def test_without_an_agent_everything_else_goes_on_and_it_gets_the_lines_later(
    env: Environment, agent: Agent
) -> None:
    await agent.stop()
    await env.started_daemon()
    app = await env.push_app("web", Image(env.source.push("team/web", "1", SECOND)))
    await env.replaced(app)
    assert agent.envelopes == []
    await agent.start()

    await agent.until("instances run from ", app_guid=app.guid)
    assert agent.texts(app.guid)[0].startswith("Image cache: copying ")
