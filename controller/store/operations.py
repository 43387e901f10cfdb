"""What operators ask for and did, in SQL: the pause, apps held on their sources, and the audit."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from controller.store.database import Database
from controller.store.tables import audit, pins, settings
from reconcile.lrps import AppGuid
from reconcile.records import AuditEntry

KEPT_ENTRIES = 10_000
"""Entries of the audit that are kept."""

_PAUSED = "paused"


class SqlOperations:
    """Settings, holds and audit of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_paused(self) -> bool | None:
        """Whether the daemon was paused; None when nobody ever said."""
        chosen = select(settings.c.value).where(settings.c.name == _PAUSED)
        value = await self._database.read(lambda connection: connection.scalar(chosen))
        return None if value is None else value == "true"

    async def save_paused(self, *, is_paused: bool) -> None:
        """Keep whether the daemon is paused."""
        row = {"name": _PAUSED, "value": "true" if is_paused else "false"}
        saved = insert(settings).values(row).on_conflict_do_update(index_elements=[settings.c.name], set_=row)
        await self._database.write(lambda connection: connection.execute(saved))

    async def list_pins(self) -> frozenset[AppGuid]:
        """List the apps that stay on their sources."""
        chosen = select(pins.c.app_guid)
        return await self._database.read(lambda connection: frozenset(connection.scalars(chosen)))

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps stay on their sources."""
        rows = [{"app_guid": guid} for guid in app_guids]
        saved = insert(pins).on_conflict_do_nothing()
        if rows:
            await self._database.write(lambda connection: connection.execute(saved, rows))

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps be moved again."""
        rows = [{"gone": guid} for guid in app_guids]
        dropped = delete(pins).where(pins.c.app_guid == bindparam("gone"))
        if rows:
            await self._database.write(lambda connection: connection.execute(dropped, rows))

    async def add_entry(self, entry: AuditEntry) -> None:
        """Note what an operator did, and forget the oldest when there are too many."""
        row = {
            "at": entry.at,
            "caller": entry.caller,
            "call": entry.call,
            "arguments": entry.arguments,
            "outcome": entry.outcome,
        }

        def add(connection: Connection) -> None:
            connection.execute(insert(audit).values(row))
            newest = connection.scalar(select(func.max(audit.c.number))) or 0
            connection.execute(delete(audit).where(audit.c.number <= newest - KEPT_ENTRIES))

        await self._database.write(add)

    async def list_entries(self) -> tuple[AuditEntry, ...]:
        """List what operators did, the latest first."""

        def read(connection: Connection) -> tuple[AuditEntry, ...]:
            rows = connection.execute(select(audit).order_by(audit.c.number.desc())).mappings()
            return tuple(AuditEntry(**row) for row in rows)

        return await self._database.read(read)
