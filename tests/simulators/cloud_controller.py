"""A simulated Cloud Controller: apps that are pushed, staged, started and scaled, and its sync with the BBS.

Tests call its methods as people use the command line; its API is served by the neighbour (`capi`), over the same
apps. What it sends to Diego is built by `recipes`.
Source: cloud_controller_ng lib/cloud_controller/diego/{stager,runner,processes_sync,tasks_sync}.rb,
app/controllers/internal/staging_completion_controller.rb, app/actions/deployment_create.rb,
lib/cloud_controller/deployment_updater/.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Self

import httpx

from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate, ProtoRoutes
from tests.simulators.bbs_calls import BbsRefused, Caller, Diego, InProcess, OverHttp, Response
from tests.simulators.capi import callbacks, deployments, syncs
from tests.simulators.capi.app import App, Database
from tests.simulators.capi.records import (
    AppTask,
    Build,
    BuildState,
    Deployment,
    DeploymentState,
    Droplet,
    DropletState,
    Package,
    Process,
    Revision,
    TaskState,
)
from tests.simulators.recipes import (
    STAGING_DOMAIN,
    TASKS_DOMAIN,
    Image,
    InvalidDockerUri,
    Owner,
    Recipe,
    app_task,
    desired_lrp,
    lrp_tags,
    routes,
    staging_task,
)

__all__ = [
    "App",
    "BbsRefused",
    "Caller",
    "CloudController",
    "InProcess",
    "OverHttp",
    "Response",
]

INTERVAL = 30.0


class CloudController:
    """Holds apps and keeps the BBS in step with them, to be used as an async context manager.

    Attributes:
        apps: App GUID to app.
        diego: What it asks of the BBS.
        database: Gives rows their GUIDs and times.
        syncs: How often the sync has run, freshness bump or not.
        bumps: How often it has made its domain fresh.
        removing: Told each process GUID whose LRP it removes, directly before.
        changing: Told each droplet and the image that the API is about to write into it.
        finishing: Closed by a test, it holds back the droplet of a build that is STAGED already.
        assigns: Whether the droplet of a staging becomes the app's current one at once, as the command line sees
            to a moment later.
    """

    def __init__(
        self, caller: Caller, *, interval: float | None = None, now: Callable[[], int] = time.time_ns
    ) -> None:
        self.apps: dict[str, App] = {}
        self.database = Database(now)
        self.syncs = 0
        self.bumps = 0
        self.removing: list[Callable[[str], None]] = []
        self.changing: list[Callable[[Droplet, str | None], None]] = []
        self.finishing = asyncio.Event()
        self.finishing.set()
        self.assigns = True
        self.diego = Diego(caller)
        self._interval = interval
        self._callback = ""
        self._changed = asyncio.Condition()
        self._background: set[asyncio.Task[None]] = set()
        self._callbacks = callbacks.CallbackServer(self._take_callback)

    async def __aenter__(self) -> Self:
        self._callback = await self._callbacks.listen()
        if self._interval is not None:
            self.spawn(self.sync_forever(self._interval))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._callbacks.stop()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Do something in the background until it ends or this ends."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def find_app(self, guid: str) -> App | None:
        """Find an app."""
        return self.apps.get(guid)

    def find_build(self, guid: str) -> Build | None:
        """Find a build."""
        app = self._owner_of(guid)
        return None if app is None else app.builds.get(guid)

    def find_droplet(self, guid: str) -> Droplet | None:
        """Find a droplet."""
        app = self._owner_of(guid)
        return None if app is None else app.droplets.get(guid)

    def find_package(self, guid: str) -> Package | None:
        """Find a package."""
        app = self._owner_of(guid)
        return None if app is None else app.packages.get(guid)

    def _owner_of(self, guid: str) -> App | None:
        return self.apps.get(self.database.owners.get(guid, ""))

    def create(self, name: str, image: Image, *, env: Mapping[str, str] | None = None) -> App:
        """Make an app with a package."""
        owner = Owner(str(uuid.uuid4()), name)
        app = App(owner, image, self.database, hostnames=(f"{name}.apps.example.com",), env=env)
        self.apps[app.guid] = app
        return app

    async def push(
        self, name: str, image: Image, *, instances: int = 1, env: Mapping[str, str] | None = None
    ) -> App:
        """Do what `cf push` does: make the app, stage it, wait for that, start it."""
        app = self.create(name, image, env=env)
        app.instances = instances
        await self.staged(app, await self.stage(app))
        if app.current is not None:
            await self.start_app(app)
        return app

    async def push_again(self, app: App, image: Image | None = None) -> str:
        """Do what `cf push` or, without an image, `cf restage` does to an app; return why it failed, or nothing."""
        if image is not None:
            app.add_package(image)
        failure = await self.staged(app, await self.stage(app))
        if not failure:
            await self.restart(app)
        return failure

    async def stage(self, app: App) -> str:
        """Desire the staging task of a new build, and return its GUID."""
        build = app.add_build(app.newest_package)
        definition = staging_task(app.owner, build.package.image, build.guid, app.env, self._callback)
        await self.diego.desire_task(build.guid, STAGING_DOMAIN, definition)
        return build.guid

    async def staged(self, app: App, build_guid: str) -> str:
        """Wait until a build has ended; an empty text means well, another one says why not."""
        build = app.builds[build_guid]
        async with self._changed:
            await self._changed.wait_for(lambda: has_ended(build))
        return build.error

    def patch(self, droplet: Droplet, image: str | None) -> None:
        """Change the image of a droplet, as another tool does."""
        droplet.image, droplet.updated_at = image, self.database.tick()

    def assign(self, app: App, droplet: Droplet) -> None:
        """Make a droplet an app's current one, which its next start is from."""
        app.current = droplet

    def delete_droplet(self, droplet: Droplet) -> None:
        """Delete a droplet, also an app's current one."""
        app = self.apps[droplet.app_guid]
        del app.droplets[droplet.guid]
        if app.current is droplet:
            app.current = None
        for build in app.builds.values():
            if build.droplet is droplet:
                build.droplet = None

    def delete_expired_droplets(self) -> None:
        """Do what the daily job does."""
        for app in self.apps.values():
            for droplet in [each for each in app.droplets.values() if each.state is DropletState.EXPIRED]:
                self.delete_droplet(droplet)

    async def start_app(self, app: App) -> None:
        """Start an app under a new version."""
        app.is_started = True
        app.revise(app.web)
        app.renew(app.web)
        await self.desire(app, app.web)

    async def restart(self, app: App) -> None:
        """Stop an app and start it under a new version."""
        await self.stop(app)
        await self.start_app(app)

    async def scale(self, app: App, instances: int) -> None:
        """Change the number of instances in place."""
        app.instances = instances
        app.touch(app.web)
        await self.create_or_update(app, app.web)

    async def map_route(self, app: App, hostname: str) -> None:
        """Add a route in place; the sync finds what the BBS was not told of."""
        app.hostnames = (*app.hostnames, hostname)
        processes = tuple(app.processes)
        for process in processes:
            app.touch(process)
        for process in processes:
            await self.create_or_update(app, process)

    async def stop(self, app: App) -> None:
        """Stop an app; the sync removes what the BBS was not told of."""
        processes = tuple(app.processes)
        for process in processes:
            process.is_started = False
            app.touch(process)
        for process in processes:
            await self.remove(process.process_guid)

    async def delete(self, app: App) -> None:
        """Stop an app and forget it, with its builds."""
        await self.stop(app)
        del self.apps[app.guid]
        async with self._changed:
            for build in app.builds.values():
                if not has_ended(build):
                    build.state, build.error = BuildState.FAILED, "The app was deleted"
            self._changed.notify_all()

    async def deploy(
        self, app: App, *, droplet: Droplet | None = None, revision: Revision | None = None
    ) -> Deployment:
        """Begin a rolling deployment of a droplet, or of the one of an earlier revision, else of the current one."""
        deployment = deployments.create(app, droplet, revision)
        await self.desire(app, deployment.process)
        self.spawn(deployments.run(self, app, deployment))
        return deployment

    async def deployed(self, deployment: Deployment) -> None:
        """Wait until a deployment has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: deployment.state is not DeploymentState.DEPLOYING)

    async def roll_back(self, app: App, version: int) -> None:
        """Do what `cf rollback` does: deploy an earlier revision, and wait until that has ended."""
        (revision,) = [each for each in app.revisions if each.version == version]
        await self.deployed(await self.deploy(app, revision=revision))

    async def run_task(self, app: App, command: str = "/srv/task", *, name: str = "") -> AppTask:
        """Do what `cf run-task` does."""
        if app.current is None:
            raise ValueError("an app without a droplet cannot run a task")
        number = len(app.tasks) + 1
        row = self.database.new(app.guid)
        task = AppTask(*row, number, name or f"task-{number}", command, app.current.guid)
        app.tasks[task.guid] = task
        image = _image_of(app.current)
        definition = app_task(app.owner, image, task.guid, command, self._callback)
        await self.diego.desire_task(task.guid, TASKS_DOMAIN, definition)
        return task

    async def ended(self, task: AppTask) -> None:
        """Wait until a one-off task has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: task.state is not TaskState.RUNNING)

    async def sync(self) -> None:
        """Run the processes sync once, and the tasks sync."""
        self.syncs += 1
        if await syncs.sync_processes(self):
            self.bumps += 1
        await syncs.sync_tasks(self)

    async def sync_forever(self, interval: float) -> None:
        """Run the syncs at an interval in seconds, whatever the BBS answers."""
        while True:
            with contextlib.suppress(httpx.HTTPError, BbsRefused):
                await self.sync()
            await asyncio.sleep(interval)

    async def create_or_update(self, app: App, process: Process) -> None:
        """Desire the LRP of a process, or change it in place if it is there."""
        if not app.wants(process):
            return
        present = await self.diego.find(process.process_guid)
        if present is None:
            await self.desire(app, process)
        else:
            await self.update(app, process, present)

    async def desire(self, app: App, process: Process) -> None:
        """Desire the LRP of a process."""
        await self.diego.desire(self.definition(app, process))

    def definition(self, app: App, process: Process | None = None) -> DesiredLRP:
        """Build the LRP that the database asks for now, by default that of the newest web process.

        Raises:
            InvalidDockerUri: There is no rootfs for the droplet's image.
        """
        process = process or app.web
        recipe = Recipe(
            process_guid=process.process_guid,
            instances=process.instances,
            annotation=process.annotation,
            hostnames=app.hostnames,
            private_key=app.private_key,
            env=app.env,
        )
        return desired_lrp(app.owner, _image_for(app, process), recipe)

    async def update(self, app: App, process: Process, present: DesiredLRP) -> None:
        """Change the LRP of a process in place; its keys for `cf ssh` stay those of the present one."""
        kept = {name: value for name, value in present.routes.routes.items() if name == "diego-ssh"}
        change = DesiredLRPUpdate(
            instances=process.instances,
            annotation=process.annotation,
            metric_tags=lrp_tags(app.owner, process.process_guid),
            routes=ProtoRoutes(routes=routes(app.hostnames) | kept),
        )
        await self.diego.update(process.process_guid, change)

    async def remove(self, process_guid: str) -> None:
        """Remove an LRP."""
        for listener in self.removing:
            listener(process_guid)
        await self.diego.remove(process_guid)

    async def end_deployment(self, deployment: Deployment, state: DeploymentState) -> None:
        """Note how a deployment has ended."""
        async with self._changed:
            deployment.state, deployment.updated_at = state, self.database.tick()
            self._changed.notify_all()

    async def end_task(self, task: AppTask, error: str) -> None:
        """Note that a one-off task has ended, well without an error."""
        async with self._changed:
            task.state = TaskState.FAILED if error else TaskState.SUCCEEDED
            task.error, task.updated_at = error, self.database.tick()
            self._changed.notify_all()

    async def _take_callback(self, path: list[str], body: bytes) -> int:
        report = json.loads(body)
        error = str(report["failure_reason"]) if report["failed"] else ""
        for app in tuple(self.apps.values()):
            if path[1] == "staging" and (build := app.builds.get(path[2])) is not None:
                return await self._complete(app, build, error, report)
            if path[1] == "tasks" and (task := app.tasks.get(path[2])) is not None:
                await self.end_task(task, error)
                return httpx.codes.OK
        return httpx.codes.NOT_FOUND

    async def _complete(self, app: App, build: Build, error: str, report: Mapping[str, object]) -> int:
        """Take the callback of a staging task, and make the droplet of its result."""
        if build.state is not BuildState.STAGING:
            return httpx.codes.BAD_REQUEST
        build.updated_at = self.database.tick()
        status, result = httpx.codes.OK, {} if error else callbacks.staging_result(str(report["result"]))
        if result is None:
            error, status = callbacks.MALFORMED, httpx.codes.BAD_REQUEST
        elif not error and not result["process_types"]:
            error = "Start command not specified"
        if result is None or error:
            build.state, build.error = BuildState.FAILED, error
        else:
            droplet = app.add_droplet(build)
            build.state = BuildState.STAGED
            await self.finishing.wait()
            droplet.image = result["lifecycle_metadata"]["docker_image"] or None
            droplet.state, droplet.updated_at = DropletState.STAGED, self.database.tick()
            if self.assigns:
                app.current = droplet
            app.expire_droplets()
        async with self._changed:
            self._changed.notify_all()
        return status


def has_ended(build: Build) -> bool:
    """Whether a build has failed, or names its droplet by now unless somebody has deleted that."""
    is_staged = build.state is BuildState.STAGED and (build.droplet is None or build.droplet.state.is_final)
    return build.state is BuildState.FAILED or is_staged


def _image_for(app: App, process: Process) -> Image:
    """Take the image of the droplet that the process was started from, and the login of the current one."""
    desired = app.current
    if desired is None:
        return app.package
    actual = _image_of(app.droplet_of(process) or desired)
    return Image(actual.text, desired.username, desired.password)


def _image_of(droplet: Droplet) -> Image:
    if droplet.image is None:
        raise InvalidDockerUri("the droplet has no image")
    return droplet.login
