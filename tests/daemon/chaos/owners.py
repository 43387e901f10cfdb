"""What the owners of apps do in a chaos run: they push, deploy, scale, re-route, restart, stop and delete them."""

import asyncio
import contextlib
from collections.abc import Iterator

from protos.bbs.error_pb2 import Error
from tests.daemon.chaos.scene import Scene
from tests.simulators import images
from tests.simulators.capi.app import is_deployable
from tests.simulators.capi.records import DeploymentState
from tests.simulators.cloud_controller import BbsRefused
from tests.simulators.recipes import Image


class Owners:
    """Acts for the owners, each time on an app of its choice.

    Args:
        scene: What they act in.
        apps: How many there are in the beginning.
    """

    def __init__(self, scene: Scene, apps: int) -> None:
        self._scene, self._env, self._chance, self._apps = scene, scene.env, scene.chance, apps
        self._references = list[str]()
        self._names = 0

    async def scale(self) -> None:
        """Change the number of instances in place."""
        app = self._scene.choose_app()
        if app is not None:
            instances = self._chance.randint(1, 4)
            self._scene.invariants.will_scale(app, instances)
            self._scene.invariants.note(f"{app.process_guid}: {app.instances} to {instances}")
            with _failing_for_its_owner():
                await self._env.cloud.scale(app, instances)

    async def map_route(self) -> None:
        """Add a route in place."""
        app = self._scene.choose_app()
        if app is not None:
            with _failing_for_its_owner():
                await self._env.cloud.map_route(app, f"r{self._chance.randrange(10**6)}.apps.example.com")

    async def restart(self) -> None:
        """Start an app under another process GUID."""
        app = self._scene.choose_app()
        if app is not None:
            await self._env.cloud.restart(app)

    async def push_again(self) -> None:
        """Push an app anew, mostly with another image, or stage what it was pushed with once more."""
        app = self._scene.choose_app()
        if app is not None:
            again = self._chance.random() < 0.3
            await self._env.cloud.push_again(
                app, None if again else Image(self._chance.choice(self._references))
            )

    async def copy_droplet(self) -> None:
        """Copy an app's droplet, sometimes to another app, and mostly start from it the next time."""
        source, app = self._scene.choose_app(), self._scene.choose_app()
        if source is None or app is None or source.current is None:
            return
        if self._chance.random() < 0.7:
            app = source
        droplet = app.copy_droplet(source.current)
        self._scene.texts.note_copy(droplet, source.current)
        if self._chance.random() < 0.7:
            self._env.cloud.assign(app, droplet)

    async def put_back(self) -> None:
        """Stop and start under the same version, as nobody but a test would: it runs from the source again."""
        app = self._scene.choose_app()
        if app is None:
            return
        self._scene.invariants.note(f"put back {app.process_guid}")
        await self._env.cloud.stop(app)
        app.is_started = True
        await self._env.cloud.sync()

    async def deploy(self) -> None:
        """Start an app anew under another process, instance by instance, often from an earlier droplet."""
        app = self._scene.choose_app()
        if app is None or any(each.state is DeploymentState.DEPLOYING for each in app.deployments):
            return
        earlier = [each for each in app.revisions if is_deployable(app, each)]
        revision = self._chance.choice(earlier) if earlier and self._chance.random() < 0.5 else None
        self._scene.happened["rollbacks" if revision is not None else "rolling deployments"] += 1
        self._scene.invariants.note(f"deploys {app.process_guid}")
        await self._env.cloud.deploy(app, revision=revision)

    async def run_task(self) -> None:
        """Run a one-off task from the droplet of an app."""
        app = self._scene.choose_app()
        if app is not None and app.current is not None:
            is_copy = self._scene.is_copy(app.current.image)
            self._scene.happened["one-off tasks from copies" if is_copy else "one-off tasks"] += 1
            await self._env.cloud.run_task(app)

    async def stop(self) -> None:
        """Stop an app, and push another one."""
        app = self._scene.choose_app()
        if app is not None:
            await self._env.cloud.stop(app)
            await self.push()

    async def start_one(self) -> None:
        """Push an app, or restart one: those that start are migrated at once, and differently."""
        if self._chance.random() < 0.4:
            self._scene.happened["restarts"] += 1
            await self.restart()
            return
        self._scene.happened["pushes"] += 1
        if len(self._env.cloud.apps) > 1.5 * self._apps:
            await self._delete()
        await self.push()

    async def _delete(self) -> None:
        app = self._scene.choose_app()
        if app is not None:
            await self._env.cloud.delete(app)

    async def push(self) -> None:
        """Push an app, often with an image of which there is a copy."""
        self._names += 1
        number = self._names
        if not self._references or self._chance.random() < 0.3:
            image = images.image([images.layer(1000, number)])
            self._references.append(
                await asyncio.to_thread(self._env.source.push, f"team/web-{number}", "1", image)
            )
        app = self._env.cloud.create(f"app-{number}", Image(self._chance.choice(self._references)))
        app.droplet, app.instances = app.package, self._chance.randint(1, 4)
        if self._chance.random() < 0.8:  # else as before the daemon was installed
            await self._env.cloud.staged(app, await self._env.cloud.stage(app))
        await self._env.cloud.start_app(app)


@contextlib.contextmanager
def _failing_for_its_owner() -> Iterator[None]:
    """Let a change fail that finds an LRP and updates it when it is gone: the next sync makes it."""
    try:
        yield
    except BbsRefused as problem:
        if problem.kind != Error.ResourceNotFound:
            raise
