"""What a decision rests on: what an operator decided once, and what was observed of one LRP, as values."""

from dataclasses import dataclass

from reconcile.circuit import Circuit
from reconcile.images import CacheRepositories
from reconcile.lrps import ActualLrp, Credentials, DesiredLrp, ProcessGuid
from reconcile.orders import Order
from reconcile.policy import Policy, RunningPolicy
from reconcile.records import Binding, CachedImage, CacheJob, LrpRecord, Migration, OriginalSource
from reconcile.steps import PhaseLimits, World


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decided.

    Attributes:
        domains: Only LRPs of these are touched.
        running: Whether an LRP may be moved while it runs.
        may_bridge: Bridges are possible at all: the journal outlives the process.
        pull_credentials: The login that cells use at the private registry; None when they need none.
        max_in_flight: Open migrations at a time.
        circuit: The circuit breaker as it is at the start.
    """

    policy: Policy
    cache: CacheRepositories
    domains: frozenset[str]
    running: RunningPolicy = RunningPolicy()  # noqa: RUF009 - a frozen value
    limits: PhaseLimits = PhaseLimits()  # noqa: RUF009 - a frozen value
    may_bridge: bool = False
    pull_credentials: Credentials | None = None
    max_in_flight: int = 10
    circuit: Circuit = Circuit(most=3, retry_after=600.0)  # noqa: RUF009 - a frozen value


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision about one process GUID rests on.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Migration.run_id`.
        binding_is_current: No staging of the app can have been missed since the binding's.
        bridge: Looked up only while a migration with a bridge is open, like its instances.
        versions_in_events: See `World`.
        stale: Instance GUIDs of definitions that were removed.
        original_source: What the LRP ran from before it was moved; looked up only to go back there.
        is_restoring: LRPs are moved back to their sources, since the private registry is gone.
        domain_is_fresh: Looked up only while a migration is open; False otherwise.
        order: What an operator asks of this LRP; None for nothing.
        is_pinned: An operator put its app back on its source, where it is to stay.
        is_paused: An operator lets nothing be begun.
    """

    process_guid: ProcessGuid
    now: float
    process_age: float
    run_id: str
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    binding: Binding | None = None
    binding_is_current: bool = True
    job: CacheJob | None = None
    image: CachedImage | None = None
    migration: Migration | None = None
    record: LrpRecord | None = None
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    versions_in_events: tuple[DesiredLrp, ...] = ()
    stale: frozenset[str] = frozenset()
    original_source: OriginalSource | None = None
    is_restoring: bool = False
    domain_is_fresh: bool = False
    order: Order | None = None
    is_pinned: bool = False
    is_paused: bool = False

    @property
    def world(self) -> World:
        """What the protocol looks at."""
        return World(
            now=self.now,
            process_age=self.process_age,
            run_id=self.run_id,
            lrp=self.lrp,
            instances=self.instances,
            bridge=self.bridge,
            bridge_instances=self.bridge_instances,
            versions_in_events=self.versions_in_events,
            domain_is_fresh=self.domain_is_fresh,
        )


@dataclass(frozen=True, slots=True)
class OrphanedBridge:
    """A bridge that no migration knows of, and the LRP that it stands in for.

    Attributes:
        is_in_use: A migration of that LRP is open after all.
        domains_are_fresh: Every domain that LRPs are replaced in.
    """

    process_guid: ProcessGuid
    process_age: float
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    is_in_use: bool = False
    domains_are_fresh: bool = False
