"""Plans what is done about droplets: those of the chosen apps, also of apps that do not run.

A Cloud Controller that does not answer keeps nobody from planning: what is known of droplets is planned by
their records, and the plan says that others may be missing.
"""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.admin.droplets import AdminDroplets
from reconcile.droplet_actions import RestoreDroplet
from reconcile.droplet_plan import (
    NO_DROPLETS,
    DecidedDroplet,
    DropletChange,
    DropletCriteria,
    DropletPlan,
    DropletScope,
    DropletSubject,
    PlannedDroplet,
    SkippedDroplet,
    plan_droplet,
    references_of,
)
from reconcile.droplets import DropletOrder, DropletRecord
from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.selection import NOBODY, AppNames, Selection


@dataclass(frozen=True, slots=True)
class PlannedApps:
    """What the part of a plan for LRPs has found.

    Attributes:
        running: The apps whose LRPs are desired.
        chosen: Those of LRPs that the plan is about.
    """

    running: Mapping[AppGuid, AppNames] = field(default_factory=dict)
    chosen: frozenset[AppGuid] = frozenset()


class DropletPlanner:
    """Makes the part of a plan that is about droplets, and changes nothing."""

    def __init__(self, droplets: AdminDroplets) -> None:
        self._droplets = droplets

    async def plan(
        self, selection: Selection, order: DropletOrder, criteria: DropletCriteria, apps: PlannedApps
    ) -> DropletPlan:
        """Make the part of a plan that is about droplets."""
        if not self._droplets.updates:
            return await self._plan_without_changes(criteria)
        problem, collected = "", _Collected(criteria, dict(apps.running))
        try:
            names = await self._droplets.name_apps(None)
        except DockerCacheError as error:
            if _is_by_name(selection):  # otherwise only names are missing in what is shown
                problem = f"apps that do not run are not known by their names: {error}"
        else:
            collected.names = {**names, **collected.names}
        scope = _scope_of(selection, collected.names, apps)
        try:
            async with aclosing(self._droplets.decide_each(order, scope)) as decided_droplets:
                async for decided in decided_droplets:
                    collected.add(decided, is_running=decided.app_guid in apps.running)
        except DockerCacheError as error:
            problem = f"droplets may be missing: {error}"
            if criteria.goal is Goal.SOURCE:
                await self._add_from_records(collected, scope, apps)
        return collected.plan((problem,) if problem else ())

    async def _add_from_records(
        self, collected: "_Collected", scope: DropletScope, apps: PlannedApps
    ) -> None:
        """Plan to put back the droplets that are known to name copies, although they were not listed."""
        records = await self._droplets.list_records()
        newest = dict[AppGuid, float]()
        for record in records:
            newest[record.app_guid] = max(newest.get(record.app_guid, 0.0), record.created_at)
        for record in records:
            is_known = record.droplet_guid in collected.seen
            if is_known or not record.may_name_copy or not _is_meant(scope, record):
                continue
            decided = DecidedDroplet(
                record.droplet_guid,
                record.app_guid,
                record.target,
                RestoreDroplet(record),
                names_copy=True,
                is_newest=record.created_at >= newest[record.app_guid],
                record=record,
            )
            collected.add(decided, is_running=record.app_guid in apps.running)

    async def _plan_without_changes(self, criteria: DropletCriteria) -> DropletPlan:
        """Say that droplets cannot be put back, where some were changed before."""
        if criteria.goal is Goal.CACHE:
            return NO_DROPLETS
        count = sum(record.may_name_copy for record in await self._droplets.list_records())
        if not count:
            return NO_DROPLETS
        why = (
            "no Cloud Controller is configured" if self._droplets.status is None else "update_droplets is off"
        )
        return DropletPlan(problems=(f"{count} droplets name copies and stay so, since {why}",))


def _is_meant(scope: DropletScope, record: DropletRecord) -> bool:
    is_in_apps = scope.apps is None or record.app_guid in scope.apps
    return is_in_apps and scope.chooses(record.app_guid, record.original)


def _is_by_name(selection: Selection) -> bool:
    return bool(selection.orgs or selection.spaces or selection.apps)


def _scope_of(selection: Selection, names: Mapping[AppGuid, AppNames], apps: PlannedApps) -> DropletScope:
    """Choose the droplets of the chosen LRPs' apps, and of apps that match but do not run."""

    def chooses(_: AppGuid, original: str) -> bool:
        return selection.matches_image(references_of(original))

    if not (_is_by_name(selection) or selection.process_guids):
        return DropletScope(None, chooses)
    if selection.process_guids:
        return DropletScope(apps.chosen, chooses)
    matching = {guid for guid, app in names.items() if selection.matches_app(app)}
    written = {AppGuid(text) for text in selection.apps if not (selection.orgs or selection.spaces)}
    return DropletScope(frozenset(matching | written), chooses)


@dataclass(slots=True)
class _Collected:
    """The droplets of a plan that is being made."""

    criteria: DropletCriteria
    names: Mapping[AppGuid, AppNames]
    seen: set[str] = field(default_factory=set)
    changes: list[PlannedDroplet] = field(default_factory=list)
    skipped: list[SkippedDroplet] = field(default_factory=list)

    def add(self, decided: DecidedDroplet, *, is_running: bool) -> None:
        """Plan for one droplet."""
        self.seen.add(decided.guid)
        names = self.names.get(decided.app_guid)
        subject = DropletSubject(
            decided.guid,
            decided.app_guid,
            NOBODY if names is None else names.owner,
            decided.image,
            is_newest=decided.is_newest,
            is_running=is_running,
        )
        planned = plan_droplet(decided, subject, self.criteria)
        if isinstance(planned, PlannedDroplet):
            self.changes.append(planned)
        elif planned is not None:
            self.skipped.append(planned)

    def plan(self, problems: tuple[str, ...]) -> DropletPlan:
        """Sort what was planned by the names of apps, and pin no app twice."""
        restored = {each.subject.app_guid for each in self.changes if each.change is DropletChange.RESTORE}
        changes, pinned = list[PlannedDroplet](), set(restored)
        for each in sorted(self.changes, key=lambda planned: _by_name(planned.subject)):
            if each.change is DropletChange.PIN:
                if each.subject.app_guid in pinned:
                    continue
                pinned.add(each.subject.app_guid)
            changes.append(each)
        return DropletPlan(
            tuple(changes),
            tuple(sorted(self.skipped, key=lambda each: _by_name(each.subject))),
            len(self.seen),
            problems,
        )


def _by_name(subject: DropletSubject) -> tuple[str, str, str, str, bool, str]:
    owner = subject.owner
    return owner.org, owner.space, owner.app, subject.app_guid, not subject.is_newest, subject.droplet_guid
