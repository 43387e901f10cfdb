"""Cloud Controller with droplets, and a daemon's loops for them, with nothing else of a platform.

The client and the loops are the daemon's own, Cloud Controller and UAA are simulators on loopback, and all
copies are there.
"""

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from google.protobuf.message import Message

from controller.app_placements import AppPlacements
from controller.capi.client import open_capi
from controller.capi.settings import CapiSettings
from controller.capi.uaa import UaaClient
from controller.droplets import DropletDependencies, DropletObstacles, Droplets, KnownDroplets
from controller.file_values import FileValue
from controller.lrp_index import LrpIndex
from controller.process import Process
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplets import BuildGuid, task_of_build
from reconcile.lrps import AppGuid, Secret, Task, TaskState
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, requester_of_task
from reconcile.references import CacheGuid, Digest, parse_image_reference
from reconcile.request_budget import BudgetSettings
from tests.controller.droplets.conftest import Platform, Verifier
from tests.controller.droplets.memory_records import MemoryRecords
from tests.reconcile.test_decide import RULES
from tests.reconcile.test_staging import staging_task
from tests.simulators.bbs_calls import Response
from tests.simulators.capi.app import App
from tests.simulators.capi.records import BuildState, DropletState
from tests.simulators.capi.server import CLIENT_ID, CLIENT_SECRET, CapiSimulator, serve_capi
from tests.simulators.cloud_controller import CloudController
from tests.simulators.recipes import Image

NO_LIMIT = 1_000_000_000
"""Requests an hour: nothing waits here."""
QUIET = 0.5
"""Seconds without a request after which nothing more is asked."""
PATIENCE = 600.0
"""Seconds that only a failure waits."""


class _NoBbs:
    """A BBS that nobody asks, since no app is started."""

    async def call(self, path: str, _request: Message, _response: Response) -> Response:
        """Be asked nothing."""
        raise AssertionError(f"{path} of the BBS was called")


