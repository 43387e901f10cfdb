"""Tells how one of two instances goes on where the other was killed, and checks each step.

Both use one PostgreSQL database, and Locket says which of them is active. The active one is killed in
mid-copy, and the next one in mid-replacement. Started by `hack/demo --ha`.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from hack.story import StepFailedError, Story, megabytes
from tests import databases
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.instances import Instance, Instances, open_instances
from tests.daemon.invariants import BRIDGE_PREFIX, Invariants
from tests.daemon.operator import Operator
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

LAYERS = 6
LAYER_BYTES = 16_000_000
LOCK_TTL, LOCK_RETRY = 6, 2  # seconds; 15 and 5 by default


class Pair:
    """The story of two instances: its parts in the order in which they are told."""

    def __init__(self, story: Story, instances: Instances, sample: images.Image) -> None:
        self._story, self._instances, self._env = story, instances, instances.env
        self._sample = sample

    async def run(self) -> None:
        """Tell it once."""
        await self._begin()
        app, build = await self._stage()
        first = await self._kill_in_copy()
        await self._run_without_us(app, build)
        await self._take_over(first)
        daemon = await first.start()
        self._story.show(first.name, f"process {daemon.pid}, started again by its supervisor")
        invariants = Invariants(self._env.bbs, self._env.cells, self._env.cloud)
        with invariants.watching():
            second = await self._kill_in_replacement(app)
            await self._take_over(second)
            await self._replaced(app)
        self._story.check(not invariants.violations, "; ".join(invariants.violations))
        count = app.instances
        self._story.show("served", f"at each moment {count} of {count} instances at least")
        await second.start()
        await self._stands_by(second)

    async def _begin(self) -> None:
        for instance in self._instances.all:
            daemon = await instance.start()
            if instance is self._instances.all[0]:
                await self._instances.active()
                await daemon.logged("canary.cells-can-pull")
                self._story.show(instance.name, f"process {daemon.pid} has the lock, and is active")
            else:
                await self._stands_by(instance)

    async def _stands_by(self, instance: Instance) -> None:
        await instance.daemon.logged("leadership.lock-is-held")
        row = (await Operator(instance.env).runs("status")).row
        holder = row["holder"]
        self._story.check(not row["active"] and holder, f"{instance.name} does not stand by: {row}")
        self._story.show(
            instance.name, f"process {instance.daemon.pid} stands by: {holder['instance_id']} is active"
        )

    async def _stage(self) -> tuple[App, str]:
        reference = await asyncio.to_thread(self._env.source.push, "team/web", "1.0", self._sample)
        size = megabytes(LAYERS * LAYER_BYTES)
        self._story.show("image", f"pushed {reference}, {LAYERS} layers, {size}")
        app = self._env.cloud.create("web", Image(reference))
        app.instances = 2
        build = await self._env.cloud.stage(app)
        self._story.show("staging", f"task {build} desired, with -dockerRef={reference}")
        return app, build

    async def _kill_in_copy(self) -> Instance:
        active, _ = await self._instances.logged("cacher.copying-image")
        await asyncio.sleep(0.05)
        daemon = await active.kill()
        self._story.check(not daemon.named("cacher.cached-image"), "the copy had ended")
        self._story.show("killed", f"{active.name}, by SIGKILL, in mid-copy")
        return active

    async def _run_without_us(self, app: App, build: str) -> None:
        """Show that apps start while no instance is active."""
        self._story.check(await self._env.cloud.staged(app, build) == "", "the staging failed")
        await self._env.cloud.start_app(app)
        await until(lambda: self._running(app, self._env.source.address) == app.instances)
        self._story.show("app", f"{app.instances} instances run from {self._env.source.address}")

    async def _take_over(self, killed: Instance) -> None:
        taker = await self._instances.active(but=killed)
        term = taker.daemon.named("daemon.became-active")[-1]["data"]["term"]
        self._story.show("taken over", f"{taker.name} has the lock now; it is active instance number {term}")

    async def _kill_in_replacement(self, app: App) -> Instance:
        active, line = await self._instances.logged("cacher.cached-image")
        size, span = megabytes(line["data"]["transferred-bytes"]), line["data"]["duration-s"]
        self._story.show("cached", f"{line['data']['cache-image']}, {size} in {span} s, by {active.name}")
        guid = app.process_guid
        active, _ = await self._instances.logged("reconciler.reconciled", process_guid=guid, reason="removed")
        await active.kill()
        self._story.show("killed", f"{active.name}, by SIGKILL, in mid-replacement")
        desired = self._env.bbs.state.desired
        self._story.check(guid not in desired and BRIDGE_PREFIX + guid in desired, "nothing was removed")
        self._story.show("", "the app's LRP is removed, and not desired again; its bridge serves")
        return active

    async def _replaced(self, app: App) -> None:
        rootfs = await self._env.replaced(app)
        self._story.show("migrated", f"the LRP is desired from {rootfs}")
        await until(lambda: BRIDGE_PREFIX + app.process_guid not in self._env.bbs.state.desired)
        await until(lambda: self._running(app, self._env.cache.address) == app.instances)
        digests = {each.manifest_digest for each in self._env.cell.instances.values() if each.is_running}
        self._story.check(digests == {self._sample.manifest.digest}, f"instances run from {digests}")
        self._story.show("running", f"{app.instances} of {app.instances} instances, from the copy")

    def _running(self, app: App, registry: str) -> int:
        lrp = self._env.lrp(app)
        if lrp is None or not lrp.root_fs.startswith(f"docker://{registry}/"):
            return 0
        return self._env.running_from(app, lrp.root_fs)


def make_image() -> images.Image:
    """Make the image of the app."""
    return images.image([images.layer(LAYER_BYTES, n) for n in range(LAYERS)])


def last_words(directory: Path) -> str:
    """Read the end of each instance's log."""
    logs = sorted(directory.glob("*/daemon.log"))
    return "\n".join(f"The last words of {log.parent.name}:\n{log.read_text()[-4000:]}\n" for log in logs)


