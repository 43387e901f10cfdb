"""What would be changed, put so that people can judge it and the same can be applied later, or refused."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconcile.actions import (
    Action,
    BeginMigration,
    CacheImage,
    Continue,
    Forget,
    RemoveOrphanedBridge,
    Skip,
    VerifyImage,
)
from reconcile.decide import decide, due_strategy
from reconcile.images import ImageReference, Rootfs
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid, source_of
from reconcile.observed import Observed, Rules
from reconcile.ports import SourceContent
from reconcile.protocol import running
from reconcile.reasons import Reason
from reconcile.records import Goal, Strategy
from reconcile.selection import Owner, owner_of
from reconcile.steps import RetireInstances


@dataclass(frozen=True, slots=True)
class Subject:
    """Which LRP something is about, and whose it is."""

    process_guid: ProcessGuid
    app_guid: AppGuid
    owner: Owner
    rootfs: Rootfs


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """An image that is to be copied first.

    Attributes:
        lrps: How many LRPs wait for it.
        content: What the source says of it; None when it was not, or could not be, asked.
        missing_bytes: Of its content, what the private registry does not hold yet.
        requests: To the source registry.
        problem: Why it could not be asked.
    """

    source: ImageReference
    lrps: int
    content: SourceContent | None = None
    missing_bytes: int = 0
    requests: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PlannedMigration:
    """An LRP that is to be re-pointed.

    Attributes:
        to_rootfs: None until its copy is there.
        copy: The image to copy first, or to ask its source for once more; None when neither is needed.
        instances: That its owner wants.
        running: Of those.
        is_pinned: An operator put its app back on its source, and it is moved nevertheless.
    """

    subject: Subject
    to_rootfs: Rootfs | None
    copy: ImageReference | None
    strategy: Strategy
    instances: int
    running: int
    reason: Reason
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Skipped:
    """An LRP that stays as it is, and why."""

    subject: Subject
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan.

    Attributes:
        cache: Address of the private registry that it is about.
        made_at: UTC seconds since 1970.
        holds: LRPs that run from their sources, and whose apps are to stay there.
        looked_at: LRPs that were looked at.
        problems: Why something may be missing; with any the plan cannot be applied.
    """

    goal: Goal
    cache: str
    made_at: float
    copies: tuple[PlannedCopy, ...] = ()
    migrations: tuple[PlannedMigration, ...] = ()
    pins: tuple[Subject, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    looked_at: int = 0
    problems: tuple[str, ...] = ()


def subject_of(lrp: DesiredLrp) -> Subject:
    """Name an LRP for people."""
    return Subject(lrp.process_guid, lrp.app_guid, owner_of(lrp), lrp.rootfs)


def planned_action(observed: Observed, rules: Rules) -> Action:
    """Decide about one LRP as a pass does; of one that is being migrated a plan says the phase alone.

    The next step of a migration is the pass's, which observes the bridge too.
    """
    if observed.migration is not None:
        return Skip(observed.migration.phase.reason)
    return decide(observed, rules)


def plan_lrp(observed: Observed, lrp: DesiredLrp, action: Action, rules: Rules) -> PlannedMigration | Skipped:
    """Say what a decision about one LRP means in the end: not its next step, but where it leads."""
    match action:
        case CacheImage(request):
            return _move_after_copy(observed, lrp, rules, reason=request.reason)
        case Skip(Reason.WAITING_FOR_COPY) if not _only_cached(observed):
            return _move_after_copy(observed, lrp, rules, reason=action.reason)
        case BeginMigration():
            return _move_by(action.strategy, observed, lrp, rules, reason=action.reason)
        case VerifyImage():
            return _move(observed, lrp, rules, reason=action.reason)
        case Skip(reason, detail):
            return Skipped(subject_of(lrp), reason, detail)
        case Forget() | RetireInstances() | RemoveOrphanedBridge():
            return Skipped(subject_of(lrp), action.reason)
        case Continue():
            raise AssertionError("an LRP that is being replaced is not planned anew")


def _only_cached(observed: Observed) -> bool:
    return observed.order is not None and observed.order.only_cached


def _move(observed: Observed, lrp: DesiredLrp, rules: Rules, *, reason: Reason) -> PlannedMigration | Skipped:
    how = due_strategy(observed, lrp, source_of(lrp), rules)
    if isinstance(how, Skip):
        return Skipped(subject_of(lrp), how.reason, how.detail)
    return _move_by(how, observed, lrp, rules, reason=reason)


def _move_by(
    how: Strategy, observed: Observed, lrp: DesiredLrp, rules: Rules, *, reason: Reason
) -> PlannedMigration:
    is_way_back = observed.order is not None and observed.order.goal is Goal.SOURCE
    to_rootfs = None
    if is_way_back:
        to_rootfs = None if observed.original_source is None else observed.original_source.rootfs
    elif observed.image is not None:
        to_rootfs = rules.cache.rootfs(observed.image.cache_guid)
    serving = running(lrp, observed.instances)
    is_pinned = observed.is_pinned and not is_way_back
    return PlannedMigration(
        subject_of(lrp), to_rootfs, None, how, lrp.instances, serving, reason, is_pinned=is_pinned
    )


def _move_after_copy(
    observed: Observed, lrp: DesiredLrp, rules: Rules, *, reason: Reason
) -> PlannedMigration | Skipped:
    move = _move(observed, lrp, rules, reason=reason)
    if isinstance(move, Skipped):
        return move
    return replace(move, to_rootfs=None, copy=source_of(lrp))


def changes_since_plan(planned: PlannedMigration, now: PlannedMigration | Skipped) -> str:
    """Say in what an LRP is not what a plan was made for; empty when it is.

    A copy that was missing may be there by now: that is what the plan wanted. One that is asked for once
    more is compared when the answer is there.
    """
    if isinstance(now, Skipped):
        return f"would be skipped now: {now.reason} {now.detail}".rstrip()
    changes = [  # as people read them: a plan that was written down has no login in it
        ("is desired from", str(planned.subject.rootfs), str(now.subject.rootfs)),
        ("would be moved by", str(planned.strategy), str(now.strategy)),
        ("wants instances:", str(planned.instances), str(now.instances)),
    ]
    found = [f"{what} {after}, not {before}" for what, before, after in changes if before != after]
    if now.is_pinned and not planned.is_pinned:
        found.append("is held on its source by now")
    known = planned.to_rootfs is not None and now.to_rootfs is not None
    if known and str(now.to_rootfs) != str(planned.to_rootfs):
        found.append(f"would be moved to {now.to_rootfs}, not {planned.to_rootfs}")
    return ", ".join(found)


def copies_of(migrations: Iterable[PlannedMigration]) -> tuple[PlannedCopy, ...]:
    """List the images that migrations wait for, each once, by name."""
    waiting: dict[ImageReference, int] = {}
    for move in migrations:
        if move.copy is not None:
            waiting[move.copy] = waiting.get(move.copy, 0) + 1
    by_name = sorted(waiting, key=str)
    return tuple(PlannedCopy(source, waiting[source]) for source in by_name)
