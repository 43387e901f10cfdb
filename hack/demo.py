"""Tells the main job from end to end, with the daemon as a real process, and checks each step.

Apps are pushed, and their images are copied while they are staged. One copy is in time, so Cloud Controller
desires the app from it in the first place; another is late, so the LRP is migrated and the droplet patched.
Then the source registry goes away, and whatever Cloud Controller starts runs from the copies. In the end all
of it is put back. Started by hack/demo.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from time import monotonic

from hack.story import StepFailedError, Story, line_with, megabytes, refuses
from reconcile.reasons import AppState, Reason
from tests.daemon.environment import DaemonProcess, Environment, open_environment, until
from tests.daemon.invariants import BRIDGE_PREFIX
from tests.daemon.programs import Program, output_of, start_interpreter
from tests.simulators import images
from tests.simulators.capi.records import Droplet
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

LAYERS = 6
LAYER_BYTES = 1_000_000
LATE_LAYER_BYTES = 4_000_000
LAYER_BYTES_WHEN_KILLED = 48_000_000
START_DELAY = 0.5  # seconds that an app needs from its pull to RUNNING
INTERRUPTED = 5  # exit status of a command


class Demo:
    """The story: its parts in the order in which they are told."""

    def __init__(self, story: Story, env: Environment, *, kill_during_copy: bool) -> None:
        self._story, self._env, self._kills = story, env, kill_during_copy
        self._show, self._check = story.show, story.check
        self._daemon: DaemonProcess
        self._digests: dict[str, str] = {}

    async def run(self) -> None:
        """Tell it once."""
        await self._begin()
        web, api = await self._push_in_time(), await self._push_late()
        await self._push_again(web)
        self._env.stop_source()
        self._check(await refuses(self._env.source.address), "the source registry still answers")
        self._show("source", "the source registry is stopped")
        await self._start_anew(web, api)
        migrated = self._daemon.named("reconciler.reconciled", reason="migrated")
        self._check(len(migrated) == 1, f"{len(migrated)} LRPs were migrated")
        self._show("counts", f"1 migration in all, {self._env.capi.api.count()} requests to Cloud Controller")
        self._env.start_source()
        self._show("source", "the source registry is back")
        await self._restore(web, api)

    async def _begin(self) -> None:
        env = self._env
        self._show(
            "registries",
            f"source {env.source.address} and private {env.cache.address}: {env.source.kind}",
        )
        self._show("bbs", f"simulator at {env.bbs.url} with cell {env.cell.settings.cell_id}")
        self._show("cloud", f"simulator of Cloud Controller at {env.capi.url}")
        self._daemon = await env.started_daemon()
        self._show("daemon", f"process {self._daemon.pid}, config {env.config_path}")
        canary = (await self._daemon.logged("canary.cells-can-pull"))["data"]
        self._show("canary", f"{', '.join(canary['cells'])} pulled a task's image from {env.cache.address}")

    async def _push_in_time(self) -> App:
        """Push an app whose staging takes longer than the copy of its image."""
        reference = await self._push_image("team/web", "1.0", LAYER_BYTES)
        app = self._env.cloud.create("web", Image(reference))
        app.instances = 2
        await self._stage_slowly(app, "cf push web")
        await self._started_from_copy(app)
        return app

    async def _push_again(self, app: App) -> None:
        """Push the next version of an app."""
        app.add_package(Image(await self._push_image("team/web", "2.0", LAYER_BYTES)))
        await self._stage_slowly(app, "cf push web, with 2.0")
        await self._env.cloud.stop(app)
        await self._started_from_copy(app)

    async def _stage_slowly(self, app: App, command: str) -> None:
        env = self._env
        env.cell.task_gate.clear()
        build = await env.cloud.stage(app)
        self._show("push", f"{command}: staging task {build}")
        await self._cached(app)
        env.cell.task_gate.set()
        self._check(await env.cloud.staged(app, build) == "", "the staging failed")
        staged_at = monotonic()
        image = await self._patched(app)
        self._show("droplet", f"patched {monotonic() - staged_at:.2f} s after the staging: {image}")

    async def _started_from_copy(self, app: App) -> None:
        await self._env.cloud.start_app(app)
        lrp = self._env.lrp(app)
        self._check(lrp is not None and self._env.is_from_cache(app), "the first LRP is not from the copy")
        self._show("app", f"desired by Cloud Controller from {lrp.root_fs if lrp else ''}")
        await self._running(app)

    async def _push_late(self) -> App:
        """Push an app that is staged before the copy of its image is finished."""
        env = self._env
        layer_bytes = LAYER_BYTES_WHEN_KILLED if self._kills else LATE_LAYER_BYTES
        reference = await self._push_image("team/api", "1.0", layer_bytes)
        app = env.cloud.create("api", Image(reference))
        app.instances = 2
        build = await env.cloud.stage(app)
        self._show("push", f"cf push api: staging task {build}")
        if self._kills:
            await self._kill_in_copy()
        self._check(await env.cloud.staged(app, build) == "", "the staging failed")
        await env.cloud.start_app(app)
        lrp = env.lrp(app)
        is_from_source = lrp is not None and lrp.root_fs.startswith(f"docker://{env.source.address}/")
        self._check(is_from_source, "no LRP from the source")
        self._show("app", f"desired by Cloud Controller from {lrp.root_fs if lrp else ''}")
        if self._kills:
            self._daemon = await env.started_daemon()
            self._show("daemon", f"process {self._daemon.pid}, started again")
        await self._cached(app)
        rootfs = await env.replaced(app)
        self._show("migrated", f"the LRP is desired from {rootfs}")
        self._show("droplet", f"patched, for all that is started from now on: {await self._patched(app)}")
        await self._running(app, migrations=1)
        await self._daemon.logged(
            "reconciler.reconciled", process_guid=app.process_guid, reason=Reason.MIGRATED
        )
        return app

    async def _push_image(self, repository: str, tag: str, layer_bytes: int) -> str:
        sample = images.image([images.layer(layer_bytes, f"{repository}-{tag}-{n}") for n in range(LAYERS)])
        reference = await asyncio.to_thread(self._env.source.push, repository, tag, sample)
        self._digests[reference] = sample.manifest.digest
        size = megabytes(LAYERS * layer_bytes)
        self._show("image", f"pushed {reference}, {size}, manifest {sample.manifest.digest[:19]}…")
        return reference

    async def _kill_in_copy(self) -> None:
        await self._daemon.logged(
            "cacher.copying-image", source_image=f"{self._env.source.address}/team/api:1.0"
        )
        await asyncio.sleep(0.05)
        await self._daemon.kill()
        self._show("killed", "the daemon, by SIGKILL, during the copy")
        _, out, _ = await self._run("jobs", "--direct", "-o", "json")
        errors = {job["error"] for job in map(json.loads, out.splitlines()) if job["state"] != "cached"}
        self._check(errors == {"interrupted"}, f"no copy was under way: {out}")
        self._show("", "the store says: its job was interrupted")

    async def _cached(self, app: App) -> None:
        env, reference = self._env, app.package.text
        line = (await self._daemon.logged("cacher.cached-image", source_image=reference))["data"]
        size = megabytes(line["transferred-bytes"])
        self._show("cached", f"{line['cache-image']}, {size} in {line['duration-s']} s, the same bytes")
        repository = line["cache-image"].partition("/")[2].rpartition(":")[0]
        copy = await asyncio.to_thread(env.cache.pull_manifest, repository, "latest")
        is_same = copy is not None and copy.digest == self._digests[reference]
        self._check(is_same, "the copied manifest differs")

    async def _patched(self, app: App) -> str:
        droplet = app.current
        assert droplet is not None
        await until(lambda: self._names_copy(droplet))
        return droplet.image or ""

    def _names_copy(self, droplet: Droplet) -> bool:
        return (droplet.image or "").startswith(f"{self._env.cache.address}/")

    async def _start_anew(self, web: App, api: App) -> None:
        """Do with apps what had them start from their sources without patched droplets."""
        env = self._env
        await env.cloud.restart(api)
        self._show("restart", f"cf restart api: desired from {self._rootfs(api)}")
        await self._running(api)
        await env.cloud.deployed(await env.cloud.deploy(api))
        self._show("deploy", f"cf restart api --strategy rolling: desired from {self._rootfs(api)}")
        await self._running(api)
        await env.cloud.roll_back(web, 1)
        self._show("rollback", f"cf rollback web --version 1: desired from {self._rootfs(web)}")
        await self._running(web, reference=f"{env.source.address}/team/web:1.0")
        task = await env.cloud.run_task(api)
        rootfs = env.bbs.state.tasks[task.guid].task_definition.root_fs
        self._check(f"//{env.cache.address}/" in rootfs, f"the task is desired from {rootfs}")
        await env.cloud.ended(task)
        self._check(not task.error, f"the task failed: {task.error}")
        self._show("task", f"cf run-task api: {task.state}, from {rootfs}")

    def _rootfs(self, app: App) -> str:
        lrp = self._env.lrp(app)
        self._check(lrp is not None and self._env.is_from_cache(app), "the LRP is not from the copy")
        return lrp.root_fs if lrp is not None else ""

    async def _running(self, app: App, *, reference: str = "", migrations: int = 0) -> None:
        """Wait until all instances run, and see that each really runs from the copy."""
        env, count = self._env, app.instances
        lrp = env.lrp(app)
        rootfs = "" if lrp is None else lrp.root_fs
        await until(lambda: len(env.rows(app)) == count and env.running_from(app, rootfs) == count)
        held = [each for each in env.cell.instances.values() if each.key.process_guid == app.process_guid]
        digests = {each.manifest_digest for each in held if each.is_running}
        self._check(
            digests == {self._digests[reference or app.package.text]}, f"instances run from {digests}"
        )
        if not migrations:
            self._check(not self._moves(app), f"the LRP was migrated: {self._moves(app)}")
        what = f"{count} of {count} instances of {app.owner.app_name}"
        self._show("running", f"{what} from the copy, {migrations} migration{'s' * (migrations != 1)}")

    def _moves(self, app: App) -> set[Reason]:
        """What the daemon has logged of migrating an LRP, or of having migrated it."""
        passes = self._daemon.named("reconciler.reconciled", process_guid=app.process_guid)
        reasons = {Reason(line["data"]["reason"]) for line in passes}
        return {each for each in reasons if each.state is AppState.MIGRATING or each is Reason.MIGRATED}

    async def _restore(self, *apps: App) -> None:
        """Put everything back, with an interruption after the droplets, in the midst of the first LRP."""
        env, everything = self._env, ("restore", "--all", "--yes")
        program = await self._start(*everything, "--max-in-flight", "1")
        await until(lambda: any(guid.startswith(BRIDGE_PREFIX) for guid in env.bbs.state.desired))
        program.send_signal(signal.SIGINT)
        status, out, err = await output_of(program)
        self._check(status == INTERRUPTED, f"restore ended with {status}: {out}{err}")
        self._show("restore", f"restore --all: {line_with(out, 'apps to migrate (')}")
        self._show("", line_with(out, "droplets to restore,"))
        self._show("Ctrl-C", err.splitlines()[-1].partition(": ")[2])
        status, out, err = await self._run(*everything)
        self._check(status == 0, f"restore ended with {status}: {out}{err}")
        self._show("restore", f"restore --all: {line_with(out, ' migrated, ')}")
        for app in apps:
            droplets = ", ".join(each.image or "" for each in app.droplets.values())
            self._check(env.cache.address not in droplets, "a droplet still names a copy")
            self._check(not env.is_from_cache(app), "an LRP is still desired from a copy")
            lrp = env.lrp(app)
            self._show(
                "restored", f"{app.owner.app_name}: LRP {lrp.root_fs if lrp else ''}; droplets {droplets}"
            )
        status, out, err = await self._run(*everything)
        self._check(status == 0, f"restore ended with {status}: {out}{err}")
        self._show("restore", f"restore --all: {out.rstrip().splitlines()[-1]}")

    async def _start(self, command: str, *arguments: str) -> Program:
        return await self._env.start(command, "--config", str(self._env.config_path), *arguments)

    async def _run(self, command: str, *arguments: str) -> tuple[int, str, str]:
        return await output_of(await self._start(command, *arguments))


def show_commands(env: Environment) -> None:
    """Say what can be tried while everything runs."""
    config = env.config_path
    print(
        f"""
