"""The steps of a migration, and what the decision between them rests on, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from reconcile.lrps import ActualLrp, DesiredLrp, Pull
from reconcile.migrations import Migration
from reconcile.reasons import Reason
from reconcile.references import ImageReference, Rootfs
from reconcile.start_failures import StartFailure


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """How long the phases of a migration may take, in seconds.

    Attributes:
        bridge: Until the bridge runs.
        start: Until the original runs again; longer counts as a failure.
        routes: That routers get to learn of new instances.
        cloud_controller_sync: That the owner of a fresh domain gets, since the BBS first answered this
            process, to desire again what is missing; an LRP that is missing for longer was removed by its
            owner. Longer than a domain stays fresh, so that a domain that is still fresh was synced since.
        drain: That requests in flight get to end, after the routes of a bridge or of the original were taken
            away.
        stopgap: After which an LRP that was removed gets a bridge as a stopgap, when its old instances are
            still being stopped: the pull of an image cannot be interrupted.
        missing: After which an LRP that was removed is desired again although old instance rows are left.
            Longer than a process gets to stop (10 s), shorter than Cloud Controller's sync (30 s).
        unknown: That a removal whose answer was lost may still take effect: the BBS gives up the work for a
            caller who hung up, but what it commits in that moment stays.
        stop: After which instance rows that a removal left are retired, and retired again: their stops were
            lost.
        leftover: After which rows of a bridge's instances that its removal left are no longer waited for.
    """

    bridge: float = 300.0
    start: float = 300.0
    routes: float = 5.0
    drain: float = 2.0
    stopgap: float = 1.5
    missing: float = 12.0
    cloud_controller_sync: float = 180.0
    unknown: float = 60.0
    stop: float = 30.0
    leftover: float = 120.0


@dataclass(frozen=True, slots=True)
class World:
    """What the decision on a step rests on.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Migration.run_id`.
        versions_in_events: The newest version that events reported, for each epoch of the LRP's tag.
        domain_is_fresh: Whether the original's domain is.
        may_bridge: Whether the LRP may have a bridge.
        drains_original: Whether the routes of the original are taken away before it is removed.
        is_restore_requested: Whether an operator wants the LRP back on its source.
        source: What the LRP's owner desires it from, as far as that is known: Cloud Controller's sync does,
            while the app's droplet names that.
        way_to_source: What cells pull the LRP's source with; None when that is not known, or its login lost.
        copy: What it desires it from while the droplet names the copy of the migration; None where that is
            not asked.
        former_copies: What it desires it from while the droplet names the same copy in a former registry.
    """

    now: float
    process_age: float
    run_id: str
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    versions_in_events: tuple[DesiredLrp, ...] = ()
    domain_is_fresh: bool = False
    may_bridge: bool = False
    drains_original: bool = False
    is_restore_requested: bool = False
    source: ImageReference | None = None
    way_to_source: Pull | None = None
    copy: Rootfs | None = None
    former_copies: frozenset[Rootfs] = frozenset()


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Observe again after some seconds, or when an event reports a change."""

    reason: Reason
    seconds: float


@dataclass(frozen=True, slots=True)
class Enter:
    """Write the row, then observe again at once.

    Attributes:
        failure: Why instances could not be started from the copy; None for no such failure.
    """

    migration: Migration
    failure: StartFailure | None = None


@dataclass(frozen=True, slots=True)
class DesireBridge:
    """Desire the bridge."""

    migration: Migration
    instances: int
    reason: Reason = Reason.BRIDGING


@dataclass(frozen=True, slots=True)
class UpdateBridge:
    """Return the bridge the number of instances and the routes that the app's owner wants now.

    A bridge is never scaled down, since the instances that would stop may be those that serve.
    """

    migration: Migration
    definition: DesiredLrp
    reason: Reason = Reason.BRIDGING


@dataclass(frozen=True, slots=True)
class UpdateRoutes:
    """Write the row, then update the routes of the original and nothing else of it."""

    migration: Migration
    routes: Mapping[str, bytes]
    reason: Reason


@dataclass(frozen=True, slots=True)
class RemoveOriginal:
    """Write the row, observe again, and remove the LRP if `may_remove` still holds."""

    migration: Migration
    reason: Reason = Reason.INSTANCES_STOPPING


@dataclass(frozen=True, slots=True)
class DesireOriginal:
    """Desire the removed LRP again with the new rootfs."""

    migration: Migration
    reason: Reason = Reason.DESIRE_UNCONFIRMED


@dataclass(frozen=True, slots=True)
class RetireInstances:
    """Stop instances of a definition that was removed, then observe again.

    Attributes:
        migration: The row that is written first; None where none is open.
    """

    instances: tuple[ActualLrp, ...]
    reason: Reason = Reason.INSTANCES_STOPPING
    migration: Migration | None = None


@dataclass(frozen=True, slots=True)
class TurnBack:
    """Write the row, which says why the LRP did not start from its copy, and bring it back to its source.

    In the phases REMOVED and BRIDGING the row is all; in others the LRP is removed, as by `RemoveOriginal`.

    Attributes:
        failure: What its instances failed by; None when they said nothing in time, or did not fail.
    """

    migration: Migration
    failure: StartFailure | None = None
    reason: Reason = Reason.INSTANCES_STOPPING


@dataclass(frozen=True, slots=True)
class RemoveBridge:
    """Remove the bridge."""

    migration: Migration
    reason: Reason = Reason.REMOVING_BRIDGE


@dataclass(frozen=True, slots=True)
class Close:
    """End the migration, with success or without."""

    migration: Migration
    reason: Reason


Step = (
    RetryLater
    | Enter
    | DesireBridge
    | UpdateBridge
    | UpdateRoutes
    | RemoveOriginal
    | DesireOriginal
    | RetireInstances
    | TurnBack
    | RemoveBridge
    | Close
)
