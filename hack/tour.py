"""Tells the whole story with the program's own commands, as an operator at a terminal would see it.

Started by `hack/demo --tour`; the documentation shows what it prints, and a test compares the two.
"""

import asyncio
import json
import shlex
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hack.terminal import Broken, Terminal, run_in_terminal, run_story, wait
from tests.daemon.environment import Environment, open_environment, until
from tests.daemon.programs import start_interpreter
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

LAYER_BYTES = 1_000_000


async def tour(env: Environment, terminal: Terminal) -> None:
    """Tell the story once."""
    env.settings |= {"start_paused": True, "sync_interval": "1s", "log_level": "info", "eviction_grace": "2s"}
    web, worker, tool = await _running_apps(env)
    daemon = await env.started_daemon()
    says = terminal.types

    terminal.show(
        "Look around",
        "Three apps run from a public registry. The daemon was started for the first time, with "
        "`start_paused`: it watches, and changes nothing. `doctor --cells` lets each cell show that it can "
        "pull from the private registry.",
    )
    await says("config check")
    await says("doctor --cells")
    await says("status")
    terminal.show(
        "See what would change",
        "`reconcile` makes a plan and changes nothing. Its exit status is 2 while something is pending.",
    )
    await says("reconcile", status=2)
    terminal.show(
        "Migrate one app",
        "A plan for one app goes into a file. Somebody reads it, and then it is applied as it is.",
    )
    plan = shlex.quote(str(env.directory / "plan.jsonl"))
    await says(f"reconcile --app web --out {plan}", status=2)
    await says(f"reconcile --apply {plan} --yes")
    await says("apps")
    terminal.show(
        "Let the daemon do the rest",
        "From now on it copies every image and migrates every app by itself. A canary, a tiny task of its "
        "own, has shown that cells can pull.",
    )
    await says("resume")
    await wait(lambda: all(map(env.is_from_cache, (web, worker, tool))))
    await wait(lambda: not _has_bridge(env))
    await says("status")
    await says("images")
    await says("jobs --state cached")
    await says("migrations")
    terminal.show("Push an app", "Somebody runs `cf push late`. The image is copied while the app is staged.")
    late = await _push(env)
    await wait(lambda: env.is_from_cache(late) and not _has_bridge(env))  # it may have run before
    await says("apps --app late")
    await daemon.stop()
    await env.cloud.stop(tool)
    await _connect_cloud_controller(env, terminal, web, (web, worker, tool, late))
    terminal.show(
        "Restore one app",
        "The app runs from its source again. It stays there until `reconcile --include-pinned` is used.",
    )
    await says("restore --app worker --yes")
    await says("apps --state skipped")
    terminal.show(
        "Look after copies",
        "An image that is needed tomorrow is copied today. `verify` reads copies back and compares every "
        "byte. `evict` deletes copies that nothing has used for some time, here for two seconds.",
    )
    url = await says(f"cache --follow {env.source.address}/team/next:3")
    guid = url.strip().splitlines()[-1].partition("/")[2].rpartition(":")[0]
    await says(f"image {guid}")
    await says("verify")
    await asyncio.sleep(4.0)  # the grace period
    await says("evict --unused --yes")
    terminal.show(
        "Lose the public registry",
        "The public registry is stopped, and an app is scaled up. Its new instances start from the copy.",
    )
    env.stop_source()
    await env.cloud.scale(web, 5)
    await wait(lambda: len(env.rows(web)) == 5 and all(row.state == "RUNNING" for row in env.rows(web)))
    await says("apps --app web")
    terminal.show("See who did what", "Each call that changes something is kept with who made it.")
    await says("pause")
    await says("audit")


async def _connect_cloud_controller(
    env: Environment, terminal: Terminal, web: App, apps: Sequence[App]
) -> None:
    """Start the daemon again with a client for the API of Cloud Controller."""
    terminal.show(
        "Tell Cloud Controller",
        "Cloud Controller still has the source of each app on record, and starts it from there next time. "
        "The daemon gets a client for its API, and is started again. It writes the names of copies into "
        "droplets, also of apps that do not run. After `cf restart`, nothing is left to migrate.",
    )
    env.connect_cloud_controller()
    await env.started_daemon()
    await wait(lambda: all(_names_copy(env, app) for app in apps))
    await terminal.types("droplets")
    await env.cloud.restart(web)
    await wait(lambda: env.is_from_cache(web) and not _has_bridge(env))
    await wait(lambda: sum(row.state == "RUNNING" for row in env.rows(web)) == 2)
    await terminal.types("apps --app web")
    async with asyncio.timeout(60):
        # `tool` was stopped while no daemon ran.
        while await _count_cached(env) != 3:  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.5)
    await terminal.types("status")


async def _count_cached(env: Environment) -> int:
    """Read in the status how many apps run from their copies, as it was counted last."""
    _, out, _ = await env.run_command("status", "--output", "json", "--config", str(env.config_path))
    counts: dict[str, int] = json.loads(out)["apps_by_state"]
    return counts.get("cached", 0)


def _has_bridge(env: Environment) -> bool:
    return any(guid.startswith("docker-cache-bridge") for guid in env.bbs.state.desired)


def _names_copy(env: Environment, app: App) -> bool:
    """Whether an app's droplet names a copy."""
    return app.current is not None and (app.current.image or "").startswith(env.cache.address)


async def _running_apps(env: Environment) -> list[App]:
    base = images.layer(LAYER_BYTES, 1)
    made = [images.image([base, images.layer(LAYER_BYTES, 2 + n)]) for n in range(4)]
    push = env.source.push
    web = await asyncio.to_thread(push, "team/web", "1.0", made[0])
    worker = await asyncio.to_thread(push, "team/worker", "7", made[1])
    await asyncio.to_thread(push, "team/late", "1", made[2])
    await asyncio.to_thread(push, "team/next", "3", made[3])
    apps = []
    for name, reference, count in (("web", web, 2), ("worker", worker, 1), ("tool", worker, 1)):
        app = env.cloud.create(name, Image(reference))
        app.droplet, app.instances = app.package, count
        await env.cloud.start_app(app)
        apps.append(app)
    await until(lambda: sum(each.is_running for each in env.cell.instances.values()) == 4)
    return apps


async def _push(env: Environment) -> App:
    app = env.cloud.create("late", Image(f"{env.source.address}/team/late:1"))
    build = await env.cloud.stage(app)
    problem = await env.cloud.staged(app, build)
    if problem:
        raise Broken(f"the staging failed: {problem}")
    await env.cloud.start_app(app)
    return app


async def main(columns: int) -> int:
    """Open everything, tell the story, and close everything; give the exit status."""
    with tempfile.TemporaryDirectory(prefix="docker-cache-tour-") as directory:
        async with open_environment(
            Path(directory),
            start_delay=0.2,
            sync_interval=30.0,
            converge_interval=1.0,
            start=start_interpreter,
        ) as env:
            return await run_in_terminal(env, columns, partial(tour, env))


if __name__ == "__main__":
    run_story("hack/demo --tour", __doc__, main)
