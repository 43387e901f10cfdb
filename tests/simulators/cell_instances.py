"""The instances of a simulated cell: claimed, created, run, stopped, crashed and told of again and again.

Source: rep generator/generator.go, generator/internal/ordinary_lrp_processor.go, handlers/stop_lrp_handler.go;
executor depot/containerstore/storenode.go; measured on a real cell.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Coroutine

from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.actual_lrp_requests_pb2 import StartActualLRPRequest
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from tests.simulators.bbs import actual, evacuation
from tests.simulators.bbs.errors import BbsError
from tests.simulators.bbs.state import State
from tests.simulators.cell_failures import PullFailed
from tests.simulators.cell_pull import Puller, Wanted
from tests.simulators.cell_reports import evacuate_request, start_request
from tests.simulators.cell_settings import CellSettings, Exit, Instance, Sigterm, open_gate
from tests.simulators.registry_login import Credentials

CLAIMS = 3
"""How often a reservation without a row is tried before it is given up."""


class CellInstances:
    """Runs the instances of one cell.

    Attributes:
        held: Instance GUID to its container.
        history: All that ever ran, in the order of their starts.
        processes: Containers whose process was started, in that order: some were stopped before they ran.
        start_gate, stop_gate: Closed by a test, they hold back all that would start or stop next.
        problems: Texts of failed creations, in order.
    """

    def __init__(
        self,
        state: State,
        settings: CellSettings,
        puller: Callable[[], Puller],
        spawn: Callable[[Coroutine[object, object, None]], asyncio.Task[None]],
    ) -> None:
        self.held: dict[str, Instance] = {}
        self.history: list[Instance] = []
        self.processes: list[Instance] = []
        self.start_gate = open_gate()
        self.stop_gate = open_gate()
        self.problems: list[str] = []
        self._state = state
        self._settings = settings
        self._puller = puller
        self._spawn = spawn
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._next_port = 61000

    def start(self, key: ActualLRPKey) -> None:
        """Reserve room for an auctioned instance, and begin its life."""
        copy = ActualLRPKey()
        copy.CopyFrom(key)
        instance_key = ActualLRPInstanceKey(instance_guid=str(uuid.uuid4()), cell_id=self._settings.cell_id)
        lrp = self._state.desired[key.process_guid]
        self._next_port += 1
        instance = Instance(
            key=copy,
            instance_key=instance_key,
            memory_mb=lrp.memory_mb,
            disk_mb=lrp.disk_mb,
            host_port=self._next_port,
        )
        self.held[instance_key.instance_guid] = instance
        self._lives[instance_key.instance_guid] = self._spawn(self._live(instance))

    def stop(self, instance: Instance) -> asyncio.Event | None:
        """Take a stop request: the first waits for the end of a creation, repeats change nothing.

        Returns:
            What the request's answer waits for; None if it is answered at once.
        """
        if instance.is_stopping:
            return None
        instance.is_stopping = True
        self._spawn(self._stop(instance))
        return None if instance.is_created.is_set() else instance.is_created

    def report(self, instance: Instance) -> None:
        """Tell the BBS again what runs."""
        self._spawn(self._report(instance))

    def evacuate(self, instance: Instance) -> None:
        """Tell that an instance runs on a cell that drains, until it runs elsewhere."""
        request = evacuate_request(self._definition(instance), instance, self._settings)
        if not evacuation.running(self._state, request):
            self._forget(instance)

    async def _live(self, instance: Instance) -> None:
        await asyncio.sleep(0)
        if not await self._claim(instance):
            self._forget(instance, cancels=False)
            return
        lrp = self._state.desired.get(instance.key.process_guid)  # read again: it may be another one by now
        if lrp is None:
            self.remove(instance)
            return
        instance.lrp.CopyFrom(lrp)
        instance.rootfs = lrp.root_fs
        reason = self._settings.crash_reason(lrp)
        if not await self._create(instance):
            return
        if self._settings.begin_process is not None:
            await self._settings.begin_process(instance)
        await asyncio.sleep(self._settings.start_delay)
        await self.start_gate.wait()
        if reason:
            self.crash(instance, reason, cancels=False)
            return
        try:
            self._run(instance)
        except BbsError:
            self._forget(instance, cancels=False)
            return
        if (ends := self._settings.exit(instance.lrp)) is not None:
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
                await asyncio.sleep(self._settings.poll_interval)
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
            await asyncio.sleep(self._settings.failure_delay)
        finally:
            instance.is_created.set()
        if problem and (self._settings.crash_beats_stop or not instance.is_stopping):
            self.crash(instance, problem, cancels=False)
            return False
        instance.has_process = not instance.is_stopping
        if instance.has_process:
            self.processes.append(instance)
        return instance.has_process

    def _run(self, instance: Instance) -> None:
        instance.is_running = True
        self.history.append(instance)
        actual.start(self._state, self.start_request(instance))

    async def _exit(self, instance: Instance, ends: Exit) -> None:
        await asyncio.sleep(ends.after)
        if instance.is_running:
            self.crash(instance, ends.reason)

    def crash(self, instance: Instance, reason: str, *, cancels: bool = True) -> None:
        """Let an instance end by itself, and destroy its container after that was told.

        So a restart sees the container, and rather goes to another cell.
        """
        instance.is_running = False
        with contextlib.suppress(BbsError):  # removed meanwhile
            actual.crash(self._state, instance.key, instance.instance_key, reason)
        self._forget(instance, cancels=cancels)

    async def _beat(self, instance: Instance) -> None:
        while instance.is_running and self._settings.heartbeat is not None:
            await asyncio.sleep(self._settings.heartbeat)
            await self._report(instance)

    async def _report(self, instance: Instance) -> None:
        try:
            actual.start(self._state, self.start_request(instance))
        except BbsError:
            self._forget(instance, cancels=False)

    async def _stop(self, instance: Instance) -> None:
        await instance.is_created.wait()
        if instance.has_process:
            end = self._settings.end_process
            await (asyncio.sleep(self._seconds_to_stop(instance.lrp)) if end is None else end(instance))
            await self.stop_gate.wait()
        if instance.instance_key.instance_guid in self.held:
            self.remove(instance)

    def _seconds_to_stop(self, lrp: DesiredLRP) -> float:
        settings = self._settings
        return {
            Sigterm.FINISHES: settings.stop_delay,
            Sigterm.SERVES_ON: settings.stop_delay,
            Sigterm.DIES: 0.0,
            Sigterm.IGNORES: settings.kill_delay,
        }[settings.on_sigterm(lrp)]

    def remove(self, instance: Instance) -> None:
        """Let an instance be gone, and tell the BBS first."""
        instance.is_running = False
        key = instance.key
        with contextlib.suppress(BbsError):  # somebody was faster
            actual.remove(self._state, key.process_guid, key.index, instance.instance_key)
        self._forget(instance, cancels=instance.is_stopping)

    def _forget(self, instance: Instance, *, cancels: bool = True) -> None:
        instance.is_running = False
        guid = instance.instance_key.instance_guid
        self.held.pop(guid, None)
        life = self._lives.pop(guid, None)
        if self._has_row(instance):
            self._spawn(self._remove_left_row(instance))
        if life is not None and cancels:
            life.cancel()

    def _has_row(self, instance: Instance) -> bool:
        """Whether the BBS has a row of an instance, of whatever presence."""
        process_guid, index = instance.key.process_guid, instance.key.index
        presences = (ActualLRP.ORDINARY, ActualLRP.SUSPECT, ActualLRP.EVACUATING)
        rows = [self._state.row(process_guid, index, presence) for presence in presences]
        return any(row is not None and row.actual_lrp_instance_key == instance.instance_key for row in rows)

    async def _remove_left_row(self, instance: Instance) -> None:
        """Have the row of an instance without a container removed, as a cell does each time it polls.

        Such as a row that was suspect when the instance was stopped, and is ordinary again.
        """
        key = instance.key
        while self._has_row(instance):
            await asyncio.sleep(self._settings.poll_interval)
            with contextlib.suppress(BbsError):  # it is another instance's, or suspect, or draining
                actual.remove(self._state, key.process_guid, key.index, instance.instance_key)

    def start_request(self, instance: Instance) -> StartActualLRPRequest:
        """Write that an instance runs."""
        return start_request(self._definition(instance), instance, self._settings)

    def _definition(self, instance: Instance) -> DesiredLRP:
        return self._state.desired.get(instance.key.process_guid, DesiredLRP())
