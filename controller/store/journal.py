"""Keeps the journal of open migrations: encrypted in the database with a key, in memory without one.

Only the process GUID of a migrated LRP and the state of its migration are in plain text. The first key
encrypts and all keys decrypt, so a key is rotated by writing a new one above it; `sealing` encrypts anew what
an older key has encrypted.
"""

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Connection, RowMapping, delete, select

from controller.store import stale_instances
from controller.store.database import Database
from controller.store.originals import bytes_from_lrp, bytes_from_pull, lrp_from_bytes, pull_from_bytes
from controller.store.tables import migrations
from controller.store.upsert import insert_or_update
from reconcile.errors import Invalid
from reconcile.foreign_text import reason_text
from reconcile.lrps import ProcessGuid
from reconcile.migrations import Goal, Migration, Phase, Strategy
from reconcile.reasons import reason_from_text
from reconcile.references import CacheGuid
from reconcile.stored_counts import Group

_ORDER = (migrations.c.started_at, migrations.c.process_guid)


def list_process_guids(connection: Connection) -> tuple[ProcessGuid, ...]:
    """List the LRPs that have a row, oldest first, without reading what is encrypted."""
    rows = connection.scalars(select(migrations.c.process_guid).order_by(*_ORDER))
    return tuple(ProcessGuid(guid) for guid in rows)


def undecryptable(process_guid: ProcessGuid) -> Invalid:
    """Make the error of a row that none of the keys decrypts."""
    return Invalid(
        "store",
        "journal-undecryptable",
        f"the migration of {process_guid} is encrypted with another key: write that key "
        "below the new one again, or check that the app runs and then delete the row",
    )


class SqlJournal:
    """The journal in SQL."""

    def __init__(self, database: Database, cipher: MultiFernet) -> None:
        self._database = database
        self._cipher = cipher

    @property
    def is_durable(self) -> bool:
        """Whether a row outlives the process: not in a database in memory."""
        return self._database.is_durable

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP.

        Raises:
            Invalid: `journal-undecryptable`.
        """
        return await self._database.read(lambda connection: self._find(connection, process_guid))

    async def list_migrations(self) -> tuple[Migration, ...]:
        """List the open migrations that can be decrypted, oldest first."""
        read = await self._database.read(self._list)
        return tuple(row for row in read if isinstance(row, Migration))

    async def list_undecryptable(self) -> tuple[Invalid, ...]:
        """List the errors of the rows that cannot be decrypted, oldest first."""
        read = await self._database.read(self._list)
        return tuple(row for row in read if isinstance(row, Invalid))

    async def save_migration(self, migration: Migration) -> None:
        """Write a migration's row, in place of an earlier one of the LRP.

        Raises:
            Invalid: `journal-undecryptable`: the earlier row may be the only copy of an app's
                definition, and is not overwritten.
        """
        await self._database.write(lambda connection: self._save(connection, migration))

    async def delete_migration(self, process_guid: ProcessGuid, stale: frozenset[str] = frozenset()) -> None:
        """Delete a migration's row, whether it can be decrypted or not, and remember its stale instances."""
        gone = delete(migrations).where(migrations.c.process_guid == process_guid)

        def end(connection: Connection) -> None:
            connection.execute(gone)
            stale_instances.save(connection, process_guid, stale)

        await self._database.write(end)

    def _find(self, connection: Connection, process_guid: ProcessGuid) -> Migration | None:
        mine = select(migrations).where(migrations.c.process_guid == process_guid)
        row = connection.execute(mine).mappings().one_or_none()
        return None if row is None else self._migration(row)

    def _list(self, connection: Connection) -> list[Migration | Invalid]:
        read: list[Migration | Invalid] = []
        for row in connection.execute(select(migrations).order_by(*_ORDER)).mappings():
            try:
                read.append(self._migration(row))
            except Invalid as error:
                read.append(error)
        return read

    def _save(self, connection: Connection, migration: Migration) -> None:
        self._find(connection, migration.process_guid)
        way_back = migration.way_back
        row = {
            "process_guid": migration.process_guid,
            "cache_guid": migration.cache_guid,
            "phase": migration.phase.value,
            "original": self._cipher.encrypt(bytes_from_lrp(migration.original)),
            "rounds": migration.rounds,
            "run_id": migration.run_id,
            "started_at": migration.started_at,
            "unknown_until": migration.unknown_until,
            "goal": migration.goal.value,
            "strategy": migration.strategy.value,
            "entered_at": migration.entered_at,
            "ended": "" if migration.ended is None else migration.ended.value,
            "instance_guids": " ".join(sorted(migration.instance_guids)),
            "detail": reason_text(migration.detail),
            "is_stopgap": migration.is_stopgap,
            "retired_at": migration.retired_at,
            "drained_at": migration.drained_at,
            "drain_sent_at": migration.drain_sent_at,
            "routed_at": migration.routed_at,
            "synced_by": migration.synced_by,
            "renews_login": migration.renews_login,
            "way_back": way_back and self._cipher.encrypt(bytes_from_pull(way_back)),
        }
        insert_or_update(connection, migrations, [row])

    def _migration(self, row: RowMapping) -> Migration:
        process_guid = ProcessGuid(row["process_guid"])
        try:
            original = lrp_from_bytes(self._cipher.decrypt(row["original"]))
            sealed = row["way_back"]
            way_back = None if sealed is None else pull_from_bytes(self._cipher.decrypt(sealed))
        except (InvalidToken, ValueError) as error:
            raise undecryptable(process_guid) from error
        if original.process_guid != process_guid:  # somebody copied the row of another LRP
            raise undecryptable(process_guid)
        return Migration(
            process_guid=process_guid,
            cache_guid=CacheGuid(row["cache_guid"]),
            phase=Phase(row["phase"]),
            original=original,
            rounds=row["rounds"],
            run_id=row["run_id"],
            started_at=row["started_at"],
            unknown_until=row["unknown_until"],
            goal=Goal(row["goal"]),
            strategy=Strategy(row["strategy"]),
            entered_at=row["entered_at"],
            ended=reason_from_text(row["ended"]) if row["ended"] else None,
            instance_guids=frozenset((row["instance_guids"] or "").split()),
            detail=reason_text(row["detail"] or ""),
            is_stopgap=row["is_stopgap"],
            retired_at=row["retired_at"],
            drained_at=row["drained_at"],
            drain_sent_at=row["drain_sent_at"],
            routed_at=row["routed_at"],
            synced_by=row["synced_by"],
            way_back=way_back,
            renews_login=row["renews_login"],
        )


