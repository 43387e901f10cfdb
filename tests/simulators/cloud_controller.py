"""A simulated Cloud Controller: apps that are pushed, staged, started and scaled, and its sync with the BBS.

It holds one web process per app, and has no API of its own; a test calls its methods.
What it sends to Diego is built by the neighbour (`recipes`).
Source: cloud_controller_ng lib/cloud_controller/diego/{stager,runner,processes_sync}.rb,
app/controllers/internal/staging_completion_controller.rb.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import httpx
from google.protobuf.message import Message

from protos.bbs.desired_lrp_pb2 import DesiredLRP, DesiredLRPUpdate, ProtoRoutes
from protos.bbs.desired_lrp_requests_pb2 import (
    DesiredLRPByProcessGuidRequest,
    DesiredLRPLifecycleResponse,
    DesiredLRPResponse,
    DesiredLRPSchedulingInfosResponse,
    DesiredLRPsRequest,
    DesireLRPRequest,
    RemoveDesiredLRPRequest,
    UpdateDesiredLRPRequest,
)
from protos.bbs.domain_pb2 import UpsertDomainRequest, UpsertDomainResponse
from protos.bbs.error_pb2 import Error
from protos.bbs.task_requests_pb2 import DesireTaskRequest, TaskLifecycleResponse
from tests.simulators.bbs import Bbs
from tests.simulators.bbs.connections import Answer, Connection
from tests.simulators.recipes import (
    APPS_DOMAIN,
    STAGING_DOMAIN,
    Image,
    InvalidDockerUri,
    Owner,
    Recipe,
    desired_lrp,
    lrp_tags,
    routes,
    staging_task,
)

TTL = 120
INTERVAL = 30.0
TOLERATED = frozenset({Error.ResourceExists, Error.ResourceNotFound})

Response = TypeVar("Response", bound=Message)


class BbsRefused(Exception):
    """The BBS answered with an error."""

    def __init__(self, problem: Error) -> None:
        super().__init__(problem.message)
        self.kind = problem.type


class Caller(Protocol):
    """A way to call the BBS."""

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call and fill in its response."""


class InProcess:
    """Calls a simulated BBS past its port, so that faults of the port do not matter."""

    def __init__(self, bbs: Bbs) -> None:
        self._bbs = bbs

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call and fill in its response."""
        body = self._bbs.handle(path, request.SerializeToString(), str(uuid.uuid4()))
        response.ParseFromString(body or b"")
        await self._bbs.state.events.settle()
        return response


class OverHttp:
    """Calls a BBS over a client with its URL and certificates."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, path: str, request: Message, response: Response) -> Response:
        """Make a call and fill in its response."""
        headers = {"Content-Type": "application/x-protobuf", "X-Vcap-Request-Id": str(uuid.uuid4())}
        answer = await self._client.post(path, content=request.SerializeToString(), headers=headers)
        answer.raise_for_status()
        response.ParseFromString(answer.content)
        return response


@dataclass
class App:
    """An app with its package, its droplet and its web process.

    Attributes:
        package: What the user pushed.
        droplet: What staging reported; None before.
        builds: Build GUIDs, each that of a staging task, to how they ended; None while they run.
        version: Changes with each start, push and restart, and so does the process GUID.
        updated_at: The text that becomes the annotation.
    """

    owner: Owner
    package: Image
    droplet: Image | None = None
    builds: dict[str, str | None] = field(default_factory=dict)
    version: str = ""
    updated_at: str = ""
    instances: int = 1
    is_started: bool = False
    hostnames: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    private_key: str = "made-up private key"

    @property
    def guid(self) -> str:
        """The app's GUID, which is that of its first web process, too."""
        return self.owner.app_guid

    @property
    def process_guid(self) -> str:
        """The key of its desired LRP."""
        return f"{self.guid}-{self.version}"

    @property
    def is_runnable(self) -> bool:
        """Whether the sync wants an LRP for it."""
        return self.is_started and self.instances > 0 and self.droplet is not None


