"""What a decision rests on, as values: the operator's rules, and what was observed of one LRP."""

from dataclasses import dataclass

from reconcile.circuit_breaker import CircuitBreaker
from reconcile.known_records import StagedCopy
from reconcile.lrps import ActualLrp, Credentials, DesiredLrp, ProcessGuid, source_of
from reconcile.migrations import Goal, Migration, OriginalSource
from reconcile.orders import Order
from reconcile.policy import Policy, RunningPolicy, UnseenStagings
from reconcile.records import Binding, CachedImage, CacheJob, LrpRecord
from reconcile.references import CacheRepositories, ImageReference, source_from_rootfs
from reconcile.steps import PhaseLimits, World
from reconcile.store_markers import StoreId


@dataclass(slots=True, eq=False)  # one object is shared, and the login in it follows its file
class Rules:
    """What the operator decided in the config.

    Attributes:
        domains: Only LRPs of these domains are migrated.
        running: Whether an LRP may be migrated while it runs.
        own_store: Of this process; None where no other store is looked for.
        may_bridge: Whether bridges are possible at all: only where the journal outlives the process.
        drains_original: Whether the routes of an LRP are taken away before it is removed while it runs.
        pull_credentials: The login that cells use at the private registry; None when they need none. It is
            replaced while the process runs, when the file with the password changes.
        max_in_flight: Open migrations at a time.
        circuit_breaker: The circuit breaker as it is when the process starts.
        unseen_stagings: What running LRPs get whose stagings were not seen.
    """

    policy: Policy
    cache: CacheRepositories
    domains: frozenset[str]
    running: RunningPolicy = RunningPolicy()  # noqa: RUF009 - a frozen value
    limits: PhaseLimits = PhaseLimits()  # noqa: RUF009 - a frozen value
    own_store: StoreId | None = None
    may_bridge: bool = False
    drains_original: bool = False
    pull_credentials: Credentials | None = None
    max_in_flight: int = 10
    circuit_breaker: CircuitBreaker = CircuitBreaker(max_failures=3, retry_after=600.0)  # noqa: RUF009 - a frozen value
    unseen_stagings: UnseenStagings = UnseenStagings.CURRENT


@dataclass(frozen=True, slots=True)
class FormerCopy:
    """A copy in another private registry than the present one, from which an LRP runs.

    Attributes:
        registry: Its address.
        is_configured: Whether the config names it among the former ones.
        source: What the LRP ran from before; None when that is not known.
        credentials: For the source; None when none are needed, or known.
        image: The record of the copy; None when it is gone.
        is_of_app: Whether the LRP's app is known to have run from the copy, or to have staged it. Otherwise
            its owner may have named it, and that is no proof that he may read the image.
    """

    registry: str
    is_configured: bool
    source: ImageReference | None = None
    credentials: Credentials | None = None
    image: CachedImage | None = None
    is_of_app: bool = False


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
        original_source: What the LRP ran from before its migration; read only when it runs from a copy, is
            being migrated, or may be restored.
        is_restoring: Whether LRPs are restored to their sources, since the private registry does not answer.
        domain_is_fresh: Read only while a migration is open; False otherwise.
        order: What an operator asks of this LRP; None for nothing.
        is_pinned: Whether an operator restored its app to its source, where it is to stay; a migration to the
            copy that was under way then is turned round.
        is_paused: Whether an operator paused the daemon, so that only orders start something.
        newest: The newest copy that the app is known to have staged from the source, or to have run.
        former_copy: What is known of the copy in a former private registry that the LRP runs from; None when
            it runs from anything else.
        stores_logins: Whether the BBS stores a login that is updated in place; None when that is not known.
        is_source_found: Whether the original source was found by the app's droplet, and is not saved yet.
        has_source_login: Whether the LRP runs from a copy with the login of its source: Cloud Controller gave
            it that, since the app's droplet names the copy.
        can_pull_with_own_login: Whether cells are known to pull copies with such a login.
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
    newest: StagedCopy | None = None
    former_copy: FormerCopy | None = None
    stores_logins: bool | None = None
    is_source_found: bool = False
    has_source_login: bool = False
    can_pull_with_own_login: bool = False

    @property
    def source(self) -> ImageReference:
        """The image that the LRP's owner wants: what it runs from, or ran from before it got a former copy.

        Raises:
            Invalid: No registry would know such an image.
        """
        if self.lrp is None:
            raise AssertionError("an LRP that is gone has no source")
        former = self.former_copy
        return former.source if former is not None and former.source is not None else source_of(self.lrp)

    @property
    def source_credentials(self) -> Credentials | None:
        """The login for the source, as far as it is known."""
        if self.lrp is None:
            raise AssertionError("an LRP that is gone has no source")
        return self.lrp.credentials if self.former_copy is None else self.former_copy.credentials

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
            source=None if self.original_source is None else source_from_rootfs(self.original_source.rootfs),
            way_to_source=None if self.original_source is None else self.original_source.pull,
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
        may_be_of_other_store: Whether a daemon with another store works on the BBS.
    """

    process_guid: ProcessGuid
    process_age: float
    bridge: DesiredLrp | None = None
    bridge_instances: tuple[ActualLrp, ...] = ()
    lrp: DesiredLrp | None = None
    instances: tuple[ActualLrp, ...] = ()
    is_in_use: bool = False
    domains_are_fresh: bool = False
    may_be_of_other_store: bool = False
