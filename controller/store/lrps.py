"""Reads and writes the outcomes of passes over LRPs within a transaction."""

from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, func, select

from controller.store import tables
from controller.store.upsert import delete_each, insert_or_update
from reconcile.foreign_text import reason_text
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason, reason_from_text
from reconcile.records import LrpRecord
from reconcile.references import CacheGuid

_lrps = tables.lrps


def find(connection: Connection, process_guid: ProcessGuid) -> LrpRecord | None:
    """Find one LRP's record."""
    row = (
        connection.execute(select(_lrps).where(_lrps.c.process_guid == process_guid)).mappings().one_or_none()
    )
    return None if row is None else _record(row)


def find_many(connection: Connection, process_guids: Collection[ProcessGuid]) -> dict[ProcessGuid, LrpRecord]:
    """Find records of LRPs; one query takes some hundred process GUIDs."""
    rows = connection.execute(select(_lrps).where(_lrps.c.process_guid.in_(process_guids))).mappings()
    return {record.process_guid: record for record in map(_record, rows)}


def list_all(connection: Connection) -> tuple[LrpRecord, ...]:
    """List the records, by process GUID."""
    rows = connection.execute(select(_lrps).order_by(_lrps.c.process_guid)).mappings()
    return tuple(_record(row) for row in rows)


def list_of_app(connection: Connection, app_guid: AppGuid) -> tuple[LrpRecord, ...]:
    """List the records of an app's LRPs, by process GUID."""
    # Sorted here: a database that is to sort may walk all rows by their key instead.
    of_app = map(_record, connection.execute(select(_lrps).where(_lrps.c.app_guid == app_guid)).mappings())
    return tuple(sorted(of_app, key=lambda record: record.process_guid))


def count_by_reason(connection: Connection) -> dict[Reason, int]:
    """Count the records by reason."""
    rows = connection.execute(select(_lrps.c.reason, func.count()).group_by(_lrps.c.reason))
    counts = Counter[Reason]()
    for reason, count in rows:
        counts[reason_from_text(reason)] += int(count)
    return dict(counts)


def save(connection: Connection, record: LrpRecord) -> None:
    """Save one LRP's record in place of an earlier one."""
    row = {
        "process_guid": record.process_guid,
        "app_guid": record.app_guid,
        "rootfs": record.rootfs,
        "cache_guid": record.cache_guid,
        "rounds": record.rounds,
        "reason": record.reason,
        "detail": reason_text(record.detail),
        "updated_at": record.updated_at,
    }
    insert_or_update(connection, _lrps, [row])


def forget(connection: Connection, process_guids: Sequence[ProcessGuid]) -> None:
    """Delete the records of LRPs, their original sources, and what is remembered of their instances."""
    for table in (_lrps, tables.original_sources, tables.stale_instances):
        delete_each(connection, table.c.process_guid, process_guids)


def _record(row: RowMapping) -> LrpRecord:
    guid = row["cache_guid"]
    return LrpRecord(
        process_guid=ProcessGuid(row["process_guid"]),
        app_guid=AppGuid(row["app_guid"]),
        rootfs=row["rootfs"],
        cache_guid=None if guid is None else CacheGuid(guid),
        rounds=row["rounds"],
        reason=reason_from_text(row["reason"]),
        detail=reason_text(row["detail"]),
        updated_at=row["updated_at"],
    )
