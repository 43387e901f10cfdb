"""Finds the revision of a database's schema, and refuses a database whose schema this version cannot use."""

import sqlite3
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reconcile.errors import ErrorCode, Invalid

VERSIONS = Path(__file__).with_name("schema_versions")
"""Directory with the schema's migrations."""

LEADERSHIP_TABLES = frozenset({"leadership", "leadership_lock"})
"""Tables that are there before the schema is, and belong to none of its revisions."""

REVISIONS_TABLE = "alembic_version"

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What a database holds.

    Attributes:
        revision: Of its schema; None where there is none.
        tables: The names of its tables.
    """

    revision: str | None
    tables: frozenset[str] = frozenset()


def check_migratable(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a file that `migrate` could not bring to this version's schema.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    refuse_unmigratable(SchemaState(revision_of(connection), _tables(connection)), name)


def check_current(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a file whose schema is not exactly this version's.

    Raises:
        Invalid: `schema-missing`, `schema-newer` or `schema-older`.
    """
    refuse_other_schema(revision_of(connection), name)


def refuse_unmigratable(state: SchemaState, name: str) -> None:
    """Refuse a database that cannot be brought to this version's schema.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    if state.revision is not None:
        _refuse_unknown(state.revision, name)
    elif state.tables - LEADERSHIP_TABLES:
        raise Invalid(
            "store",
            ErrorCode.SCHEMA_FOREIGN,
            f"{name} holds tables of another program: name another database in database_url",
        )


def refuse_other_schema(revision: str | None, name: str) -> None:
    """Refuse a revision that is not exactly this version's.

    Raises:
        Invalid: `schema-missing`, `schema-newer` or `schema-older`.
    """
    if revision == head():
        return
    if revision is None:
        raise Invalid(
            "store", ErrorCode.SCHEMA_MISSING, f"{name} has no records yet: start the daemon on it first"
        )
    _refuse_unknown(revision, name)
    raise Invalid(
        "store",
        ErrorCode.SCHEMA_OLDER,
        f"{name} has schema {revision}, this version reads {head()}: start this version's daemon on it first",
    )


@cache
def head() -> str:
    """Name the schema revision of this version."""
    return max(known())


@cache
def known() -> frozenset[str]:
    """Name all schema revisions up to this version's, by the numbers that begin their files' names."""
    return frozenset(path.name.partition("_")[0] for path in (VERSIONS / "versions").glob("[0-9]*_*.py"))


def revision_of(connection: sqlite3.Connection) -> str | None:
    """Read the revision of a database's schema; None where there is none."""
    if REVISIONS_TABLE not in _tables(connection):
        return None
    row: tuple[str] | None = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else row[0]


def _tables(connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(name for (name,) in connection.execute(_TABLES))


def _refuse_unknown(revision: str, name: str) -> None:
    if revision not in known():
        raise Invalid(
            "store",
            "schema-newer",
            f"{name} has schema {revision}, written by a newer version than this one ({head()}): "
            "run that version, or put the backup made before it in place",
        )
