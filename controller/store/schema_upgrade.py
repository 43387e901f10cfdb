"""Brings a database's schema to this version's revision."""

from sqlalchemy import Connection, inspect, text

from controller.store.schema import (
    LEADERSHIP_TABLES,
    REVISIONS_TABLE,
    VERSIONS,
    SchemaState,
    head,
    refuse_unmigratable,
)
from controller.store.tables import metadata

_OURS = frozenset(metadata.tables) | LEADERSHIP_TABLES | {REVISIONS_TABLE}


def migrate(connection: Connection, name: str) -> None:
    """Apply the missing migrations within the connection's transaction; `name` is the database's.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    if check_migratable(connection, name).revision == head():
        return
    from alembic import command  # noqa: PLC0415 - a third of a second that most starts are spared
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(VERSIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check_migratable(connection: Connection, name: str) -> SchemaState:
    """Refuse a database that `migrate` could not bring to this version's schema, and return what it holds.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    state = state_of(connection)
    if not _was_begun(connection, state):
        refuse_unmigratable(state, name)
    return state


def state_of(connection: Connection) -> SchemaState:
    """Read what a database holds."""
    tables = frozenset(inspect(connection).get_table_names())
    if REVISIONS_TABLE not in tables:
        return SchemaState(None, tables)
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {REVISIONS_TABLE}"))  # noqa: S608
    return SchemaState(revision, tables)


def _was_begun(connection: Connection, state: SchemaState) -> bool:
    """Whether the first migration was begun, where a change of the schema cannot be rolled back."""
    return (
        connection.dialect.name == "mysql"
        and state.revision is None
        and REVISIONS_TABLE in state.tables
        and state.tables <= _OURS
    )
