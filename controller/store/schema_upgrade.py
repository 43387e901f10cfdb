"""Brings a database's schema to this version's revision."""

import sqlite3

from sqlalchemy import Connection

from controller.store.schema import VERSIONS, check_migratable, head, revision_of


def migrate(connection: Connection, name: str) -> None:
    """Apply the missing migrations within the connection's transaction; `name` is the database's file.

    Raises:
        Invalid: `schema-newer`, or `schema-foreign` for tables of another program.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"the driver's connection is a {type(driver).__name__}")
    if revision_of(driver) == head():
        return
    check_migratable(driver, name)
    from alembic import command  # noqa: PLC0415 - a third of a second that most starts are spared
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(VERSIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
