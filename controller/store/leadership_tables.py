"""The tables by which instances agree on who is active, in the store itself.

They are needed before the schema is migrated, since only the active instance migrates it, so they are created
by themselves and are no part of its revisions. Each has one row. They are two, so that a renewal of the lock
never waits for a transaction that holds the term.
"""

from collections.abc import Callable

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, MetaData, String, Table, insert, select
from sqlalchemy.schema import CreateTable

from controller.leadership.ports import MAX_OWNER, MAX_VALUE
from controller.store.column_types import MYSQL_TABLE
from controller.store.database import Database
from reconcile.errors import Conflict, Invalid

ROW = 1
"""The ID of the row in each table."""

_metadata = MetaData()

terms = Table(
    "leadership",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("term", BigInteger, nullable=False),
    Column("owner", String(MAX_OWNER), nullable=False),
    Column("since", Float(53), nullable=False),
    **MYSQL_TABLE,
)
"""Who is active, how many were before, and since when, in UTC seconds since 1970."""

locks = Table(
    "leadership_lock",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", String(MAX_OWNER), nullable=False),
    Column("value", String(MAX_VALUE), nullable=False),
    Column("ttl_ms", BigInteger, nullable=False),
    Column("renewals", BigInteger, nullable=False),
    **MYSQL_TABLE,
)
"""Who holds the lock; the owner is empty while nobody does. `renewals` changes with each renewal."""

_FIRST = {
    terms: {"id": ROW, "term": 0, "owner": "", "since": 0.0},
    locks: {"id": ROW, "owner": "", "value": "", "ttl_ms": 0, "renewals": 0},
}


def prepare(database: Database, table: Table) -> None:
    """Create a table with its row where they are missing; several processes may do so at the same time."""
    try:
        if database.transact_unfenced(_has_row(table)):
            return
    except Invalid:  # there is no such table
        _unless_others_do(database, lambda connection: _create(connection, table))
    _unless_others_do(database, lambda connection: _insert(connection, table))
    if not database.transact_unfenced(_has_row(table)):
        raise Invalid("store", "leadership", f"{database.name}: the row of the table {table.name} is missing")


def _has_row(table: Table) -> Callable[[Connection], bool]:
    chosen = select(table.c.id).where(table.c.id == ROW)
    return lambda connection: connection.scalar(chosen) is not None


def _create(connection: Connection, table: Table) -> None:
    connection.execute(CreateTable(table, if_not_exists=True))


def _insert(connection: Connection, table: Table) -> None:
    if not _has_row(table)(connection):
        connection.execute(insert(table).values(_FIRST[table]))


def _unless_others_do(database: Database, work: Callable[[Connection], None]) -> None:
    try:
        database.transact_unfenced(work)
    except (Conflict, Invalid):  # another process was faster; what is still missing then is found at once
        return
