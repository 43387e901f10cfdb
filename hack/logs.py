"""Shows what app developers read of their images in `cf push` and `cf logs`, and checks each line.

An app is pushed and migrated, another one names an image that does not exist, and the first one is restored
to its source. The lines are those that an agent of Loggregator got from the daemon, written as the `cf`
command writes them. Started by hack/demo --logs.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hack.story import StepFailedError, Story
from tests.daemon.environment import Environment, open_environment
from tests.daemon.programs import output_of, start_interpreter
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.loggregator import Agent, cf_logs, cf_push, serve_agent
from tests.simulators.recipes import Image

LAYER_BYTES = 2_000_000


class Logs:
    """The story: its parts in the order in which they are told."""

    def __init__(self, story: Story, env: Environment, agent: Agent) -> None:
        self._story, self._env, self._agent = story, env, agent
        self._shown: dict[str, int] = {}

    async def run(self) -> None:
        """Tell it once."""
        daemon = await self._env.started_daemon()
        await daemon.logged("canary.cells-can-pull")
        web = await self._push("web")
        await self._fail()
        await self._restore(web)
        self._story.check(await daemon.stop() == 0, "the daemon did not end well")
        totals = self._agent.totals("docker_cache")
        self._story.check(totals["ImagesCached"] == 1, f"counters are {totals}")
        self._story.show("operators", ", ".join(f"{name} {total}" for name, total in sorted(totals.items())))

    async def _push(self, name: str) -> App:
        env = self._env
        sample = images.image([images.layer(LAYER_BYTES, f"{name}-{n}") for n in range(3)])
        reference = await asyncio.to_thread(env.source.push, f"team/{name}", "1.0", sample)
        app = env.cloud.create(name, Image(reference))
        build = await env.cloud.stage(app)
        await self._agent.until(" is cached as ", app_guid=app.guid)
        self._show(f"cf push {name}", cf_push(self._agent.logs(app.guid)))
        self._story.check(await env.cloud.staged(app, build) == "", "the staging failed")
        await env.cloud.start_app(app)
        await env.replaced(app)
        await self._agent.until("instances run from ", app_guid=app.guid)
        self._show(f"cf logs {name} --recent", cf_logs(self._agent.logs(app.guid)))
        return app

    async def _fail(self) -> None:
        env = self._env
        app = env.cloud.create("typo", Image(f"{env.source.address}/team/wbe:1.0"))
        await env.cloud.stage(app)
        await self._agent.until("was not copied", app_guid=app.guid)
        self._show("cf push typo", cf_push(self._agent.logs(app.guid)))

    async def _restore(self, app: App) -> None:
        before = len(self._agent.logs(app.guid))
        command = ("restore", "--config", str(self._env.config_path), "--app", app.guid, "--yes")
        status, out, err = await output_of(await self._env.start(*command))
        self._story.check(status == 0, f"restore ended with {status}: {out}{err}")
        await self._agent.until("own registry again", app_guid=app.guid)
        self._show("cf logs web, while an operator restores it", cf_logs(self._agent.logs(app.guid)[before:]))

    def _show(self, command: str, lines: Iterator[str]) -> None:
        shown = list(lines)
        self._story.check(shown, f"{command} shows nothing")
        self._story.show("$", command)
        for line in shown:
            print(line, flush=True)


async def main() -> int:
    """Tell the story, and give the exit status; a signal ends everything that was started."""
    running = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel if running else sys.exit)
    story = Story()
    with tempfile.TemporaryDirectory(prefix="docker-cache-logs-") as directory:
        async with (
            open_environment(
                Path(directory), start_delay=0.3, converge_interval=30.0, start=start_interpreter
            ) as env,
            serve_agent(env.certificates) as agent,
        ):
            env.connect_loggregator(agent)
            env.settings["drain_delay"] = "500ms"  # nobody uses these apps
            try:
                await Logs(story, env, agent).run()
            except (StepFailedError, TimeoutError, AssertionError) as error:
                print(f"\nThe story broke off: {error or 'nothing more happened in time'}", file=sys.stderr)
                print(f"\nThe daemon's last words:\n{env.last_words()}", file=sys.stderr)
                return 1
            story.show("done", "every step above was checked")
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="hack/demo --logs", description=(__doc__ or "").partition("\n")[0]
    ).parse_args()
    with contextlib.suppress(asyncio.CancelledError):
        sys.exit(asyncio.run(main()))
