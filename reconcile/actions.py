"""The actions that a pass over one LRP can decide on, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from reconcile.lrps import Credentials, DesiredLrp, ProcessGuid, Pull
from reconcile.migrations import Goal, Strategy
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheRequest
from reconcile.steps import RetireInstances, Step


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave the LRP as it is until something changes.

    Attributes:
        retry_after: Seconds after which it is looked at again all the same; None when only a change calls
            for that.
    """

    reason: Reason
    detail: str = ""
    retry_after: float | None = None


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
    """Read a copy back, since instances that ran from it crashed; no app is migrated to it before."""

    lrp: DesiredLrp
    image: CachedImage
    reason: Reason = Reason.COPY_NEEDS_VERIFICATION


@dataclass(frozen=True, slots=True)
class BeginMigration:
    """Write the journal row, check that the copy is in the registry, and start a migration.

    Attributes:
        image: The cached image to migrate to; None when the LRP is migrated back to its source.
        rounds: The number of the LRP's migrations, this one included.
        ended: How the migration ends, where it brings back an LRP that cells cannot start from its copy.
        detail: What they said of it.
        asks_source: Whether the source is asked first, and the LRP stays when it has the image no longer.
        renews_login: See `Migration.renews_login`.
        instead: What is done while cells are known not to pull with the new login, or, of an LRP whose copy
            in a former registry they cannot pull, while anything keeps it from the new one; None for nothing.
        otherwise: What is done when the source that is asked has the image no longer; None for nothing.
        is_urgent: Whether nothing of the app runs, nor can it where it is: it waits for no other migration.
    """

    lrp: DesiredLrp
    image: CachedImage | None
    rounds: int
    goal: Goal = Goal.CACHE
    strategy: Strategy = Strategy.RECREATE
    reason: Reason = Reason.RUNS_FROM_SOURCE
    ended: Reason | None = None
    detail: str = ""
    asks_source: bool = False
    renews_login: bool = False
    instead: "BeginMigration | None" = None
    otherwise: "CacheImage | VerifyImage | None" = None
    is_urgent: bool = False

    @property
    def leaves_failing_former(self) -> bool:
        """Whether the LRP goes back to its source since cells cannot pull its copy in a former registry."""
        return self.goal is Goal.SOURCE and self.reason is Reason.RUNS_FROM_FORMER_REGISTRY


@dataclass(frozen=True, slots=True)
class UpdateLogin:
    """Update the login of an LRP that runs from its copy in place, and read back whether the BBS stores it.

    Attributes:
        credentials: The configured login; None when cells need none.
        instead: See `BeginMigration`.
    """

    lrp: DesiredLrp
    credentials: Credentials | None
    reason: Reason = Reason.LOGIN_OUTDATED
    instead: BeginMigration | None = None


@dataclass(frozen=True, slots=True)
class Continue:
    """Take the next step of an open migration.

    Attributes:
        target: The rootfs that the LRP is migrated to, and the login for it.
    """

    step: Step
    target: Pull


@dataclass(frozen=True, slots=True)
class RemoveOrphanedBridge:
    """Remove a bridge that has no open migration and that its app does not need."""

    process_guid: ProcessGuid
    reason: Reason = Reason.ORPHANED_BRIDGE


@dataclass(frozen=True, slots=True)
class GiveRoutesBack:
    """Give an LRP the routes of its bridge, which has no open migration, before the bridge is removed.

    Attributes:
        process_guid: Of the LRP.
    """

    process_guid: ProcessGuid
    routes: Mapping[str, bytes]
    reason: Reason = Reason.BRIDGE_IN_USE


Action = (
    Skip
    | Forget
    | CacheImage
    | VerifyImage
    | BeginMigration
    | UpdateLogin
    | Continue
    | RetireInstances
    | RemoveOrphanedBridge
    | GiveRoutesBack
)
