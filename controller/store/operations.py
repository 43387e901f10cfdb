"""Keeps what operators asked for and did: the pause, the pinned apps and the audit log."""

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, delete, func, insert, select

from controller.store.database import Database
from controller.store.tables import audit, pins, settings
from controller.store.upsert import delete_each, insert_missing, insert_or_update
from reconcile.foreign_text import cut, reason_text
from reconcile.lrps import AppGuid
from reconcile.records import AuditEntry

KEPT_ENTRIES = 10_000
"""Number of entries of the audit log that are kept."""

MAX_ARGUMENTS = 16_384
"""Characters of the arguments that an entry shows; more are never noted."""

_PAUSED = "paused"


class SqlOperations:
    """Settings, pins and audit log of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_paused(self) -> bool | None:
        """Whether the daemon was paused; None where it was never set."""
        chosen = select(settings.c.value).where(settings.c.name == _PAUSED)
        value = await self._database.read(lambda connection: connection.scalar(chosen))
        return None if value is None else value == "true"

    async def save_paused(self, *, is_paused: bool) -> None:
        """Save whether the daemon is paused."""
        row = {"name": _PAUSED, "value": "true" if is_paused else "false"}
        await self._database.write(lambda connection: insert_or_update(connection, settings, [row]))

    async def list_pins(self) -> frozenset[AppGuid]:
        """List the apps that are pinned to their sources."""
        chosen = select(pins.c.app_guid)
        return await self._database.read(lambda connection: frozenset(connection.scalars(chosen)))

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        """Pin apps to their sources."""
        rows = [{"app_guid": guid} for guid in app_guids]
        await self._database.write(lambda connection: insert_missing(connection, pins, rows))

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        """Unpin apps, so that they are migrated again."""
        gone = list(app_guids)
        await self._database.write(lambda connection: delete_each(connection, pins.c.app_guid, gone))

    async def add_entry(self, entry: AuditEntry) -> None:
        """Save what an operator did, and delete the oldest entries beyond the kept number."""
        row = {
            "at": entry.at,
            "caller": reason_text(entry.caller),
            "call": entry.call,
            "arguments": entry.arguments,
            "outcome": reason_text(entry.outcome),
        }

        def add(connection: Connection) -> None:
            connection.execute(insert(audit).values(row))
            newest = connection.scalar(select(func.max(audit.c.number))) or 0
            connection.execute(delete(audit).where(audit.c.number <= newest - KEPT_ENTRIES))

        await self._database.write(add)

    async def list_entries(
        self, *, before: int | None = None, most: int = KEPT_ENTRIES
    ) -> tuple[AuditEntry, ...]:
        """List the audit log, the latest entry first, or from the entry before a number on."""
        wanted = select(audit).order_by(audit.c.number.desc()).limit(most)
        if before is not None:
            wanted = wanted.where(audit.c.number < before)

        def read(connection: Connection) -> tuple[AuditEntry, ...]:
            return tuple(_bounded(AuditEntry(**row)) for row in connection.execute(wanted).mappings())

        return await self._database.read(read)


def _bounded(entry: AuditEntry) -> AuditEntry:
    """Bound what an earlier version noted without a bound."""
    caller, outcome = reason_text(entry.caller), reason_text(entry.outcome)
    return replace(entry, caller=caller, arguments=cut(entry.arguments, MAX_ARGUMENTS), outcome=outcome)
