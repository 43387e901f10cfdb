"""Converts values to messages of the admin API and back."""

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from controller.admin.apply_run import ApplyEvent
from controller.admin.copies import CopyStatus, ReadBackResult
from controller.admin.grpc_status import BadRequest
from controller.admin.listing import AppRow
from controller.admin.reason_names import REASON_NAMES, named
from controller.notes import AdoptedCopy, AdoptionStatus
from controller.progress import Progress
from protos.admin import admin_pb2 as pb
from reconcile.droplets import DropletPhase, DropletRecord
from reconcile.errors import Invalid
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.reasons import AppState, Reason
from reconcile.records import MAX_ATTEMPTS, AuditEntry, CachedImage, CacheJob, JobState
from reconcile.references import CacheRepositories
from reconcile.selection import Owner, Selection, owner_of

APP_STATE_NAMES = MappingProxyType({state: named("APP_STATE", state) for state in AppState})
JOB_STATE_NAMES = MappingProxyType({state: named("JOB_STATE", state) for state in JobState})
GOAL_NAMES = MappingProxyType({goal: named("GOAL", goal) for goal in Goal})
STRATEGY_NAMES = MappingProxyType({each: named("STRATEGY", each) for each in Strategy})
PHASE_NAMES = MappingProxyType({phase: named("PHASE", phase) for phase in Phase})
COPY_STATUS_NAMES = MappingProxyType({each: named("COPY_STATUS", each) for each in CopyStatus})
DROPLET_PHASE_NAMES = MappingProxyType({phase: named("DROPLET_PHASE", phase) for phase in DropletPhase})
REBUILD_STATUS_NAMES = MappingProxyType({each: named("REBUILD_STATUS", each) for each in AdoptionStatus})


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


def job_states_from_numbers(numbers: Iterable[int]) -> tuple[JobState, ...]:
    """Read states of jobs."""
    wanted = frozenset(numbers)
    return tuple(state for state, name in JOB_STATE_NAMES.items() if pb.JobState.Value(name) in wanted)


def app_states_from_numbers(numbers: Iterable[int]) -> tuple[AppState, ...]:
    """Read states of apps."""
    wanted = frozenset(numbers)
    return tuple(state for state, name in APP_STATE_NAMES.items() if pb.AppState.Value(name) in wanted)


def app_message(row: AppRow, owner: Owner, droplet: DropletRecord | None = None) -> pb.App:
    """Write one Docker LRP, with what was done about the newest droplet of its app."""
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
        droplet_phase=None if droplet is None else DROPLET_PHASE_NAMES[droplet.phase],
        droplet_reason=None if droplet is None else REASON_NAMES[droplet.reason],
    )


def image_message(
    image: CachedImage, cache: CacheRepositories, sources: Sequence[str] = ()
) -> pb.CachedImage:
    """Write a finished copy, and which repositories have shown it."""
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
        further_sources=[each for each in sources if each != image.source.repository],
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


def event_message(event: ApplyEvent) -> pb.ApplyEvent:
    """Write a change of an LRP while a plan is applied."""
    return pb.ApplyEvent(
        process_guid=event.migration.subject.process_guid,
        app_guid=event.migration.subject.app_guid,
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
