"""The port through which one LRP is observed, for passes and for plans.

Two adapters fit it: live reads of one LRP (`reconcile.live_facts`), and many LRPs that are read ahead in
batches (`controller.admin.read_ahead`). Neither decides anything: which facts are needed, and in which
order they are read, is written in `reconcile.observe` alone.
"""

from dataclasses import dataclass
from typing import Protocol

from reconcile.current_stagings import CurrentStaging
from reconcile.droplets import DropletRecord
from reconcile.known_records import KnownCopy, LrpKey
from reconcile.lrps import ActualLrp, AppGuid, Credentials, DesiredLrp, ProcessGuid
from reconcile.migrations import Migration, OriginalSource
from reconcile.orders import Order
from reconcile.policy import UnseenStagings
from reconcile.records import Binding, CachedImage, LrpRecord
from reconcile.references import CacheGuid, CacheRepositories


class LrpFacts(Protocol):
    """What the BBS knows of one LRP."""

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Read one desired LRP."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""


class RecordFacts(Protocol):
    """What the store knows of one LRP."""

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP.

        Raises:
            Invalid: Its row cannot be read.
        """

    async def find_record(self, process_guid: ProcessGuid) -> LrpRecord | None:
        """Read what the last pass over an LRP came to."""

    async def find_copy(self, key: LrpKey) -> KnownCopy:
        """Read an LRP's own binding for a source, or its app's latest, with the copies that are known.

        Where the key names a staging, its binding alone is read.
        """

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read the record of a finished copy."""

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Read what an LRP ran from before its migration."""

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        """List the records of an app's droplets, the newest first."""


class Coverage(Protocol):
    """Which stagings cannot have been missed."""

    def is_current(self, binding: Binding) -> bool:
        """Whether no later staging of the binding's app can have been missed."""


class StagingFacts(Protocol):
    """What Cloud Controller knows of stagings."""

    async def find_current_staging(self, app_guid: AppGuid) -> CurrentStaging | None:
        """Read the staging that an app is started from; None when nobody says."""


class OverrideFacts(Protocol):
    """What operators ask for.

    A pass reads what is asked of the LRP now. A plan asks hypothetically: its order is the one that applying
    the plan would give, whatever order there is now, since a plan says what would happen if it were applied.
    The pause and the pins are those of the running daemon for both.
    """

    @property
    def is_paused(self) -> bool:
        """Whether the daemon starts only what an order asks for."""

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Return the order for an LRP; None for none."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source because an operator restored it."""


class SourceLoginPulls(Protocol):
    """Whether cells can pull copies with the login that Cloud Controller gives an LRP."""

    def why_not(self, placement_tags: frozenset[str], username: str) -> str | None:
        """Say why cells are not known to pull with the login of a source; None when they are."""


class MigrationFacts(Protocol):
    """What a step of an open migration rests on beside the LRP and its bridge."""

    async def list_domains(self) -> frozenset[str]:
        """List the fresh domains."""

    def versions(self, process_guid: ProcessGuid) -> tuple[DesiredLrp, ...]:
        """Return the newest version that an event reported, for each epoch of an LRP's tag."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that can be known of one LRP.

    Attributes:
        stagings: None where no Cloud Controller is configured.
        migrations: None for a plan. A plan says of an open migration its phase and not its next step, and of
            any other LRP where the next action leads and not that action alone: it needs the instances also
            where the action does not rest on them.
    """

    lrps: LrpFacts
    records: RecordFacts
    coverage: Coverage
    overrides: OverrideFacts
    migrations: MigrationFacts | None = None
    stagings: StagingFacts | None = None


@dataclass(frozen=True, slots=True)
class PassContext:
    """What the process knows of an LRP before anything is read, the same for passes and for plans.

    Attributes:
        now: UTC seconds since 1970.
        process_age: Seconds since the BBS first answered this process, whatever the clock did.
        run_id: This process, see `Migration.run_id`.
        cache: How copies are named, so that an LRP is known to run from one.
        stale: Instance GUIDs of the LRP's definitions that were removed, from the event cache.
        is_restoring: Whether LRPs are restored to their sources, since the private registry does not answer.
        unseen_stagings: What running LRPs get whose stagings were not seen.
        stores_logins: See `Observed`.
        pull_credentials: The login that cells have at the private registry; None when they need none.
        droplet_pulls: None where no droplet names a copy.
    """

    now: float
    process_age: float
    run_id: str
    cache: CacheRepositories
    stale: frozenset[str] = frozenset()
    is_restoring: bool = False
    unseen_stagings: UnseenStagings = UnseenStagings.CURRENT
    stores_logins: bool | None = None
    pull_credentials: Credentials | None = None
    droplet_pulls: SourceLoginPulls | None = None
