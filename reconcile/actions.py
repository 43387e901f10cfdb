"""The actions that a pass over one LRP can come to, as values with their reasons."""

from dataclasses import dataclass

from reconcile.lrps import DesiredLrp, ProcessGuid, Pull
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheRequest, Goal, Strategy
from reconcile.steps import RetireInstances, Step


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing to do until something changes."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Forget:
    """The LRP is gone."""

    reason: Reason = Reason.NOT_DESIRED


@dataclass(frozen=True, slots=True)
class CacheImage:
    """Ask for a copy of the source image."""

    request: CacheRequest

    @property
    def reason(self) -> Reason:
        """Why the copy is wanted."""
        return self.request.reason


@dataclass(frozen=True, slots=True)
class VerifyImage:
    """Read a copy back that instances crashed from, before another app is moved to it."""

    lrp: DesiredLrp
    image: CachedImage
    reason: Reason = Reason.COPY_NEEDS_VERIFICATION


@dataclass(frozen=True, slots=True)
class BeginMigration:
    """Verify the copy once more, write the journal, and begin.

    Attributes:
        image: To move to; None on the way back.
    """

    lrp: DesiredLrp
    image: CachedImage | None
    rounds: int
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    reason: Reason = Reason.RUNS_FROM_SOURCE


@dataclass(frozen=True, slots=True)
class Continue:
    """Take the next step of a migration."""

    step: Step
    target: Pull


@dataclass(frozen=True, slots=True)
class RemoveOrphanedBridge:
    """Remove a bridge that nobody needs."""

    process_guid: ProcessGuid
    reason: Reason = Reason.ORPHANED_BRIDGE


Action = (
    Skip
    | Forget
    | CacheImage
    | VerifyImage
    | BeginMigration
    | Continue
    | RetireInstances
    | RemoveOrphanedBridge
)
