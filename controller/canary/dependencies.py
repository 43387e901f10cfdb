"""What canaries need from the BBS, from the private registry and from the loops around them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from reconcile.canary import Canary
from reconcile.events import Event
from reconcile.lrps import ActualLrp, Cell, DesiredLrp, ProcessGuid, Task, TaskGuid
from reconcile.pull_proof import CanaryKind
from reconcile.references import Rootfs


class CanaryTasks(Protocol):
    """Tasks in the BBS."""

    async def desire_canary_task(self, canary: Canary) -> None:
        """Desire the task of a canary."""

    async def list_tasks(self, domain: str) -> tuple[Task, ...]:
        """List the tasks of one domain."""

    async def end_task(self, task_guid: TaskGuid) -> None:
        """Cancel and delete a task; one that is gone already is no error."""

    def subscribe_tasks(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of all tasks."""


class DesiredLrpScan(Protocol):
    """A listing of desired LRPs, read one record at a time."""

    def __aiter__(self) -> AsyncIterator[DesiredLrp]:
        """Yield the records that can be read."""


class CanaryLrps(Protocol):
    """LRPs in the BBS."""

    async def desire_canary_lrp(self, canary: Canary) -> None:
        """Desire the LRP of a canary."""

    def list_desired_lrps(self, domain: str) -> DesiredLrpScan:
        """List the desired LRPs of one domain."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""

    async def remove_desired_lrp(self, process_guid: ProcessGuid) -> None:
        """Remove one desired LRP."""

    def subscribe_lrp_instances(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Subscribe to the events of desired LRPs and of instances."""


class CanaryBbs(CanaryTasks, CanaryLrps, Protocol):
    """The BBS."""

    async def list_cells(self) -> tuple[Cell, ...]:
        """List the registered cells."""


class PushedImages(Protocol):
    """Images of canaries in the private registry."""

    def pushed(self, kind: CanaryKind) -> AbstractAsyncContextManager[Rootfs]:
        """Push a new image, which is there until the end of the block."""


class CanaryPause(Protocol):
    """Whether an operator has paused the daemon."""

    @property
    def is_paused(self) -> bool:
        """Whether only ordered work is started."""


class ProofListener(Protocol):
    """Whoever waits for proofs."""

    def note_proven_cells(self, *, is_mended: bool) -> None:
        """Note that cells are known to pull, and whether migrations had met some that could not."""

    def note_unproven_cells(self) -> None:
        """Note that a canary has not proven it, so that more is known of why not."""
