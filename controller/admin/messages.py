"""Converts values to messages of the admin API and back."""

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from controller.admin.applier import ApplyEvent
from controller.admin.copies import CopyStatus, ReadBackResult
from controller.admin.grpc_status import BadRequest
from controller.admin.listing import AppRow
from controller.admin.planner import PlanCriteria
from controller.admin.reason_names import REASON_NAMES, named
from controller.notes import AdoptedCopy, AdoptionStatus
from controller.progress import Progress
from protos.admin import admin_pb2 as pb
from reconcile.errors import Invalid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.plan import Plan, PlannedCopy, PlannedMigration, Skipped, Subject
from reconcile.ports import SourceContent
from reconcile.reasons import AppState, Reason
from reconcile.records import (
    MAX_ATTEMPTS,
    AuditEntry,
    CachedImage,
    CacheJob,
    Goal,
    JobState,
    Migration,
    Phase,
    Strategy,
)
from reconcile.references import (
    CacheRepositories,
    ImageReference,
    Rootfs,
    parse_digest,
    parse_image_reference,
)
from reconcile.selection import Owner, Selection, owner_of

APP_STATE_NAMES = MappingProxyType({state: named("APP_STATE", state) for state in AppState})
JOB_STATE_NAMES = MappingProxyType({state: named("JOB_STATE", state) for state in JobState})
GOAL_NAMES = MappingProxyType({goal: named("GOAL", goal) for goal in Goal})
STRATEGY_NAMES = MappingProxyType({each: named("STRATEGY", each) for each in Strategy})
PHASE_NAMES = MappingProxyType({phase: named("PHASE", phase) for phase in Phase})
COPY_STATUS_NAMES = MappingProxyType({each: named("COPY_STATUS", each) for each in CopyStatus})
REBUILD_STATUS_NAMES = MappingProxyType({each: named("REBUILD_STATUS", each) for each in AdoptionStatus})

_REASONS = {pb.Reason.Value(name): reason for reason, name in REASON_NAMES.items()}
_GOALS = {pb.Goal.Value(name): goal for goal, name in GOAL_NAMES.items()}
_STRATEGIES = {pb.Strategy.Value(name): strategy for strategy, name in STRATEGY_NAMES.items()}


def selection_from_message(message: pb.Filter) -> Selection:
    """Read the filter of a call.

    Raises:
        BadRequest: A glob can match nothing.
    """
    try:
        return Selection(
            tuple(message.orgs),
            tuple(message.spaces),
            tuple(message.apps),
            tuple(message.images),
            tuple(message.process_guids),
        )
    except Invalid as error:
        raise BadRequest(error.code, error.detail) from error


def criteria_from_message(message: pb.PlanRequest) -> PlanCriteria:
    """Read what a plan is about; without a goal it leads to the copies."""
    return PlanCriteria(
        selection=selection_from_message(message.filter),
        goal=Goal.SOURCE if message.goal == pb.GOAL_SOURCE else Goal.CACHE,
        strategy=_STRATEGIES.get(message.strategy),
        only_cached=message.only_cached,
        include_pinned=message.include_pinned,
    )


def job_states_from_numbers(numbers: Iterable[int]) -> tuple[JobState, ...]:
    """Read states of jobs."""
    wanted = frozenset(numbers)
    return tuple(state for state, name in JOB_STATE_NAMES.items() if pb.JobState.Value(name) in wanted)


def app_states_from_numbers(numbers: Iterable[int]) -> tuple[AppState, ...]:
    """Read states of apps."""
    wanted = frozenset(numbers)
    return tuple(state for state, name in APP_STATE_NAMES.items() if pb.AppState.Value(name) in wanted)


def app_message(row: AppRow, owner: Owner) -> pb.App:
    """Write one Docker LRP."""
    return pb.App(
        process_guid=row.lrp.process_guid,
        app_guid=row.lrp.app_guid,
        app_name=owner.app,
        space_name=owner.space,
        org_name=owner.org,
        rootfs=str(row.lrp.rootfs),
        to_rootfs="" if row.to_rootfs is None else str(row.to_rootfs),
        state=APP_STATE_NAMES[row.state],
        reason=REASON_NAMES[row.reason],
        detail=row.detail,
        instances=row.lrp.instances,
        running=row.running,
    )


def image_message(image: CachedImage, cache: CacheRepositories) -> pb.CachedImage:
    """Write a finished copy."""
    return pb.CachedImage(
        cache_guid=image.cache_guid,
        source=str(image.source),
        url=str(cache.of_registry(image.registry).image(image.cache_guid)),
        root_digest=str(image.root_digest),
        platform_digest=str(image.platform_digest),
        digest=str(image.digest),
        bytes=image.size,
        created_at=image.created_at,
        verified_at=image.verified_at,
        needs_verification_since=image.needs_verification_since,
        missing_since=image.missing_since,
        missing=image.missing,
        lost_since=image.lost_since,
    )


