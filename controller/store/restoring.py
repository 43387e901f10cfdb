"""Puts a backup in the place of the database, in steps that a crash at any moment leaves complete or undone.

The backup is copied beside the database, checked, and brought to this version's schema; nothing else is
changed before that. Whoever opens the store next, alone with its lock, puts it in place: a daemon that was
told to begin anew, or the command itself where no daemon runs.

What is under way now is known to the database that is replaced, and to no backup. So open migrations are
those of the replaced database; those of the backup are dropped. What LRPs ran from before their migrations,
which of their instances are stale, which apps are pinned, and what the audit log says, is taken from both.
The store is paused, so that nothing is begun before somebody has looked. It keeps the id of the replaced
database, whose marker on the BBS is this daemon's own.

The names beside `cache.db`: `cache.db.restoring-N` is checked, `cache.db.restored-N` has what is under way
too, and `cache.db.replaced-N` is the database that was replaced.
"""

import os
import re
import shutil
import sqlite3
from collections.abc import Collection
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from controller.store.backup import drop_marks, read_marks
from controller.store.connections import connect_to_write, open_snapshot
from controller.store.database import database_at
from controller.store.restored import Restored
from controller.store.schema import check_migratable, revision_of
from controller.store.schema_upgrade import migrate
from controller.store.setting_names import STORE_ID
from controller.store.sql_errors import store_error
from controller.store.tables import metadata
from reconcile.errors import Conflict, DockerCacheError, ErrorCode, Invalid
from reconcile.hosts import canonical_host
from reconcile.lrps import ProcessGuid
from reconcile.trust import UNKNOWN_LOGIN

_PAUSE = "INSERT OR REPLACE INTO settings (name, value) VALUES ('paused', 'true')"
_TAKE_ID = "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)"
_DISTRUST = (
    "INSERT OR IGNORE INTO copy_attempts (platform_digest, domain, login) "
    "SELECT platform_digest, ?, ? FROM reservations"
)
"""Who has brought something to the repositories of copies since the backup is not known."""


def prepare_restore(backup: Path, database: Path, *, stamp: str, registries: Collection[str]) -> Path:
    """Copy a backup beside the database, check it, and bring it to this version's schema; blocks.

    Args:
        backup: The file, which is only read.
        database: The file that it is to replace, which is not touched.
        stamp: Tells this restore from others: letters, digits and dashes.
        registries: Addresses of private registries that its records may be about.

    Returns:
        The name that the replaced database will have.

    Raises:
        Invalid: It cannot be read, is corrupt, is of another program or of a newer version, or its records
            are about another registry; or the database is of another program.
        Conflict: `restore-pending`: another backup waits to be put in place.
        Unavailable: The disk is full.
    """
    if _pending(database):
        raise Conflict("store", "restore-pending", f"a backup waits beside {database} to be put in place")
    _refuse_foreign(database)
    part = database.with_name(f"{database.name}.incoming-{stamp}")
    try:
        _copy_file(backup, part, owned_as=database if database.exists() else database.parent)
        _check(part, backup, registries)
        _upgrade(part, backup)
        part.rename(_beside(database, "restoring", stamp))
        _sync(database.parent)
    except OSError as error:
        raise Invalid("store", "backup-path", f"cannot copy {backup}: {error.strerror}") from error
    finally:
        _remove(part)
    return _beside(database, "replaced", stamp)


def complete_restore(database: Path) -> Restored | None:
    """Put a prepared backup in place; None where there is none. Only with the store's lock; blocks.

    Raises:
        Invalid: `database-path`: a file cannot be renamed.
        Unavailable: The disk is full.
    """
    try:
        return _complete(database)
    except sqlite3.Error as error:
        raise store_error(error, str(database)) from error
    except OSError as error:
        detail = f"cannot put a backup in the place of {database}: {error.strerror}"
        raise Invalid("store", "database-path", detail) from error


def _complete(database: Path) -> Restored | None:
    restored = None
    for path in _pending(database):
        kind, stamp = _kind(database, path)
        if kind == "restoring":
            restored = _merge(database, path)
            merged = _beside(database, "restored", stamp)
            path.rename(merged)
        else:
            restored, merged = Restored(None), path  # an earlier process ended in between
        replaced = _beside(database, "replaced", stamp)
        if database.exists():
            for suffix in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    Path(f"{database}{suffix}").rename(f"{replaced}{suffix}")
        merged.rename(database)
        _sync(database.parent)
        restored = Restored(
            replaced if replaced.exists() else None, restored.resumed, restored.dropped, restored.problem
        )
    return restored


def _pending(database: Path) -> list[Path]:
    """List prepared backups, the oldest first."""
    if not database.parent.is_dir():
        return []
    found = [each for each in database.parent.iterdir() if _kind(database, each)[0]]
    return sorted(found, key=lambda each: each.stat().st_mtime)


def _kind(database: Path, path: Path) -> tuple[str, str]:
    pattern = rf"{re.escape(database.name)}\.(restoring|restored)-([0-9A-Za-z-]+?)"
    match = re.fullmatch(pattern, path.name)
    is_file_of_sqlite = path.name.endswith(("-wal", "-shm", "-journal"))
    return ("", "") if match is None or is_file_of_sqlite else (match[1], match[2])


def _beside(database: Path, kind: str, stamp: str) -> Path:
    return database.with_name(f"{database.name}.{kind}-{stamp}")


def _refuse_foreign(database: Path) -> None:
    """Refuse to replace what another program keeps; a file that is no database is the operator's to judge."""
    if not database.exists():
        return
    try:
        with open_snapshot(database) as connection:
            check_migratable(connection, str(database))
    except DockerCacheError as error:
        if error.code == ErrorCode.SCHEMA_FOREIGN:
            raise


