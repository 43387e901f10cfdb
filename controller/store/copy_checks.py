"""Keeps what was last seen of each copy in the private registry."""

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, select

from controller.store import cached_images
from controller.store.database import Database
from controller.store.tables import copy_checks, images
from controller.store.upsert import insert_or_update
from reconcile.foreign_text import reason_text
from reconcile.records import CopyCheck
from reconcile.references import CacheGuid


class SqlCopyChecks:
    """Implements CopyChecks in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_check(self, cache_guid: CacheGuid) -> CopyCheck:
        """Read what was last seen of a copy; all zero for one that was never looked at."""
        chosen = select(copy_checks).where(copy_checks.c.cache_guid == cache_guid)

        def read(connection: Connection) -> CopyCheck:
            row = connection.execute(chosen).mappings().one_or_none()
            return CopyCheck(cache_guid) if row is None else _check(row)

        return await self._database.read(read)

    async def list_checks(self) -> tuple[CopyCheck, ...]:
        """List what was last seen of the copies that were looked at."""
        chosen = select(copy_checks).order_by(copy_checks.c.cache_guid)
        return await self._database.read(
            lambda connection: tuple(map(_check, connection.execute(chosen).mappings()))
        )

    async def save_check(self, check: CopyCheck) -> None:
        """Save what was seen of a copy; nothing is saved of one whose record is gone.

        Since when a copy is unused, and when its note was written, is changed by others alone: whoever read a
        check before may not bring an older time back.
        """

        def save(connection: Connection) -> None:
            if cached_images.find(connection, check.cache_guid) is None:
                return
            row = asdict(check) | {"unused_since": 0.0, "missing": reason_text(check.missing)}
            insert_or_update(
                connection, copy_checks, [row], changed=row.keys() - {"unused_since", "noted_at"}
            )

        await self._database.write(save)

    async def mark_unused(self, since: Mapping[CacheGuid, float]) -> None:
        """Save since when some copies are unused, 0 for a used one; one whose record is gone is left out."""

        def mark(connection: Connection) -> None:
            known = set(connection.scalars(select(images.c.cache_guid)))
            rows = [asdict(CopyCheck(guid, unused_since=at)) for guid, at in since.items() if guid in known]
            insert_or_update(connection, copy_checks, rows, changed=["unused_since"])

        await self._database.write(mark)


def _check(row: RowMapping) -> CopyCheck:
    return CopyCheck(**{**row, "missing": reason_text(row["missing"])})
