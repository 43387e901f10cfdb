"""Converts what is said of droplets to messages of the admin API, and back."""

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from controller.admin.apply_run import DropletProgress
from controller.admin.droplet_changes import DropletEvent
from controller.admin.grpc_status import BadRequest
from controller.admin.messages import APP_STATE_NAMES, DROPLET_PHASE_NAMES
from controller.admin.reason_names import REASON_NAMES, named
from protos.admin import admin_pb2 as pb
from reconcile.droplet_plan import (
    DropletChange,
    DropletPlan,
    DropletSubject,
    PlannedDroplet,
    SkippedDroplet,
)
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.errors import Invalid
from reconcile.lrps import AppGuid
from reconcile.reasons import AppState, Reason
from reconcile.references import ImageReference, parse_image_reference, without_login
from reconcile.selection import Owner

CHANGE_NAMES = MappingProxyType({change: named("DROPLET_CHANGE", change) for change in DropletChange})
_CHANGES = {pb.DropletChange.Value(name): change for change, name in CHANGE_NAMES.items()}
_REASONS = {pb.Reason.Value(name): reason for reason, name in REASON_NAMES.items()}


def entries_of(plan: DropletPlan) -> Iterator[pb.PlanEntry]:
    """Write the entries of a plan for droplets: those that are changed, and those that are skipped."""
    for planned in plan.changes:
        yield pb.PlanEntry(droplet=_planned_message(planned))
    for skipped in plan.skipped:
        yield pb.PlanEntry(skipped_droplet=_skipped_message(skipped))


def _planned_message(planned: PlannedDroplet) -> pb.PlannedDroplet:
    subject = planned.subject
    return pb.PlannedDroplet(
        droplet_guid=subject.droplet_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        change=CHANGE_NAMES[planned.change],
        from_image=subject.shown_image,
        to_image=planned.shown_target,
        copy="" if planned.copy is None else str(planned.copy),
        reason=REASON_NAMES[planned.reason],
        newest=subject.is_newest,
        running=subject.is_running,
        pinned=planned.is_pinned,
    )


def _skipped_message(skipped: SkippedDroplet) -> pb.SkippedDroplet:
    subject = skipped.subject
    return pb.SkippedDroplet(
        droplet_guid=subject.droplet_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        space_name=subject.owner.space,
        org_name=subject.owner.org,
        image=subject.shown_image,
        state=APP_STATE_NAMES[skipped.reason.state],
        reason=REASON_NAMES[skipped.reason],
        detail=skipped.detail,
        newest=subject.is_newest,
    )


def plan_of_droplets(entries: Sequence[pb.PlanEntry], end: pb.PlanEnd) -> DropletPlan:
    """Read the droplets of a plan that is to be applied; those that it skips do not matter for that.

    Raises:
        BadRequest: A droplet cannot be read, or is there twice.
    """
    changes = tuple(_planned_of(entry.droplet) for entry in entries if entry.HasField("droplet"))
    if len({planned.subject.droplet_guid for planned in changes}) < len(changes):
        raise BadRequest("plan-unreadable", "the plan has a droplet twice")
    return DropletPlan(changes, considered=end.considered_droplets, problems=tuple(end.droplet_problems))


def _planned_of(message: pb.PlannedDroplet) -> PlannedDroplet:
    if not message.droplet_guid or message.change not in _CHANGES:
        raise BadRequest("plan-unreadable", f"a droplet has no GUID or no change: {message.droplet_guid!r}")
    subject = DropletSubject(
        DropletGuid(message.droplet_guid),
        AppGuid(message.app_guid),
        Owner(message.org_name, message.space_name, message.app_name),
        message.from_image,
        is_newest=message.newest,
        is_running=message.running,
    )
    return PlannedDroplet(
        subject,
        _CHANGES[message.change],
        message.to_image or None,
        _REASONS.get(message.reason, Reason.RUNS_FROM_SOURCE),
        copy=_reference(message.copy) if message.copy else None,
        is_pinned=message.pinned,
    )


def _reference(text: str) -> ImageReference:
    try:
        return parse_image_reference(text)
    except Invalid as error:
        raise BadRequest("plan-unreadable", error.detail) from error


def phases_from_numbers(numbers: Iterable[int]) -> tuple[DropletPhase, ...]:
    """Read phases of droplets."""
    wanted = frozenset(numbers)
    return tuple(
        phase for phase, name in DROPLET_PHASE_NAMES.items() if pb.DropletPhase.Value(name) in wanted
    )


def droplet_message(record: DropletRecord, owner: Owner) -> pb.Droplet:
    """Write what was done about a droplet."""
    return pb.Droplet(
        droplet_guid=record.droplet_guid,
        app_guid=record.app_guid,
        app_name=owner.app,
        space_name=owner.space,
        org_name=owner.org,
        phase=DROPLET_PHASE_NAMES[record.phase],
        reason=REASON_NAMES[record.reason],
        detail=record.detail,
        original_image=without_login(record.original),
        written_image=without_login(record.target),
        cache_guid=record.cache_guid or "",
        build_guid=record.build_guid or "",
        attempts=record.attempts,
        next_attempt_at=record.not_before or 0.0,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def progress_message(progress: DropletProgress) -> pb.ApplyEvent:
    """Write a change of a droplet while a plan is applied."""
    event, subject = progress.event, progress.event.planned.subject
    return pb.ApplyEvent(
        droplet_guid=subject.droplet_guid,
        app_guid=subject.app_guid,
        app_name=subject.owner.app,
        state=_state_of(event),
        reason=REASON_NAMES[event.reason],
        detail=event.detail,
        done=progress.done,
        total=progress.total,
        droplets_done=progress.droplets_done,
        droplets_total=progress.droplets_total,
    )


def _state_of(event: DropletEvent) -> pb.MigrationState:
    state = event.reason.state
    if not event.is_over:
        if event.reason is Reason.WAITING_FOR_COPY:
            return pb.MIGRATION_STATE_COPYING
        return pb.MIGRATION_STATE_MIGRATING if state is AppState.MIGRATING else pb.MIGRATION_STATE_WAITING
    if not event.has_failed:
        return pb.MIGRATION_STATE_DONE
    return pb.MIGRATION_STATE_SKIPPED if state is AppState.SKIPPED else pb.MIGRATION_STATE_FAILED