def verified_message(image: CachedImage, result: ReadBackResult, *, done: int, total: int) -> pb.VerifiedCopy:
    """Write what reading a copy back has shown."""
    return pb.VerifiedCopy(
        cache_guid=image.cache_guid,
        source=str(image.source),
        status=COPY_STATUS_NAMES[result.status],
        error=result.error,
        bytes=image.size,
        done=done,
        total=total,
    )


def rebuilt_message(
    adopted: AdoptedCopy, cache: CacheRepositories, *, done: int, total: int
) -> pb.RebuiltCopy:
    """Write what became of a copy that was not known."""
    return pb.RebuiltCopy(
        cache_guid=adopted.cache_guid,
        url=str(cache.image(adopted.cache_guid)),
        source="" if adopted.source is None else str(adopted.source),
        status=REBUILD_STATUS_NAMES[adopted.status],
        detail=adopted.detail,
        process_guids=list(adopted.process_guids),
        done=done,
        total=total,
    )


def job_message(job: CacheJob, cache: CacheRepositories, progress: Progress | None = None) -> pb.Job:
    """Write a cache job."""
    message = pb.Job(
        job_id=job.job_id,
        source=str(job.source),
        state=JOB_STATE_NAMES[job.state],
        reason=job.reason,
        attempts=job.attempts,
        max_attempts=MAX_ATTEMPTS,
        next_attempt_at=job.not_before or 0.0,
        error=job.failure,
        cache_guid=job.cache_guid or "",
        url="" if job.cache_guid is None else str(cache.image(job.cache_guid)),
        created_at=job.created_at,
        updated_at=job.updated_at,
    )
    if progress is not None:
        message.progress.total_bytes = progress.total
        message.progress.transferred_bytes = progress.transferred
        message.progress.skipped_bytes = progress.skipped
        message.progress.retries = progress.retries
    return message


def migration_message(migration: Migration) -> pb.Migration:
    """Write an open migration."""
    return pb.Migration(
        process_guid=migration.process_guid,
        app_guid=migration.original.app_guid,
        app_name=owner_of(migration.original).app,
        cache_guid=migration.cache_guid,
        goal=GOAL_NAMES[migration.goal],
        strategy=STRATEGY_NAMES[migration.strategy],
        phase=PHASE_NAMES[migration.phase],
        rounds=migration.rounds,
        started_at=migration.started_at,
        entered_at=migration.entered_at,
        from_rootfs=str(migration.original.rootfs),
    )


def audit_message(entry: AuditEntry) -> pb.AuditEntry:
    """Write an entry of the audit."""
    return pb.AuditEntry(
        at=entry.at,
        caller=entry.caller,
        call=entry.call,
        arguments=entry.arguments,
        outcome=entry.outcome,
    )


def messages_from_plan(plan: Plan) -> Iterator[pb.PlanEntry]:
    """Write a plan: copies, migrations, pins, skipped LRPs, and its end."""
    for copy in plan.copies:
        yield pb.PlanEntry(copy=_copy_message(copy))
    for planned in plan.migrations:
        yield pb.PlanEntry(migration=_migration_message(planned))
    for subject in plan.pins:
        yield pb.PlanEntry(pin=_pin_message(subject))
    for each in plan.skipped:
        yield pb.PlanEntry(skipped=_skipped_message(each))
    yield pb.PlanEntry(
        end=pb.PlanEnd(
            goal=GOAL_NAMES[plan.goal],
            made_at=plan.made_at,
            considered=plan.considered,
            problems=list(plan.problems),
            cache_registry=plan.cache,
            obstacles=list(plan.obstacles),
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


def event_message(event: ApplyEvent) -> pb.ApplyEvent:
    """Write a change of an LRP while a plan is applied."""
    return pb.ApplyEvent(
        process_guid=event.migration.subject.process_guid,
        app_name=event.migration.subject.owner.app,
        state=_migration_state(event),
        reason=REASON_NAMES[event.reason],
        detail=event.detail,
        done=event.done,
        total=event.total,
    )


def _migration_state(event: ApplyEvent) -> pb.MigrationState:
    state = event.reason.state
    if not event.is_over:
        if event.reason == Reason.WAITING_FOR_COPY:
            return pb.MIGRATION_STATE_COPYING
        return pb.MIGRATION_STATE_MIGRATING if state is AppState.MIGRATING else pb.MIGRATION_STATE_WAITING
    if not event.has_failed:
        return pb.MIGRATION_STATE_DONE
    return pb.MIGRATION_STATE_FAILED if state is AppState.FAILED else pb.MIGRATION_STATE_SKIPPED
