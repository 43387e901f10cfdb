"""Brings a database's schema to this version's revision, or refuses a database where that is impossible."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

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
    config = _config()
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
    return str(ScriptDirectory.from_config(_config()).get_current_head())


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_VERSIONS).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_unknown(revision: str, name: str) -> None:
    if revision not in _known():
        raise Invalid(
            "store",
            "schema-newer",
            f"{name} has schema {revision}, written by a newer version than this one ({head()}): "
            "run that version, or restore the backup made before it",
        )
