"""What a decision rests on, as values: the operator's rules, and what was observed of one LRP."""

from dataclasses import dataclass

from reconcile.circuit_breaker import CircuitBreaker
from reconcile.lrps import ActualLrp, Credentials, DesiredLrp, ProcessGuid
from reconcile.orders import Order
from reconcile.policy import Policy, RunningPolicy
from reconcile.records import Binding, CachedImage, CacheJob, Goal, LrpRecord, Migration, OriginalSource
from reconcile.references import CacheRepositories
from reconcile.steps import PhaseLimits, World


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator decided in the config.

    Attributes:
        domains: Only LRPs of these domains are migrated.
        running: Whether an LRP may be migrated while it runs.
        may_bridge: Whether bridges are possible at all: only where the journal outlives the process.
        drains_original: Whether the routes of an LRP are taken away before it is removed while it runs.
        pull_credentials: The login that cells use at the private registry; None when they need none.
        max_in_flight: Open migrations at a time.
        circuit_breaker: The circuit breaker as it is when the process starts.
    """

    policy: Policy
    cache: CacheRepositories
    domains: frozenset[str]
    running: RunningPolicy = RunningPolicy()  # noqa: RUF009 - a frozen value
    limits: PhaseLimits = PhaseLimits()  # noqa: RUF009 - a frozen value
    may_bridge: bool = False
    drains_original: bool = False
    pull_credentials: Credentials | None = None
    max_in_flight: int = 10
    circuit_breaker: CircuitBreaker = CircuitBreaker(max_failures=3, retry_after=600.0)  # noqa: RUF009 - a frozen value


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision about one process GUID rests on.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Migration.run_id`.
        current_copy: The record of the copy that the LRP runs from now; None when it runs from its source, or
            when there is no such record.
        binding_is_current: Whether no staging of the app since the binding's can have been missed.
        bridge: Read only while a migration with a bridge is open, like its instances.
        versions_in_events: See `World`.
        stale: Instance GUIDs of the LRP's definitions that were removed.
        original_source: What the LRP ran from before its migration; read only when it runs from a copy, or
            may be restored.
        is_restoring: Whether LRPs are restored to their sources, since the private registry does not answer.
        domain_is_fresh: Read only while a migration is open; False otherwise.
        order: What an operator asks of this LRP; None for nothing.
        is_pinned: Whether an operator restored its app to its source, where it is to stay; a migration to the
            copy that was under way then is turned round.
        is_paused: Whether an operator paused the daemon, so that only orders start something.
        stores_logins: Whether the BBS stores a login that is updated in place; None when that is not known.
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
    current_copy: CachedImage | None = None
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
    stores_logins: bool | None = None

    @property
    def world(self) -> World:
        """What the next step of an open migration rests on."""
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
            is_restore_requested=self.is_restore_requested,
        )

    @property
    def is_restore_requested(self) -> bool:
        """Whether an operator wants the LRP on its source: by an order, or by a pin where there is none."""
        return self.is_pinned if self.order is None else self.order.goal is Goal.SOURCE


@dataclass(frozen=True, slots=True)
class OrphanedBridge:
    """A bridge that seems to have no open migration, and the LRP that it is the bridge of.

    Attributes:
        is_in_use: Whether a migration of that LRP is open after all.
        domains_are_fresh: Whether every domain of `Rules.domains` is.
    """

    process_guid: ProcessGuid
    process_age: float
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    is_in_use: bool = False
    domains_are_fresh: bool = False
