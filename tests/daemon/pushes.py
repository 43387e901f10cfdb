"""Pushes apps as people do, with the copy of each image ready before its LRP is desired, as it mostly is."""

import asyncio
from collections.abc import Sequence

from tests.daemon.environment import DaemonProcess, Environment, until
from tests.daemon.start_watch import StartWatch
from tests.simulators import images
from tests.simulators.cloud_controller import App
from tests.simulators.recipes import Image

LAYERS, LAYER_SIZE = 2, 4000


def image_of(name: str) -> images.Image:
    """Make an image that shares no layer with others."""
    return images.image([images.layer(LAYER_SIZE, f"{name}-{at}") for at in range(LAYERS)])


async def staged(
    env: Environment, name: str, *, instances: int = 1, image: images.Image | None = None
) -> App:
    """Push an app up to the end of its staging."""
    content = image or image_of(name)
    repository = f"team/{name.replace(' ', '-')}"
    reference = await asyncio.to_thread(env.source.push, repository, "1", content)
    app = env.cloud.create(name, Image(reference))
    app.instances = instances
    assert await env.cloud.staged(app, await env.cloud.stage(app)) == ""
    return app


async def staged_and_cached(
    env: Environment,
    daemon: DaemonProcess,
    name: str,
    *,
    instances: int = 1,
    image: images.Image | None = None,
) -> App:
    """Push an app up to the end of its staging, and wait for the copy of its image."""
    app = await staged(env, name, instances=instances, image=image)
    await daemon.logged("cacher.cached-image", source_image=app.package.text)
    return app


def copy_of(env: Environment, daemon: DaemonProcess, app: App) -> str:
    """Name the repository of the copy of an app's image in the private registry."""
    (line, *_) = daemon.named("cacher.cached-image", source_image=app.package.text)
    image: str = line["data"]["cache-image"]
    return image.removeprefix(f"{env.cache.address}/").partition(":")[0]


async def all_on_copies(env: Environment, apps: Sequence[App]) -> None:
    """Wait until all instances of apps run from their copies, and no bridge is left."""

    def is_done(app: App) -> bool:
        lrp = env.lrp(app)
        return (
            lrp is not None and env.is_from_cache(app) and env.running_from(app, lrp.root_fs) == app.instances
        )

    await until(lambda: all(map(is_done, apps)))
    wanted = {app.process_guid for app in env.cloud.apps.values()}
    await until(lambda: set(env.bbs.state.desired) <= wanted)


def figures_of(watch: StartWatch, apps: Sequence[App]) -> str:
    """Print how apps started."""
    starts = [watch.of(app) for app in apps]
    failed = [start for start in starts if start.failed_at is not None]
    served = sum(start.served_at is not None for start in starts)
    text = f"{served} of {len(apps)} served, the slowest {max(start.seconds for start in starts):.2f} s after its push"
    if failed:
        slowest = max(start.seconds_back for start in failed)
        text += (
            f"; {len(failed)} met a failed pull, and ran from their source {slowest:.2f} s after it at most"
        )
    return f"{text}; {max(start.down for start in starts):.2f} s down at most"
