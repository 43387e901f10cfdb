"""Keeps the records of droplets: what each named before this program wrote into it.

The original image text outlives everything else of a droplet here: nothing else can put it back. Passwords of
source registries are never known to this program where a droplet is concerned, so nothing here is a secret.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from controller.store.database import Database
from controller.store.tables import droplets
from controller.store.upsert import delete_each, insert_or_update
from reconcile.droplets import BuildGuid, DropletGuid, DropletPhase, DropletRecord
from reconcile.foreign_text import one_line, reason_text
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason, reason_from_text
from reconcile.references import CacheGuid

PAGE = 1000
"""Rows that one transaction lists."""

MOST_APPS = 500
"""Apps that one query names."""

_NEWEST_FIRST = (droplets.c.created_at.desc(), droplets.c.droplet_guid)


class SqlDroplets:
    """Implements DropletRecords in SQL."""

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database, self._page = database, page

    async def find_droplet(self, guid: DropletGuid) -> DropletRecord | None:
        """Read one droplet's record."""
        found = await self._database.read(
            lambda connection: _list(connection, droplets.c.droplet_guid == guid)
        )
        return found[0] if found else None

    async def save_droplet(self, record: DropletRecord) -> None:
        """Save one droplet's record, in place of an earlier one."""
        row = _row(record)
        await self._database.write(lambda connection: insert_or_update(connection, droplets, [row]))

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        """List the records of an app, the newest first."""
        return await self._database.read(lambda connection: list_of_app(connection, app_guid))

    async def list_droplets_of_apps(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List the records of some apps, the newest of each app first."""
        wanted = sorted(app_guids)

        def list_in_parts(connection: Connection) -> tuple[DropletRecord, ...]:
            parts = (wanted[start : start + MOST_APPS] for start in range(0, len(wanted), MOST_APPS))
            found = (_list(connection, droplets.c.app_guid.in_(part)) for part in parts)
            return tuple(record for part in found for record in part)

        return await self._database.read(list_in_parts)

    async def list_droplets_of_copy(self, cache_guid: CacheGuid) -> tuple[DropletRecord, ...]:
        """List the records with a copy in whatever phase, the newest first."""
        return await self._database.read(lambda connection: list_of_copy(connection, cache_guid))

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        """List all records by the droplet's GUID, a page at a time."""
        found = list[DropletRecord]()
        while True:
            page = await self.page_droplets(found[-1].droplet_guid if found else None)
            found += page
            if len(page) < self._page:
                return tuple(found)

    async def page_droplets(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        """List the next page of records after a droplet's GUID; an empty one after the last."""
        rows = select(droplets).order_by(droplets.c.droplet_guid).limit(self._page)
        wanted = rows if after is None else rows.where(droplets.c.droplet_guid > after)
        return await self._database.read(
            lambda connection: tuple(map(_record, connection.execute(wanted).mappings()))
        )

    async def count_droplets(self) -> dict[tuple[DropletPhase, Reason], int]:
        """Count the records by phase and reason."""
        counted = select(droplets.c.phase, droplets.c.reason, func.count()).group_by(
            droplets.c.phase, droplets.c.reason
        )

        def count(connection: Connection) -> dict[tuple[DropletPhase, Reason], int]:
            counts = dict[tuple[DropletPhase, Reason], int]()
            for phase, reason, number in connection.execute(counted):
                key = DropletPhase(phase), reason_from_text(reason)
                counts[key] = counts.get(key, 0) + int(number)
            return counts

        return await self._database.read(count)

    async def forget_droplets(self, guids: Sequence[DropletGuid]) -> None:
        """Delete the records of some droplets."""
        gone = tuple(guids)
        await self._database.write(lambda connection: delete_each(connection, droplets.c.droplet_guid, gone))


def list_of_app(connection: Connection, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
    """List the records of an app, the newest first."""
    return _list(connection, droplets.c.app_guid == app_guid)


def list_of_copy(connection: Connection, cache_guid: CacheGuid) -> tuple[DropletRecord, ...]:
    """List the records with a copy, the newest first."""
    return _list(connection, droplets.c.cache_guid == cache_guid)


def _list(connection: Connection, wanted: ColumnElement[bool]) -> tuple[DropletRecord, ...]:
    rows = connection.execute(select(droplets).where(wanted).order_by(*_NEWEST_FIRST)).mappings()
    return tuple(map(_record, rows))


def _row(record: DropletRecord) -> dict[str, object]:
    return {
        "droplet_guid": record.droplet_guid,
        "app_guid": record.app_guid,
        "build_guid": record.build_guid,
        "original": record.original,
        "username": one_line(record.username),
        "cache_guid": record.cache_guid,
        "registry": record.registry,
        "target": record.target,
        "phase": record.phase.value,
        "reason": record.reason.value,
        "detail": reason_text(record.detail),
        "attempts": record.attempts,
        "rounds": record.rounds,
        "not_before": record.not_before,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _record(row: RowMapping) -> DropletRecord:
    build, guid = row["build_guid"], row["cache_guid"]
    return DropletRecord(
        DropletGuid(row["droplet_guid"]),
        AppGuid(row["app_guid"]),
        None if build is None else BuildGuid(build),
        original=row["original"],
        username=row["username"],
        cache_guid=None if guid is None else CacheGuid(guid),
        registry=row["registry"],
        target=row["target"],
        phase=DropletPhase(row["phase"]),
        reason=reason_from_text(row["reason"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        detail=reason_text(row["detail"]),
        attempts=row["attempts"],
        rounds=row["rounds"],
        not_before=row["not_before"],
    )
