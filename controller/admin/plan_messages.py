"""Converts plans to messages of the admin API, and back."""

from collections.abc import Iterable, Iterator, Sequence

from controller.admin import droplet_messages
from controller.admin.grpc_status import BadRequest
from controller.admin.messages import (
    APP_STATE_NAMES,
    GOAL_NAMES,
    STRATEGY_NAMES,
    selection_from_message,
)
from controller.admin.planner import PlanCriteria
from controller.admin.reason_names import REASON_NAMES
from protos.admin import admin_pb2 as pb
from reconcile.copying_ports import SourceContent
from reconcile.errors import Invalid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal
from reconcile.plan import Plan, PlannedCopy, PlannedMigration, Skipped, Subject
from reconcile.reasons import Reason
from reconcile.references import ImageReference, Rootfs, parse_digest, parse_image_reference
from reconcile.selection import Owner

_REASONS = {pb.Reason.Value(name): reason for reason, name in REASON_NAMES.items()}
_GOALS = {pb.Goal.Value(name): goal for goal, name in GOAL_NAMES.items()}
_STRATEGIES = {pb.Strategy.Value(name): strategy for strategy, name in STRATEGY_NAMES.items()}


def criteria_from_message(message: pb.PlanRequest) -> PlanCriteria:
    """Read what a plan is about; without a goal it leads to the copies."""
    return PlanCriteria(
        selection=selection_from_message(message.filter),
        goal=Goal.SOURCE if message.goal == pb.GOAL_SOURCE else Goal.CACHE,
        strategy=_STRATEGIES.get(message.strategy),
        only_cached=message.only_cached,
        include_pinned=message.include_pinned,
    )


def messages_from_plan(plan: Plan) -> Iterator[pb.PlanEntry]:
    """Write a plan: copies, migrations, pins, skipped LRPs, droplets, and its end."""
    for copy in plan.copies:
        yield pb.PlanEntry(copy=_copy_message(copy))
    for planned in plan.migrations:
        yield pb.PlanEntry(migration=_migration_message(planned))
    for subject in plan.pins:
        yield pb.PlanEntry(pin=_pin_message(subject))
    for each in plan.skipped:
        yield pb.PlanEntry(skipped=_skipped_message(each))
    yield from droplet_messages.entries_of(plan.droplets)
    yield pb.PlanEntry(
        end=pb.PlanEnd(
            goal=GOAL_NAMES[plan.goal],
            made_at=plan.made_at,
            considered=plan.considered,
            problems=list(plan.problems),
            cache_registry=plan.cache,
            obstacles=list(plan.obstacles),
            droplet_problems=list(plan.droplets.problems),
            considered_droplets=plan.droplets.considered,
        )
    )


def _copy_message(copy: PlannedCopy) -> pb.PlannedCopy:
    content = copy.content
    return pb.PlannedCopy(
        source=str(copy.source),
        registry=copy.source.domain,
        known=content is not None,
        bytes=copy.missing_bytes,
        requests=copy.requests,
        platform_digest="" if content is None else str(content.platform_digest),
        problem=copy.problem,
        lrps=copy.lrps,
    )


def _migration_message(planned: PlannedMigration) -> pb.PlannedMigration:
    subject = planned.subject
    return pb.PlannedMigration(
        process_guid=subject.process_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        from_rootfs=str(subject.rootfs),
        to_rootfs="" if planned.to_rootfs is None else str(planned.to_rootfs),
        copy="" if planned.copy is None else str(planned.copy),
        strategy=STRATEGY_NAMES[planned.strategy],
        instances=planned.instances,
        running=planned.running,
        reason=REASON_NAMES[planned.reason],
        pinned=planned.is_pinned,
        gets_unseen_content=planned.gets_unseen_content,
    )


def _pin_message(subject: Subject) -> pb.PlannedPin:
    return pb.PlannedPin(
        process_guid=subject.process_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        rootfs=str(subject.rootfs),
    )


