"""Changes the schema by steps that do nothing where they are done already.

MySQL and MariaDB commit each change of the schema by itself. A migration that was killed there is run again
from the beginning of its revision.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from controller.store.column_types import MYSQL_TABLE


def create_table(name: str, *parts: sa.schema.SchemaItem) -> None:
    """Create a table."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **MYSQL_TABLE)


def create_index(name: str, table: str, columns: list[str], *, mysql_length: int | None = None) -> None:
    """Create an index that is not unique; MySQL may index the beginning of a long text only."""
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(op.f(name), table, columns, mysql_length=mysql_length)


def add_columns(table: str, *columns: sa.Column[Any]) -> None:
    """Add columns at the end."""
    for column in _missing(table, columns):
        op.add_column(table, column)


def recreate_with_columns(table: str, *columns: sa.Column[Any]) -> None:
    """Add columns to a table that SQLite copies for it, as the first versions did."""
    if op.get_bind().dialect.name != "sqlite":
        add_columns(table, *columns)
        return
    with op.batch_alter_table(table, recreate="always") as batch:
        for column in columns:
            batch.add_column(column)


def _missing(table: str, columns: tuple[sa.Column[Any], ...]) -> list[sa.Column[Any]]:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    return [column for column in columns if column.name not in there]
