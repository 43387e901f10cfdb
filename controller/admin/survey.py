"""Observes many LRPs as a pass observes one, and decides about each without doing anything.

The BBS is asked for whole listings and for batches instead of for one LRP after another, and the store
for a batch in one transaction: 1,000 apps cost some ten requests. Observations are built by
`reconcile.observe` and decided by `reconcile.decide`, so a plan says what passes will do.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol, TypeVar

from controller.admin.read_ahead import (
    DropletsOfApps,
    HypotheticalOrder,
    ListedOriginalSources,
    OpenMigrations,
    Pins,
    ReadAhead,
    ReadMigrations,
    ReadRecords,
    ReadStagings,
    read_open_migrations,
)
from reconcile.actions import Action, Skip
from reconcile.errors import Invalid
from reconcile.facts import Coverage, Facts, PassContext
from reconcile.known_records import LrpKey
from reconcile.lrps import ActualLrp, AppGuid, DesiredLrp, ProcessGuid, SchedulingInfo
from reconcile.observe import observe
from reconcile.observe_former import guid_of_copy
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.plan import planned_action
from reconcile.reasons import Reason
from reconcile.references import ImageReference, source_from_rootfs
from reconcile.selection import AppNames, Selection, names_of

BATCH = 250
"""LRPs that the BBS and the store are asked for in one request."""

RECENT = 10.0
"""Seconds for which a listing serves further pages; plans are always made and applied on new listings."""

T = TypeVar("T")
Record_co = TypeVar("Record_co", covariant=True)


class SurveyScan(Protocol[Record_co]):
    """A listing, read one record at a time."""

    skipped: int
    """Records that could not be read."""

    def __aiter__(self) -> AsyncIterator[Record_co]:
        """Read the records."""


class SurveyedBbs(Protocol):
    """The BBS, as far as a survey lists it."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> SurveyScan[SchedulingInfo]:
        """List the light views of the desired LRPs of one domain."""

    def list_desired_lrps(self, domain: str, process_guids: Sequence[ProcessGuid]) -> SurveyScan[DesiredLrp]:
        """List some desired LRPs."""

    def list_actual_lrps_of_domain(self, domain: str) -> SurveyScan[ActualLrp]:
        """List the instance rows of one domain of every presence."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""


class PassContexts(Protocol):
    """What the process knows of an LRP before anything is read, as passes know it."""

    def context_of(self, process_guid: ProcessGuid) -> PassContext:
        """Return the context in which an LRP is observed now."""


@dataclass(frozen=True, slots=True)
class SurveyDependencies:
    """What a survey reads.

    Attributes:
        stagings: None where no Cloud Controller is configured.
    """

    bbs: SurveyedBbs
    records: ReadRecords
    journal: ReadMigrations
    original_sources: ListedOriginalSources
    droplets: DropletsOfApps
    pins: Pins
    coverage: Coverage
    contexts: PassContexts
    stagings: ReadStagings | None = None


@dataclass(frozen=True, slots=True)
class SurveyedLrp:
    """One LRP with its observation and the decision about it.

    Attributes:
        sources: The images that it runs from, or ran from before its migration, as far as they are known.
    """

    lrp: DesiredLrp
    observed: Observed
    action: Action
    sources: tuple[ImageReference, ...] = ()


@dataclass(frozen=True, slots=True)
class LrpListing:
    """LRPs to decide about, with their instances.

    Attributes:
        guids: Sorted.
        instances: The instance rows of the LRPs that have any.
        unreadable: The number of records of the BBS that could not be read.
    """

    guids: tuple[ProcessGuid, ...]
    instances: Mapping[ProcessGuid, tuple[ActualLrp, ...]]
    unreadable: int = 0

    def first(self, count: int) -> "LrpListing":
        """Keep only the first LRPs."""
        return replace(self, guids=self.guids[:count])

    def after(self, process_guid: str) -> "LrpListing":
        """Keep only the LRPs after one."""
        return replace(self, guids=tuple(guid for guid in self.guids if guid > process_guid))


@dataclass(slots=True)
class SurveyCounts:
    """What a survey counts while it yields LRPs.

    Attributes:
        apps: What the apps of all LRPs that were read are chosen by, also of LRPs that are not selected.
    """

    considered: int = 0
    unreadable: int = 0
    apps: dict[AppGuid, AppNames] = field(default_factory=dict)


class Survey:
    """Decides about many LRPs."""

    def __init__(self, dependencies: SurveyDependencies, rules: Rules) -> None:
        self._dependencies, self._rules = dependencies, rules
        self._recent: LrpListing | None = None
        self._recent_names: dict[AppGuid, AppNames] | None = None

    @property
    def rules(self) -> Rules:
        """The operator's rules."""
        return self._rules

    async def list_all(self) -> LrpListing:
        """List the Docker LRPs of the configured domains, and their instances.

        Raises:
            Unavailable: The BBS does not answer, or not to the end of a listing.
        """
        found, unreadable = list[ProcessGuid](), 0
        for domain in sorted(self._rules.domains):
            scan = self._dependencies.bbs.list_scheduling_infos(domain, docker_only=True)
            found += [info.process_guid async for info in scan]
            unreadable += scan.skipped
        guids = tuple(sorted({*found, *await self._list_removed()}))
        return LrpListing(guids, await self._instances(guids), unreadable)

    async def _list_removed(self) -> Sequence[ProcessGuid]:
        """List the LRPs that are being migrated, since some of them are removed for a moment."""
        rows = await self._dependencies.journal.list_migrations()
        return [row.process_guid for row in rows if row.original.domain in self._rules.domains]

    async def list_for_page(self, after: str) -> LrpListing:
        """List anew for a first page; a further page may use a listing that is a few seconds old."""
        if not after or self._recent is None:
            self._recent = await self.list_all()
            asyncio.get_running_loop().call_later(RECENT, self._forget, self._recent)
        return self._recent.after(after)

    def _forget(self, listed: LrpListing) -> None:
        if self._recent is listed:
            self._recent = None

    async def name_apps(self) -> dict[AppGuid, AppNames]:
        """Read what the apps of all LRPs are chosen by; a few seconds old where it was read just now.

        Raises:
            Unavailable: The BBS does not answer, or not to the end of a listing.
        """
        if self._recent_names is None:
            names = dict[AppGuid, AppNames]()
            listed = await self.list_for_page("")
            for guids in _batches(listed.guids, BATCH):
                async for lrp in self._dependencies.bbs.list_desired_lrps("", guids):
                    names[lrp.app_guid] = names_of(lrp)
            self._recent_names = names
            asyncio.get_running_loop().call_later(RECENT, self._forget_names, names)
        return self._recent_names

    def _forget_names(self, names: Mapping[AppGuid, AppNames]) -> None:
        if self._recent_names is names:
            self._recent_names = None

    async def apps_of(self, guids: Sequence[ProcessGuid]) -> frozenset[AppGuid]:
        """Read which apps some LRPs are of."""
        found = set[AppGuid]()
        for batch in _batches(guids, BATCH):
            found |= {lrp.app_guid async for lrp in self._dependencies.bbs.list_desired_lrps("", batch)}
        return frozenset(found)

    async def list_some(self, guids: Iterable[ProcessGuid]) -> LrpListing:
        """List the instances of LRPs whose process GUIDs are known."""
        named = tuple(sorted(guids))
        return LrpListing(named, await self._instances(named))

    async def decide_each(
        self, listed: LrpListing, selection: Selection, order: Order | None, counts: SurveyCounts
    ) -> AsyncGenerator[SurveyedLrp, None]:
        """Decide about each LRP that is selected, as if it had the order.

        Raises:
            Unavailable: The BBS or the store does not answer; what was yielded before is complete.
        """
        counts.unreadable += listed.unreadable
        named = frozenset(selection.process_guids)
        chosen = [guid for guid in listed.guids if not named or guid in named]
        migrations = await read_open_migrations(self._dependencies.journal)
        overrides = HypotheticalOrder(order, self._dependencies.pins)
        for guids in _batches(chosen, BATCH):
            batch = await self._read_ahead(guids, listed, selection, migrations, counts)
            facts = batch.facts(overrides, self._dependencies.coverage)
            for key in batch.known:
                surveyed = await self._decide(key.process_guid, facts, migrations)
                sources = await self._sources_of(surveyed, selection, batch)
                if selection.matches_image(sources):
                    counts.considered += 1
                    yield replace(surveyed, sources=sources)

    async def _read_ahead(
        self,
        guids: Sequence[ProcessGuid],
        listed: LrpListing,
        selection: Selection,
        migrations: OpenMigrations,
        counts: SurveyCounts,
    ) -> ReadAhead:
        """Read the LRPs of a batch whose owners are selected, with their records."""
        scan = self._dependencies.bbs.list_desired_lrps("", guids)
        desired = {lrp.process_guid: lrp async for lrp in scan}
        counts.unreadable += scan.skipped
        removed = {guid: migrations.rows[guid].original for guid in guids if guid in migrations.rows}
        counts.apps.update((lrp.app_guid, names_of(lrp)) for lrp in (removed | desired).values())
        chosen = filter(selection.matches_owner, (removed | desired).values())
        lrps = sorted(chosen, key=lambda each: each.process_guid)
        keys = [self._key_of(lrp) for lrp in lrps]
        known = dict(zip(keys, await self._dependencies.records.look_up(keys), strict=True))
        return ReadAhead(
            known=known,
            lrps=desired,
            instances=listed.instances,
            migrations=migrations,
            original_sources=self._dependencies.original_sources,
            droplets=self._dependencies.droplets,
            records=self._dependencies.records,
            rules=self._rules,
            stagings=self._dependencies.stagings,
        )

    def _key_of(self, lrp: DesiredLrp) -> LrpKey:
        source = source_from_rootfs(lrp.rootfs)
        guid = None if source is None else guid_of_copy(source, self._rules.cache)
        return LrpKey(lrp.process_guid, lrp.app_guid, source, guid)

    async def _instances(self, guids: Sequence[ProcessGuid]) -> dict[ProcessGuid, tuple[ActualLrp, ...]]:
        """List the instance rows of LRPs: of a few LRPs one by one, of many by listing the domains."""
        bbs = self._dependencies.bbs
        if len(guids) <= len(self._rules.domains) * 4:
            return {guid: await bbs.list_actual_lrps(guid) for guid in guids}
        wanted, found = frozenset(guids), dict[ProcessGuid, tuple[ActualLrp, ...]]()
        for domain in sorted(self._rules.domains):
            scan = bbs.list_actual_lrps_of_domain(domain)
            async for row in scan:
                if row.process_guid in wanted:
                    found[row.process_guid] = (*found.get(row.process_guid, ()), row)
            if scan.skipped:  # an unreadable row must not count as "no instance runs"
                raise Invalid("bbs", "unreadable-instances", f"{scan.skipped} instance rows cannot be read")
        return found

    async def _decide(
        self, process_guid: ProcessGuid, facts: Facts, migrations: OpenMigrations
    ) -> SurveyedLrp:
        context = self._dependencies.contexts.context_of(process_guid)
        lrp = await facts.lrps.find_desired_lrp(process_guid) or migrations.rows[process_guid].original
        try:
            observed = await observe(process_guid, facts, context)
        except Invalid as error:  # its journal row cannot be read, so each pass over it fails
            unknown = Observed(
                process_guid, now=context.now, process_age=context.process_age, run_id=context.run_id, lrp=lrp
            )
            return SurveyedLrp(lrp, unknown, Skip(Reason.CHECK_FAILED, str(error)))
        return SurveyedLrp(lrp, observed, planned_action(observed, self._rules))

    async def _sources_of(
        self, surveyed: SurveyedLrp, selection: Selection, batch: ReadAhead
    ) -> tuple[ImageReference, ...]:
        """Name what an LRP runs from, and of one that runs from a copy what it ran from before, if known."""
        source = source_from_rootfs(surveyed.lrp.rootfs)
        former = surveyed.observed.former_copy
        if source is not None and former is not None:
            return (source,) if former.source is None else (source, former.source)
        if source is None or not self._rules.cache.covers(source):
            return () if source is None else (source,)
        original_source = surveyed.observed.original_source
        if original_source is None and selection.images:
            original_source = await batch.find_original_source(surveyed.lrp.process_guid)
        before = None if original_source is None else source_from_rootfs(original_source.rootfs)
        return (source,) if before is None else (source, before)


def _batches(items: Iterable[T], size: int) -> Iterable[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
