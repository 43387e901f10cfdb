"""Looks at many LRPs at once, as a pass looks at one, and decides about each without doing anything.

The BBS is asked for whole listings and for batches instead of for one LRP after another, and the store
for a batch in one transaction: 1,000 apps cost some ten requests. What is decided is decided by
`reconcile.decide`, so a plan says what passes will do.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeVar

from controller.process import Process
from reconcile.actions import Action, Skip
from reconcile.decide import decide
from reconcile.errors import Invalid
from reconcile.images import ImageReference, image_from_rootfs
from reconcile.lrps import ActualLrp, AppGuid, DesiredLrp, ProcessGuid, SchedulingInfo
from reconcile.observe import Coverage
from reconcile.observed import Observed, Rules
from reconcile.orders import Order
from reconcile.ports import Journal, Mode, OriginalSources
from reconcile.reasons import Reason
from reconcile.records import Goal, Known, LrpKey, Migration, OriginalSource
from reconcile.selection import Selection

BATCH = 250
"""LRPs that the BBS and the store are asked for at a time."""

RECENT = 10.0
"""Seconds for which a listing serves further pages of a list; plans are made and applied on new ones."""

T = TypeVar("T")
Record_co = TypeVar("Record_co", covariant=True)


class Scan(Protocol[Record_co]):
    """A listing, read one record at a time."""

    skipped: int
    """Records that could not be read."""

    def __aiter__(self) -> AsyncIterator[Record_co]:
        """Read the records."""


class Bbs(Protocol):
    """The BBS, as far as it is listed."""

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Scan[SchedulingInfo]:
        """List the light views of the desired LRPs of one domain."""

    def list_desired_lrps(self, domain: str, process_guids: Sequence[ProcessGuid]) -> Scan[DesiredLrp]:
        """List some desired LRPs."""

    def list_actual_lrps_of_domain(self, domain: str) -> Scan[ActualLrp]:
        """List the instance rows of one domain of every presence."""

    async def list_actual_lrps(self, process_guid: ProcessGuid) -> tuple[ActualLrp, ...]:
        """List an LRP's instance rows of every presence."""


class Records(Protocol):
    """The store, as far as it is read."""

    async def look_up(self, keys: Sequence[LrpKey]) -> tuple[Known, ...]:
        """Read what is known of many LRPs at one moment, in their order."""


