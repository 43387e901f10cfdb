"""What a BBS holds: domains, desired LRPs, actual LRPs, tasks, and the cells that it can reach.

The operations on it are the neighbours' (`desired`, `actual`, `evacuation`, `tasks`, `convergence`).
Source: bbs db/sqldb/*.go; the columns' limits from db/migrations/*.go.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from protos.bbs.actual_lrp_pb2 import ActualLRP, ActualLRPKey
from protos.bbs.cells_pb2 import CellPresence
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.error_pb2 import Error
from protos.bbs.modification_tag_pb2 import ModificationTag
from protos.bbs.task_pb2 import Task
from tests.simulators.bbs.errors import error
from tests.simulators.bbs.events import EventBus

SECOND = 1_000_000_000
FOREVER = 2**63 - 1
NAME_COLUMN = 255
ROOTFS_COLUMN = 1024
REASON_COLUMN = 1024
TRUNCATED = "(truncated)"

Slot = tuple[int, ActualLRP.Presence]


class Version(StrEnum):
    """The two recorded versions of the BBS."""

    OLD = "2024"
    NEW = "2026"


@dataclass(frozen=True, slots=True)
class CellResources:
    """What a cell has free, and what it holds.

    Attributes:
        starting: Instances that do not run yet.
        lrps: How many instances of each process GUID it holds.
        tasks: How many tasks it holds.
    """

    containers: int
    disk_mb: int
    memory_mb: int
    starting: int
    lrps: Mapping[str, int]
    tasks: int


class Rep(Protocol):
    """A cell as the BBS and the auctioneer see it."""

    @property
    def presence(self) -> CellPresence:
        """What the cell has registered."""

    @property
    def is_registered(self) -> bool:
        """Whether its registration holds."""

    @property
    def resources(self) -> "CellResources":
        """What is free, and what runs."""

    def start_lrp(self, key: ActualLRPKey) -> None:
        """Take an auctioned instance and return at once."""

    def stop_lrp(self, key: ActualLRPKey, instance_guid: str) -> asyncio.Event | None:
        """Take a stop request, and give what its answer waits for; None if it is answered at once.

        Raises:
            RepError: The request failed.
        """

    def update_lrp(self, key: ActualLRPKey, instance_guid: str) -> None:
        """Hear that internal routes or metric tags have changed."""

    def start_task(self, task_guid: str) -> None:
        """Take an auctioned task and return at once."""

    def cancel_task(self, task_guid: str) -> None:
        """Destroy a task's container."""


class RepError(Exception):
    """A cell did not take a request."""


@dataclass(frozen=True, slots=True)
class SlowStop:
    """A stop request that is not answered yet; a repeat of it would be, at once."""

    cell: Rep
    key: ActualLRPKey
    instance_guid: str
    answered: asyncio.Event


@dataclass
class State:
    """The database of one BBS, which survives a change of the active node.

    Attributes:
        now: The clock, in nanoseconds since the epoch.
        actual: Process GUID to rows, each under its index and presence.
        domains: Name to expiry in nanoseconds.
        complete: Called with each completed task that has a callback.
        max_task_retries: Rejections of a task before the one that fails it.
        crash_backoff: Seconds before the first delayed restart of what crashes; doubled up to 32 times that.
        slow_stops: Those for which a caller waits, to be taken by whoever answers it.
        stale_unclaimed: Seconds before an instance without a place is auctioned again.
        unlisted: LRPs that listings of scheduling infos lack, although they are desired.
    """

    version: Version = Version.NEW
    now: Callable[[], int] = time.time_ns
    events: EventBus = field(default_factory=EventBus)
    domains: dict[str, int] = field(default_factory=dict)
    desired: dict[str, DesiredLRP] = field(default_factory=dict)
    actual: dict[str, dict[Slot, ActualLRP]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    cells: dict[str, Rep] = field(default_factory=dict)
    complete: Callable[[Task], None] = lambda _task: None
    max_task_retries: int = 3
    crash_backoff: float = 30.0
    stale_unclaimed: float = 30.0
    slow_stops: list[SlowStop] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)

    @property
    def is_new(self) -> bool:
        """Whether this is the version of 2026."""
        return self.version is Version.NEW

    def rows(self) -> Iterator[ActualLRP]:
        """Walk all actual LRPs; what is walked may be changed meanwhile."""
        for rows in list(self.actual.values()):
            yield from list(rows.values())

    def row(
        self, process_guid: str, index: int, presence: ActualLRP.Presence = ActualLRP.ORDINARY
    ) -> ActualLRP | None:
        """Find one row."""
        return self.actual.get(process_guid, {}).get((index, presence))

    def put_row(self, row: ActualLRP) -> None:
        """Store a row under its key."""
        slot = (row.actual_lrp_key.index, row.presence)
        self.actual.setdefault(row.actual_lrp_key.process_guid, {})[slot] = row

    def drop_row(self, row: ActualLRP) -> None:
        """Delete a row."""
        rows = self.actual[row.actual_lrp_key.process_guid]
        del rows[row.actual_lrp_key.index, row.presence]
        if not rows:
            del self.actual[row.actual_lrp_key.process_guid]

    def registered_cells(self) -> dict[str, Rep]:
        """Look up the cells in Locket."""
        return {cell_id: cell for cell_id, cell in self.cells.items() if cell.is_registered}

    def fresh_domains(self) -> list[str]:
        """List the domains that have not expired; now is rounded to the nearest second, so up to half a second early.

        Source: cloudfoundry/bbs db/sqldb/domain_db.go, `FreshDomains`; half a second is rounded up.
        """
        now = (self.now() + SECOND // 2) // SECOND * SECOND
        return [name for name, expiry in self.domains.items() if expiry > now]


def upsert_domain(state: State, name: str, ttl: int) -> None:
    """Make a domain fresh for `ttl` seconds, or for ever if 0."""
    check_columns(name)
    state.domains[name] = state.now() + ttl * SECOND if ttl else FOREVER


def check_columns(*names: str, rootfs: str = "") -> None:
    """Refuse what does not fit its column."""
    if any(len(name) > NAME_COLUMN for name in names) or len(rootfs) > ROOTFS_COLUMN:
        raise error(Error.InvalidRequest)


def new_tag() -> ModificationTag:
    """Start a new epoch."""
    return ModificationTag(epoch=str(uuid.uuid4()))


def truncated(reason: str) -> str:
    """Cut a reason as the BBS does before it stores it."""
    if len(reason) < REASON_COLUMN:
        return reason
    return reason[: REASON_COLUMN - len(TRUNCATED)] + TRUNCATED


def copy_of(row: ActualLRP) -> ActualLRP:
    """Copy a row before it is changed."""
    copy = ActualLRP()
    copy.CopyFrom(row)
    return copy
