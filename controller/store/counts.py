"""Counts what the store holds, for metrics: states of LRPs, jobs and migrations, and copies."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, func, select

from controller.store import cached_images, lrps
from controller.store.database import Database
from controller.store.journal import MemoryJournal, SqlJournal
from controller.store.tables import images, jobs, migrations, pending_verifications
from reconcile.migrations import Phase
from reconcile.records import JobState
from reconcile.stored_counts import Group, StoredCounts


class SqlCounts:
    """Counts records; nothing that is encrypted is read.

    Args:
        database: Of the store.
        journal: Of the store; one in memory counts its migrations itself.
    """

    def __init__(self, database: Database, journal: SqlJournal | MemoryJournal) -> None:
        self._database, self._journal = database, journal

    async def count(self) -> StoredCounts:
        """Count at one moment."""
        return await self._database.read(self._count)

    async def count_shared_bytes(self, registries: Collection[str]) -> int:
        """Count the bytes that copies in some registries share: one registry under all its addresses."""
        return await self._database.read(
            lambda connection: cached_images.count_shared_bytes(connection, registries)
        )

    async def list_sources(self) -> tuple[str, ...]:
        """List what the copies were first copied from, once for each."""
        return await self._database.read(
            lambda connection: tuple(connection.scalars(select(images.c.source)))
        )

    def _count(self, connection: Connection) -> StoredCounts:
        return StoredCounts(
            lrps=lrps.count_by_reason(connection),
            jobs=_jobs(connection),
            migrations=self._migrations(connection),
            copies=cached_images.measure(connection),
            needing_verification=connection.scalar(select(func.count()).select_from(pending_verifications))
            or 0,
        )

    def _migrations(self, connection: Connection) -> Mapping[Phase, Group]:
        if isinstance(self._journal, MemoryJournal):
            return self._journal.count_phases()
        grouped = select(migrations.c.phase, func.count(), func.min(migrations.c.started_at))
        rows = connection.execute(grouped.group_by(migrations.c.phase))
        return {Phase(phase): Group(int(count), float(since)) for phase, count, since in rows}


def _jobs(connection: Connection) -> Mapping[JobState, Group]:
    grouped = select(jobs.c.state, func.count(), func.min(jobs.c.created_at)).group_by(jobs.c.state)
    return {
        JobState(state): Group(int(count), float(since))
        for state, count, since in connection.execute(grouped)
    }
