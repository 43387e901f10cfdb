"""Reads and writes cache jobs within a transaction, and refuses illegal changes of their state."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, RowMapping, exists, func, or_, select, update

from controller.store import bindings, cached_images, tables
from controller.store.upsert import insert_new
from reconcile.errors import Conflict, Invalid, NotFound
from reconcile.foreign_text import reason_text
from reconcile.reasons import reason_from_text
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState, check_change
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.trust import ContentProof

_jobs = tables.jobs

JobKey = tuple[float, JobId]
"""Place of a job in the list of all: when it was requested, and its id."""


def find(connection: Connection, job_id: JobId) -> CacheJob | None:
    """Find one job."""
    row = connection.execute(select(_jobs).where(_jobs.c.job_id == job_id)).mappings().one_or_none()
    return None if row is None else _job(row)


def find_many(connection: Connection, job_ids: Collection[JobId]) -> dict[JobId, CacheJob]:
    """Find jobs; one query takes some hundred ids."""
    rows = connection.execute(select(_jobs).where(_jobs.c.job_id.in_(job_ids))).mappings()
    return {job.job_id: job for job in map(_job, rows)}


def list_open(connection: Connection, source: ImageReference | None = None) -> tuple[CacheJob, ...]:
    """List the jobs that are queued or copying, of one source or of all, the oldest first."""
    chosen = select(_jobs).where(_jobs.c.state.in_([JobState.QUEUED, JobState.COPYING]))
    if source is not None:
        chosen = chosen.where(_jobs.c.source == str(source))
    rows = connection.execute(chosen.order_by(_jobs.c.created_at, _jobs.c.number)).mappings()
    return tuple(_job(row) for row in rows)


def list_in_states(connection: Connection, states: Collection[JobState]) -> tuple[CacheJob, ...]:
    """List the jobs in some states, the most recently changed first."""
    chosen = select(_jobs).where(_jobs.c.state.in_(sorted(states)))
    rows = connection.execute(chosen.order_by(_jobs.c.updated_at.desc(), _jobs.c.number)).mappings()
    return tuple(_job(row) for row in rows)


def list_page(
    connection: Connection, states: Collection[JobState], after: JobKey | None, *, most: int
) -> tuple[CacheJob, ...]:
    """List the jobs in some states after a key, the latest first; of several in a moment, the greatest id."""
    order = (_jobs.c.created_at.desc(), _jobs.c.job_id.desc())
    found = list[RowMapping]()
    for state in states:  # each is one stretch of an index, and their rows are merged
        wanted = select(_jobs).where(_jobs.c.state == state).order_by(*order).limit(most)
        if after is not None:
            created_at, job_id = after
            is_earlier = or_(_jobs.c.created_at < created_at, _jobs.c.job_id < job_id)
            wanted = wanted.where(_jobs.c.created_at <= created_at, is_earlier)
        found += connection.execute(wanted).mappings()
    found.sort(key=lambda row: (row["created_at"], row["job_id"]), reverse=True)
    return tuple(map(_job, found[:most]))


def list_ids(
    connection: Connection, *, states: Collection[JobState], beginnings: Collection[str]
) -> tuple[JobId, ...]:
    """List the ids of jobs in some states that begin with one of some texts; one query takes some hundred."""
    begin = (_jobs.c.job_id.startswith(text, autoescape=True) for text in beginnings)
    wanted = select(_jobs.c.job_id).where(_jobs.c.state.in_(states), or_(*begin))
    found = map(JobId, connection.scalars(wanted))
    return tuple(each for each in found if each.startswith(tuple(beginnings)))  # SQLite knows no capitals


def count_by_state(connection: Connection) -> dict[str, int]:
    """Count the jobs by state."""
    rows = connection.execute(select(_jobs.c.state, func.count()).group_by(_jobs.c.state))
    return {str(state): int(count) for state, count in rows}


def add(connection: Connection, job: CacheJob, binding: Binding) -> None:
    """Save a new job and its binding. The binding replaces an earlier one of its requester.

    Raises:
        Conflict: `job-exists`, or `image-missing` for a cached job without a finished copy.
        Invalid: `binding-of-other-job`.
    """
    if binding.job_id != job.job_id:
        raise Invalid(
            "store",
            "binding-of-other-job",
            f"{binding.requester} is bound to {binding.job_id}, not {job.job_id}",
        )
    _require_image(connection, job)
    if not insert_new(connection, _jobs, _row(job)):
        raise Conflict("store", "job-exists", f"job {job.job_id} exists already")
    bindings.save(connection, binding)


def save(connection: Connection, job: CacheJob) -> None:
    """Save changes of a job: of its state, as far as `check_change` allows it, or of other fields.

    Raises:
        NotFound: `no-such-job`.
        Conflict: `illegal-change`, or `image-missing` for a cached job without a finished copy.
    """
    before = find(connection, job.job_id)
    if before is None:
        raise NotFound("store", "no-such-job", f"there is no job {job.job_id}")
    if job.state is not before.state:
        check_change(before.state, job.state)
    _require_image(connection, job)
    connection.execute(update(_jobs).where(_jobs.c.job_id == job.job_id).values(_row(job)))


def finish(
    connection: Connection,
    job: CacheJob,
    image: CachedImage,
    blobs: Iterable[Digest],
    proof: ContentProof | None = None,
) -> None:
    """Save a cached job, its image, and that its source has shown it. A repeated call changes nothing.

    Raises:
        NotFound: `no-such-job`.
        Conflict: `illegal-change` or `guid-of-other-content`.
        Invalid: `job-without-image`: the job is not cached, or has another image.
    """
    if job.state is not JobState.CACHED or job.cache_guid != image.cache_guid:
        raise Invalid(
            "store",
            "job-without-image",
            f"{job.job_id} is {job.state} with image {job.cache_guid}, not cached with {image.cache_guid}",
        )
    cached_images.keep(connection, image, blobs, proof)
    save(connection, job)


def _require_image(connection: Connection, job: CacheJob) -> None:
    cache_guid = tables.images.c.cache_guid
    if job.state is JobState.CACHED and not connection.scalar(
        select(exists().where(cache_guid == job.cache_guid))
    ):
        raise Conflict(
            "store",
            "image-missing",
            f"{job.job_id} cannot be cached: the store has no image {job.cache_guid}",
        )


def _row(job: CacheJob) -> Mapping[str, object]:
    return {
        "job_id": job.job_id,
        "source": str(job.source),
        "state": job.state.value,
        "reason": job.reason,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "needs_credentials": job.needs_credentials,
        "attempts": job.attempts,
        "not_before": job.not_before,
        "failure": reason_text(job.failure),
        "cache_guid": job.cache_guid,
        "organization": job.organization,
    }


def _job(row: RowMapping) -> CacheJob:
    guid = row["cache_guid"]
    return CacheJob(
        job_id=JobId(row["job_id"]),
        source=cached_images.reference_from_text(row["source"]),
        state=JobState(row["state"]),
        reason=reason_from_text(row["reason"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        needs_credentials=row["needs_credentials"],
        attempts=row["attempts"],
        not_before=row["not_before"],
        failure=reason_text(row["failure"]),
        cache_guid=None if guid is None else CacheGuid(guid),
        organization=row["organization"],
    )