class CloudController:
    """Holds apps and keeps the BBS in step with them, to be used as an async context manager.

    Attributes:
        apps: App GUID to app.
        syncs: How often the sync has run, freshness bump or not.
        bumps: How often it has made its domain fresh.
        removing: Told each process GUID whose LRP it removes, directly before.
    """

    def __init__(
        self, caller: Caller, *, interval: float | None = None, now: Callable[[], int] = time.time_ns
    ) -> None:
        self.apps: dict[str, App] = {}
        self.syncs = 0
        self.bumps = 0
        self.removing: list[Callable[[str], None]] = []
        self._caller = caller
        self._interval = interval
        self._now = now
        self._last_update = 0
        self._callback = ""
        self._changed = asyncio.Condition()
        self._loop: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._callback = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        if self._interval is not None:
            self._loop = asyncio.create_task(self._sync_forever(self._interval))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._connections):
                writer.close()
                await writer.wait_closed()
            await self._server.wait_closed()

    def create(self, name: str, image: Image, *, env: Mapping[str, str] | None = None) -> App:
        """Make an app with a package."""
        app = App(
            Owner(str(uuid.uuid4()), name), image, hostnames=(f"{name}.apps.example.com",), env=env or {}
        )
        self.apps[app.guid] = app
        self._renew(app)
        return app

    async def push(
        self, name: str, image: Image, *, instances: int = 1, env: Mapping[str, str] | None = None
    ) -> App:
        """Do what `cf push` does: make the app, stage it, wait for that, start it."""
        app = self.create(name, image, env=env)
        app.instances = instances
        await self.staged(app, await self.stage(app))
        if app.droplet is not None:
            await self.start_app(app)
        return app

    async def stage(self, app: App) -> str:
        """Desire the staging task of a new build, and return its GUID."""
        build_guid = str(uuid.uuid4())
        app.builds[build_guid] = None
        definition = staging_task(app.owner, app.package, build_guid, app.env, self._callback)
        request = DesireTaskRequest(task_guid=build_guid, domain=STAGING_DOMAIN, task_definition=definition)
        await self._call("/v1/tasks/desire.r2", request, TaskLifecycleResponse())
        return build_guid

    async def staged(self, app: App, build_guid: str) -> str:
        """Wait until a build has ended; an empty text means well, another one says why not."""
        async with self._changed:
            await self._changed.wait_for(lambda: app.builds[build_guid] is not None)
        return app.builds[build_guid] or ""

    async def start_app(self, app: App) -> None:
        """Start an app under a new version."""
        app.is_started = True
        self._renew(app)
        await self._desire(app)

    async def restart(self, app: App) -> None:
        """Stop an app and start it under a new version."""
        await self.stop(app)
        await self.start_app(app)

    async def scale(self, app: App, instances: int) -> None:
        """Change the number of instances in place."""
        app.instances = instances
        self._touch(app)
        if app.is_runnable:
            await self._create_or_update(app)

    async def map_route(self, app: App, hostname: str) -> None:
        """Add a route in place."""
        app.hostnames = (*app.hostnames, hostname)
        self._touch(app)
        if app.is_runnable:
            await self._create_or_update(app)

    async def stop(self, app: App) -> None:
        """Stop an app."""
        app.is_started = False
        self._touch(app)
        await self._remove(app.process_guid)

    async def delete(self, app: App) -> None:
        """Stop an app and forget it."""
        await self.stop(app)
        del self.apps[app.guid]

    async def sync(self) -> None:
        """Run the processes sync once."""
        self.syncs += 1
        infos = await self._call(
            "/v1/desired_lrp_scheduling_infos/list",
            DesiredLRPsRequest(domain=APPS_DOMAIN),
            DesiredLRPSchedulingInfosResponse(),
        )
        there = {
            info.desired_lrp_key.process_guid: info.annotation for info in infos.desired_lrp_scheduling_infos
        }
        wanted = {app.process_guid: app for app in tuple(self.apps.values()) if app.is_runnable}
        succeeded = [await self._sync_app(app, there.get(guid)) for guid, app in wanted.items()]
        for guid in there.keys() - wanted.keys():
            await self._remove(guid)
        if all(succeeded):
            await self._bump()

    async def _sync_app(self, app: App, annotation: str | None) -> bool:
        """Put one app right; False if that keeps the domain from being fresh."""
        try:
            if annotation is None:
                await self._desire(app)
            elif annotation != app.updated_at:
                await self._update(app)
        except InvalidDockerUri:
            return False
        except BbsRefused as problem:
            return problem.kind == Error.InvalidRequest or problem.kind in TOLERATED
        return True

    async def _bump(self) -> None:
        request = UpsertDomainRequest(domain=APPS_DOMAIN, ttl=TTL)
        await self._call("/v1/domains/upsert", request, UpsertDomainResponse())
        self.bumps += 1

    async def _sync_forever(self, interval: float) -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError, BbsRefused):
                await self.sync()
            await asyncio.sleep(interval)

    async def _create_or_update(self, app: App) -> None:
        request = DesiredLRPByProcessGuidRequest(process_guid=app.process_guid)
        try:
            await self._call("/v1/desired_lrps/get_by_process_guid.r3", request, DesiredLRPResponse())
        except BbsRefused as problem:
            if problem.kind != Error.ResourceNotFound:
                raise
            await self._desire(app)
        else:
            await self._update(app)

    async def _desire(self, app: App) -> None:
        request = DesireLRPRequest(desired_lrp=self.definition(app))
        with _tolerated(Error.ResourceExists):
            await self._call("/v1/desired_lrp/desire.r2", request, DesiredLRPLifecycleResponse())

    def definition(self, app: App) -> DesiredLRP:
        """Build the LRP that the database asks for now."""
        recipe = Recipe(
            process_guid=app.process_guid,
            instances=app.instances,
            annotation=app.updated_at,
            hostnames=app.hostnames,
            private_key=app.private_key,
            env=app.env,
        )
        return desired_lrp(app.owner, app.droplet or app.package, recipe)

    async def _update(self, app: App) -> None:
        get = DesiredLRPByProcessGuidRequest(process_guid=app.process_guid)
        present = await self._call("/v1/desired_lrps/get_by_process_guid.r3", get, DesiredLRPResponse())
        kept = {
            name: value for name, value in present.desired_lrp.routes.routes.items() if name == "diego-ssh"
        }
        change = DesiredLRPUpdate(
            instances=app.instances,
            annotation=app.updated_at,
            metric_tags=lrp_tags(app.owner, app.process_guid),
            routes=ProtoRoutes(routes=routes(app.hostnames) | kept),
        )
        request = UpdateDesiredLRPRequest(process_guid=app.process_guid, update=change)
        await self._call("/v1/desired_lrp/update", request, DesiredLRPLifecycleResponse())

    async def _remove(self, process_guid: str) -> None:
        request = RemoveDesiredLRPRequest(process_guid=process_guid)
        for told in self.removing:
            told(process_guid)
        with _tolerated(Error.ResourceNotFound):
            await self._call("/v1/desired_lrp/remove", request, DesiredLRPLifecycleResponse())

    async def _call(self, path: str, request: Message, response: Response) -> Response:
        answer = await self._caller.call(path, request, response)
        # Every response has its error under the same number.
        failure = DesiredLRPLifecycleResponse.FromString(answer.SerializeToString())
        if failure.HasField("error"):
            raise BbsRefused(failure.error)
        return answer

    def _renew(self, app: App) -> None:
        app.version = str(uuid.uuid4())
        self._touch(app)

    def _touch(self, app: App) -> None:
        # Later than any before, however coarse the clock.
        self._last_update = max(self._now() // 1000, self._last_update + 1)
        app.updated_at = repr(self._last_update / 1_000_000)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            connection = Connection(reader, writer)
            while (call := await connection.next_call()) is not None:
                status = await self._complete(call.path.split("/")[4], call.body)
                if not await connection.answer(Answer(status)):
                    return
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _complete(self, build_guid: str, body: bytes) -> int:
        """Take the callback of a staging task, and make the droplet of its result."""
        app = next((app for app in self.apps.values() if build_guid in app.builds), None)
        if app is None:
            return httpx.codes.NOT_FOUND
        if app.builds[build_guid] is not None:
            return httpx.codes.BAD_REQUEST
        report = json.loads(body)
        if report["failed"]:
            ending = str(report["failure_reason"])
        else:
            ending = ""
            image = json.loads(report["result"])["lifecycle_metadata"]["docker_image"]
            app.droplet = Image(image, app.package.username, app.package.password)
        async with self._changed:
            app.builds[build_guid] = ending
            self._changed.notify_all()
        return httpx.codes.OK


@contextlib.contextmanager
def _tolerated(kind: Error.Type) -> Iterator[None]:
    try:
        yield
    except BbsRefused as problem:
        if problem.kind != kind:
            raise