def _copy_file(backup: Path, part: Path, *, owned_as: Path) -> None:
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as copy, backup.open("rb") as original:
        if os.geteuid() == 0:  # the daemon runs as another user
            owner = owned_as.stat()
            os.fchown(copy.fileno(), owner.st_uid, owner.st_gid)
        shutil.copyfileobj(original, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _check(part: Path, backup: Path, registries: Collection[str]) -> None:
    try:
        with closing(sqlite3.connect(f"file:{part}?mode=rw", uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if answer != "ok":
                raise Invalid("store", "backup-corrupt", f"{backup} is corrupt: use another backup")
            check_migratable(connection, str(backup))
            if revision_of(connection) is None:
                raise Invalid("store", "backup-foreign", f"{backup} holds no records of this program")
            _check_registries(connection, backup, registries)
    except sqlite3.Error as error:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            detail = f"{backup} is no database of SQLite, or is corrupt: use another backup"
            raise Invalid("store", "backup-corrupt", detail) from error
        raise store_error(error, str(backup)) from error


def _check_registries(connection: sqlite3.Connection, backup: Path, registries: Collection[str]) -> None:
    marked = read_marks(connection).registry
    # Some of the copies may be in a registry that was left long ago.
    named = {marked} if marked else _registries_of(connection)
    known = {canonical_host(each) for each in registries}
    if named and not any(canonical_host(each) in known for each in named):
        raise Invalid(
            "store",
            "backup-of-other-registry",
            f"the records in {backup} are about the private registry {min(named)}, "
            "and not about that of this config",
        )


def _registries_of(connection: sqlite3.Connection) -> set[str]:
    """Read which private registries hold the copies; older versions did not write it down."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(images)")}
    if "registry" not in columns:
        return set()
    rows = connection.execute("SELECT DISTINCT registry FROM images WHERE registry <> '' LIMIT 100")
    return {str(registry) for (registry,) in rows}


def _upgrade(part: Path, backup: Path) -> None:
    database = database_at(part)
    try:
        database.transact(partial(migrate, name=str(backup)))
    finally:
        database.close()
    with closing(connect_to_write(part)) as connection:
        drop_marks(connection)
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        missing = sorted(set(metadata.tables) - tables)
        if missing:
            raise Invalid("store", "backup-foreign", f"{backup} has no table {missing[0]}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _merge(database: Path, path: Path) -> Restored:
    """Take what is under way from the database that is replaced, and pause."""
    rows, problem = _read_live(database)
    with closing(connect_to_write(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        of_backup = _guids(connection.execute("SELECT process_guid FROM migrations"))
        connection.execute("DELETE FROM migrations")
        _add_entries(connection, rows.pop("audit", None))
        _, own_settings = rows.pop("settings", ((), []))
        connection.executemany(_TAKE_ID, [row for row in own_settings if row[0] == STORE_ID])
        for table, (columns, content) in rows.items():
            names, marks = ", ".join(columns), ", ".join("?" * len(columns))
            statement = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - of our schema
            connection.executemany(statement, content)
        connection.execute(_PAUSE)
        connection.execute(_DISTRUST, [UNKNOWN_LOGIN, UNKNOWN_LOGIN])
        resumed = _guids(connection.execute("SELECT process_guid FROM migrations"))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    dropped = tuple(guid for guid in of_backup if guid not in resumed)
    return Restored(None, resumed, dropped, problem)


def _add_entries(connection: sqlite3.Connection, entries: "TableRows | None") -> None:
    """Add what the replaced database's audit log has and the backup lacks, such as who restored it."""
    if entries is None:
        return
    columns, content = entries
    marks = ", ".join(f":{name}" for name in columns)
    same = " AND ".join(f"{name} = :{name}" for name in columns)
    connection.executemany(
        f"INSERT INTO audit ({', '.join(columns)}) SELECT {marks} "  # noqa: S608 - of our schema
        f"WHERE NOT EXISTS (SELECT 1 FROM audit WHERE {same})",
        [dict(zip(columns, row, strict=True)) for row in content],
    )


def _guids(rows: sqlite3.Cursor) -> tuple[ProcessGuid, ...]:
    return tuple(sorted(ProcessGuid(guid) for (guid,) in rows))


TableRows = tuple[tuple[str, ...], list[tuple[object, ...]]]
Rows = dict[str, TableRows]


def _read_live(database: Path) -> tuple[Rows, str]:
    """Read what is taken over from the database that is replaced, and why not where it cannot be read."""
    if not database.exists():
        return {}, ""
    try:
        with open_snapshot(database) as connection:
            check_migratable(connection, str(database))
        upgraded = database_at(database)
        try:
            upgraded.transact(partial(migrate, name=str(database)))
        finally:
            upgraded.close()
        with closing(connect_to_write(database)) as connection:
            taken_over = ("migrations", "original_sources", "stale_instances", "pins", "audit", "settings")
            rows = {table: _rows(connection, table) for table in taken_over}
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except DockerCacheError as error:
        return {}, str(error)
    except sqlite3.Error as error:
        return {}, str(store_error(error, str(database)))
    return rows, ""


def _rows(connection: sqlite3.Connection, table: str) -> TableRows:
    # The numbers of a new database begin at 1 again.
    columns = tuple(column.name for column in metadata.tables[table].columns if column.name != "number")
    cursor = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid")  # noqa: S608 - of our schema
    return columns, cursor.fetchall()


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
