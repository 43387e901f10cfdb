"""The ports that actions have effects through, and the outcome of an action."""

from dataclasses import dataclass, field
from typing import Protocol

from reconcile.copying_ports import ImageEngine, Verifier
from reconcile.login_storage import LoginStorage
from reconcile.migrations import Migration
from reconcile.ports import (
    Bridges,
    CacheRequests,
    CellPulls,
    Instances,
    Journal,
    LrpLogins,
    Lrps,
    OriginalSources,
)
from reconcile.reasons import Reason
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories
from reconcile.steps import PhaseLimits
from reconcile.stop_requests import StopRequests


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an action.

    Attributes:
        reason: For log, metrics and record.
        detail: One line for people; never holds credentials.
        retry_after: Seconds after which the next pass is due; None when only a change calls for one.
        cache_guid: The cached image that the LRP runs from now; None when the action did not bring it there.
        rounds: Migrations of the LRP that have begun; None where none is open.
        ended: The migration that has ended with this action; None for none.
    """

    reason: Reason
    detail: str = ""
    retry_after: float | None = None
    cache_guid: CacheGuid | None = None
    rounds: int | None = None
    ended: Migration | None = None


class ActionCopyRecords(Protocol):
    """The records of copies, as far as actions change them."""

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read a finished copy."""

    async def mark_for_verification(self, cache_guid: CacheGuid, at: float) -> None:
        """Mark a copy as needing verification, since instances crashed from it."""


@dataclass(frozen=True, slots=True)
class ActionPorts:
    """The ports that actions have effects through.

    Attributes:
        login_storage: Whether the BBS stores a login that is updated in place; decisions rest on it.
        stops: The instances that were retired lately; whoever reads events asks it which are expected.
    """

    lrps: Lrps
    logins: LrpLogins
    bridges: Bridges
    instances: Instances
    journal: Journal
    original_sources: OriginalSources
    images: ActionCopyRecords
    engine: ImageEngine
    verifier: Verifier
    requests: CacheRequests
    pulls: CellPulls
    cache: CacheRepositories
    limits: PhaseLimits = PhaseLimits()  # noqa: RUF009 - a frozen value
    login_storage: LoginStorage = field(default_factory=LoginStorage)
    stops: StopRequests = field(default_factory=StopRequests)
