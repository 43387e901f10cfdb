"""Looks at an interval which copies nothing uses, and keeps since when, so that they may be deleted.

A look that cannot be trusted changes nothing: an LRP could not be read, the BBS listed no LRP at all, or it
did not list one that it has when it is asked for that one; or Cloud Controller does not say which droplets
name copies.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from controller.droplet_uses import NamedCopy
from controller.process import Process
from controller.tracing import tracing
from reconcile.droplets import DropletRecord
from reconcile.errors import DockerCacheError, ErrorCode, Invalid
from reconcile.eviction import EvictionDecision, decide_eviction, find_twins
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid, SchedulingInfo, Task
from reconcile.ports import Journal
from reconcile.records import CachedImage, CopyCheck
from reconcile.references import CacheGuid, CacheRepositories
from reconcile.usage import RememberedUses, Usage, UsageSurvey

log = structlog.get_logger(scope="unused-copies")

LONGEST_INTERVAL = 300.0
"""Seconds between two looks at most."""

_ListNamed = Callable[[], Awaitable[tuple[NamedCopy, ...]]]

ASKED_FOR = 200
"""LRPs that the store remembers and the BBS did not list: so many are asked for, one by one, in one look."""


class UsageScan(Protocol):
    """A listing of LRPs, read one record at a time."""

    skipped: int
    """Records that could not be read."""
    received: int
    """Records of any kind, Docker or not."""

    def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        """Read the Docker LRPs."""


class UsageBbs(Protocol):
    """The BBS, as far as it shows what uses copies."""

    def list_scheduling_infos(self, domain: str = "", *, docker_only: bool = False) -> UsageScan:
        """List the scheduling infos of the desired LRPs of one domain, or of all domains when it is empty."""

    async def list_tasks(self, domain: str = "") -> tuple[Task, ...]:
        """List the tasks of one domain, or of all domains when it is empty."""

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        """Read one desired LRP."""


class UsageRecords(Protocol):
    """The store, as far as it shows what uses copies."""

    async def list_images(self) -> tuple[CachedImage, ...]:
        """List the finished copies."""

    async def list_remembered_uses(self) -> RememberedUses:
        """List what is remembered of the use of copies."""


class UnusedMarks(Protocol):
    """Keeps since when copies are unused."""

    async def list_checks(self) -> tuple[CopyCheck, ...]:
        """List what was last seen of the copies that were looked at."""

    async def mark_unused(self, since: Mapping[CacheGuid, float]) -> None:
        """Save since when some copies are unused; 0 for one that is used."""


class PinnedApps(Protocol):
    """The apps that stay on their sources."""

    @property
    def pinned_apps(self) -> frozenset[AppGuid]:
        """The apps that an operator pinned to their sources."""


class UsedByDroplets(Protocol):
    """The droplets of Cloud Controller, as far as they name copies."""

    async def list_records(self) -> tuple[DropletRecord, ...]:
        """List what is recorded of droplets."""

    async def list_named(self) -> tuple[NamedCopy, ...]:
        """List anew the droplets that name copies."""

    async def list_named_again(self) -> tuple[NamedCopy, ...]:
        """List the droplets that name copies where a listing for the same purpose was long ago."""

    async def list_named_lately(self) -> tuple[NamedCopy, ...]:
        """List the droplets that name copies as they were an hour ago at most."""


@dataclass(frozen=True, slots=True)
class UsageSources:
    """What a look reads and writes.

    Attributes:
        other_store: Says that a daemon with another store may work on the BBS, whose migrations are not known
            here; empty when none does.
    """

    bbs: UsageBbs
    records: UsageRecords
    journal: Journal
    marks: UnusedMarks
    pins: PinnedApps
    cache: CacheRepositories
    other_store: Callable[[], str]
    droplets: UsedByDroplets


class UnusedCopies:
    """Knows which copies are unused, and since when.

    Args:
        sources: See there.
        grace: Seconds for which a copy must have been unused before it may be deleted.
        process: Clock and metrics.
    """

    def __init__(self, sources: UsageSources, *, grace: float, process: Process) -> None:
        self._sources, self._grace, self._process = sources, grace, process
        self._gone: set[ProcessGuid] = set()
        """Remembered LRPs that the BBS, when it was asked for them, did not have."""

    async def run(self) -> None:
        """Look at once, and then at an interval forever, at least twice in the grace period."""
        interval = min(self._grace / 2, LONGEST_INTERVAL)
        while True:
            with tracing():
                try:
                    await self._note(await self._look_at_all(self._sources.droplets.list_named_lately))
                except DockerCacheError as error:
                    log.info("failed-to-check-unused-copies", error=str(error), retry_after_s=interval)
            await asyncio.sleep(interval)

    async def decide(self, wanted: Collection[CacheGuid]) -> list[EvictionDecision]:
        """Look now, and decide which of some copies may be deleted; of all copies when none is named.

        Raises:
            Unavailable: The BBS or the store does not answer.
        """
        images, usage = await self._look_at_all(self._sources.droplets.list_named)
        since = await self._note((images, usage))
        chosen = [image for image in images if not wanted or image.cache_guid in wanted]
        usage = await self._without_wrong_listing(chosen, usage)
        twins = find_twins(images, self._sources.cache)
        return [
            decide_eviction(
                image,
                usage,
                unused_since=since.get(image.cache_guid, 0.0),
                grace=self._grace,
                twin=twins.get(image.cache_guid),
            )
            for image in chosen
        ]

    async def look(self, images: Sequence[CachedImage]) -> Usage:
        """Look what uses some copies in the BBS and by the records, and save nothing.

        Raises:
            Unavailable: The BBS or the store does not answer.
        """
        return await self._look(images, None)

    async def _look(self, images: Sequence[CachedImage], list_named: _ListNamed | None) -> Usage:
        sources = self._sources
        undecryptable = await sources.journal.list_undecryptable()  # before the listings: see Copies.evict
        migrations = await sources.journal.list_migrations()
        recorded = await sources.droplets.list_records()
        remembered = await sources.records.list_remembered_uses()
        survey = UsageSurvey(images, sources.cache, remembered, sources.pins.pinned_apps)
        for migration in migrations:
            survey.see_migration(migration)
        for record in recorded:
            survey.see_droplet_record(record)
        for task in await sources.bbs.list_tasks():
            survey.see_task(task)
        scan = sources.bbs.list_scheduling_infos("", docker_only=True)
        async for info in scan:
            survey.see_lrp(info)
        problem = _problem_of(scan, sources.other_store(), has_unreadable_rows=bool(undecryptable))
        usage = survey.usage(self._process.clock(), grace=self._grace, problem=problem)
        is_known = problem is not None or all(usage.is_used(image.cache_guid) for image in images)
        if list_named is None or is_known:
            return usage
        try:
            for named in await list_named():
                survey.see_droplet(named.droplet_guid, named.image)
        except DockerCacheError as error:
            detail = f"a droplet may name it, and Cloud Controller does not list them: {error}"
            problem = Invalid("cloud-controller", "droplets-unknown", detail)
        return survey.usage(self._process.clock(), grace=self._grace, problem=problem)

    async def confirm(self, images: Sequence[CachedImage]) -> Usage:
        """Look what uses some copies, and ask for each LRP that should have been listed."""
        usage = await self._look(images, self._sources.droplets.list_named_again)
        return await self._without_wrong_listing(images, usage)

    async def _look_at_all(self, list_named: _ListNamed) -> tuple[tuple[CachedImage, ...], Usage]:
        images = await self._sources.records.list_images()
        return images, await self._look(images, list_named)

    async def _note(self, seen: tuple[Sequence[CachedImage], Usage]) -> dict[CacheGuid, float]:
        """Save what a look has shown, and return since when copies are unused."""
        images, usage = seen
        known = {check.cache_guid: check.unused_since for check in await self._sources.marks.list_checks()}
        doubtful = await self._doubtful(usage)
        since: dict[CacheGuid, float] = {}
        for image in images:
            guid = image.cache_guid
            if usage.is_used(guid):
                since[guid] = 0.0
            elif doubtful is None or guid in doubtful:
                since[guid] = known.get(guid, 0.0)
            else:
                since[guid] = min(known.get(guid, 0.0) or usage.at, usage.at)
        changed = {guid: at for guid, at in since.items() if at != known.get(guid, 0.0)}
        if changed:
            await self._sources.marks.mark_unused(changed)
        unused = [image for image in images if since[image.cache_guid]]
        self._process.metrics.copies.unused.set(len(unused))
        self._process.metrics.copies.unused_bytes.set(sum(image.size for image in unused))
        return since

    async def _doubtful(self, usage: Usage) -> frozenset[CacheGuid] | None:
        """Name the copies that a remembered LRP may run from although it was not listed; None for all."""
        if usage.problem is not None:
            log.info("cannot-tell-unused-copies", error=str(usage.problem))
            return None
        remembered = {lrp for lrps in usage.unlisted.values() for lrp in lrps}
        self._gone &= remembered
        unknown = sorted(remembered - self._gone)
        if (found := await self._find_one(unknown[:ASKED_FOR])) is not None:
            log.error("listing-incomplete", process_guid=found)
            return None
        self._gone.update(unknown[:ASKED_FOR])
        rest = frozenset(unknown[ASKED_FOR:])
        return frozenset(guid for guid, lrps in usage.unlisted.items() if lrps & rest)

    async def _without_wrong_listing(self, images: Iterable[CachedImage], usage: Usage) -> Usage:
        """Ask for each LRP that is remembered to run from one of some copies and was not listed."""
        unlisted = {lrp for image in images for lrp in usage.unlisted.get(image.cache_guid, ())}
        found = await self._find_one(sorted(unlisted))
        if found is None or usage.problem is not None:
            return usage
        detail = f"the BBS did not list {found}, which it has: its listing cannot be trusted"
        return Usage(usage.at, usage.users, usage.unlisted, Invalid("bbs", "listing-incomplete", detail))

    async def _find_one(self, process_guids: Iterable[ProcessGuid]) -> ProcessGuid | None:
        """Return the first of some LRPs that the BBS has."""
        for process_guid in process_guids:
            if await self._sources.bbs.find_desired_lrp(process_guid) is not None:
                return process_guid
        return None


def _problem_of(scan: UsageScan, other_store: str, *, has_unreadable_rows: bool) -> Invalid | None:
    """Say why nothing is known of copies for which no use was found."""
    if other_store:
        return Invalid("bbs", ErrorCode.OTHER_STORE_ACTIVE, f"another daemon may use it: {other_store}")
    if has_unreadable_rows:
        return Invalid("admin", "journal-unreadable", "an open migration that cannot be read may use it")
    if scan.skipped:
        return Invalid(
            "bbs", ErrorCode.UNREADABLE_LRPS, f"{scan.skipped} LRPs cannot be read: any may use it"
        )
    if not scan.received:
        return Invalid(
            "bbs",
            "listing-empty",
            "the BBS lists no LRP at all: this is not taken as proof that none uses it",
        )
    return None
