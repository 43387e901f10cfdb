"""What `cf push` and `cf logs` show of the daemon's work, from the agent that it hands its lines to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.app_logs.counters import COUNTERS
from tests.daemon.environment import Environment, open_environment
from tests.daemon.operator import Operator
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.loggregator import Agent, cf_logs, cf_push, serve_agent
from tests.simulators.recipes import Image

SAMPLE = images.image([images.layer(1000, n) for n in range(2)])
PASSWORD = "marker-of-a-password"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[Environment]:
    async with open_environment(tmp_path, start_delay=0.1, pulls=False, converge_interval=1.0) as opened:
        opened.settings |= {"sync_interval": "1s", "drain_delay": "0s"}
        yield opened


@pytest.fixture
async def agent(env: Environment) -> AsyncIterator[Agent]:
    async with serve_agent(env.certificates) as agent:
        env.connect_loggregator(agent)
        yield agent


async def push_misspelled(env: Environment) -> App:
    app = env.cloud.create("typo", Image(f"{env.source.address}/team/wbe:1", "somebody", PASSWORD))
    await env.cloud.stage(app)
    return app


async def test_developers_read_what_happened_to_their_images_also_while_the_agent_was_away(
    env: Environment, agent: Agent
) -> None:
    await agent.stop()
    daemon = await env.started_daemon()
    reference = env.source.push("team/web", "1", SAMPLE)
    web = await env.push_app("web", Image(reference, "somebody", PASSWORD))
    await env.replaced(web)
    assert agent.envelopes == []  # and nothing has waited for it
    await agent.start()
    await agent.until("instances run from ", app_guid=web.guid)
    typo = await push_misspelled(env)
    await agent.until("was not copied", app_guid=typo.guid)
    await Operator(env).reads("restore", "--app", web.guid, "--yes")
    await agent.until("instances run from the image's own registry again", app_guid=web.guid)
    assert await daemon.stop() == 0

    told = [line.partition("+0000 ")[2] for line in cf_logs(agent.logs(web.guid))]
    starts = (
        f"[STG/0] OUT Image cache: copying {reference} to the platform's registry.",
        f"[STG/0] OUT Image cache: {reference} is cached as {env.cache.address}/",
        "[CELL/0] OUT Image cache: the app's instances are replaced by ones that run the same image",
        f"[CELL/0] OUT Image cache: the app's instances run from {env.cache.address}/",
        "[CELL/0] OUT Image cache: the app's instances are replaced by ones that run from the image's own",
        "[CELL/0] OUT Image cache: the app's instances run from the image's own registry again",
    )
    rest = iter(told)  # Cloud Controller may have started the app anew in between, which is told as well
    assert all(any(line.startswith(start) for line in rest) for start in starts), told
    staged = [line.replace("[STG/0] OUT", "  ") for line in told if line.startswith("[STG/0]")]
    assert list(cf_push(agent.logs(web.guid))) == staged
    assert len(staged) == 2
    identity = {"origin": "docker_cache", "app_id": web.guid, "app_name": "web"}
    assert all(identity.items() <= dict(each.tags).items() for each in agent.logs(web.guid))

    failed = agent.logs(typo.guid)[-1]
    assert failed.log.payload.decode() == (
        f"Image cache: {env.source.address}/team/wbe:1 was not copied: its registry does not have it: check its "
        "name and tag. Without a copy the app runs from the image's own registry, as if there were no cache."
    )
    assert failed.log.type == failed.log.ERR
    assert not any(PASSWORD.encode() in each.SerializeToString() for each in agent.envelopes)

    totals = agent.totals("docker_cache")
    once = ("ImagesCached", "CopiesFailed", "AppsMigrated", "AppsRestored")
    moved = totals["BytesTransferred"]
    assert totals == {**dict.fromkeys(COUNTERS, 0), **dict.fromkeys(once, 1), "BytesTransferred": moved}
    assert moved > sum(len(layer.content) for layer in SAMPLE.layers)
