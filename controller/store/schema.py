"""Finds the revision of a database's schema, and refuses a database whose schema this version cannot use."""

import sqlite3
from functools import cache
from pathlib import Path

from reconcile.errors import ErrorCode, Invalid

VERSIONS = Path(__file__).with_name("schema_versions")
"""Holds the schema's migrations."""

LEADERSHIP_TABLES = frozenset({"leadership", "leadership_lock"})
"""Are there before the schema is, and belong to none of its revisions."""

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"


def check_migratable(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a database that `migrate` could not bring to this version's schema.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    revision = revision_of(connection)
    if revision is not None:
        _refuse_unknown(revision, name)
    elif _tables(connection) - LEADERSHIP_TABLES:
        raise Invalid(
            "store",
            ErrorCode.SCHEMA_FOREIGN,
            f"{name} holds tables of another program: name another file in database_url",
        )


def check_current(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a database whose schema is not exactly this version's.

    Raises:
        Invalid: `schema-missing`, `schema-newer` or `schema-older`.
    """
    revision = revision_of(connection)
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
    if "alembic_version" not in _tables(connection):
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
            "run that version, or put the backup made before it in place with `restore-backup --direct`",
        )
