"""Brings a database's schema to this version's revision, or refuses a database where that is impossible."""

from functools import cache
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from reconcile.errors import ErrorCode, Invalid

_VERSIONS = Path(__file__).with_name("schema_versions")


def migrate(connection: Connection, name: str) -> None:
    """Apply the missing migrations within the connection's transaction; `name` is the database's file.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    if _revision(connection) == head():
        return
    check_migratable(connection, name)
    from alembic import command  # noqa: PLC0415 - a third of a second that most starts are spared
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_VERSIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check_migratable(connection: Connection, name: str) -> None:
    """Refuse a database that `migrate` could not bring to this version's schema.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    revision = _revision(connection)
    if revision is not None:
        _refuse_unknown(revision, name)
    elif inspect(connection).get_table_names():
        raise Invalid(
            "store",
            "schema-foreign",
            f"{name} holds tables of another program: name another file in database_url",
        )


def check_schema(connection: Connection, name: str) -> None:
    """Refuse a database whose schema is not exactly this version's.

    Raises:
        Invalid: `schema-missing`, `schema-newer` or `schema-older`.
    """
    revision = _revision(connection)
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
    return frozenset(path.name.partition("_")[0] for path in (_VERSIONS / "versions").glob("[0-9]*_*.py"))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(
        select(column("version_num")).select_from(table("alembic_version"))
    )
    return revision


def _refuse_unknown(revision: str, name: str) -> None:
    if revision not in known():
        raise Invalid(
            "store",
            "schema-newer",
            f"{name} has schema {revision}, written by a newer version than this one ({head()}): "
            "run that version, or restore the backup made before it",
        )
