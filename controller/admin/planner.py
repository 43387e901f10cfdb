"""Makes plans for operators: which LRPs would be migrated, how, and which images would be copied first.

A plan that may miss something says so. Source registries are asked what a copy consists of, each image
once and for a few seconds in all, since each request takes time and counts against their limits.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from controller.admin.cells import Obstacles
from controller.admin.droplet_planner import DropletPlanner, PlannedApps
from controller.admin.survey import Survey, SurveyCounts, SurveyedLrp
from reconcile.copy_choice import request_of_lrp
from reconcile.copying_ports import BlobLocations, SourceContent
from reconcile.droplet_plan import NO_DROPLETS, DropletCriteria, DropletPlan
from reconcile.droplets import DropletOrder
from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid, Credentials
from reconcile.migrations import Goal, Strategy
from reconcile.orders import Order
from reconcile.plan import (
    Plan,
    PlannedCopy,
    PlannedMigration,
    Skipped,
    Subject,
    copies_of,
    plan_lrp,
    subject_of,
)
from reconcile.reasons import Reason
from reconcile.records import CacheRequest
from reconcile.references import Digest, ImageReference
from reconcile.selection import Selection
from reconcile.trust import Sharing

ASKED_AT_A_TIME = 8
"""Source images that are asked for at the same time."""

ASKED_FOR = 2.0
"""Seconds in which source registries are asked; what is not known after them stays unknown."""


class AskedSources(Protocol):
    """The source registries, which say what a copy consists of."""

    async def look_at(self, source: ImageReference, credentials: Credentials | None) -> SourceContent:
        """Read at the source what a copy would consist of, without any layer."""


@dataclass(frozen=True, slots=True)
class PlanCriteria:
    """What a plan is about.

    Attributes:
        strategy: Plan only LRPs that would be migrated so; None plans all.
        only_cached: Skip LRPs whose images have no copy yet.
        include_pinned: Include apps that an operator pinned to their sources.
    """

    selection: Selection = Selection()  # noqa: RUF009 - a frozen value
    goal: Goal = Goal.CACHE
    strategy: Strategy | None = None
    only_cached: bool = False
    include_pinned: bool = False


@dataclass(frozen=True, slots=True)
class PlannedCopying:
    """What says how much a copy costs."""

    sources: AskedSources
    locations: BlobLocations
    sharing: Sharing


class Planner:
    """Makes plans, and changes nothing."""

    def __init__(
        self, survey: Survey, copying: PlannedCopying, obstacles: Obstacles, droplets: DropletPlanner
    ) -> None:
        self._survey, self._sources, self._locations = survey, copying.sources, copying.locations
        self._obstacles, self._sharing, self._droplets = obstacles, copying.sharing, droplets

    async def plan(self, criteria: PlanCriteria, *, now: float) -> Plan:
        """Make a plan; one that may miss something has problems."""
        order = Order(criteria.goal, since=now, only_cached=criteria.only_cached)
        counts, collected = SurveyCounts(), _Collected()
        problems = list[str]()
        try:
            listed = await self._survey.list_all()
            async with aclosing(
                self._survey.decide_each(listed, criteria.selection, order, counts)
            ) as seen_lrps:
                async for seen in seen_lrps:
                    self._collect(seen, criteria, collected)
        except DockerCacheError as error:
            problems.append(f"the listing is not complete: {error}")
        if counts.unreadable:
            problems.append(f"{counts.unreadable} records of the BBS could not be read")
        droplets = await self._plan_droplets(criteria, counts, collected, now=now)
        return Plan(
            goal=criteria.goal,
            cache=self._survey.rules.cache.address,
            made_at=now,
            copies=await self._ask(copies_of(collected.migrations), collected.requests),
            migrations=tuple(sorted(collected.migrations, key=lambda planned: _by_name(planned.subject))),
            pins=tuple(sorted(collected.pins, key=_by_name)),
            skipped=tuple(sorted(collected.skipped, key=lambda each: _by_name(each.subject))),
            considered=counts.considered,
            problems=tuple(problems),
            obstacles=self._list_obstacles(criteria.goal, collected),
            droplets=droplets,
        )

    async def _plan_droplets(
        self, criteria: PlanCriteria, counts: SurveyCounts, collected: "_Collected", *, now: float
    ) -> DropletPlan:
        """Plan what is done about droplets; a plan for one strategy is about LRPs alone."""
        if criteria.strategy is not None:
            return NO_DROPLETS
        pinned = {planned.subject.app_guid for planned in collected.migrations}
        return await self._droplets.plan(
            criteria.selection,
            DropletOrder(criteria.goal, since=now, only_cached=criteria.only_cached),
            DropletCriteria(
                criteria.goal,
                frozenset(pinned | {subject.app_guid for subject in collected.pins}),
                include_pinned=criteria.include_pinned,
            ),
            PlannedApps(counts.apps, frozenset(collected.apps)),
        )

    def _list_obstacles(self, goal: Goal, collected: "_Collected") -> tuple[str, ...]:
        if not collected.migrations or goal is Goal.SOURCE:  # nothing keeps the way back from being started
            return ()
        return self._obstacles.to_copies(collected.placement_tags)

    def _collect(self, seen: SurveyedLrp, criteria: PlanCriteria, collected: "_Collected") -> None:
        rules = self._survey.rules
        collected.apps.add(seen.lrp.app_guid)
        runs_from_cache = any(rules.cache.owns(source) for source in seen.sources)
        if criteria.goal is Goal.SOURCE and not runs_from_cache and seen.observed.migration is None:
            if (
                not seen.observed.is_pinned and seen.lrp.app_guid
            ):  # it runs from its source, and its app is to be pinned there
                collected.pins.append(subject_of(seen.lrp))
            return
        made = plan_lrp(seen.observed, seen.lrp, seen.action, rules)
        stays = seen.observed.is_pinned and criteria.goal is Goal.CACHE and not criteria.include_pinned
        if stays and isinstance(made, PlannedMigration):
            made = Skipped(
                made.subject, Reason.PINNED_TO_SOURCE, "an operator restored the app to its source"
            )
        if isinstance(made, Skipped):
            collected.skipped.append(made)
        elif criteria.strategy in {None, made.strategy}:
            collected.migrations.append(made)
            collected.placement_tags.add(seen.lrp.placement_tags)
            if made.copy is not None:
                request = request_of_lrp(seen.observed, seen.lrp, reason=made.reason)
                collected.requests.setdefault(made.copy, request)

    async def _ask(
        self, copies: Iterable[PlannedCopy], requests: Mapping[ImageReference, CacheRequest]
    ) -> tuple[PlannedCopy, ...]:
        """Ask the sources what copies consist of, as many as can be asked in time."""
        asking = asyncio.Semaphore(ASKED_AT_A_TIME)
        answers: dict[ImageReference, PlannedCopy] = {}

        async def ask(copy: PlannedCopy) -> None:
            async with asking:
                answers[copy.source] = await self._ask_one(copy, requests[copy.source].credentials)

        wanted, seen = tuple(copies), set[Digest]()
        try:
            async with asyncio.timeout(ASKED_FOR), asyncio.TaskGroup() as group:
                for copy in wanted:
                    group.create_task(ask(copy))
        except TimeoutError:
            pass
        unknown = f"not asked within {ASKED_FOR:g} s"
        asked = (answers.get(copy.source, replace(copy, problem=unknown)) for copy in wanted)
        return tuple([await self._estimate(copy, seen, requests[copy.source]) for copy in asked])

    async def _ask_one(self, copy: PlannedCopy, credentials: Credentials | None) -> PlannedCopy:
        try:
            return replace(copy, content=await self._sources.look_at(copy.source, credentials))
        except DockerCacheError as error:
            return replace(copy, problem=str(error))

    async def _estimate(self, copy: PlannedCopy, seen: set[Digest], request: CacheRequest) -> PlannedCopy:
        """Count what must be read: what nobody has shown in its trust domain, and no earlier copy brings."""
        content = copy.content
        if content is None:
            return copy
        reader = self._sharing.reader(copy.source, request.organization, request.credentials)
        held = await self._locations.find_holders(content.blobs, reader)
        missing = {
            blob: size for blob, size in content.blobs.items() if blob not in held and blob not in seen
        }
        seen.update(missing)
        requests = 1 + content.documents + len(missing)
        return replace(copy, missing_bytes=sum(missing.values()), requests=requests)


def _by_name(subject: Subject) -> tuple[str, str, str, str]:
    owner = subject.owner
    return owner.org, owner.space, owner.app, subject.process_guid


class _Collected:
    """The parts of a plan that is being made."""

    def __init__(self) -> None:
        self.migrations: list[PlannedMigration] = []
        self.pins: list[Subject] = []
        self.skipped: list[Skipped] = []
        self.requests: dict[ImageReference, CacheRequest] = {}
        self.placement_tags: set[frozenset[str]] = set()
        self.apps: set[AppGuid] = set()
