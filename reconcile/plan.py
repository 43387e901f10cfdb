"""Plans: what applying one would change, for people to judge and for the daemon to apply or refuse later."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    GiveRoutesBack,
    RemoveOrphanedBridge,
    Skip,
    UpdateLogin,
    VerifyImage,
)
from reconcile.copy_choice import gets_unseen_content
from reconcile.copying_ports import SourceContent
from reconcile.decide import decide
from reconcile.droplet_plan import NO_DROPLETS, DropletPlan
from reconcile.instances import running
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid
from reconcile.migration_choice import due_strategy
from reconcile.migrations import Goal, Migration, Strategy
from reconcile.observed import Observed, Rules
from reconcile.reasons import AppState, Reason
from reconcile.records import CachedImage
from reconcile.references import ImageReference, Rootfs
from reconcile.selection import Owner, owner_of
from reconcile.steps import RetireInstances


@dataclass(frozen=True, slots=True)
class Subject:
    """An LRP with its owner, as plans name it."""

    process_guid: ProcessGuid
    app_guid: AppGuid
    owner: Owner
    rootfs: Rootfs


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """An image that would be copied.

    Attributes:
        lrps: The number of LRPs that wait for the copy.
        content: What the copy would consist of; None when the source registry did not tell.
        missing_bytes: Bytes of the content that the private registry does not hold yet.
        requests: The number of requests that the copy takes at the source registry.
        problem: Why the source registry did not tell; empty when it did.
    """

    source: ImageReference
    lrps: int
    content: SourceContent | None = None
    missing_bytes: int = 0
    requests: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PlannedMigration:
    """An LRP that would be migrated.

    Attributes:
        to_rootfs: What it would run from; None while that is not known, since it has no copy.
        copy: The image that is copied first, or whose source is asked once more; None when neither is needed.
        instances: The number of instances that its owner wants.
        running: The number of them that serve now.
        reason: Why it would be migrated; of an LRP that is being migrated already, the phase of that.
        is_pinned: Whether an operator restored its app to its source, and it would be migrated nevertheless.
        gets_unseen_content: Whether it runs and its staging was not seen, so it gets what its tag means now.
    """

    subject: Subject
    to_rootfs: Rootfs | None
    copy: ImageReference | None
    strategy: Strategy
    instances: int
    running: int
    reason: Reason
    is_pinned: bool = False
    gets_unseen_content: bool = False

    @property
    def is_in_flight(self) -> bool:
        """Whether it was being migrated when the plan was made: it is turned round, or follows after that."""
        return self.reason.state is AppState.MIGRATING


@dataclass(frozen=True, slots=True)
class Skipped:
    """An LRP that would stay as it is, with the reason."""

    subject: Subject
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be copied and migrated.

    Attributes:
        cache: Address of the private registry.
        made_at: UTC seconds since 1970.
        pins: LRPs that run from their sources, and whose apps would be pinned there.
        considered: The number of LRPs that were considered.
        problems: Why the plan may be incomplete; a plan with problems cannot be applied.
        obstacles: What keeps migrations from being started now; a plan with obstacles can be applied later.
        droplets: What would be done about the droplets of Cloud Controller.
    """

    goal: Goal
    cache: str
    made_at: float
    copies: tuple[PlannedCopy, ...] = ()
    migrations: tuple[PlannedMigration, ...] = ()
    pins: tuple[Subject, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    considered: int = 0
    problems: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    droplets: DropletPlan = NO_DROPLETS


def subject_of(lrp: DesiredLrp) -> Subject:
    """Name an LRP and its owner."""
    return Subject(lrp.process_guid, lrp.app_guid, owner_of(lrp), lrp.rootfs)


def planned_action(observed: Observed, rules: Rules) -> Action:
    """Decide about one LRP as a pass does; for one that is being migrated give its phase.

    The next step of an open migration is decided by passes alone, which observe the bridge too.
    """
    if observed.migration is not None:
        return Skip(observed.migration.phase.reason)
    return decide(observed, rules)


def plan_lrp(observed: Observed, lrp: DesiredLrp, action: Action, rules: Rules) -> PlannedMigration | Skipped:
    """Write what the decision about one LRP leads to: not its next action, but the whole migration."""
    if observed.migration is not None:
        return _plan_in_flight(observed.migration, observed, lrp)
    match action:
        case CacheImage(request):
            return _migration_after_copy(request.job_source, observed, lrp, rules, reason=request.reason)
        case Skip(Reason.WAITING_FOR_COPY) if not _only_cached(observed):
            copied = observed.source if observed.job is None else observed.job.source
            return _migration_after_copy(copied, observed, lrp, rules, reason=action.reason)
        case BeginMigration(image=image):
            planned = _migration_by(action.strategy, observed, lrp, reason=action.reason, goal=action.goal)
            return _to_copy(planned, image, rules)
        case UpdateLogin():
            how = _strategy_for_login(observed, lrp, rules)
            planned = _migration_by(how, observed, lrp, reason=action.reason)
            return replace(planned, to_rootfs=lrp.rootfs)  # it gets another login for the same copy
        case VerifyImage(image=image):
            return _to_copy(_plan_migration(observed, lrp, rules, reason=action.reason), image, rules)
        case Skip(reason, detail):
            return Skipped(subject_of(lrp), reason, detail)
        case Forget() | RetireInstances() | RemoveOrphanedBridge() | GiveRoutesBack():
            return Skipped(subject_of(lrp), action.reason)
        case Continue():
            raise AssertionError("a plan does not decide the steps of an open migration")


def _strategy_for_login(observed: Observed, lrp: DesiredLrp, rules: Rules) -> Strategy:
    """Choose what the plan says of a new login: while the BBS is not known, the most that it may take."""
    is_migrated_for_it = not (observed.has_source_login and observed.can_pull_with_own_login)
    if observed.stores_logins is None and observed.current_copy is not None and is_migrated_for_it:
        how = due_strategy(observed, lrp, observed.current_copy.source, rules)
        return Strategy.UPDATE if isinstance(how, Skip) else how
    return Strategy.UPDATE


def _plan_in_flight(migration: Migration, observed: Observed, lrp: DesiredLrp) -> PlannedMigration | Skipped:
    """Plan for an LRP that is being migrated.

    An order to restore it is always accepted; an order for the copy only while it is being restored, since
    otherwise it is on its way there, or was turned back because it did not start from there.
    """
    order, reason = observed.order, migration.phase.reason
    if order is None or (order.goal is Goal.CACHE and not migration.is_restore):
        return Skipped(subject_of(lrp), reason)
    strategy = Strategy.BRIDGE if migration.has_bridge else migration.strategy
    serving = running(lrp, observed.instances)
    is_pinned = observed.is_pinned and order.goal is Goal.CACHE
    to_rootfs = _source_of_migration(migration, observed) if order.goal is Goal.SOURCE else None
    return PlannedMigration(
        subject=subject_of(lrp),
        to_rootfs=to_rootfs,
        copy=None,
        strategy=strategy,
        instances=lrp.instances,
        running=serving,
        reason=reason,
        is_pinned=is_pinned,
    )


def _source_of_migration(migration: Migration, observed: Observed) -> Rootfs | None:
    if migration.way_back is not None and not migration.renews_login:
        return migration.way_back.rootfs
    if migration.goal is Goal.CACHE and not migration.renews_login:
        return migration.original.rootfs
    return None if observed.original_source is None else observed.original_source.rootfs


def _only_cached(observed: Observed) -> bool:
    return observed.order is not None and observed.order.only_cached


def _plan_migration(
    observed: Observed, lrp: DesiredLrp, rules: Rules, *, reason: Reason
) -> PlannedMigration | Skipped:
    how = due_strategy(observed, lrp, observed.source, rules)
    if isinstance(how, Skip):
        return Skipped(subject_of(lrp), how.reason, how.detail)
    return _migration_by(how, observed, lrp, reason=reason)


def _to_copy(
    planned: PlannedMigration | Skipped, image: CachedImage | None, rules: Rules
) -> PlannedMigration | Skipped:
    """Name the copy that an LRP would be migrated to; one that goes back to its source has none."""
    if image is None or isinstance(planned, Skipped):
        return planned
    return replace(planned, to_rootfs=rules.cache.rootfs(image.cache_guid))


def _migration_by(
    how: Strategy, observed: Observed, lrp: DesiredLrp, *, reason: Reason, goal: Goal = Goal.CACHE
) -> PlannedMigration:
    is_ordered_back = observed.order is not None and observed.order.goal is Goal.SOURCE
    is_way_back = is_ordered_back or goal is Goal.SOURCE
    original_source = observed.original_source if is_way_back else None
    to_rootfs = None if original_source is None else original_source.rootfs
    serving = running(lrp, observed.instances)
    is_pinned = observed.is_pinned and not is_way_back
    return PlannedMigration(
        subject=subject_of(lrp),
        to_rootfs=to_rootfs,
        copy=None,
        strategy=how,
        instances=lrp.instances,
        running=serving,
        reason=reason,
        is_pinned=is_pinned,
        gets_unseen_content=not is_way_back and gets_unseen_content(observed),
    )


def _migration_after_copy(
    copied: ImageReference, observed: Observed, lrp: DesiredLrp, rules: Rules, *, reason: Reason
) -> PlannedMigration | Skipped:
    migration = _plan_migration(observed, lrp, rules, reason=reason)
    if isinstance(migration, Skipped):
        return migration
    return replace(migration, to_rootfs=None, copy=copied)


def changes_since_plan(planned: PlannedMigration, now: PlannedMigration | Skipped) -> str:
    """Describe in what an LRP differs from its plan; empty when it does not.

    A copy that was missing may exist now, as the plan wanted. A copy whose source is asked once more is
    compared once the source has answered. Of an LRP that is being migrated, then or now, only what its owner
    may have changed is compared: the rest changes on the way.
    """
    if isinstance(now, Skipped):
        return f"would be skipped now: {now.reason} {now.detail}".rstrip()
    is_in_flight = planned.is_in_flight or now.is_in_flight
    by = ("would be migrated by", str(planned.strategy), str(now.strategy))
    on_the_way = [  # compared as text, since a plan that was written to a file contains no login
        ("is desired from", str(planned.subject.rootfs), str(now.subject.rootfs)),
        *(() if now.strategy is Strategy.UPDATE else (by,)),  # less than any plan may have said
    ]
    changes = [
        *(() if is_in_flight else on_the_way),
        ("wants instances:", str(planned.instances), str(now.instances)),
    ]
    found = [f"{what} {after}, not {before}" for what, before, after in changes if before != after]
    if now.is_pinned and not planned.is_pinned:
        found.append("is pinned to its source now")
    known = planned.to_rootfs is not None and now.to_rootfs is not None and not is_in_flight
    if known and str(now.to_rootfs) != str(planned.to_rootfs):
        found.append(f"would be migrated to {now.to_rootfs}, not {planned.to_rootfs}")
    return ", ".join(found)


def copies_of(migrations: Iterable[PlannedMigration]) -> tuple[PlannedCopy, ...]:
    """List the images that migrations wait for, each once, by name."""
    waiting: dict[ImageReference, int] = {}
    for migration in migrations:
        if migration.copy is not None:
            waiting[migration.copy] = waiting.get(migration.copy, 0) + 1
    by_name = sorted(waiting, key=str)
    return tuple(PlannedCopy(source, waiting[source]) for source in by_name)
