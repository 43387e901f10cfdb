"""The processes of simulated apps: what each has in flight, and what becomes of that when the process ends.

A router asks `AppProcesses.begin` to serve a request; a cell asks to end a process, and says how it takes SIGTERM.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.simulators.cell import CellSettings, Instance, Sigterm, SimulatedCell

SIGTERM_AFTER = 0.06
"""Seconds from a stop request of the BBS to SIGTERM."""


@dataclass(eq=False, slots=True)
class _Request:
    ends_at: float
    report: Callable[[bool], None]


@dataclass(eq=False, slots=True)
class _Process:
    in_flight: dict[_Request, asyncio.TimerHandle] = field(default_factory=dict)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False


class AppProcesses:
    """The processes of all apps on some cells, which leave it to them to end from now on."""

    def __init__(self, cells: Sequence[SimulatedCell]) -> None:
        self._cells = cells
        self._processes: dict[str, _Process] = {}
        for cell in cells:
            cell.settings.end_process = functools.partial(self._end, cell.settings)

    def begin(self, instance_guid: str, seconds: float, report: Callable[[bool], None]) -> bool:
        """Begin to serve a request; false when the connection is refused.

        Args:
            instance_guid: Of the instance that is to serve it.
            seconds: How long it takes.
            report: Told at its end whether it was answered; it was not if the process ended first.
        """
        process = self._processes.setdefault(instance_guid, _Process())
        if process.refuses or not self._is_running(instance_guid):
            return False
        loop = asyncio.get_running_loop()
        request = _Request(loop.time() + seconds, report)
        process.in_flight[request] = loop.call_at(request.ends_at, self._finish, instance_guid, request)
        process.idle.clear()
        return True

    async def _end(self, settings: CellSettings, instance: Instance) -> None:
        await asyncio.sleep(SIGTERM_AFTER)
        process = self._processes.setdefault(instance.instance_key.instance_guid, _Process())
        sigterm = settings.on_sigterm(instance.lrp)
        if sigterm is not Sigterm.DIES:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.kill_delay):
                    await self._end_in_good_order(process, sigterm, settings)
        process.refuses = True
        now = asyncio.get_running_loop().time()
        for request, timer in process.in_flight.items():
            timer.cancel()
            request.report(request.ends_at <= now)  # the timer may be late on a busy machine
        process.in_flight.clear()

    async def _end_in_good_order(self, process: _Process, sigterm: Sigterm, settings: CellSettings) -> None:
        if sigterm is Sigterm.IGNORES:
            await asyncio.sleep(settings.kill_delay)
        if sigterm is Sigterm.SERVES_ON:
            await asyncio.sleep(settings.stop_delay)
        process.refuses = True
        if process.in_flight:
            await process.idle.wait()

    def _finish(self, instance_guid: str, request: _Request) -> None:
        process = self._processes[instance_guid]
        del process.in_flight[request]
        if not process.in_flight:
            process.idle.set()
        request.report(self._is_running(instance_guid))

    def _is_running(self, instance_guid: str) -> bool:
        instances = (cell.instances.get(instance_guid) for cell in self._cells)
        return any(instance is not None and instance.is_running for instance in instances)