async def run(story: Story, env: Environment, *, url: str, count: int) -> None:
    """Show the whole story once."""
    story.show(
        "registries", f"source {env.source.address} and private {env.cache.address}: {env.source.kind}"
    )
    story.show("bbs", f"simulator at {env.bbs.url} with cell {env.cell.settings.cell_id}")
    sample = await asyncio.to_thread(make_image)
    story.show("database", f"PostgreSQL at {url.rpartition('@')[2]}, from its Debian package")
    async with open_instances(env, url, count, ttl=LOCK_TTL, retry_interval=LOCK_RETRY) as instances:
        story.show("locket", f"simulator at {instances.locket.address}, keeps a lock for {LOCK_TTL} s")
        await Pair(story, instances, sample).run()


async def main() -> int:
    """Tell the story, and give the exit status; a signal ends everything that was started."""
    running = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel if running else sys.exit)
    story = Story()
    url = await asyncio.to_thread(databases.empty_database, "postgresql", "demo")
    with tempfile.TemporaryDirectory(prefix="docker-cache-demo-") as directory:
        async with open_environment(
            Path(directory),
            start_delay=0.5,
            sync_interval=30.0,
            converge_interval=30.0,
            start=start_interpreter,
        ) as env:
            env.cell.settings.stop_delay = 1.0
            try:
                await run(story, env, url=url, count=2)
            except (StepFailedError, TimeoutError, AssertionError) as error:
                why = "nothing more happened in time" if isinstance(error, TimeoutError) else error
                print(f"\nThe story broke off: {why}", file=sys.stderr)
                print(f"\n{await asyncio.to_thread(last_words, Path(directory))}", file=sys.stderr)
                return 1
            story.show("done", "every step above was checked")
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="hack/demo --ha", description=(__doc__ or "").partition("\n")[0]
    ).parse_args()
    if not databases.is_installed("postgresql"):
        sys.exit("hack/demo --ha needs PostgreSQL: install the Debian package postgresql")
    databases.begin_run()
    try:
        sys.exit(asyncio.run(main()))
    except asyncio.CancelledError:
        pass
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        databases.end_run()
