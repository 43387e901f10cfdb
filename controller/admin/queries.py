"""What operators' calls reach, and answers to those that only ask."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol

from controller.admin import listing, messages
from controller.admin.applier import Applier
from controller.admin.audit import Audit
from controller.admin.errors import BadRequest
from controller.admin.images import Images
from controller.admin.pages import key_from_token, page, page_size, token_from_key
from controller.admin.planner import Planner
from controller.admin.survey import Survey
from controller.cacher import Progress
from controller.control import Control
from controller.process import Process
from protos.admin import admin_pb2 as pb
from reconcile.images import CacheRepositories
from reconcile.ports import Journal, Mode
from reconcile.records import CachedImage, CacheJob, CacheRequest, JobId, JobState
from reconcile.selection import owner_of

SHORTEST_RETRY = 0.5
"""Seconds between two looks at jobs that are watched: how far a copy has come, no event tells."""

_OPEN = (JobState.QUEUED, JobState.COPYING)


class Jobs(Protocol):
    """Cache jobs, as far as operators have to do with them."""

    async def request(self, request: CacheRequest) -> CacheJob:
        """Ask for a copy."""

    async def go_on(self) -> None:
        """Look again at all jobs that wait."""

    def progress(self, job_id: JobId) -> Progress | None:
        """Tell how far a job's copy has come."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that operators' calls reach."""

    survey: Survey
    planner: Planner
    applier: Applier
    images: Images
    control: Control
    jobs: Jobs
    records: listing.Records
    entries: listing.Entries
    journal: Journal
    breaker: listing.Breaker
    watching: listing.Watching
    mode: Mode
    audit: Audit
    process: Process
    started_at: float = field(default_factory=time.time)

    @property
    def cache(self) -> CacheRepositories:
        """Where copies lie."""
        return self.survey.rules.cache


async def status(desk: Desk) -> pb.StatusResponse:
    """Tell what the daemon is doing as a whole."""
    circuit = desk.breaker.circuit
    images, image_bytes = await desk.records.measure_images()
    apps = listing.count_by_state(await desk.records.count_lrps())
    answer = pb.StatusResponse(
        version=version("diego-docker-cache"),
        run_id=desk.process.run_id,
        started_at=desk.started_at,
        paused=desk.control.was_paused,
        restoring=desk.mode.is_restoring,
        circuit=pb.Circuit(
            open=circuit.is_open,
            failures=circuit.failures,
            last=circuit.last,
            retry_at=0.0 if circuit.opened_at is None else circuit.opened_at + circuit.retry_after,
        ),
        cache_registry=desk.cache.address,
        images=images,
        image_bytes=image_bytes,
        migrations=len(await desk.journal.list_migrations()),
        pinned_apps=len(desk.control.pinned_apps),
        watching=desk.watching.is_watching,
        listed_at=desk.watching.listed_at,
    )
    answer.jobs_by_state.update(await desk.records.count_jobs())
    answer.apps_by_state.update({str(state): count for state, count in apps.items()})
    return answer


async def cached_images(desk: Desk, request: pb.ListCachedImagesRequest) -> pb.ListCachedImagesResponse:
    """List copies, oldest first."""
    selection = messages.selection_from_message(pb.Filter(images=request.images))
    images = [
        image
        for image in await desk.records.list_images()
        if (not request.cache_guids or image.cache_guid in request.cache_guids)
        and selection.matches_image([image.source])
    ]
    chosen, token = page(
        images,
        lambda image: (image.created_at, image.cache_guid),
        size=request.page_size,
        token=request.page_token,
    )
    find_users = _with_users if request.cache_guids else _without_users
    rows = [await find_users(desk, image) for image in chosen]
    return pb.ListCachedImagesResponse(images=rows, next_page_token=token)


async def _with_users(desk: Desk, image: CachedImage) -> pb.CachedImage:
    return messages.image_message(image, desk.cache, await desk.images.users(image))


async def _without_users(desk: Desk, image: CachedImage) -> pb.CachedImage:
    return messages.image_message(image, desk.cache)


async def jobs(desk: Desk, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
    """List jobs, the latest to be asked for first; without states those that are open or have failed."""
    selection = messages.selection_from_message(pb.Filter(images=request.images))
    states = messages.job_states_from_numbers(request.states) or (*_OPEN, JobState.FAILED)
    found = [job for job in await desk.records.list_jobs(states) if selection.matches_image([job.source])]
    chosen, token = page(
        found, lambda job: (-job.created_at, job.job_id), size=request.page_size, token=request.page_token
    )
    return pb.ListJobsResponse(jobs=[job_message(desk, job) for job in chosen], next_page_token=token)


def job_message(desk: Desk, job: CacheJob) -> pb.Job:
    """Write a job, and how far its copy has come."""
    return messages.job_message(job, desk.cache, desk.jobs.progress(job.job_id))


async def watch_jobs(desk: Desk, wanted: Sequence[JobId]) -> AsyncGenerator[pb.Job, None]:
    """Give jobs at once, and each again whenever something of it changes."""
    told: dict[str, pb.Job] = {}
    while True:
        found = await _find_jobs(desk, wanted, told)
        for job in found:
            message = job_message(desk, job)
            if told.get(job.job_id) != message:
                told[job.job_id] = message
                yield message
        if wanted and all(job.state not in _OPEN for job in found):
            return
        await asyncio.sleep(SHORTEST_RETRY)


async def _find_jobs(desk: Desk, wanted: Sequence[JobId], told: dict[str, pb.Job]) -> Sequence[CacheJob]:
    """Find the named jobs, or those that are open or were until now."""
    records = desk.records
    if wanted:
        named = [await records.find_job(job_id) for job_id in wanted]
        if not any(named) and not told:
            raise BadRequest("no-such-job", "there is no such job")
        return [job for job in named if job is not None]
    still_open = await records.list_jobs(_OPEN)
    open_ids = {job.job_id for job in still_open}
    numbers = {pb.JOB_STATE_QUEUED, pb.JOB_STATE_COPYING}
    ended = [JobId(each) for each, job in told.items() if job.state in numbers and each not in open_ids]
    return [*still_open, *[job for each in ended if (job := await records.find_job(each)) is not None]]


async def migrations(desk: Desk, request: pb.ListMigrationsRequest) -> pb.ListMigrationsResponse:
    """List the LRPs that are being moved, those that began first, first."""
    chosen, token = page(
        await desk.journal.list_migrations(),
        lambda row: (row.started_at, row.process_guid),
        size=request.page_size,
        token=request.page_token,
    )
    rows = [messages.migration_message(row) for row in chosen]
    return pb.ListMigrationsResponse(migrations=rows, next_page_token=token)


async def apps(desk: Desk, request: pb.ListAppsRequest) -> pb.ListAppsResponse:
    """List the Docker LRPs, by process GUID."""
    most, after = page_size(request.page_size), key_from_token(request.page_token)
    found = await listing.list_apps(
        desk.survey,
        messages.selection_from_message(request.filter),
        messages.app_states_from_numbers(request.states),
        after="" if after is None else str(after[0]),
        most=most,
    )
    token = token_from_key((found.last,)) if found.last else ""
    answer = [messages.app_message(row, owner_of(row.lrp)) for row in found.rows]
    return pb.ListAppsResponse(apps=answer, next_page_token=token, unreadable=found.unreadable)


async def audit(desk: Desk, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
    """List what operators did, the latest first."""
    entries = await desk.entries.list_entries()
    chosen, token = page(
        entries, lambda entry: (-entry.number,), size=request.page_size, token=request.page_token
    )
    rows = [messages.audit_message(entry) for entry in chosen]
    return pb.ListAuditResponse(entries=rows, next_page_token=token)
