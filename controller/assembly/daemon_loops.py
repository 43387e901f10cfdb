"""Names the loops of a process, and what the calls of operators reach."""

from dataclasses import dataclass

from controller.abandoned_uploads import AbandonedUploads
from controller.admin.dependencies import AdminDependencies
from controller.cacher import Cacher
from controller.canary import CanaryLoop, UnaskedCells
from controller.certificate_ends import CertificateEnds
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
from controller.store_marker import StoreMarker
from controller.unused_copies import UnusedCopies
from controller.watcher import Watcher
from controller.workqueue import WorkQueue
from reconcile.lrps import ProcessGuid


@dataclass(frozen=True, slots=True)
class DaemonLoops:
    """The loops of a process, and what the calls of operators reach."""

    queue: WorkQueue[ProcessGuid]
    watcher: Watcher
    cacher: Cacher
    reconciler: Reconciler
    cells: CanaryLoop | UnaskedCells
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
    admin: AdminDependencies

    async def recover(self) -> None:
        """Continue what an earlier run left open, before any loop or call of an operator starts."""
        await self.cacher.recover()
        await self.reconciler.recover()

    def close(self) -> None:
        """Stop all timers."""
        self.queue.close()
        self.cacher.close()
        self.watcher.close()
        self.presence.close()
