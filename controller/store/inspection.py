"""Looks at a database without taking its lock: can the daemon use it, and is its schema current?"""

from contextlib import suppress

from controller.store.connections import open_snapshot
from controller.store.location import Location, check_access, is_there, require_driver
from controller.store.schema import check_current, check_migratable
from controller.store.setting_names import STORE_ID
from reconcile.errors import DockerCacheError, ErrorCode, Invalid, Unavailable
from reconcile.store_markers import StoreId


def check_database(location: Location) -> None:
    """Refuse a database that `open_store` would refuse; nothing is created, locked or changed; blocks.

    No server is asked.

    Raises:
        Invalid: `no-driver`, `database-path`, `schema-newer`, `schema-foreign` or SQLite's code for a file
            that is no database.
    """
    path = location.path
    if location.server is not None:
        require_driver(location.server.server)
    if path is None:
        return
    check_access(path)
    if not is_there(path):
        return
    # A locked database or a full disk may be over when the daemon starts.
    with suppress(Unavailable), open_snapshot(path) as connection:
        check_migratable(connection, str(path))


def recorded_registries(location: Location) -> dict[str, int]:
    """Count the copies in a file by the address of the registry that they were made in; blocks.

    Empty where there is no database of this version's schema: another check says what is wrong with it.
    """
    path = location.path
    if path is None or not is_there(path):
        return {}
    with suppress(DockerCacheError), open_snapshot(path) as connection:
        check_current(connection, str(path))
        return dict(connection.execute("SELECT registry, count(*) FROM images GROUP BY registry"))
    return {}


def find_store_id(location: Location) -> frozenset[StoreId] | None:
    """Read the id of a store, which a new one has not; None where it cannot be read; blocks."""
    with suppress(DockerCacheError):
        path = location.path
        if location.server is not None:
            from controller.store.server_inspection import inspect_server  # noqa: PLC0415 - SQLAlchemy takes long

            return inspect_server(location.server).store_ids
        if path is None:
            return None
        if not is_there(path):
            return frozenset()
        with open_snapshot(path) as connection:
            check_current(connection, str(path))
            rows = connection.execute("SELECT value FROM settings WHERE name = ?", [STORE_ID])
            return frozenset(StoreId(value) for (value,) in rows)
    return None


def check_schema(location: Location) -> None:
    """Refuse a file whose schema is not this version's; nothing is created, locked or changed; blocks.

    Raises:
        Invalid: `database-path`, `database-missing`, `schema-missing`, `schema-newer`, `schema-older` or
            SQLite's code for a file that is no database.
        Unavailable: The file cannot be opened, or is locked.
    """
    path = location.path
    if path is None or not is_there(path):
        raise Invalid(
            "store",
            ErrorCode.DATABASE_MISSING,
            f"{path or 'a database in memory'} is not there: start the daemon first",
        )
    with open_snapshot(path) as connection:
        check_current(connection, str(path))
