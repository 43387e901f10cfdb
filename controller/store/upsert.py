"""Writes rows that may be there already, within a transaction, on every kind of database.

SQLite and PostgreSQL say ON CONFLICT, MySQL and MariaDB say ON DUPLICATE KEY UPDATE. How many rows an INSERT
has changed is not asked: PostgreSQL's driver may not know it, and MySQL counts rows that stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, insert
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from controller.store.sql_errors import is_duplicate

_AT_A_TIME = 500
"""Values of one statement: SQLite has a limit of variables, and a server is asked once for all of them."""

Row = Mapping[str, Any]


def insert_missing(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows; one whose key is there already, or another unique value, is left out."""
    if not rows:
        return
    if connection.dialect.name in {"mysql", "mariadb"}:
        # IGNORE would also hide values that are too long, and rows that refer to nothing.
        key = next(iter(table.primary_key.columns))
        statement = mysql.insert(table).on_duplicate_key_update({key.name: key})
        connection.execute(statement, rows)
    else:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), rows)


def insert_or_update(
    connection: Connection, table: Table, rows: Sequence[Row], *, changed: Iterable[str] | None = None
) -> None:
    """Insert rows; where the primary key is there already, its row gets the new values.

    Args:
        connection: In a transaction.
        table: With no other unique column than its primary key.
        rows: All with the same columns.
        changed: The columns that a row which is there gets; None for all.
    """
    if not rows:
        return
    keys = [key.name for key in table.primary_key.columns]
    names = [name for name in (rows[0] if changed is None else changed) if name not in keys]
    if connection.dialect.name in {"mysql", "mariadb"}:
        to_mysql = mysql.insert(table)
        new = {name: to_mysql.inserted[name] for name in names}
        connection.execute(to_mysql.on_duplicate_key_update(new), rows)
    else:
        saved = _insert(connection, table)
        new = {name: saved.excluded[name] for name in names}
        connection.execute(saved.on_conflict_do_update(index_elements=keys, set_=new), rows)


def insert_new(connection: Connection, table: Table, row: Row) -> bool:
    """Insert a row; False, and nothing is changed, when its key or another unique value is there already."""
    try:
        with connection.begin_nested():  # PostgreSQL ends the transaction of a statement that failed
            connection.execute(insert(table).values(row))
    except IntegrityError as error:
        if is_duplicate(error.orig):
            return False
        raise
    return True


def delete_each(connection: Connection, column: Column[str], values: Sequence[str]) -> None:
    """Delete the rows with some values, any number of them, in a column."""
    for start in range(0, len(values), _AT_A_TIME):
        gone = column.in_(values[start : start + _AT_A_TIME])
        connection.execute(delete(column.table).where(gone))


def _insert(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