def _skipped_message(each: Skipped) -> pb.SkippedLrp:
    subject = each.subject
    return pb.SkippedLrp(
        process_guid=subject.process_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        rootfs=str(subject.rootfs),
        state=APP_STATE_NAMES[each.reason.state],
        reason=REASON_NAMES[each.reason],
        detail=each.detail,
    )


def plan_from_messages(entries: Iterable[pb.PlanEntry]) -> Plan:
    """Read a plan that is to be applied; skipped LRPs do not matter for that.

    Raises:
        BadRequest: The plan is cut, continues after its end, or has entries that cannot be read.
    """
    whole = tuple(entries)
    end = _end_of(whole)
    migrations = tuple(
        _migration_from_message(entry.migration) for entry in whole if entry.HasField("migration")
    )
    if len({planned.subject.process_guid for planned in migrations}) < len(migrations):
        raise BadRequest("plan-unreadable", "the plan has an LRP twice")
    return Plan(
        goal=_GOALS[end.goal],
        cache=end.cache_registry,
        made_at=end.made_at,
        copies=tuple(_copy_from_message(entry.copy) for entry in whole if entry.HasField("copy")),
        migrations=migrations,
        pins=tuple(_pin_from_message(entry.pin) for entry in whole if entry.HasField("pin")),
        considered=end.considered,
        problems=tuple(end.problems),
        obstacles=tuple(end.obstacles),
        droplets=droplet_messages.plan_of_droplets(whole, end),
    )


def _end_of(entries: Sequence[pb.PlanEntry]) -> pb.PlanEnd:
    """Find the end of a plan, which is its last entry and says where it leads."""
    kinds = [entry.WhichOneof("entry") for entry in entries]
    if None in kinds:
        raise BadRequest("plan-unreadable", "the plan has an empty entry")
    if "end" not in kinds:
        raise BadRequest("plan-cut", "the plan has no end: it was cut, make a new one")
    if kinds.index("end") < len(kinds) - 1:
        raise BadRequest("plan-after-end", "the plan continues after its end")
    end = entries[-1].end
    if end.goal not in _GOALS:
        raise BadRequest("plan-unreadable", "the plan does not say where it leads")
    return end


def _copy_from_message(message: pb.PlannedCopy) -> PlannedCopy:
    try:
        source = parse_image_reference(message.source)
        digest = parse_digest(message.platform_digest) if message.known else None
    except Invalid as error:
        raise BadRequest("plan-unreadable", error.detail) from error
    content = None if digest is None else SourceContent(digest, 0, {})
    return PlannedCopy(source, message.lrps, content, message.bytes, message.requests, message.problem)


def _migration_from_message(message: pb.PlannedMigration) -> PlannedMigration:
    if not message.process_guid or message.strategy not in _STRATEGIES:
        raise BadRequest(
            "plan-unreadable", f"a migration has no LRP or no strategy: {message.process_guid!r}"
        )
    return PlannedMigration(
        subject=Subject(
            ProcessGuid(message.process_guid),
            AppGuid(message.app_guid),
            Owner(message.org_name, message.space_name, message.app_name),
            Rootfs(message.from_rootfs),
        ),
        to_rootfs=Rootfs(message.to_rootfs) if message.to_rootfs else None,
        copy=_reference(message.copy) if message.copy else None,
        strategy=_STRATEGIES[message.strategy],
        instances=message.instances,
        running=message.running,
        reason=_REASONS.get(message.reason, Reason.RUNS_FROM_SOURCE),
        is_pinned=message.pinned,
        gets_unseen_content=message.gets_unseen_content,
    )


def _pin_from_message(message: pb.PlannedPin) -> Subject:
    owner = Owner(message.org_name, message.space_name, message.app_name)
    return Subject(
        ProcessGuid(message.process_guid), AppGuid(message.app_guid), owner, Rootfs(message.rootfs)
    )


def _reference(text: str) -> ImageReference:
    try:
        return parse_image_reference(text)
    except Invalid as error:
        raise BadRequest("plan-unreadable", error.detail) from error
