"""Answers for an instance that stands by: who is active, and nothing else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isinf
from typing import Any

from controller import __version__
from controller.admin.dependencies import AdminDependencies
from controller.leadership.standing import Position, Standing
from controller.log_level import LogLevel
from protos.admin import admin_pb2 as pb
from reconcile.errors import Denied, ErrorCode

CLOSE_WITHIN = 1.0
"""Seconds that calls have to end when the daemon stops."""


@dataclass(slots=True)
class ServedDependencies:
    """What the calls of operators reach: nothing until this instance is active.

    Attributes:
        standing: Of this process in the leadership.
        run_id: Of this process.
        dependencies: Of the calls; None while this instance stands by, or takes over.
        started_at: When the process started, in UTC seconds since 1970.
        listeners: Are told whether all calls are answered, when that changes.
        calls: Those under way.
        log_level: Of the process, which a standby shows and changes too.
    """

    standing: Standing
    run_id: str
    dependencies: AdminDependencies | None = None
    started_at: float = field(default_factory=time.time)
    listeners: list[Callable[[bool], Awaitable[None]]] = field(default_factory=list)
    calls: set["asyncio.Task[Any]"] = field(default_factory=set)
    log_level: LogLevel = field(default_factory=lambda: LogLevel("info"))

    async def open(self, dependencies: AdminDependencies) -> None:
        """Answer all calls from now on."""
        self.dependencies = dependencies
        for listener in self.listeners:
            await listener(True)

    async def close(self) -> None:
        """Answer only what a standby answers; calls under way get some time to end, and are ended then."""
        self.dependencies = None
        for listener in self.listeners:
            await listener(False)
        if not self.calls:
            return
        _, late = await asyncio.wait(self.calls, timeout=CLOSE_WITHIN)
        for call in late:
            call.cancel()
        if late:
            await asyncio.wait(late, timeout=CLOSE_WITHIN)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Count the task that runs the block as a call under way."""
        call = asyncio.current_task()
        if call is None:
            raise AssertionError("calls are answered in tasks")
        self.calls.add(call)
        try:
            yield
        finally:
            self.calls.discard(call)

    @property
    def are_open(self) -> bool:
        """Whether this instance answers all calls."""
        return self.dependencies is not None and self.standing.position.is_active

    def require(self) -> AdminDependencies:
        """Return what the calls reach.

        Raises:
            Denied: This instance is not the active one.
        """
        if self.dependencies is None or not self.are_open:
            position = self.standing.position
            where = "" if position.holder is None else "; ask the active instance"
            why = position.obstacle or "it is stopping"
            detail = f"instance {position.instance_id} does not answer this: {why}{where}"
            raise Denied("admin", ErrorCode.NOT_ACTIVE, detail)
        return self.dependencies

    def standby_status(self) -> pb.StatusResponse:
        """Report what an instance that stands by knows."""
        answer = pb.StatusResponse(version=__version__, run_id=self.run_id, started_at=self.started_at)
        add_position(answer, self.standing.position)
        return answer


def add_position(answer: pb.StatusResponse, position: Position) -> None:
    """Write the part of an instance in the leadership into its status."""
    answer.instance_id = position.instance_id
    answer.active = position.is_active
    answer.active_since = position.since or 0.0
    answer.lease_ms = -1 if isinf(position.lease) else int(position.lease * 1000)
    answer.obstacle = position.obstacle
    holder = position.holder
    if holder is None:
        return
    answer.holder.owner = holder.owner
    if holder.note is not None:
        answer.holder.instance_id = holder.note.instance_id
        answer.holder.admin_address = holder.note.admin_address
        answer.holder.since = holder.note.since
        answer.holder.version = holder.note.version
