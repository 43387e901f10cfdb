"""Compares a plan that is to be applied with the LRPs as they are now, and refuses one that is stale."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.admin.survey import Survey, SurveyCounts, SurveyedLrp
from reconcile.actions import Skip
from reconcile.errors import Conflict
from reconcile.lrps import ProcessGuid
from reconcile.migrations import Goal
from reconcile.observed import Rules
from reconcile.orders import Order
from reconcile.plan import Plan, PlannedMigration, Skipped, Subject, changes_since_plan, plan_lrp
from reconcile.reasons import Reason
from reconcile.selection import Selection

NAMED_DIFFERENCES = 10
"""Most differences that the error about a stale plan names."""


@dataclass(frozen=True, slots=True)
class PlannedLrps:
    """The LRPs of a plan as they are now.

    Attributes:
        migrations: The planned migrations; and a migration back for each LRP that the plan only pins to its
            source, but that has left its source, or is about to, since the plan was made.
        done: LRPs that are migrated already.
        in_flight: LRPs that are being migrated.
        placement_tags: The placement tags of each LRP that is still desired.
    """

    migrations: Mapping[ProcessGuid, PlannedMigration]
    done: frozenset[ProcessGuid]
    in_flight: frozenset[ProcessGuid]
    placement_tags: Mapping[ProcessGuid, frozenset[str]]


async def compare(plan: Plan, survey: Survey, *, now: float) -> PlannedLrps:
    """Compare a plan with the current state.

    Args:
        plan: The plan that is to be applied.
        survey: Reads the LRPs of the plan.
        now: UTC seconds since 1970.

    Raises:
        Conflict: `plan-is-stale`: an LRP has changed in another way than the plan would, or is gone.
    """
    comparison = _Comparison(plan.goal, survey.rules, _by_guid(plan))
    pins = frozenset(subject.process_guid for subject in plan.pins)
    listed = await survey.list_some({*comparison.planned, *pins})
    looked = survey.decide_each(listed, Selection(), Order(plan.goal, since=now), SurveyCounts())
    async with aclosing(looked) as seen_lrps:
        async for seen in seen_lrps:
            comparison.see(seen)
    return comparison.result()


@dataclass(slots=True)
class _Comparison:
    """A comparison that is under way."""

    goal: Goal
    rules: Rules
    planned: Mapping[ProcessGuid, PlannedMigration]
    left_source: dict[ProcessGuid, PlannedMigration] = field(default_factory=dict)
    done: set[ProcessGuid] = field(default_factory=set)
    in_flight: set[ProcessGuid] = field(default_factory=set)
    placement_tags: dict[ProcessGuid, frozenset[str]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)

    def see(self, seen: SurveyedLrp) -> None:
        """Compare one LRP."""
        guid, migration = seen.lrp.process_guid, seen.observed.migration
        self.placement_tags[guid] = seen.lrp.placement_tags
        if migration is not None:
            self.in_flight.add(guid)
        planned = self.planned.get(guid)
        if planned is None:
            self._see_pin(seen)
        elif migration is not None and migration.goal is self.goal:
            pass  # it is being migrated, by an earlier order or by the daemon itself
        elif self._is_done(planned, seen):
            self.done.add(guid)
        else:
            difference = changes_since_plan(planned, self._plan(seen))
            if difference:
                self.changed.append(f"{_name(planned.subject)} {difference}")

    def _see_pin(self, seen: SurveyedLrp) -> None:
        """Add a migration back for an LRP that the plan pins to its source, but that has left it or will."""
        if seen.observed.migration is None and not self._runs_from_cache(seen):
            return
        as_now = self._plan(seen)
        if isinstance(as_now, PlannedMigration):
            self.left_source[seen.lrp.process_guid] = as_now
        else:
            what = f"{_name(as_now.subject)} left its source: {as_now.reason} {as_now.detail}"
            self.changed.append(what.rstrip())

    def _plan(self, seen: SurveyedLrp) -> PlannedMigration | Skipped:
        return plan_lrp(seen.observed, seen.lrp, seen.action, self.rules)

    def _is_done(self, planned: PlannedMigration, seen: SurveyedLrp) -> bool:
        if seen.observed.migration is not None:
            return False
        runs_from_cache = self._runs_from_cache(seen)
        if planned.is_in_flight:
            return runs_from_cache is (self.goal is Goal.CACHE)
        if planned.reason is Reason.LOGIN_OUTDATED and seen.lrp.rootfs == planned.subject.rootfs:
            return isinstance(seen.action, Skip) and seen.action.reason is Reason.ALREADY_CACHED
        if seen.lrp.rootfs == planned.subject.rootfs:
            return False
        if planned.to_rootfs is None:
            return runs_from_cache
        return str(seen.lrp.rootfs) == str(planned.to_rootfs)  # a plan contains no login

    def _runs_from_cache(self, seen: SurveyedLrp) -> bool:
        return any(self.rules.cache.covers(source) for source in seen.sources)

    def result(self) -> PlannedLrps:
        """Return the LRPs as they are now.

        Raises:
            Conflict: `plan-is-stale`: an LRP has changed in another way than the plan would, or is gone.
        """
        gone = [planned for guid, planned in self.planned.items() if guid not in self.placement_tags]
        changed = [*self.changed, *(f"{_name(planned.subject)} is gone" for planned in gone)]
        if changed:
            more = f" and {len(changed) - NAMED_DIFFERENCES} more" if len(changed) > NAMED_DIFFERENCES else ""
            raise Conflict("admin", "plan-is-stale", "; ".join(changed[:NAMED_DIFFERENCES]) + more)
        return PlannedLrps(
            {**self.planned, **self.left_source},
            frozenset(self.done),
            frozenset(self.in_flight),
            self.placement_tags,
        )


def _by_guid(plan: Plan) -> dict[ProcessGuid, PlannedMigration]:
    return {planned.subject.process_guid: planned for planned in plan.migrations}


def _name(subject: Subject) -> str:
    return subject.owner.app or subject.process_guid
