"""Holds the loops of a process and the dependencies of operators' calls, and recovers what was left open."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from controller.abandoned_uploads import AbandonedUploads
from controller.admin.dependencies import AdminDependencies
from controller.app_logs import AppLogs
from controller.cacher import Cacher
from controller.canary import CanaryLoop, NullCanaryLoop
from controller.certificate_ends import CertificateEnds
from controller.database_watch import DatabaseWatch
from controller.droplets import Droplets, UnchangedDroplets
from controller.event_cache import LrpEventCache
from controller.failure_keeper import FailureKeeper
from controller.health_loop import HealthLoop
from controller.notes import (
    NoteWriter,
    UnknownCopies,
)
from controller.presence import PresenceLoop
from controller.pull_login import PullLogin
from controller.reachability import NullMode, Reachability
from controller.reconciler import Reconciler
from controller.retention import Retention
from controller.store_counts import StoreCounts
from controller.store_marker import StoreMarker
from controller.unused_copies import UnusedCopies
from controller.watcher import Watcher
from controller.workqueue import WorkQueue
from reconcile.lrps import ProcessGuid

Step = Callable[[], Awaitable[None]]
"""One step of a recovery, which reads the database."""

Answered = Callable[[Step], Awaitable[None]]
"""Takes a step, and repeats it as long as the database does not answer."""


async def once(step: Step) -> None:
    """Take a step once, without repeating one that fails."""
    await step()


class RememberedInstances(Protocol):
    """The instances of removed definitions that an earlier run has remembered."""

    async def list_stale(self) -> Mapping[ProcessGuid, frozenset[str]]:
        """List the GUIDs of the instances of each LRP; the LRP whose migration has ended last comes last."""


@dataclass(frozen=True, slots=True)
class DaemonLoops:
    """The loops of a process, and the dependencies of the calls of operators."""

    queue: WorkQueue[ProcessGuid]
    watcher: Watcher
    cacher: Cacher
    reconciler: Reconciler
    failures: FailureKeeper
    event_cache: LrpEventCache
    stale_instances: RememberedInstances
    cells: CanaryLoop | NullCanaryLoop
    presence: PresenceLoop
    mode: Reachability | NullMode
    health: HealthLoop
    note_writer: NoteWriter | None
    unknown_copies: UnknownCopies
    unused: UnusedCopies
    pull_login: PullLogin
    certificates: CertificateEnds
    uploads: AbandonedUploads
    retention: Retention
    store_marker: StoreMarker
    droplets: Droplets | UnchangedDroplets
    database_watch: DatabaseWatch
    store_counts: StoreCounts
    app_logs: AppLogs | None
    admin: AdminDependencies

    async def recover(self, answered: Answered = once) -> None:
        """Continue what an earlier run left open, before any loop or call of an operator starts.

        Args:
            answered: Repeats a step until the database answers.
        """
        await answered(self.failures.load)
        await answered(self._restore_stale_instances)
        await answered(self.cacher.recover)
        await answered(self.reconciler.recover)
        await answered(self.droplets.recover)

    async def _restore_stale_instances(self) -> None:
        self.event_cache.restore(await self.stale_instances.list_stale())

    def optional_loops(self) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        """Yield the name and the coroutine of each loop that only some configs have, if this one has it."""
        for name, loop in (
            ("canary", self.cells),
            ("notes", self.note_writer),
            ("droplets", self.droplets),
            ("reachability", self.mode),
            ("app-logs", self.app_logs),
        ):
            if isinstance(loop, CanaryLoop | NoteWriter | Droplets | Reachability | AppLogs):
                yield name, loop.run()

    def close(self) -> None:
        """Stop all timers."""
        self.queue.close()
        self.cacher.close()
        self.watcher.close()
        self.presence.close()
        self.droplets.close()