class DropletBench:
    """Cloud Controller with its apps, and a daemon's loops for droplets.

    Args:
        cloud: What the API shows.
        capi: The API, whose requests are counted.
        client: The daemon's client of it.
    """

    def __init__(self, cloud: CloudController, capi: CapiSimulator, client: CloudControllerApi) -> None:
        self._cloud, self._capi, self._client = cloud, capi, client
        self._records, self._platform = MemoryRecords(), Platform()
        self.apps: list[App] = []
        self.droplets = self._make_droplets()

    def _make_droplets(self) -> Droplets:
        platform, records, index, known = self._platform, self._records, LrpIndex(), KnownDroplets()
        obstacles = DropletObstacles(
            registry=platform,
            breakers=platform,
            pulls=platform,
            lrps=records,
            placements=AppPlacements(),
        )
        dependencies = DropletDependencies(
            api=self._client,
            records=records,
            bindings=records,
            jobs=records,
            images=records,
            copies=records,
            requests=platform,
            index=index,
            lrps=platform,
            obstacles=obstacles,
            registry=platform,
            verifier=Verifier(platform, records),
            presence=platform,
            overrides=platform,
            mode=platform,
            rules=RULES,
            process=Process("bench"),
            check_active=platform.check_active,
        )
        return Droplets(dependencies, known=known, interval=PATIENCE * 1000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the loops of a daemon that has just been started, with the records of the one before it."""
        self.droplets = self._make_droplets()
        await self.droplets.recover()
        loops = asyncio.create_task(self.droplets.run())
        try:
            yield
        finally:
            loops.cancel()
            await asyncio.gather(loops, return_exceptions=True)
            self.droplets.close()

    async def listed(self) -> None:
        """Wait until the droplets have been listed."""
        await self.until(lambda: self.droplets.status().listed_at > 0)

    def add_apps(self, count: int) -> list[App]:
        """Let apps be staged, as Cloud Controller has it."""
        return [self._add_app(f"app-{len(self.apps) + 1}") for _ in range(count)]

    def _add_app(self, name: str) -> App:
        text = f"registry.example.com/team/{name}:1"
        app = self._cloud.create(name, Image(text))
        build = app.add_build(app.newest_package)
        droplet = app.add_droplet(build)
        droplet.image, droplet.state, build.state = text, DropletState.STAGED, BuildState.STAGED
        app.current = droplet
        self.apps.append(app)
        return app

    async def request_copies(self, apps: Sequence[App]) -> None:
        """Let the stagings of apps have requested copies, which are being made."""
        for app in apps:
            (build,) = app.builds
            source = parse_image_reference(app.package.text).canonical()
            requester = requester_of_task(task_of_build(BuildGuid(build)))
            job = CacheJob(JobId(app.guid), source, JobState.QUEUED, Reason.STAGING_TASK, 0.0, 0.0)
            await self._records.add_job(job, Binding(AppGuid(app.guid), source, requester, 0, job.job_id))

    async def finish_copies(self, apps: Sequence[App]) -> None:
        """Let the copies of apps be finished."""
        for app in apps:
            job = self._records.jobs[JobId(app.guid)]
            digest, guid = Digest("sha256", f"{self.apps.index(app):064x}"), CacheGuid(app.guid)
            image = CachedImage(guid, job.source, digest, digest, digest, 1, 0.0, 0.0, registry="")
            finished = CacheJob(
                job.job_id, job.source, JobState.CACHED, job.reason, 0.0, 0.0, cache_guid=guid
            )
            await self._records.finish_job(finished, image, [])

    def end_stagings(self, apps: Sequence[App]) -> None:
        """Report that the staging tasks of apps were removed."""
        for app in apps:
            (build,) = app.builds
            self.droplets.note_removed_task(_task(app, build))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until the loops have brought something about."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():  # noqa: ASYNC110 - the loops set no event here
                await asyncio.sleep(0.2)

    async def patched(self, apps: Sequence[App]) -> None:
        """Wait until the droplets of apps name their copies."""
        await self.until(lambda: all(each.droplet != each.package for each in apps))

    async def restored(self) -> None:
        """Let all droplets have their original images again."""
        self._platform.is_restoring = True
        self.droplets.look_at_all()
        await self.until(lambda: all(each.droplet == each.package for each in self.apps))

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[Counter[str]]:
        """Count the requests to Cloud Controller meanwhile, by what they ask."""
        requests = Counter[str]()
        self._capi.api.forget_requests()
        yield requests
        await self._rest()
        requests.update(_kind(each.method, each.target) for each in self._capi.api.requests)

    async def _rest(self) -> None:
        """Wait until nothing more is asked."""
        before = -1
        while before != len(self._capi.api.requests):
            before = len(self._capi.api.requests)
            await asyncio.sleep(QUIET)


def _task(app: App, build_guid: str) -> Task:
    task = staging_task(f"-dockerRef={app.package.text}")
    return Task(
        task_guid=task_of_build(BuildGuid(build_guid)),
        domain=task.domain,
        state=TaskState.RESOLVING,
        created_at=task.created_at,
        rootfs=task.rootfs,
        log_guid=app.guid,
        action=task.action,
        metric_tags={**task.metric_tags, "app_id": app.guid, "source_id": app.guid},
    )


@asynccontextmanager
async def open_bench() -> AsyncIterator[DropletBench]:
    """Open a Cloud Controller without apps, and a client of it whose requests never wait."""
    budget = BudgetSettings(NO_LIMIT, 1.0)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with CloudController(_NoBbs()) as cloud, serve_capi(cloud) as capi:
        settings = CapiSettings(capi.url, UaaClient(CLIENT_ID, _secret()), budget)
        async with open_capi(settings, tls=tls) as client:
            yield DropletBench(cloud, capi, client)


def _secret() -> FileValue[Secret]:
    return FileValue((), lambda: Secret(CLIENT_SECRET))


def _kind(method: str, target: str) -> str:
    path = target.partition("?")[0]
    return f"{method} {re.sub(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', ':guid', path)}"
