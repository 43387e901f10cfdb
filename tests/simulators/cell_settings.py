"""How a simulated cell behaves, and what it keeps of each container."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from protos.bbs.actual_lrp_pb2 import ActualLRPInstanceKey, ActualLRPKey
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from protos.bbs.task_pb2 import Task
from tests.simulators.cell_failures import exited
from tests.simulators.staging_results import TaskResult, staging_result


def open_gate() -> asyncio.Event:
    """Make a gate that lets all through until it is closed."""
    gate = asyncio.Event()
    gate.set()
    return gate


class Sigterm(StrEnum):
    """What a process does when it is asked to end."""

    FINISHES = "finishes"
    """It ends after `stop_delay`."""
    SERVES_ON = "serves on"
    """It serves as before for `stop_delay`, then ends."""
    DIES = "dies"
    """It ends at once."""
    IGNORES = "ignores"
    """It goes on until it is killed after `kill_delay`."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ends by itself, in seconds after it began to run."""

    after: float
    reason: str = exited(1)


@dataclass(slots=True, kw_only=True)
class Instance:
    """One container, and what it really runs from.

    Attributes:
        lrp: The definition that was read after the claim.
        rootfs: Of that definition; empty before.
        manifest_digest: Of the manifest that was pulled; empty if nothing had to be, or could be.
        chain_ids: Of the layers that it uses.
        is_stopping: Whether a stop request has come, which a creation lets wait.
        has_process: Whether its process was started, which RUNNING follows when it is healthy.
        is_created: Set but while the container is created, its image pulled: nothing can interrupt that.
    """

    key: ActualLRPKey
    instance_key: ActualLRPInstanceKey
    memory_mb: int
    disk_mb: int
    host_port: int
    lrp: DesiredLRP = field(default_factory=DesiredLRP)
    rootfs: str = ""
    manifest_digest: str = ""
    chain_ids: tuple[str, ...] = ()
    has_process: bool = False
    is_running: bool = False
    is_stopping: bool = False
    is_created: asyncio.Event = field(default_factory=open_gate)


@dataclass(slots=True)
class CellSettings:
    """How a cell behaves; a test may change any of it while the cell runs.

    Attributes:
        start_delay: Seconds from the end of the pull to RUNNING.
        stop_delay: Seconds from a stop request to the end of a process that finishes.
        kill_delay: The same of a process that ignores SIGTERM.
        failure_delay: Seconds that a container takes whose creation fails, besides what its pull takes.
        task_delay: Seconds that a task runs.
        heartbeat: Seconds between repeated starts of what runs; None for never.
        poll_interval: Seconds until a reservation without a row is tried again, and given up at the third
            time; and until a row without a container is removed.
        registry_map: Host in a rootfs to base URL; None means that nothing is pulled.
        authorities: PEM file of the authorities that the cell trusts with registries; empty for the system's.
        first_pause: Seconds before a registry that has too many requests is asked the second of five times.
        reconnect_pause: Seconds before the rest of a blob that was cut is asked for.
        cleans_before_pull: Whether layers that no container uses are deleted before each pull, as grootfs does
            above its threshold.
        reports_tags: Whether metric tags and internal routes are reported with a start.
        crash_beats_stop: Whether a failed creation is told as a crash although a stop waits for its end.
        crash_reason: Tells why an instance crashes instead of starting; empty for not.
        exit: Tells when and how an instance ends by itself; None for not at all.
        on_sigterm: Tells what an instance does when it is stopped.
        begin_process: Is waited for between the creation of a container and the start of its process.
        end_process: Stops its process instead of a mere wait, and returns when it has ended.
        task_result: Tells how a task ends.
    """

    cell_id: str = "cell-1"
    zone: str = "z1"
    stacks: tuple[str, ...] = ("cflinuxfs4",)
    offers_docker: bool = True
    placement_tags: tuple[str, ...] = ()
    optional_placement_tags: tuple[str, ...] = ()
    memory_mb: int = 1048576
    disk_mb: int = 1048576
    containers: int = 100000
    start_delay: float = 0.02
    stop_delay: float = 0.05
    kill_delay: float = 10.8
    failure_delay: float = 0.07
    task_delay: float = 0.02
    heartbeat: float | None = None
    poll_interval: float = 30.0
    registry_map: Mapping[str, str] | None = None
    authorities: str = ""
    first_pause: float = 2.0
    reconnect_pause: float = 1.0
    cleans_before_pull: bool = False
    reports_tags: bool = True
    crash_beats_stop: bool = False
    crash_reason: Callable[[DesiredLRP], str] = lambda _lrp: ""
    exit: Callable[[DesiredLRP], Exit | None] = lambda _lrp: None
    on_sigterm: Callable[[DesiredLRP], Sigterm] = lambda _lrp: Sigterm.FINISHES
    begin_process: Callable[[Instance], Awaitable[None]] | None = None
    end_process: Callable[[Instance], Awaitable[None]] | None = None
    task_result: Callable[[Task], TaskResult] = staging_result
