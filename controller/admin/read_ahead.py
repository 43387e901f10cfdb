"""Gives the facts about a batch of LRPs that was read ahead, as a pass reads those of one LRP."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from reconcile.current_stagings import CurrentStaging, may_be_missed
from reconcile.droplets import DropletRecord
from reconcile.facts import Coverage, Facts
from reconcile.known_records import KnownCopy, KnownLrp, LrpKey
from reconcile.lrps import ActualLrp, AppGuid, DesiredLrp, ProcessGuid
from reconcile.migrations import Migration, OriginalSource
from reconcile.observe_former import read_former
from reconcile.observed import Rules
from reconcile.orders import Order
from reconcile.records import CachedImage, LrpRecord
from reconcile.references import CacheGuid


class Pins(Protocol):
    """The pause, and the apps that stay on their sources."""

    @property
    def is_paused(self) -> bool:
        """Whether the daemon starts only what an order asks for."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source because an operator restored it."""


class ListedOriginalSources(Protocol):
    """What LRPs ran from before their migrations, read for many at once."""

    async def list_original_sources(
        self, process_guids: Sequence[ProcessGuid]
    ) -> Mapping[ProcessGuid, OriginalSource]:
        """Read what some hundred LRPs ran from."""


class DropletsOfApps(Protocol):
    """The records of droplets."""

    async def list_droplets_of_apps(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List the records of some hundred apps' droplets, the newest of each app first."""


class ReadMigrations(Protocol):
    """The journal, as far as a survey reads it."""

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP."""

    async def list_migrations(self) -> tuple[Migration, ...]:
        """List the open migrations that can be read, oldest first."""

    async def list_undecryptable(self) -> tuple[Exception, ...]:
        """Say what is wrong with each row that cannot be read."""


class ReadRecords(Protocol):
    """The records of LRPs, read for many at once."""

    async def look_up(self, keys: Sequence[LrpKey]) -> tuple[KnownLrp, ...]:
        """Read what is known of many LRPs at one moment, in their order."""


class ReadStagings(Protocol):
    """Cloud Controller, as far as it knows which stagings apps are started from."""

    async def find_current_stagings(self, app_guids: Collection[AppGuid]) -> Mapping[AppGuid, CurrentStaging]:
        """Read the stagings that some apps are started from; without those of which nobody says."""


@dataclass(frozen=True, slots=True)
class OpenMigrations:
    """The rows of the journal, as they were when a survey began."""

    journal: ReadMigrations
    rows: Mapping[ProcessGuid, Migration]
    are_complete: bool

    async def find(self, process_guid: ProcessGuid) -> Migration | None:
        """Return the row of one LRP; where some cannot be read, the journal is asked whether this is one.

        Raises:
            Invalid: The row cannot be read.
        """
        if self.are_complete:
            return self.rows.get(process_guid)
        return await self.journal.find_migration(process_guid)


async def read_droplets(
    droplets: DropletsOfApps, app_guids: Collection[AppGuid]
) -> Mapping[AppGuid, tuple[DropletRecord, ...]]:
    """Read the records of some apps' droplets, the newest of each app first."""
    found = dict[AppGuid, tuple[DropletRecord, ...]]()
    for record in await droplets.list_droplets_of_apps(app_guids) if app_guids else ():
        found[record.app_guid] = (*found.get(record.app_guid, ()), record)
    return found


async def read_open_migrations(journal: ReadMigrations) -> OpenMigrations:
    """Read the journal's rows."""
    rows = {row.process_guid: row for row in await journal.list_migrations()}
    return OpenMigrations(journal, rows, are_complete=not await journal.list_undecryptable())


@dataclass(frozen=True, slots=True)
class HypotheticalOrder:
    """What operators ask for, as if they had given one order for every LRP, or none.

    A plan says what would happen if it were applied, so orders that are being carried out do not count.
    """

    order: Order | None
    pins: Pins

    @property
    def is_paused(self) -> bool:
        """Whether the daemon starts only what an order asks for."""
        return self.pins.is_paused

    def order_of(self, process_guid: ProcessGuid) -> Order | None:  # noqa: ARG002 - the same for every LRP
        """Return the order for an LRP; None for none."""
        return self.order

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source because an operator restored it."""
        return self.pins.is_pinned(app_guid)


@dataclass(slots=True, kw_only=True)
class ReadAhead:
    """What was read of a batch of LRPs; what was not is read when it is asked for.

    Attributes:
        known: The records of each LRP that is desired or being migrated.
        lrps: Those that are desired.
        records: Reads what is needed of few LRPs of the batch, and what was not read ahead.
        stagings: None where no Cloud Controller is configured.
    """

    known: Mapping[LrpKey, KnownLrp]
    lrps: Mapping[ProcessGuid, DesiredLrp]
    instances: Mapping[ProcessGuid, tuple[ActualLrp, ...]]
    migrations: OpenMigrations
    original_sources: ListedOriginalSources
    droplets: DropletsOfApps
    records: ReadRecords
    rules: Rules
    stagings: ReadStagings | None = None
    _records: Mapping[ProcessGuid, LrpRecord | None] = field(init=False)
    _copies: Mapping[LrpKey, KnownCopy] = field(init=False)
    _former_copies: Mapping[LrpKey, KnownCopy] | None = field(init=False, default=None)
    _images: Mapping[CacheGuid, CachedImage | None] = field(init=False)
    _found_original_sources: Mapping[ProcessGuid, OriginalSource] | None = field(init=False, default=None)
    _found_droplets: Mapping[AppGuid, tuple[DropletRecord, ...]] | None = field(init=False, default=None)
    _found_stagings: Mapping[AppGuid, CurrentStaging | None] | None = field(init=False, default=None)
    _coverage: Coverage | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._records = {key.process_guid: known.record for key, known in self.known.items()}
        self._images = {
            key.cache_guid: known.current_copy
            for key, known in self.known.items()
            if key.cache_guid is not None
        }
        self._copies = {replace(key, cache_guid=None): known.copy for key, known in self.known.items()}

    def facts(self, overrides: HypotheticalOrder, coverage: Coverage) -> Facts:
        """Return the facts as a plan reads them."""
        self._coverage = coverage
        stagings = None if self.stagings is None else self
        return Facts(lrps=self, records=self, coverage=coverage, overrides=overrides, stagings=stagings)

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Return one desired LRP."""
        return self.lrps.get(process_guid)

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """Return an LRP's instance rows of every presence."""
        return self.instances.get(process_guid, ())

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Return the open migration of an LRP."""
        return await self.migrations.find(process_guid)

    async def find_record(self, process_guid: ProcessGuid) -> LrpRecord | None:
        """Return what the last pass over an LRP came to."""
        return self._records.get(process_guid)

    async def find_copy(self, key: LrpKey) -> KnownCopy:
        """Return a staging's binding, an LRP's own or its app's latest, with the copies that are known."""
        if key.staged_as:  # few come from another staging than the latest that is known
            return (await self._look_up(key)).copy
        copy = self._copies.get(key)
        if copy is None:
            copy = (await self._read_former_copies()).get(key)
        return (await self._look_up(key)).copy if copy is None else copy

    async def _read_former_copies(self) -> Mapping[LrpKey, KnownCopy]:
        """Look up, for the whole batch, what the LRPs ran from that run from copies in other registries."""
        if self._former_copies is None:
            cache, cells = self.rules.cache, self.rules.pull_credentials
            former = [await read_former(lrp, self, cache, cells) for lrp in self.lrps.values()]
            keys = [each.copy_key for each in former if each is not None and each.copy_key is not None]
            found = await self.records.look_up(keys)
            self._former_copies = {key: known.copy for key, known in zip(keys, found, strict=True)}
        return self._former_copies

    async def _look_up(self, key: LrpKey) -> KnownLrp:
        (known,) = await self.records.look_up([key])
        return known

    async def find_current_staging(self, app_guid: AppGuid) -> CurrentStaging | None:
        """Give the staging that an app is started from; the first question reads it for the whole batch."""
        if self.stagings is None or self._coverage is None:
            return None
        if self._found_stagings is None:
            asked = {
                key.app_guid
                for key, copy in self._copies.items()
                if copy.binding is not None
                and may_be_missed(key.process_guid, copy, is_current=self._coverage.is_current(copy.binding))
            }
            found = await self.stagings.find_current_stagings(asked)
            self._found_stagings = {each: found.get(each) for each in asked}
        if app_guid in self._found_stagings:
            return self._found_stagings[app_guid]
        return (await self.stagings.find_current_stagings({app_guid})).get(app_guid)

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Return the record of a finished copy: of one that an LRP of the batch runs from, as read ahead."""
        if cache_guid in self._images:
            return self._images[cache_guid]
        return (await self._look_up(LrpKey(ProcessGuid(""), AppGuid(""), None, cache_guid))).current_copy

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        """Give the records of an app's droplets; the first question reads those of the whole batch."""
        if self._found_droplets is None:
            on_copies = {key.app_guid for key in self.known if key.cache_guid is not None}
            found = await read_droplets(self.droplets, on_copies)
            self._found_droplets = {each: found.get(each, ()) for each in on_copies}
        if app_guid in self._found_droplets:
            return self._found_droplets[app_guid]
        return (await read_droplets(self.droplets, {app_guid})).get(app_guid, ())

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Give what an LRP ran from before its migration; the first question reads it for the whole batch."""
        if self._found_original_sources is None:
            guids = tuple(self._records)
            self._found_original_sources = await self.original_sources.list_original_sources(guids)
        return self._found_original_sources.get(process_guid)
