"""The steps that a migration is made of, and what a decision between them rests on, as values."""

from dataclasses import dataclass

from reconcile.lrps import ActualLrp, DesiredLrp
from reconcile.reasons import Reason
from reconcile.records import Migration


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """How long phases may take, in seconds.

    Attributes:
        bridge: Until a bridge runs.
        start: Until the original runs again, before that counts as a failure.
        routes: Between "runs" and "routers know it".
        cloud_controller_sync: Since the BBS first answered this process that the owner of a fresh domain
            gets to desire again what is missing, before a removal found in the journal counts as the owner's.
            Longer than a domain stays fresh, so that a domain that still is was synced in that time.
    """

    bridge: float = 300.0
    start: float = 300.0
    routes: float = 5.0
    cloud_controller_sync: float = 180.0


@dataclass(frozen=True, slots=True)
class World:
    """What a step rests on.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Migration.run_id`.
        versions_in_events: The newest version of each life of the LRP that events told of.
        domain_is_fresh: The domain of the original.
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


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Look again after some seconds, or when an event calls for it."""

    reason: Reason
    seconds: float


@dataclass(frozen=True, slots=True)
class Enter:
    """Write the row, then look again at once."""

    migration: Migration


@dataclass(frozen=True, slots=True)
class DesireBridge:
    """Desire the bridge with as many instances as the original."""

    migration: Migration
    reason: Reason = Reason.BRIDGING


@dataclass(frozen=True, slots=True)
class UpdateBridge:
    """Give the bridge the instances and the routes that its owner wants by now.

    It is never scaled down: of its instances those that would go may be the ones that serve.
    """

    migration: Migration
    wanted: DesiredLrp
    reason: Reason = Reason.BRIDGING


@dataclass(frozen=True, slots=True)
class RemoveOriginal:
    """Write the row, look once more, and remove the LRP; see `may_remove`."""

    migration: Migration
    reason: Reason = Reason.INSTANCES_STOPPING


@dataclass(frozen=True, slots=True)
class DesireOriginal:
    """Desire the removed LRP again with the new rootfs."""

    migration: Migration
    reason: Reason = Reason.DESIRE_UNCONFIRMED


@dataclass(frozen=True, slots=True)
class RetireInstances:
    """Stop instances of a definition that was removed; then look again."""

    instances: tuple[ActualLrp, ...]
    reason: Reason = Reason.INSTANCES_STOPPING


@dataclass(frozen=True, slots=True)
class RemoveBridge:
    """Remove the bridge."""

    migration: Migration
    reason: Reason = Reason.REMOVING_BRIDGE


@dataclass(frozen=True, slots=True)
class Close:
    """The migration is over, one way or another."""

    migration: Migration
    reason: Reason


Step = (
    RetryLater
    | Enter
    | DesireBridge
    | UpdateBridge
    | RemoveOriginal
    | DesireOriginal
    | RetireInstances
    | RemoveBridge
    | Close
)
