"""A simulated cell: takes what is auctioned, pulls for real if it may, runs, stops, crashes and heartbeats.

It acts on the BBS in process, so that faults of the BBS's port do not reach it.
Source: rep generator/, handlers/, conversion_helpers.go; executor depot/; dockerapplifecycle builder/
for the result of a staging task.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Self

from protos.bbs.actions_pb2 import Action, RunAction
from protos.bbs.actual_lrp_pb2 import (
    ActualLRPInstanceKey,
    ActualLRPInternalRoute,
    ActualLRPKey,
    ActualLRPNetInfo,
    PortMapping,
)
from protos.bbs.actual_lrp_requests_pb2 import StartActualLRPRequest
from protos.bbs.cells_pb2 import CellCapacity, CellPresence, Provider
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.evacuation_pb2 import EvacuateRunningActualLRPRequest
from protos.bbs.metric_tags_pb2 import MetricTagValue
from protos.bbs.task_pb2 import Task, TaskDefinition
from protos.bbs.task_requests_pb2 import CompleteTaskRequest
from tests.simulators.bbs import Bbs, RepError, actual, evacuation, tasks
from tests.simulators.bbs.errors import BbsError
from tests.simulators.image_pull import Credentials, Puller, PullFailed

RESULT_LIMIT = 51200
DRAIN_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task ends."""

    result: str = ""
    failed: bool = False
    failure_reason: str = ""


@dataclass(slots=True)
class Instance:
    """One container, and what it really runs from.

    Attributes:
        rootfs: Of the definition that was read after the claim; empty before.
        manifest_digest: Of the manifest that was pulled; empty if nothing had to be, or could be.
    """

    key: ActualLRPKey
    instance_key: ActualLRPInstanceKey
    memory_mb: int
    disk_mb: int
    host_port: int
    rootfs: str = ""
    manifest_digest: str = ""
    is_running: bool = False
    is_stopping: bool = False


@dataclass
class CellSettings:
    """How a cell behaves; a test may change any of it while the cell runs.

    Attributes:
        start_delay: Seconds from the end of the pull to RUNNING.
        stop_delay: Seconds from a stop request to the end of the container.
        on_sigterm: Lets the process of an instance end instead, and returns when it has ended.
        task_delay: Seconds that a task runs.
        heartbeat: Seconds between repeated starts of what runs; None for never.
        registry_map: Host in a rootfs to base URL; None means that nothing is pulled.
        reports_tags: Whether metric tags and internal routes are reported with a start.
        crash_reason: Tells why an instance crashes instead of starting; empty for not.
        task_result: Tells how a task ends.
    """

    cell_id: str = "cell-1"
    zone: str = "z1"
    stacks: tuple[str, ...] = ("cflinuxfs4",)
    placement_tags: tuple[str, ...] = ()
    optional_placement_tags: tuple[str, ...] = ()
    memory_mb: int = 1048576
    disk_mb: int = 1048576
    containers: int = 100000
    start_delay: float = 0.02
    stop_delay: float = 0.05
    on_sigterm: Callable[[Instance], Awaitable[None]] | None = None
    task_delay: float = 0.02
    heartbeat: float | None = None
    registry_map: Mapping[str, str] | None = None
    reports_tags: bool = True
    crash_reason: Callable[[DesiredLRP], str] = lambda _lrp: ""
    task_result: Callable[[Task], TaskResult] = lambda task: staging_result(task)  # noqa: PLW0108 # defined below