Everything keeps running until Ctrl-C. Try:

  export DOCKER_CACHE_CONFIG={config}
  .venv/bin/diego-docker-cache status
  .venv/bin/diego-docker-cache apps
  .venv/bin/diego-docker-cache droplets
  .venv/bin/diego-docker-cache reconcile --include-pinned
  .venv/bin/diego-docker-cache --help
  tail -f {env.directory}/daemon.log
  curl {env.cache.url}/v2/_catalog
  cat {config}
"""
    )


async def main(arguments: argparse.Namespace) -> int:
    """Tell the story, and give the exit status; a signal ends everything that was started."""
    running = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel if running else sys.exit)
    story = Story()
    with tempfile.TemporaryDirectory(prefix="docker-cache-demo-") as directory:
        async with open_environment(
            Path(directory),
            start_delay=START_DELAY,
            sync_interval=30.0,
            converge_interval=30.0,
            start=start_interpreter,
        ) as env:
            env.connect_cloud_controller()
            env.settings["drain_delay"] = "500ms"  # nobody uses these apps
            try:
                await Demo(story, env, kill_during_copy=arguments.kill_during_copy).run()
            except (StepFailedError, TimeoutError, AssertionError) as error:
                why = "nothing more happened in time" if isinstance(error, TimeoutError) else error
                print(f"\nThe story broke off: {why}", file=sys.stderr)
                print(f"\nThe daemon's last words:\n{env.last_words()}", file=sys.stderr)
                return 1
            story.show("done", "every step above was checked")
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
