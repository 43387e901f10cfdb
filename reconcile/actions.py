"""The actions that a pass over one LRP can decide on, as values with their reasons."""

from dataclasses import dataclass

from reconcile.lrps import DesiredLrp, ProcessGuid, Pull
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheRequest, Goal, Strategy
from reconcile.steps import RetireInstances, Step


@dataclass(frozen=True, slots=True)
class Skip:
    """Do nothing until something changes."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Forget:
    """Do nothing, since the LRP is not desired."""

    reason: Reason = Reason.NOT_DESIRED


@dataclass(frozen=True, slots=True)
class CacheImage:
    """Request a copy of the source image."""

    request: CacheRequest

    @property
    def reason(self) -> Reason:
        """Why the copy is requested."""
        return self.request.reason


@dataclass(frozen=True, slots=True)
class VerifyImage:
    """Read back a copy that instances crashed from, before another app is migrated to it."""

    lrp: DesiredLrp
    image: CachedImage
    reason: Reason = Reason.COPY_NEEDS_VERIFICATION


@dataclass(frozen=True, slots=True)
class BeginMigration:
    """Write the journal row, check that the copy is in the registry, and start a migration.

    Attributes:
        image: The cached image to migrate to; None for the way back to the source.
    """

    lrp: DesiredLrp
    image: CachedImage | None
    rounds: int
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    reason: Reason = Reason.RUNS_FROM_SOURCE


@dataclass(frozen=True, slots=True)
class Continue:
    """Take the next step of an open migration."""

    step: Step
    target: Pull


@dataclass(frozen=True, slots=True)
class RemoveOrphanedBridge:
    """Remove a bridge that has no open migration and that its app does not need."""

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
