"""A simulated cell: takes what is auctioned, creates and runs it, stops, crashes and heartbeats.

It acts on the BBS in process, so that faults of the BBS's port do not reach it. What images are pulled and
how is `cell_pull`'s, what goes wrong on the way to registries `cell_network`'s.
Source: rep generator/, handlers/; executor depot/; measured on a real cell.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine
from itertools import chain
from typing import Self

from protos.bbs.actual_lrp_pb2 import ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.actual_lrp_requests_pb2 import StartActualLRPRequest
from protos.bbs.cells_pb2 import CellCapacity, CellPresence, Provider
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from tests.simulators.bbs import Bbs, RepError, actual, evacuation
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.state import Room
from tests.simulators.cell_failures import PullFailed
from tests.simulators.cell_network import CellNetwork
from tests.simulators.cell_pull import Puller, Wanted
from tests.simulators.cell_reports import evacuate_request, start_request
from tests.simulators.cell_settings import CellSettings, Exit, Instance, Sigterm, open_gate
from tests.simulators.cell_store import LayerStore
from tests.simulators.cell_tasks import CellTasks, TaskContainer
from tests.simulators.registry_session import Credentials, Way
from tests.simulators.staging_results import TaskResult

DRAIN_INTERVAL = 0.02
CLAIMS = 3
"""How often a reservation without a row is tried before it is given up."""

__all__ = ["CellSettings", "Exit", "Instance", "Sigterm", "SimulatedCell", "TaskResult"]


class SimulatedCell:
    """One cell of a simulated BBS, to be used as an async context manager.

    Attributes:
        instances: Instance GUID to what it runs from.
        history: All that ever ran, in the order of their starts.
        store: The layers that it holds.
        network: What goes wrong between it and registries, and what it asked of them.
        problems: Texts of failed creations, in order.
        stop_requests: How many stop requests came, lost and refused ones included, by process GUID.
        lost_stops: How many of the next stop requests get lost on the way.
        refused_stops: How many of the next stop requests fail.
        start_gate, stop_gate, task_gate: Closed by a test (`clear`), they hold back all that would start,
            stop or complete next, until they are opened (`set`).
    """

    def __init__(self, bbs: Bbs, settings: CellSettings | None = None) -> None:
        self.settings = settings or CellSettings()
        self.instances: dict[str, Instance] = {}
        self.history: list[Instance] = []
        self.store = LayerStore()
        self.network = CellNetwork()
        self.stop_requests: Counter[str] = Counter()
        self.lost_stops = 0
        self.refused_stops = 0
        self.start_gate = open_gate()
        self.stop_gate = open_gate()
        self._bbs = bbs
        self._state = bbs.state
        self._present = False
        self._draining = False
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._tasks = CellTasks(bbs.state, self.settings, self._puller, self._spawn)
        self.task_gate = self._tasks.gate
        self.problems = self._tasks.problems
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
        docker = [Provider(name="docker")] if settings.offers_docker else []
        return CellPresence(
            cell_id=settings.cell_id,
            rep_address="http://127.0.0.1:1800",
            rep_url="https://127.0.0.1:1801",
            zone=settings.zone,
            capacity=CellCapacity(
                memory_mb=settings.memory_mb, disk_mb=settings.disk_mb, containers=settings.containers
            ),
            rootfs_providers=[*docker, Provider(name="preloaded", properties=settings.stacks)],
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

    @property
    def room(self) -> Room:
        """What is free, and what runs."""
        settings, held = self.settings, self._held()
        return Room(
            containers=0 if self._draining else settings.containers - len(held),
            disk_mb=settings.disk_mb - sum(each.disk_mb for each in held),
            memory_mb=settings.memory_mb - sum(each.memory_mb for each in held),
            starting=sum(not each.is_running for each in self.instances.values()),
            lrps=Counter(each.key.process_guid for each in self.instances.values()),
            tasks=len(self._tasks.containers),
        )

    def start_lrp(self, key: ActualLRPKey) -> None:
        """Take an auctioned instance."""
        copy = ActualLRPKey()
        copy.CopyFrom(key)
        instance_key = ActualLRPInstanceKey(instance_guid=str(uuid.uuid4()), cell_id=self.settings.cell_id)
        lrp = self._state.desired[key.process_guid]
        self._next_port += 1
        instance = Instance(
            key=copy,
            instance_key=instance_key,
            memory_mb=lrp.memory_mb,
            disk_mb=lrp.disk_mb,
            host_port=self._next_port,
        )
        self.instances[instance_key.instance_guid] = instance
        self._lives[instance_key.instance_guid] = self._spawn(self._live(instance))

    def stop_lrp(self, key: ActualLRPKey, instance_guid: str) -> None:
        """Take a stop request. The first waits for the end of a creation; repeats change nothing.

        Raises:
            RepError: The container is unknown, or a test wants it so.
        """
        self.stop_requests[key.process_guid] += 1
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
        self._tasks.start(task_guid)

    def cancel_task(self, task_guid: str) -> None:
        """Destroy a task's container."""
        self._tasks.cancel(task_guid)

    def clean(self) -> frozenset[str]:
        """Delete the layers that no container uses, and say which."""
        return self.store.clean(chain.from_iterable(each.chain_ids for each in self._held()))

    def _held(self) -> list[Instance | TaskContainer]:
        return [*self.instances.values(), *self._tasks.containers.values()]

    def crash(
        self, process_guid: str, index: int, reason: str = "APP/PROC/WEB: Exited with status 1"
    ) -> None:
        """Let a running instance end by itself."""
        self._crash(self.running(process_guid, index), reason)

    def running(self, process_guid: str, index: int) -> Instance:
        """Find the container of an instance that runs."""
        for instance in self.instances.values():
            key = instance.key
            if instance.is_running and (key.process_guid, key.index) == (process_guid, index):
                return instance
        raise LookupError(f"{process_guid}/{index} does not run on {self.settings.cell_id}")

    async def drain(self) -> None:
        """Evacuate all that runs, and return when it runs elsewhere."""
        self._draining = True
        while running := [one for one in self.instances.values() if one.is_running]:
            for instance in running:
                request = evacuate_request(self._definition(instance), instance, self.settings)
                if not evacuation.running(self._state, request):
                    self._forget(instance)
            await asyncio.sleep(DRAIN_INTERVAL)

    async def _live(self, instance: Instance) -> None:
        await asyncio.sleep(0)
        if not await self._claim(instance):
            self._forget(instance, cancels=False)
            return
        lrp = self._state.desired.get(instance.key.process_guid)  # read again: it may be another one by now
        if lrp is None:
            self._remove(instance)
            return
        instance.lrp.CopyFrom(lrp)
        instance.rootfs = lrp.root_fs
        reason = self.settings.crash_reason(lrp)
        if not await self._create(instance):
            return
        await asyncio.sleep(self.settings.start_delay)
        await self.start_gate.wait()
        if reason:
            self._crash(instance, reason, cancels=False)
            return
        try:
            self._run(instance)
        except BbsError:
            self._forget(instance, cancels=False)
            return
        if (ends := self.settings.exit(instance.lrp)) is not None:
            self._spawn(self._exit(instance, ends))
        await self._beat(instance)

    async def _claim(self, instance: Instance) -> bool:
        key = instance.key
        for attempt in range(CLAIMS):
            try:
                actual.claim(self._state, key.process_guid, key.index, instance.instance_key)
            except BbsError as problem:
                if problem.kind != Error.ResourceNotFound:
                    return False
            else:
                return True
            if attempt < CLAIMS - 1:
                await asyncio.sleep(self.settings.poll_interval)
        return False

    async def _create(self, instance: Instance) -> bool:
        """Create a container; False if that fails, or if a stop has waited for its end."""
        lrp, problem = instance.lrp, ""
        instance.is_created.clear()
        try:
            if lrp.root_fs.startswith("docker:"):
                credentials = Credentials(lrp.image_username, lrp.image_password)
                wanted = Wanted(lrp.root_fs, credentials, lrp.disk_mb)
                instance.manifest_digest = await self._puller().pull(
                    wanted, lambda ids: setattr(instance, "chain_ids", tuple(ids))
                )
        except PullFailed as failure:
            problem = str(failure)
            self.problems.append(problem)
            await asyncio.sleep(self.settings.failure_delay)
        finally:
            instance.is_created.set()
        if problem and (self.settings.crash_beats_stop or not instance.is_stopping):
            self._crash(instance, problem, cancels=False)
            return False
        return not instance.is_stopping

    def _run(self, instance: Instance) -> None:
        instance.is_running = True
        self.history.append(instance)
        actual.start(self._state, self._start_request(instance))

    async def _exit(self, instance: Instance, ends: Exit) -> None:
        await asyncio.sleep(ends.after)
        if instance.is_running:
            self._crash(instance, ends.reason)

    def _crash(self, instance: Instance, reason: str, *, cancels: bool = True) -> None:
        self._forget(instance, cancels=cancels)
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
        await instance.is_created.wait()
        if instance.rootfs:  # its process runs, if not yet healthy
            end = self.settings.end_process
            await (asyncio.sleep(self._seconds_to_stop(instance.lrp)) if end is None else end(instance))
            await self.stop_gate.wait()
        if instance.instance_key.instance_guid in self.instances:
            self._remove(instance)

    def _seconds_to_stop(self, lrp: DesiredLRP) -> float:
        settings = self.settings
        return {
            Sigterm.FINISHES: settings.stop_delay,
            Sigterm.SERVES_ON: settings.stop_delay,
            Sigterm.DIES: 0.0,
            Sigterm.IGNORES: settings.kill_delay,
        }[settings.on_sigterm(lrp)]

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
        return start_request(self._definition(instance), instance, self.settings)

    def _definition(self, instance: Instance) -> DesiredLRP:
        return self._state.desired.get(instance.key.process_guid, DesiredLRP())

    def _puller(self) -> Puller:
        settings = self.settings
        way = Way(
            self.network,
            settings.registry_map or {},
            settings.authorities,
            settings.first_pause,
            settings.reconnect_pause,
        )
        return Puller(way, self.store, is_real=settings.registry_map is not None)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task
