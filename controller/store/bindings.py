"""Reads and writes bindings within a transaction."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, delete, exists, insert, select

from controller.store import lrps, retention, tables
from controller.store.cached_images import reference_from_text
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import (
    Binding,
    JobId,
    JobState,
    is_of_droplet,
    is_of_lrp,
    lrp_of_requester,
    requester_of_droplet,
    requester_of_lrp,
)
from reconcile.references import ImageReference

_bindings = tables.bindings

MAX_BINDINGS = 3
"""Number of bindings that are kept for one app and source, the newest. When a staging fails, its binding is
deleted and the one before it is used. Those of LRPs and droplets that have a record are kept beside them, and
so is the newest that has a finished copy, which an app may need while its source does not answer."""

_NEWEST_FIRST = (_bindings.c.staged_at.desc(), _bindings.c.number.desc())


def find(connection: Connection, requester: str) -> Binding | None:
    """Find the binding of a requester."""
    row = (
        connection.execute(select(_bindings).where(_bindings.c.requester == requester))
        .mappings()
        .one_or_none()
    )
    return None if row is None else _binding(row)


def find_newest(connection: Connection, app_guid: AppGuid, source: ImageReference) -> Binding | None:
    """Find an app's newest binding for a source; of two staged at the same time, the last one saved."""
    row = (
        connection.execute(
            select(_bindings)
            .where(_bindings.c.app_guid == app_guid, _bindings.c.source == str(source))
            .order_by(*_NEWEST_FIRST)
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else _binding(row)


def find_of_lrps(
    connection: Connection, process_guids: Collection[ProcessGuid]
) -> dict[ProcessGuid, Binding]:
    """Find the bindings of LRPs themselves; one query takes some hundred process GUIDs."""
    requesters = [requester_of_lrp(process_guid) for process_guid in process_guids]
    rows = connection.execute(select(_bindings).where(_bindings.c.requester.in_(requesters))).mappings()
    return {lrp_of_requester(each.requester): each for each in map(_binding, rows)}


def list_of_apps(
    connection: Connection, app_guids: Collection[AppGuid]
) -> dict[tuple[AppGuid, str], list[Binding]]:
    """List the bindings of each app and source, the newest first; one query takes some hundred apps."""
    rows = connection.execute(
        select(_bindings).where(_bindings.c.app_guid.in_(app_guids)).order_by(*_NEWEST_FIRST)
    ).mappings()
    listed = dict[tuple[AppGuid, str], list[Binding]]()
    for each in map(_binding, rows):
        listed.setdefault((each.app_guid, str(each.source)), []).append(each)
    return listed


def find_newest_with_copy(
    connection: Connection, app_guid: AppGuid, source: ImageReference
) -> tuple[Binding, str] | None:
    """Find an app's newest binding for a source that led to a finished copy, with the GUID of the copy."""
    jobs, images = tables.jobs, tables.images
    row = (
        connection.execute(
            select(_bindings, jobs.c.cache_guid)
            .join_from(_bindings, jobs, jobs.c.job_id == _bindings.c.job_id)
            .join(images, images.c.cache_guid == jobs.c.cache_guid)
            .where(
                _bindings.c.app_guid == app_guid,
                _bindings.c.source == str(source),
                jobs.c.state == JobState.CACHED,
            )
            .order_by(*_NEWEST_FIRST)
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else (_binding(row), row["cache_guid"])


def list_of_job(connection: Connection, job_id: JobId) -> tuple[Binding, ...]:
    """List a job's bindings in the order they were saved."""
    rows = connection.execute(
        select(_bindings).where(_bindings.c.job_id == job_id).order_by(_bindings.c.number)
    ).mappings()
    return tuple(_binding(row) for row in rows)


def save(connection: Connection, binding: Binding) -> None:
    """Save a binding in place of an earlier one of its requester.

    Bindings of the app and source beyond `MAX_BINDINGS` are deleted, the oldest first, and so are those of an
    app that has very many. Ended jobs that lose their last binding by this are deleted too.
    """
    replaced = drop(connection, binding.requester)
    row = {
        "requester": binding.requester,
        "app_guid": binding.app_guid,
        "source": str(binding.source),
        "staged_at": binding.staged_at,
        "job_id": binding.job_id,
        "opted_in": binding.opted_in,
    }
    connection.execute(insert(_bindings).values(row))
    surplus = _surplus(connection, binding)
    for each in surplus:
        connection.execute(delete(_bindings).where(_bindings.c.requester == each.requester))
    for job_id in {each.job_id for each in surplus} | ({replaced.job_id} if replaced else set()):
        _drop_job_if_unused(connection, job_id)
    retention.forget_surplus(connection, binding.app_guid)


def _surplus(connection: Connection, saved: Binding) -> list[Binding]:
    """List the bindings that are no longer needed beside one that was saved."""
    of_app = list_of_apps(connection, [saved.app_guid])[saved.app_guid, str(saved.source)]
    if len(of_app) <= MAX_BINDINGS:
        return []
    of_lrps = {lrp_of_requester(each.requester) for each in of_app if is_of_lrp(each.requester)}
    kept = {requester_of_lrp(each) for each in lrps.find_many(connection, of_lrps)}
    # However old a droplet is, it may be rolled back to; it has no record before its first request is saved.
    kept |= {requester_of_droplet(each) for each in _droplets_of(connection, saved.app_guid)}
    if is_of_droplet(saved.requester):
        kept.add(saved.requester)
    newest = find_newest_with_copy(connection, saved.app_guid, saved.source)
    if newest is not None:
        kept.add(newest[0].requester)
    return [each for each in of_app if each.requester not in kept][MAX_BINDINGS:]


def _droplets_of(connection: Connection, app_guid: AppGuid) -> Sequence[str]:
    """List the GUIDs of an app's droplets that have a record, and that Cloud Controller shows."""
    droplets = tables.droplets
    is_there = droplets.c.reason != Reason.DROPLET_GONE
    found = select(droplets.c.droplet_guid).where(droplets.c.app_guid == app_guid, is_there)
    return connection.scalars(found).all()


def _drop_job_if_unused(connection: Connection, job_id: str) -> None:
    jobs = tables.jobs
    connection.execute(
        delete(jobs).where(
            jobs.c.job_id == job_id,
            jobs.c.state.in_([JobState.CACHED, JobState.FAILED]),
            ~exists().where(_bindings.c.job_id == job_id),
        )
    )


def drop(connection: Connection, requester: str) -> Binding | None:
    """Delete the binding of a requester and return it."""
    binding = find(connection, requester)
    connection.execute(delete(_bindings).where(_bindings.c.requester == requester))
    return binding


def _binding(row: RowMapping) -> Binding:
    return Binding(
        app_guid=AppGuid(row["app_guid"]),
        source=reference_from_text(row["source"]),
        requester=row["requester"],
        staged_at=row["staged_at"],
        job_id=JobId(row["job_id"]),
        opted_in=row["opted_in"],
    )
