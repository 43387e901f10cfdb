"""Reads and writes bindings within a transaction."""

from sqlalchemy import Connection, RowMapping, delete, select
from sqlalchemy.dialects.sqlite import insert

from controller.store import tables
from controller.store.images import reference_from_text
from reconcile.images import ImageReference
from reconcile.lrps import AppGuid
from reconcile.records import Binding, JobId

_bindings = tables.bindings


def find(connection: Connection, origin: str) -> Binding | None:
    """Read the binding of an origin."""
    row = connection.execute(select(_bindings).where(_bindings.c.origin == origin)).mappings().one_or_none()
    return None if row is None else _binding(row)


def find_newest(connection: Connection, app_guid: AppGuid, source: ImageReference) -> Binding | None:
    """Read an app's latest binding for a source; of two staged at once the one saved later."""
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


def list_of_job(connection: Connection, job_id: JobId) -> tuple[Binding, ...]:
    """List a job's bindings in the order they were saved."""
    rows = connection.execute(
        select(_bindings).where(_bindings.c.job_id == job_id).order_by(_bindings.c.number)
    ).mappings()
    return tuple(_binding(row) for row in rows)


def add(connection: Connection, binding: Binding) -> bool:
    """Save a binding, and tell whether it is a new one."""
    row = {
        "origin": binding.origin,
        "app_guid": binding.app_guid,
        "source": str(binding.source),
        "staged_at": binding.staged_at,
        "job_id": binding.job_id,
    }
    return bool(connection.execute(insert(_bindings).values(row).on_conflict_do_nothing()).rowcount)


def drop(connection: Connection, origin: str) -> Binding | None:
    """Delete the binding of an origin, and tell what it was."""
    binding = find(connection, origin)
    connection.execute(delete(_bindings).where(_bindings.c.origin == origin))
    return binding


def _binding(row: RowMapping) -> Binding:
    return Binding(
        app_guid=AppGuid(row["app_guid"]),
        source=reference_from_text(row["source"]),
        origin=row["origin"],
        staged_at=row["staged_at"],
        job_id=JobId(row["job_id"]),
    )
