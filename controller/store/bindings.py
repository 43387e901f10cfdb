"""Reads and writes bindings within a transaction."""

from collections.abc import Collection

from sqlalchemy import Connection, RowMapping, delete, exists, insert, select

from controller.store import tables
from controller.store.cached_images import reference_from_text
from reconcile.lrps import AppGuid
from reconcile.records import Binding, JobId, JobState
from reconcile.references import ImageReference

_bindings = tables.bindings

MAX_BINDINGS = 3
"""Number of bindings that are kept for one app and source, the newest. When a staging fails, its binding is
deleted and the one before it is used."""


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
            .order_by(_bindings.c.staged_at.desc(), _bindings.c.number.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else _binding(row)


def find_newest_of_apps(
    connection: Connection, app_guids: Collection[AppGuid]
) -> dict[tuple[AppGuid, str], Binding]:
    """Find the newest binding of each app and source; one query takes some hundred apps."""
    rows = connection.execute(
        select(_bindings)
        .where(_bindings.c.app_guid.in_(app_guids))
        .order_by(_bindings.c.staged_at, _bindings.c.number)
    ).mappings()
    oldest_first = map(_binding, rows)
    return {(each.app_guid, str(each.source)): each for each in oldest_first}


def list_of_job(connection: Connection, job_id: JobId) -> tuple[Binding, ...]:
    """List a job's bindings in the order they were saved."""
    rows = connection.execute(
        select(_bindings).where(_bindings.c.job_id == job_id).order_by(_bindings.c.number)
    ).mappings()
    return tuple(_binding(row) for row in rows)


def save(connection: Connection, binding: Binding) -> None:
    """Save a binding in place of an earlier one of its requester.

    Bindings of the app and source beyond `MAX_BINDINGS` are deleted, the oldest first. Ended jobs that lose
    their last binding by this are deleted too.
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
    of_app_and_source = (_bindings.c.app_guid == binding.app_guid, _bindings.c.source == row["source"])
    newest_first = (_bindings.c.staged_at.desc(), _bindings.c.number.desc())
    surplus = (
        connection.execute(
            select(_bindings).where(*of_app_and_source).order_by(*newest_first).offset(MAX_BINDINGS)
        )
        .mappings()
        .all()
    )
    for each in surplus:
        connection.execute(delete(_bindings).where(_bindings.c.number == each["number"]))
    for job_id in {each["job_id"] for each in surplus} | ({replaced.job_id} if replaced else set()):
        _drop_job_if_unused(connection, job_id)


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
