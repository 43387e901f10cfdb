"""Says why a droplet is to have its original text, or must not name its copy any longer."""

from reconcile.droplet_actions import Leave, ObservedDroplet
from reconcile.droplets import DropletPhase, DropletRecord
from reconcile.migrations import Goal
from reconcile.reasons import Reason


def why_back(observed: ObservedDroplet) -> Leave | None:
    """Say why a droplet is to have its original text; None when it is to name its copy."""
    if observed.order is not None:
        return Leave(Reason.RESTORE_REQUESTED) if observed.order.goal is Goal.SOURCE else None
    if observed.is_restoring:
        return Leave(Reason.FELL_BACK_TO_SOURCE, "the private registry does not answer")
    if observed.is_pinned:
        return Leave(Reason.PINNED_TO_SOURCE, "an operator restored the app to its source")
    return None


def why_lost(observed: ObservedDroplet, record: DropletRecord) -> Leave | None:
    """Say why a droplet cannot keep the copy that it names; None when it can, as far as is known."""
    copy = observed.current_copy
    if copy is None:
        # Its text was written back already, and a request from before that took effect late.
        is_late = record.phase in {DropletPhase.RESTORING, DropletPhase.RESTORED, DropletPhase.LEFT}
        return Leave(Reason.COPY_RECORD_MISSING) if is_late else None
    is_lost = copy.missing_since and copy.lost_since
    return Leave(Reason.COPY_LOST, copy.missing) if is_lost else None


def why_not_started(observed: ObservedDroplet) -> Leave | None:
    """Say why a droplet must not name its copy any longer: nothing of its app could start from that."""
    return observed.failure if observed.order is None else None
