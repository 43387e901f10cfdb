"""Answers the calls that change nothing."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace

from controller import __version__
from controller.admin import droplet_queries, eviction_messages, listing, messages
from controller.admin.cells import cells_messages
from controller.admin.dependencies import AdminDependencies
from controller.admin.former_registries import former_registries
from controller.admin.grpc_status import BadRequest
from controller.admin.naming import resolve_guids
from controller.admin.pages import (
    fitting,
    key_from_token,
    number_from_token,
    page_size,
    place_from_token,
    token_from_key,
    written_page,
)
from controller.admin.unhealthy import unhealthy_messages
from protos.admin import admin_pb2 as pb
from reconcile.errors import Unavailable
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid
from reconcile.selection import Selection, owner_of
from reconcile.stored_counts import copies_in

LOOK_AGAIN = 0.5
"""Seconds between two looks at jobs that are watched: the progress of a copy raises no events."""

LISTED_SOURCES = 8
"""Sources of each copy that a list of copies names."""

MAX_IMAGES_READ = 5_000
"""How many images are read at most for one page, even when few of them match the globs."""

IMAGES_AT_A_TIME = 1_000
"""How many images are read with one query for a page of those that match globs."""

_OPEN = (JobState.QUEUED, JobState.COPYING)


async def status(dependencies: AdminDependencies) -> pb.StatusResponse:
    """Report what the daemon is doing as a whole; without what is counted in a database that is away."""
    database = dependencies.daemon.database
    answer = _running(dependencies)
    if database.outage is None:
        stored = pb.StatusResponse()
        try:
            await _add_stored(stored, dependencies)
        except Unavailable:
            if database.outage is None:
                raise
        else:
            answer.MergeFrom(stored)
    if (outage := database.outage) is not None:
        waiting = dependencies.daemon.count_waiting()
        answer.database_outage.CopyFrom(
            pb.DatabaseOutage(
                since=outage.since,
                error=outage.error,
                waiting_migrations=waiting.migrations,
                waiting_lrps=waiting.lrps,
                waiting_jobs=waiting.jobs,
            )
        )
    return answer


def _running(dependencies: AdminDependencies) -> pb.StatusResponse:
    """Report what the process knows by itself."""
    daemon = dependencies.daemon
    failures = daemon.gate.failures
    circuit = failures.overall
    return pb.StatusResponse(
        version=__version__,
        run_id=daemon.process.run_id,
        started_at=daemon.started_at,
        paused=daemon.control.was_paused,
        restoring=daemon.mode.is_restoring,
        circuit_breaker=pb.CircuitBreaker(
            open=circuit.is_open,
            failures=circuit.failures,
            last=circuit.last_failure,
            retry_at=circuit.retry_at,
            cell=circuit.only_cell,
        ),
        cache_registry=dependencies.cache.address,
        pinned_apps=len(daemon.control.pinned_apps),
        watching=daemon.watching.is_watching,
        listed_at=daemon.watching.listed_at,
        cells=cells_messages(daemon.cells),
        certificate_warnings=daemon.certificates.warnings,
        set_aside=[
            pb.SetAside(
                organization=each.organization,
                cache_guid=each.image,
                failures=each.breaker.failures,
                last=each.breaker.last_failure,
                retry_at=each.breaker.retry_at,
                cell=each.breaker.only_cell,
            )
            for each in failures.set_aside
        ],
        store_id=daemon.store_marker.store,
        other_stores=daemon.store_marker.others,
        config_error=daemon.process.reloads.error,
    )


async def _add_stored(answer: pb.StatusResponse, dependencies: AdminDependencies) -> None:
    """Report what is counted in the store.

    Raises:
        Unavailable: The store does not answer.
    """
    daemon, records = dependencies.daemon, dependencies.stored.records
    stored = await records.measure_images()
    answer.images, answer.image_bytes = copies_in(dependencies.cache, stored)
    answer.distinct_image_bytes = daemon.distinct_bytes() or 0
    answer.incomplete_images, answer.lost_images = await records.count_incomplete_images()
    apps = listing.count_by_state(await records.count_lrps())
    answer.migrations = len(await dependencies.stored.journal.list_migrations())
    answer.former_registries.extend(
        former_registries(dependencies.cache, stored, daemon.watching.former_lrps)
    )
    answer.unhealthy_registries.extend(await unhealthy_messages(daemon.health, records))
    cloud_controller = await droplet_queries.cloud_controller(dependencies)
    if cloud_controller is not None:
        answer.cloud_controller.CopyFrom(cloud_controller)
    answer.jobs_by_state.update(await records.count_jobs())
    answer.apps_by_state.update({str(state): count for state, count in apps.items()})


async def cached_images(
    dependencies: AdminDependencies, request: pb.ListCachedImagesRequest
) -> pb.ListCachedImagesResponse:
    """List cached images, oldest first."""
    selection = messages.selection_from_message(pb.Filter(images=request.images))
    limit, after = page_size(request.page_size), place_from_token(request.page_token)
    chosen, token = await _page_images(dependencies, selection, after, limit=limit)
    sources = await dependencies.stored.records.list_sources([image.platform_digest for image in chosen])

    def write(image: CachedImage) -> pb.CachedImage:
        shown = sources.get(image.platform_digest, ())[:LISTED_SOURCES]
        return messages.image_message(image, dependencies.cache, shown)

    rows, token = fitting(chosen, token, key=_place_of_image, write=write)
    return pb.ListCachedImagesResponse(images=rows, next_page_token=token)


def _place_of_image(image: CachedImage) -> tuple[float, CacheGuid]:
    return image.created_at, image.cache_guid


async def _page_images(
    dependencies: AdminDependencies,
    selection: Selection,
    after: tuple[float, str] | None,
    *,
    limit: int,
) -> tuple[Sequence[CachedImage], str]:
    """Find the images of one page, and the token of the next; fewer than `limit` when few match."""
    found, at = list[CachedImage](), None if after is None else (after[0], CacheGuid(after[1]))
    most = limit + 1 if not selection.images else max(limit + 1, IMAGES_AT_A_TIME)
    for _ in range(MAX_IMAGES_READ // IMAGES_AT_A_TIME):
        batch = await dependencies.stored.pages.page_images(at, most=most)
        found += [image for image in batch if selection.matches_image([image.source])]
        if len(found) > limit:
            return found[:limit], token_from_key(_place_of_image(found[limit - 1]))
        if len(batch) < most:
            return found, ""
        at = _place_of_image(batch[-1])
    return found, "" if at is None else token_from_key(at)


async def named_images(
    dependencies: AdminDependencies, request: pb.GetCachedImagesRequest
) -> pb.GetCachedImagesResponse:
    """Show cached images that are named, each with the LRPs that use it."""
    found = await dependencies.copies.find(request.images)
    users = await dependencies.copies.users(found)
    sources = await dependencies.stored.records.list_sources([image.platform_digest for image in found])
    rows = [
        pb.ImageWithUsers(
            image=messages.image_message(image, dependencies.cache, sources.get(image.platform_digest, ())),
            process_guids=process_guids,
        )
        for image, process_guids in zip(found, users, strict=True)
    ]
    return pb.GetCachedImagesResponse(images=rows)


async def plan_eviction(
    dependencies: AdminDependencies, request: pb.PlanEvictionRequest
) -> list[pb.PlannedEviction]:
    """Say of named copies, or of all when none is named, whether they may be deleted."""
    found, unknown = await dependencies.copies.find_each(request.images)
    names = {image.cache_guid: name for name, image in found.items()}
    rows = [eviction_messages.unknown_eviction_message(name, error) for name, error in unknown.items()]
    if request.images and not found:
        return rows
    decisions = await dependencies.copies.plan_eviction(tuple(found.values()))
    return rows + [
        eviction_messages.planned_eviction_message(
            names.get(decision.image.cache_guid, decision.image.cache_guid), decision, dependencies.cache
        )
        for decision in decisions
    ]


async def jobs(dependencies: AdminDependencies, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
    """List jobs, the latest first; without states or ids those that are open or have failed."""
    states = messages.job_states_from_numbers(request.states)
    if not states:
        states = tuple(JobState) if request.job_ids else (*_OPEN, JobState.FAILED)
    limit, after = page_size(request.page_size), place_from_token(request.page_token)
    at = None if after is None else (after[0], JobId(after[1]))
    if request.job_ids:
        found = await _named_jobs(dependencies, states, request.job_ids, at)
    else:
        found = await dependencies.stored.pages.page_jobs(states, at, most=limit + 1)
    rows, token = fitting(
        found[:limit],
        token_from_key(_place_of_job(found[limit - 1])) if len(found) > limit else "",
        key=_place_of_job,
        write=lambda job: job_message(dependencies, job),
    )
    return pb.ListJobsResponse(jobs=rows, next_page_token=token)


def _place_of_job(job: CacheJob) -> tuple[float, JobId]:
    return job.created_at, job.job_id


async def _named_jobs(
    dependencies: AdminDependencies,
    states: Collection[JobState],
    names: Sequence[str],
    after: tuple[float, JobId] | None,
) -> Sequence[CacheJob]:
    """Find the jobs that ids or beginnings of ids name, as far as they are in some states."""
    pages = dependencies.stored.pages
    wanted = resolve_guids(names, await pages.list_job_ids(states, names))
    known = [job for job in await pages.find_jobs(tuple(map(JobId, wanted))) if job.state in states]
    rest = (job for job in known if after is None or _place_of_job(job) < after)
    return sorted(rest, key=_place_of_job, reverse=True)


def job_message(dependencies: AdminDependencies, job: CacheJob) -> pb.Job:
    """Write a job with the progress of its copy."""
    return messages.job_message(job, dependencies.cache, dependencies.jobs.progress(job.job_id))


async def watch_jobs(
    dependencies: AdminDependencies, wanted: Sequence[JobId]
) -> AsyncGenerator[pb.Job, None]:
    """Yield jobs at once, and each again whenever it changes."""
    sent: dict[str, pb.Job] = {}
    while True:
        found = await _find_jobs(dependencies, wanted, sent)
        for job in found:
            message = job_message(dependencies, job)
            if sent.get(job.job_id) != message:
                sent[job.job_id] = message
                yield message
        if wanted and all(job.state not in _OPEN for job in found):
            return
        await asyncio.sleep(LOOK_AGAIN)


async def _find_jobs(
    dependencies: AdminDependencies, wanted: Sequence[JobId], sent: dict[str, pb.Job]
) -> Sequence[CacheJob]:
    """Find the named jobs, or those that are open or were until now."""
    records = dependencies.stored.records
    if wanted:
        named = [await records.find_job(job_id) for job_id in wanted]
        if not any(named) and not sent:
            raise BadRequest("no-such-job", "there is no such job")
        return [job for job in named if job is not None]
    still_open = await records.list_jobs(_OPEN)
    open_ids = {job.job_id for job in still_open}
    numbers = {pb.JOB_STATE_QUEUED, pb.JOB_STATE_COPYING}
    ended = [JobId(each) for each, job in sent.items() if job.state in numbers and each not in open_ids]
    return [*still_open, *[job for each in ended if (job := await records.find_job(each)) is not None]]


async def migrations(
    dependencies: AdminDependencies, request: pb.ListMigrationsRequest
) -> pb.ListMigrationsResponse:
    """List the LRPs that are being migrated, the earliest first."""
    listed = await dependencies.stored.journal.list_migrations()
    wanted = frozenset(resolve_guids(request.process_guids, [row.process_guid for row in listed]))
    rows, token = written_page(
        [row for row in listed if not wanted or row.process_guid in wanted],
        key=lambda row: (row.started_at, row.process_guid),
        write=messages.migration_message,
        size=request.page_size,
        token=request.page_token,
    )
    return pb.ListMigrationsResponse(migrations=rows, next_page_token=token)


async def resolve_selection(dependencies: AdminDependencies, message: pb.Filter) -> Selection:
    """Read a filter, with the prefixes of process GUIDs replaced by the GUIDs.

    Raises:
        BadRequest: A glob can match nothing.
        Invalid: `ambiguous`: a prefix means several LRPs.
    """
    selection = messages.selection_from_message(message)
    if not selection.process_guids:
        return selection
    listed = await dependencies.planning.survey.list_all()
    return replace(selection, process_guids=resolve_guids(selection.process_guids, listed.guids))


async def apps(dependencies: AdminDependencies, request: pb.ListAppsRequest) -> pb.ListAppsResponse:
    """List the Docker LRPs, by process GUID."""
    limit, after = page_size(request.page_size), key_from_token(request.page_token)
    selection = await resolve_selection(dependencies, request.filter)
    found = await listing.list_apps(
        dependencies.planning.survey,
        selection,
        messages.app_states_from_numbers(request.states),
        after="" if after is None else str(after[0]),
        limit=limit,
    )
    droplets = await droplet_queries.newest_records(dependencies, {row.lrp.app_guid for row in found.rows})
    token = token_from_key((found.last,)) if found.last else ""
    answer, token = fitting(
        found.rows,
        token,
        key=lambda row: (row.lrp.process_guid,),
        write=lambda row: messages.app_message(row, owner_of(row.lrp), droplets.get(row.lrp.app_guid)),
    )
    return pb.ListAppsResponse(apps=answer, next_page_token=token, unreadable=found.unreadable)


async def audit(dependencies: AdminDependencies, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
    """List the entries of the audit log, the latest first."""
    limit, before = page_size(request.page_size), number_from_token(request.page_token)
    found = await dependencies.stored.entries.list_entries(before=before, most=limit + 1)
    rows, token = fitting(
        found[:limit],
        token_from_key((found[limit - 1].number,)) if len(found) > limit else "",
        key=lambda entry: (entry.number,),
        write=messages.audit_message,
    )
    return pb.ListAuditResponse(entries=rows, next_page_token=token)