class SimulatedCell:
    """One cell of a simulated BBS, to be used as an async context manager.

    Attributes:
        instances: Instance GUID to what it runs from.
        history: All that ever ran, in the order of their starts.
        problems: Texts of failed pulls, in order.
        lost_stops: How many of the next stop requests get lost on the way.
        refused_stops: How many of the next stop requests fail.
        start_gate, stop_gate, task_gate: Closed by a test (`clear`), they hold back all that would start,
            stop or complete next, until they are opened (`set`).
    """

    def __init__(self, bbs: Bbs, settings: CellSettings | None = None) -> None:
        self.settings = settings or CellSettings()
        self.instances: dict[str, Instance] = {}
        self.history: list[Instance] = []
        self.problems: list[str] = []
        self.lost_stops = 0
        self.refused_stops = 0
        self.start_gate = _open_gate()
        self.stop_gate = _open_gate()
        self.task_gate = _open_gate()
        self._bbs = bbs
        self._state = bbs.state
        self._present = False
        self._draining = False
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._next_port = 61000

    async def __aenter__(self) -> Self:
        self._bbs.add_cell(self)
        self._present = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._present = False
        for task in tuple(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    @property
    def presence(self) -> CellPresence:
        """What the cell has registered."""
        settings = self.settings
        return CellPresence(
            cell_id=settings.cell_id,
            rep_address="http://127.0.0.1:1800",
            rep_url="https://127.0.0.1:1801",
            zone=settings.zone,
            capacity=CellCapacity(
                memory_mb=settings.memory_mb, disk_mb=settings.disk_mb, containers=settings.containers
            ),
            rootfs_providers=[
                Provider(name="docker"),
                Provider(name="preloaded", properties=settings.stacks),
            ],
            placement_tags=settings.placement_tags,
            optional_placement_tags=settings.optional_placement_tags,
        )

    @property
    def is_registered(self) -> bool:
        """Whether its registration holds."""
        return self._present

    def vanish(self) -> None:
        """Lose the registration; containers go on."""
        self._present = False

    def come_back(self) -> None:
        """Register again."""
        self._present = True

    def fits(self, memory_mb: int, disk_mb: int) -> list[str]:
        """Name the resources that it lacks for one more container."""
        settings, held = self.settings, tuple(self.instances.values())
        used = {
            "containers": (len(held) + 1, 0 if self._draining else settings.containers),
            "disk": (sum(one.disk_mb for one in held) + disk_mb, settings.disk_mb),
            "memory": (sum(one.memory_mb for one in held) + memory_mb, settings.memory_mb),
        }
        return [name for name, (needed, there) in used.items() if needed > there]

    def start_lrp(self, key: ActualLRPKey) -> None:
        """Take an auctioned instance."""
        copy = ActualLRPKey()
        copy.CopyFrom(key)
        instance_key = ActualLRPInstanceKey(instance_guid=str(uuid.uuid4()), cell_id=self.settings.cell_id)
        lrp = self._state.desired[key.process_guid]
        self._next_port += 1
        instance = Instance(copy, instance_key, lrp.memory_mb, lrp.disk_mb, self._next_port)
        self.instances[instance_key.instance_guid] = instance
        self._lives[instance_key.instance_guid] = self._spawn(self._live(instance))

    def stop_lrp(self, key: ActualLRPKey, instance_guid: str) -> None:
        """Take a stop request.

        Raises:
            RepError: The container is unknown, or a test wants it so.
        """
        if self.refused_stops > 0:
            self.refused_stops -= 1
            raise RepError("http error: status code 500 (Internal Server Error)")
        if self.lost_stops > 0:
            self.lost_stops -= 1
            return
        instance = self.instances.get(instance_guid)
        if instance is None:
            raise RepError(f"container not found for {key.process_guid}/{key.index}")
        if not instance.is_stopping:
            instance.is_stopping = True
            self._spawn(self._stop(instance))

    def update_lrp(self, key: ActualLRPKey, instance_guid: str) -> None:
        """Report new internal routes and metric tags."""
        instance = self.instances.get(instance_guid)
        if instance is not None and instance.is_running:
            self._spawn(self._report(instance))

    def start_task(self, task_guid: str) -> None:
        """Take an auctioned task."""
        if task_guid not in self._tasks:
            self._tasks[task_guid] = self._spawn(self._run_task(task_guid))

    def cancel_task(self, task_guid: str) -> None:
        """Destroy a task's container."""
        work = self._tasks.pop(task_guid, None)
        if work is not None:
            work.cancel()

    def crash(
        self, process_guid: str, index: int, reason: str = "APP/PROC/WEB: Exited with status 1"
    ) -> None:
        """Let a running instance end by itself."""
        instance = self.running(process_guid, index)
        self._forget(instance)
        actual.crash(self._state, instance.key, instance.instance_key, reason)

    def running(self, process_guid: str, index: int) -> Instance:
        """Find the container of an instance that runs."""
        for instance in self.instances.values():
            if instance.is_running and (instance.key.process_guid, instance.key.index) == (
                process_guid,
                index,
            ):
                return instance
        raise LookupError(f"{process_guid}/{index} does not run on {self.settings.cell_id}")

    async def drain(self) -> None:
        """Evacuate all that runs, and return when it runs elsewhere."""
        self._draining = True
        while running := [one for one in self.instances.values() if one.is_running]:
            for instance in running:
                if not evacuation.running(self._state, self._evacuate_request(instance)):
                    self._forget(instance)
            await asyncio.sleep(DRAIN_INTERVAL)

    async def _live(self, instance: Instance) -> None:
        await asyncio.sleep(0)
        key = instance.key
        try:
            actual.claim(self._state, key.process_guid, key.index, instance.instance_key)
        except BbsError:
            self._forget(instance, cancels=False)
            return
        lrp = self._state.desired.get(key.process_guid)  # read again: it may be another one by now
        if lrp is None:
            self._remove(instance)
            return
        try:
            await self._start(instance, lrp)
        except PullFailed as problem:
            self.problems.append(str(problem))
            self._crash_start(instance, f"failed to create container: {problem}")
            return
        except BbsError:
            self._forget(instance, cancels=False)
            return
        await self._beat(instance)

    async def _start(self, instance: Instance, lrp: DesiredLRP) -> None:
        instance.rootfs = lrp.root_fs
        reason = self.settings.crash_reason(lrp)
        credentials = Credentials(lrp.image_username, lrp.image_password)
        instance.manifest_digest = await self._pull(lrp.root_fs, credentials)
        await asyncio.sleep(self.settings.start_delay)
        await self.start_gate.wait()
        if reason:
            self._crash_start(instance, reason)
            return
        instance.is_running = True
        self.history.append(instance)
        actual.start(self._state, self._start_request(instance))

    async def _pull(self, rootfs: str, credentials: Credentials) -> str:
        if self.settings.registry_map is None or not rootfs.startswith("docker:"):
            return ""
        return await Puller(self.settings.registry_map).pull(rootfs, credentials)

    def _crash_start(self, instance: Instance, reason: str) -> None:
        self._forget(instance, cancels=False)
        try:
            actual.crash(self._state, instance.key, instance.instance_key, reason)
        except BbsError:
            return  # removed meanwhile

    async def _beat(self, instance: Instance) -> None:
        while instance.is_running and self.settings.heartbeat is not None:
            await asyncio.sleep(self.settings.heartbeat)
            await self._report(instance)

    async def _report(self, instance: Instance) -> None:
        try:
            actual.start(self._state, self._start_request(instance))
        except BbsError:
            self._forget(instance, cancels=False)

    async def _stop(self, instance: Instance) -> None:
        if instance.is_running:
            end = self.settings.on_sigterm
            await (asyncio.sleep(self.settings.stop_delay) if end is None else end(instance))
            await self.stop_gate.wait()
        self._remove(instance)

    def _remove(self, instance: Instance) -> None:
        self._forget(instance, cancels=instance.is_stopping)
        try:
            actual.remove(self._state, instance.key.process_guid, instance.key.index, instance.instance_key)
        except BbsError:
            return  # somebody was faster

    def _forget(self, instance: Instance, *, cancels: bool = True) -> None:
        instance.is_running = False
        guid = instance.instance_key.instance_guid
        self.instances.pop(guid, None)
        life = self._lives.pop(guid, None)
        if life is not None and cancels:
            life.cancel()

    def _start_request(self, instance: Instance) -> StartActualLRPRequest:
        evacuate = self._evacuate_request(instance)
        return StartActualLRPRequest(
            actual_lrp_key=evacuate.actual_lrp_key,
            actual_lrp_instance_key=evacuate.actual_lrp_instance_key,
            actual_lrp_net_info=evacuate.actual_lrp_net_info,
            actual_lrp_internal_routes=evacuate.actual_lrp_internal_routes,
            metric_tags=evacuate.metric_tags,
            Routable=True,
            availability_zone=evacuate.availability_zone,
        )

    def _evacuate_request(self, instance: Instance) -> EvacuateRunningActualLRPRequest:
        lrp = self._state.desired.get(instance.key.process_guid, DesiredLRP())
        reports = self.settings.reports_tags
        ports = [
            PortMapping(container_port=port, host_port=instance.host_port + 1000 * at)
            for at, port in enumerate(lrp.ports)
        ]
        return EvacuateRunningActualLRPRequest(
            actual_lrp_key=instance.key,
            actual_lrp_instance_key=instance.instance_key,
            actual_lrp_net_info=ActualLRPNetInfo(
                address="127.0.0.1", ports=ports, instance_address="10.255.0.2"
            ),
            actual_lrp_internal_routes=_internal_routes(lrp) if reports else (),
            metric_tags=_resolved_tags(lrp, instance) if reports else {},
            Routable=True,
            availability_zone=self.settings.zone if reports else "",
        )

    async def _run_task(self, task_guid: str) -> None:
        await asyncio.sleep(0)
        try:
            if not tasks.start(self._state, task_guid, self.settings.cell_id):
                return
            task = self._state.tasks[task_guid]
            ended = await self._ended(task)
            request = CompleteTaskRequest(
                task_guid=task_guid,
                cell_id=self.settings.cell_id,
                failed=ended.failed,
                failure_reason=ended.failure_reason,
                result=ended.result,
            )
            tasks.complete(self._state, request)
        except BbsError:
            return  # cancelled or lost meanwhile
        finally:
            self._tasks.pop(task_guid, None)

    async def _ended(self, task: Task) -> TaskResult:
        definition = task.task_definition
        credentials = Credentials(definition.image_username, definition.image_password)
        try:
            await self._pull(definition.root_fs, credentials)
        except PullFailed as problem:
            self.problems.append(str(problem))
            return TaskResult(failed=True, failure_reason="failed to create container")
        await asyncio.sleep(self.settings.task_delay)
        await self.task_gate.wait()
        ended = self.settings.task_result(task)
        if len(ended.result.encode()) > RESULT_LIMIT:
            return TaskResult(failed=True, failure_reason="failed to fetch result")
        return ended

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


def _internal_routes(lrp: DesiredLRP) -> list[ActualLRPInternalRoute]:
    routes: list[dict[str, str]] = json.loads(lrp.routes.routes.get("internal-router", b"[]"))
    return [ActualLRPInternalRoute(hostname=route["hostname"]) for route in routes]


def _resolved_tags(lrp: DesiredLRP, instance: Instance) -> dict[str, str]:
    dynamic = {
        MetricTagValue.INDEX: str(instance.key.index),
        MetricTagValue.INSTANCE_GUID: instance.instance_key.instance_guid,
    }
    return {name: dynamic.get(tag.dynamic, tag.static) for name, tag in lrp.metric_tags.items()}


def staging_result(task: Task) -> TaskResult:
    """End a Docker staging task as its builder would, any other task with an empty result."""
    reference = docker_reference(task.task_definition)
    if not reference or not task.task_definition.result_file:
        return TaskResult()
    metadata = {"cmd": ["/srv/app"], "ports": [{"Port": 8080, "Protocol": "tcp"}], "user": "app"}
    result = {
        "lifecycle_type": "docker",
        "lifecycle_metadata": {"docker_image": _builder_reference(reference)},
        "process_types": {"web": "/srv/app"},
        "execution_metadata": json.dumps(metadata, separators=(",", ":")),
    }
    return TaskResult(json.dumps(result, separators=(",", ":")))


def docker_reference(definition: TaskDefinition) -> str:
    """Find the image that a staging task is about; empty for another kind of task."""
    for run in _runs(definition.action):
        for argument in run.args:
            if argument.startswith("-dockerRef="):
                return argument.partition("=")[2]
    return ""


def _runs(action: Action) -> list[RunAction]:
    if action.HasField("run_action"):
        return [action.run_action]
    inner = [
        *(part.action for part in (action.timeout_action, action.emit_progress_action, action.try_action)),
        *action.serial_action.actions,
        *action.parallel_action.actions,
        *action.codependent_action.actions,
    ]
    return [run for part in inner if part.ByteSize() for run in _runs(part)]


def _builder_reference(text: str) -> str:
    """Write a reference as the builder reports it: with a tag, and without the default registry."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        name, tag = text, "latest"
    head, slash, rest = name.partition("/")
    has_host = bool(slash) and ("." in head or ":" in head or head == "localhost")
    if has_host and head == "registry-1.docker.io":
        name, has_host = rest, False
    if not has_host and "/" not in name:
        name = f"library/{name}"
    return f"{name}:{tag or 'latest'}"
