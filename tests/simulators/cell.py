"""A simulated cell: what the BBS and the auctioneer see of it, and what a test may do to it.

It acts on the BBS in process, so that faults of the BBS's port do not reach it. Its instances are
`cell_instances`'s, its tasks `cell_tasks`'s, and what goes wrong on the way to registries `cell_network`'s.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from itertools import chain
from typing import Self

from protos.bbs.actual_lrp_pb2 import ActualLRPKey
from protos.bbs.cells_pb2 import CellCapacity, CellPresence, Provider
from tests.simulators.bbs import Bbs, RepError
from tests.simulators.bbs.state import CellResources
from tests.simulators.cell_instances import CellInstances
from tests.simulators.cell_network import CellNetwork
from tests.simulators.cell_pull import Puller
from tests.simulators.cell_settings import CellSettings, Exit, Instance, Sigterm
from tests.simulators.cell_store import LayerStore
from tests.simulators.cell_tasks import CellTasks, TaskContainer
from tests.simulators.registry_session import RegistryAccess
from tests.simulators.staging_results import TaskResult

DRAIN_INTERVAL = 0.02
CLOSING_TURNS = 5
"""Turns of the event loop in which connections of cancelled pulls are closed."""

__all__ = ["CellSettings", "Exit", "Instance", "Sigterm", "SimulatedCell", "TaskResult"]


class SimulatedCell:
    """One cell of a simulated BBS, to be used as an async context manager.

    Attributes:
        containers: Runs its instances.
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
        self.store = LayerStore()
        self.network = CellNetwork()
        self.stop_requests: Counter[str] = Counter()
        self.lost_stops = 0
        self.refused_stops = 0
        self._bbs = bbs
        self._present = False
        self._draining = False
        self._work: set[asyncio.Task[None]] = set()
        self.containers = CellInstances(bbs.state, self.settings, self._puller, self._spawn)
        self.instances = self.containers.held
        self.history = self.containers.history
        self.start_gate = self.containers.start_gate
        self.stop_gate = self.containers.stop_gate
        self.problems = self.containers.problems
        self._tasks = CellTasks(bbs.state, self.settings, self._puller, self._spawn, self.problems)
        self.task_gate = self._tasks.gate

    async def __aenter__(self) -> Self:
        self._bbs.add_cell(self)
        self._present = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._present = False
        while work := tuple(self._work):
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            self._work.difference_update(work)
        for _turn in range(CLOSING_TURNS):
            await asyncio.sleep(0)

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
    def resources(self) -> CellResources:
        """What is free, and what runs."""
        settings, held = self.settings, self._held()
        return CellResources(
            containers=0 if self._draining else settings.containers - len(held),
            disk_mb=settings.disk_mb - sum(each.disk_mb for each in held),
            memory_mb=settings.memory_mb - sum(each.memory_mb for each in held),
            starting=sum(not each.is_running for each in self.instances.values()),
            lrps=Counter(each.key.process_guid for each in self.instances.values()),
            tasks=len(self._tasks.containers),
        )

    def start_lrp(self, key: ActualLRPKey) -> None:
        """Take an auctioned instance."""
        self.containers.start(key)

    def stop_lrp(self, key: ActualLRPKey, instance_guid: str) -> asyncio.Event | None:
        """Take a stop request, and give what its answer waits for; None if it is answered at once.

        Raises:
            RepError: The container is unknown, or a test wants it so.
        """
        self.stop_requests[key.process_guid] += 1
        if self.refused_stops > 0:
            self.refused_stops -= 1
            raise RepError("http error: status code 500 (Internal Server Error)")
        if self.lost_stops > 0:
            self.lost_stops -= 1
            return None
        instance = self.instances.get(instance_guid)
        if instance is None:
            raise RepError(f"container not found for {key.process_guid}/{key.index}")
        return self.containers.stop(instance)

    def update_lrp(self, key: ActualLRPKey, instance_guid: str) -> None:
        """Report new internal routes and metric tags."""
        instance = self.instances.get(instance_guid)
        if instance is not None and instance.is_running:
            self.containers.report(instance)

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
        self.containers.crash(self.running(process_guid, index), reason)

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
                self.containers.evacuate(instance)
            await asyncio.sleep(DRAIN_INTERVAL)

    def _puller(self) -> Puller:
        if self.settings.cleans_before_pull:
            self.clean()
        settings = self.settings
        access = RegistryAccess(
            self.network,
            settings.registry_map or {},
            settings.authorities,
            settings.first_pause,
            settings.reconnect_pause,
        )
        return Puller(access, self.store, is_real=settings.registry_map is not None)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task