class Pins(Protocol):
    """Which apps stay on their sources."""

    @property
    def is_paused(self) -> bool:
        """Nothing is begun but what an order asks for."""

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source, where an operator put it back."""


@dataclass(frozen=True, slots=True)
class Places:
    """What a survey reads."""

    bbs: Bbs
    records: Records
    journal: Journal
    original_sources: OriginalSources
    pins: Pins
    coverage: Coverage
    mode: Mode


@dataclass(frozen=True, slots=True)
class Seen:
    """One LRP, and what is decided about it.

    Attributes:
        sources: What it runs from, or ran from before it was moved, as far as that is known.
    """

    lrp: DesiredLrp
    observed: Observed
    action: Action
    sources: tuple[ImageReference, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """LRPs to look at, with what one listing told of them.

    Attributes:
        guids: In their order.
        instances: The instance rows of those that have any.
        unreadable: Records of the BBS that could not be read.
    """

    guids: tuple[ProcessGuid, ...]
    instances: Mapping[ProcessGuid, tuple[ActualLrp, ...]]
    unreadable: int = 0

    def first(self, count: int) -> "Listed":
        """Leave out all but the first LRPs."""
        return replace(self, guids=self.guids[:count])

    def after(self, process_guid: str) -> "Listed":
        """Leave out the LRPs up to one."""
        return replace(self, guids=tuple(guid for guid in self.guids if guid > process_guid))


@dataclass(slots=True)
class Findings:
    """What a survey comes to beside the LRPs: counted while they are given."""

    looked_at: int = 0
    unreadable: int = 0


class Survey:
    """Decides about LRPs by the dozen."""

    def __init__(self, places: Places, rules: Rules, process: Process) -> None:
        self._places, self._rules, self._process = places, rules, process
        self._recent: Listed | None = None

    @property
    def rules(self) -> Rules:
        """What is decided by."""
        return self._rules

    async def list_all(self) -> Listed:
        """List the Docker LRPs of the domains that we touch, and their instances.

        Raises:
            Unavailable: The BBS does not list them to the end.
        """
        found, unreadable = list[ProcessGuid](), 0
        for domain in sorted(self._rules.domains):
            scan = self._places.bbs.list_scheduling_infos(domain, docker_only=True)
            found += [info.process_guid async for info in scan]
            unreadable += scan.skipped
        guids = tuple(sorted({*found, *await self._list_removed()}))
        return Listed(guids, await self._instances(guids), unreadable)

    async def _list_removed(self) -> Sequence[ProcessGuid]:
        """List the LRPs that are being replaced: some are removed for a moment, and in no listing."""
        rows = await self._places.journal.list_migrations()
        return [row.process_guid for row in rows if row.original.domain in self._rules.domains]

    async def list_for_page(self, after: str) -> Listed:
        """List anew for a first page; a further one is given what is a few seconds old at most."""
        if not after or self._recent is None:
            self._recent = await self.list_all()
            asyncio.get_running_loop().call_later(RECENT, self._forget, self._recent)
        return self._recent.after(after)

    def _forget(self, listed: Listed) -> None:
        if self._recent is listed:
            self._recent = None

    async def list_some(self, guids: Iterable[ProcessGuid]) -> Listed:
        """List the instances of LRPs that are known by name."""
        named = tuple(sorted(guids))
        return Listed(named, await self._instances(named))

    async def look(
        self, listed: Listed, selection: Selection, order: Order | None, findings: Findings
    ) -> AsyncGenerator[Seen, None]:
        """Look at LRPs, and decide about each that is selected as if the order were given for it.

        Raises:
            Unavailable: The BBS or the store does not answer; what was given before is true.
        """
        findings.unreadable += listed.unreadable
        named = frozenset(selection.process_guids)
        chosen = [guid for guid in listed.guids if not named or guid in named]
        open_rows = await self._places.journal.list_migrations()
        around = _Around(
            order,
            instances=listed.instances,
            migrations={row.process_guid: row for row in open_rows},
            needs_original_sources=bool(selection.images)
            or (order is not None and order.goal is Goal.SOURCE),
        )
        for batch in _batches(chosen, BATCH):
            looked_at_batch = self._look_at_batch(batch, selection, around.migrations, findings)
            async with aclosing(looked_at_batch) as looked:
                async for lrp, known in looked:
                    seen = await self._decide(lrp, known, around)
                    if selection.matches_image(seen.sources):
                        findings.looked_at += 1
                        yield seen

    async def _look_at_batch(
        self,
        batch: Sequence[ProcessGuid],
        selection: Selection,
        migrations: Mapping[ProcessGuid, Migration],
        findings: Findings,
    ) -> AsyncGenerator[tuple[DesiredLrp, Known], None]:
        scan = self._places.bbs.list_desired_lrps("", batch)
        listed = {lrp.process_guid: lrp async for lrp in scan}
        removed = {guid: migrations[guid].original for guid in batch if guid in migrations}
        there = (removed | listed).values()
        lrps = sorted(filter(selection.matches_owner, there), key=lambda each: each.process_guid)
        findings.unreadable += scan.skipped
        keys = [LrpKey(lrp.process_guid, lrp.app_guid, _source_of(lrp)) for lrp in lrps]
        for lrp, known in zip(lrps, await self._places.records.look_up(keys), strict=True):
            yield lrp, known

    async def _instances(self, guids: Sequence[ProcessGuid]) -> dict[ProcessGuid, tuple[ActualLrp, ...]]:
        """List the instance rows of LRPs: of few one after the other, of many by listing their domains."""
        bbs = self._places.bbs
        if len(guids) <= len(self._rules.domains) * 4:
            return {guid: await bbs.list_actual_lrps(guid) for guid in guids}
        wanted, found = frozenset(guids), dict[ProcessGuid, tuple[ActualLrp, ...]]()
        for domain in sorted(self._rules.domains):
            scan = bbs.list_actual_lrps_of_domain(domain)
            async for row in scan:
                if row.process_guid in wanted:
                    found[row.process_guid] = (*found.get(row.process_guid, ()), row)
            if scan.skipped:  # "nothing runs" must not be concluded from what could not be read
                raise Invalid("bbs", "unreadable-instances", f"{scan.skipped} instance rows cannot be read")
        return found

    async def _decide(self, lrp: DesiredLrp, known: Known, around: "_Around") -> Seen:
        places = self._places
        original_source = await self._original_source(lrp) if around.needs_original_sources else None
        observed = Observed(
            lrp.process_guid,
            now=self._process.clock(),
            process_age=0.0,
            run_id=self._process.run_id,
            lrp=lrp,
            instances=around.instances.get(lrp.process_guid, ()),
            binding=known.binding,
            binding_is_current=known.binding is not None and places.coverage.is_current(known.binding),
            job=known.job,
            image=known.image,
            record=known.record,
            migration=around.migrations.get(lrp.process_guid),
            original_source=original_source,
            is_restoring=places.mode.is_restoring,
            order=around.order,
            is_pinned=places.pins.is_pinned(lrp.app_guid),
            is_paused=places.pins.is_paused,
        )
        sources = [
            source
            for source in (_source_of(lrp), _image_of_original_source(original_source))
            if source is not None
        ]
        return Seen(lrp, observed, self._action(observed), tuple(sources))

    def _action(self, observed: Observed) -> Action:
        if observed.migration is not None:  # how that goes on is the pass's, which sees its bridge too
            return Skip(Reason(observed.migration.phase))
        return decide(observed, self._rules)

    async def _original_source(self, lrp: DesiredLrp) -> OriginalSource | None:
        source = _source_of(lrp)
        if source is None or not self._rules.cache.holds(source):
            return None
        return await self._places.original_sources.find_original_source(lrp.process_guid)


@dataclass(frozen=True, slots=True)
class _Around:
    """What is read once for all LRPs of a survey."""

    order: Order | None
    instances: Mapping[ProcessGuid, tuple[ActualLrp, ...]]
    migrations: Mapping[ProcessGuid, Migration]
    needs_original_sources: bool


def _source_of(lrp: DesiredLrp) -> ImageReference | None:
    try:
        return image_from_rootfs(lrp.rootfs).canonical()
    except Invalid:
        return None


def _image_of_original_source(original_source: OriginalSource | None) -> ImageReference | None:
    if original_source is None:
        return None
    try:
        return image_from_rootfs(original_source.rootfs).canonical()
    except Invalid:
        return None


def _batches(items: Iterable[T], size: int) -> Iterable[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