class MemoryJournal:
    """A journal in memory.

    Args:
        left: LRPs whose encrypted rows an earlier process left in the database.
    """

    def __init__(self, left: tuple[ProcessGuid, ...] = ()) -> None:
        self._left = left
        self._open: dict[ProcessGuid, Migration] = {}

    @property
    def is_durable(self) -> bool:
        """Whether a row outlives the process."""
        return False

    async def find_migration(self, process_guid: ProcessGuid) -> Migration | None:
        """Read the open migration of an LRP."""
        return self._open.get(process_guid)

    async def list_migrations(self) -> tuple[Migration, ...]:
        """List the open migrations, oldest first."""
        return tuple(sorted(self._open.values(), key=lambda row: (row.started_at, row.process_guid)))

    async def list_undecryptable(self) -> tuple[Invalid, ...]:
        """List the errors of the rows that an earlier process left encrypted, oldest first."""
        return tuple(undecryptable(process_guid) for process_guid in self._left)

    def count_phases(self) -> dict[Phase, Group]:
        """Count the open migrations by phase; may be called from another thread."""
        of_phases: dict[Phase, list[float]] = {}
        for row in tuple(self._open.values()):
            of_phases.setdefault(row.phase, []).append(row.started_at)
        return {phase: Group(len(starts), min(starts)) for phase, starts in of_phases.items()}

    async def save_migration(self, migration: Migration) -> None:
        """Write a migration's row, in place of an earlier one of the LRP."""
        self._open[migration.process_guid] = migration

    async def delete_migration(
        self,
        process_guid: ProcessGuid,
        stale: frozenset[str] = frozenset(),  # noqa: ARG002 - of the port
    ) -> None:
        """Delete a migration; without one nothing happens, and instances are not remembered."""
        self._open.pop(process_guid, None)
