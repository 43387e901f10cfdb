"""Tells the main job from end to end, with the daemon as a real process, and checks each step.

A staging task appears, its image is copied, the app's LRP is pointed at the copy and runs from it, also
when the source registry is gone. Started by hack/demo.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

LAYERS = 6
LAYER_BYTES = 4_000_000
LAYER_BYTES_WHEN_KILLED = 48_000_000
START_DELAY = 3.0  # seconds that the app needs from its pull to RUNNING


class StepFailedError(Exception):
    """A step of the story did not happen."""


class Story:
    """Prints a timeline and insists on what it says."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def tell(self, step: str, text: str) -> None:
        """Print one line of the timeline."""
        print(f"{time.monotonic() - self._begun:6.2f} s  {step:<10} {text}", flush=True)

    def check(self, condition: object, what: str) -> None:
        """End the story when something is not as told."""
        if not condition:
            raise StepFailedError(what)


def megabytes(size: int) -> str:
    """Write a size for people."""
    return f"{size / 1e6:.1f} MB"


async def tell(story: Story, env: Environment, *, kill_during_copy: bool) -> None:
    """Tell the whole story once."""
    story.tell(
        "registries", f"source {env.source.address} and private {env.cache.address}: {env.source.kind}"
    )
    story.tell("bbs", f"simulator at {env.bbs.url} with cell {env.cell.settings.cell_id}")
    layer_bytes = LAYER_BYTES_WHEN_KILLED if kill_during_copy else LAYER_BYTES
    sample = images.image([images.layer(layer_bytes, n) for n in range(LAYERS)])
    reference = await asyncio.to_thread(env.source.push, "team/web", "1.0", sample)
    story.tell("image", f"pushed {reference}, {LAYERS} layers, {megabytes(LAYERS * layer_bytes)}")
    story.tell("", f"manifest {sample.manifest.digest}")

    daemon = await env.started_daemon()
    story.tell("daemon", f"process {daemon.pid}, config {env.config_path}")
    canary = (await daemon.logged("canary.cells-can-pull"))["data"]
    story.tell("canary", f"{', '.join(canary['cells'])} pulled a task's image from {env.cache.address}")

    app = env.cloud.create("web", Image(reference))
    app.instances = 2
    build = await env.cloud.stage(app)
    story.tell("staging", f"task {build} desired, with -dockerRef={reference}")
    if kill_during_copy:
        await daemon.logged("cacher.copying-image")
        await asyncio.sleep(0.05)
        await daemon.kill()
        story.tell("killed", "the daemon, by SIGKILL, during the copy")
        await show_cut_job(story, env)
    story.check(await env.cloud.staged(app, build) == "", "the staging failed")
    await env.cloud.start_app(app)
    lrp = env.lrp(app)
    story.check(
        lrp is not None and lrp.root_fs.startswith(f"docker://{env.source.address}/"),
        "no LRP from the source",
    )
    story.tell("app", f"desired with 2 instances from {lrp.root_fs if lrp else ''}")
    if kill_during_copy:
        daemon = await env.started_daemon()
        story.tell("daemon", f"process {daemon.pid}, started again")

    line = (await daemon.logged("cacher.cached-image"))["data"]
    story.tell(
        "cached", f"{line['cache-image']}, {megabytes(line['transferred-bytes'])} in {line['duration-s']} s"
    )
    repository = line["cache-image"].partition("/")[2].rpartition(":")[0]
    copy = await asyncio.to_thread(env.cache.pull_manifest, repository, "latest")
    story.check(copy is not None and copy.content == sample.manifest.content, "the copied manifest differs")
    story.tell("", "its manifest has the same bytes as the source's")

    rootfs = await env.replaced(app)
    story.check(rootfs == f"docker://{env.cache.address}/{repository}#latest", f"the LRP runs from {rootfs}")
    story.tell("migrated", f"the LRP is desired from {rootfs}")
    await running(story, env, app, rootfs=rootfs, digest=sample.manifest.digest)

    env.stop_source()
    story.check(await refuses(env.source.address), "the source registry still answers")
    story.tell("source", "the source registry is stopped")
    await env.cloud.scale(app, 5)
    await running(story, env, app, rootfs=rootfs, digest=sample.manifest.digest)


async def show_cut_job(story: Story, env: Environment) -> None:
    """Prove from the store that a copy was under way."""
    _, out, _ = await env.run_command("jobs", "--direct", "-o", "json", "--config", str(env.config_path))
    jobs = [json.loads(line) for line in out.splitlines()]
    story.check([job["error"] for job in jobs] == ["interrupted"], f"no copy was under way: {out}")
    story.tell("", f"the store says: job {jobs[0]['job_id']} was interrupted")


async def running(story: Story, env: Environment, app: App, *, rootfs: str, digest: str) -> None:
    """Wait until all instances run, and see that each really runs from the copy."""
    count = app.instances
    await until(lambda: len(env.rows(app)) == count and env.running_from(app, rootfs) == count)
    digests = {instance.manifest_digest for instance in env.cell.instances.values() if instance.is_running}
    story.check(digests == {digest}, f"instances run from {digests}")
    story.tell("running", f"{count} of {count} instances, pulled from {env.cache.address}, manifest as above")


async def refuses(address: str) -> bool:
    """Whether nobody listens at an address."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        return False
    return True


def show_commands(env: Environment) -> None:
    """Say what can be tried while everything runs."""
    config = env.config_path
    print(
        f"""
Everything keeps running until Ctrl-C. Try:

  export DOCKER_CACHE_CONFIG={config}
  .venv/bin/diego-docker-cache status
  .venv/bin/diego-docker-cache apps
  .venv/bin/diego-docker-cache reconcile
  .venv/bin/diego-docker-cache --help
  tail -f {env.directory}/daemon.log
  curl {env.cache.url}/v2/_catalog
  cat {config}
"""
    )


async def main(arguments: argparse.Namespace) -> int:
    """Tell the story, and give the exit status; a signal ends everything that was started."""
    telling = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, telling.cancel if telling else sys.exit)
    story = Story()
    with tempfile.TemporaryDirectory(prefix="docker-cache-demo-") as directory:
        async with open_environment(
            Path(directory),
            start_delay=START_DELAY,
            sync_interval=30.0,
            converge_interval=30.0,
            start=start_interpreter,
        ) as env:
            try:
                await tell(story, env, kill_during_copy=arguments.kill_during_copy)
            except (StepFailedError, TimeoutError, AssertionError) as error:
                why = "nothing more happened in time" if isinstance(error, TimeoutError) else error
                print(f"\nThe story broke off: {why}", file=sys.stderr)
                print(f"\nThe daemon's last words:\n{env.last_words()}", file=sys.stderr)
                return 1
            story.tell("done", "every step above was checked")
            if arguments.keep:
                show_commands(env)
                await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hack/demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running and print commands to try"
    )
    parser.add_argument(
        "--kill-during-copy", action="store_true", help="kill the daemon in mid-copy and start it again"
    )
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except asyncio.CancelledError:
        pass
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
