"""Writes a backup of a database that may be in use, and reads what a backup says of itself.

A backup is one file that SQLite can open, with one table more than the store has: which private registry its
records are about, when it was made, and by which version.
"""

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.store.connections import open_snapshot
from controller.store.location import is_there
from controller.store.schema import check_migratable, revision_of
from controller.store.sql_errors import store_error
from reconcile.errors import Conflict, ErrorCode, Invalid

_MARKS = "backup"
_CREATE = f"CREATE TABLE {_MARKS} (name TEXT PRIMARY KEY, value TEXT NOT NULL)"


@dataclass(frozen=True, slots=True)
class BackupMarks:
    """What a backup says of itself.

    Attributes:
        registry: Address of the private registry that the records are about; empty when it does not say.
        made_at: UTC seconds since 1970; 0 when it does not say.
        version: Of the program that made it; empty when it does not say.
    """

    registry: str = ""
    made_at: float = 0.0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made: its size, and what it holds."""

    bytes: int
    schema: str
    images: int
    migrations: int


def back_up(database: Path, target: Path, marks: BackupMarks) -> Backup:
    """Write a backup of a database, which a daemon may use meanwhile; blocks.

    The file is readable by this user alone. It appears under its name when it is complete.

    Raises:
        Conflict: `file-exists`: nothing is overwritten.
        Invalid: The database is not there or not ours, or the file cannot be written.
        Unavailable: The database is locked, or a disk is full.
    """
    if not is_there(database):
        raise Invalid(
            "store", ErrorCode.DATABASE_MISSING, f"{database} is not there: there is nothing to back up"
        )
    if target.exists():
        raise _exists(target)
    with _new_file(target) as part:
        with open_snapshot(database) as source:
            check_migratable(source, str(database))
            schema = revision_of(source)
            if schema is None:
                raise Invalid("store", ErrorCode.SCHEMA_MISSING, f"{database} has no records yet")
            counted = [
                source.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - constants
                for table in ("images", "migrations")
            ]
            _copy(source, part, target, marks)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        try:
            os.link(part, target)
        except FileExistsError as error:
            raise _exists(target) from error
        return Backup(target.stat().st_size, schema, *counted)


def read_marks(connection: sqlite3.Connection) -> BackupMarks:
    """Read what a backup says of itself; one that was made by other means says nothing."""
    known = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not connection.execute(known, [_MARKS]).fetchone()[0]:
        return BackupMarks()
    rows = connection.execute(f"SELECT name, value FROM {_MARKS} LIMIT 100")  # noqa: S608 - a constant
    texts = {str(name): str(value) for name, value in rows}
    try:
        made_at = float(texts.get("made_at", 0.0))
    except ValueError:
        made_at = 0.0
    return BackupMarks(texts.get("registry", ""), made_at, texts.get("version", ""))


def drop_marks(connection: sqlite3.Connection) -> None:
    """Make a store of a backup."""
    connection.execute(f"DROP TABLE IF EXISTS {_MARKS}")


def _copy(source: sqlite3.Connection, part: Path, target: Path, marks: BackupMarks) -> None:
    rows = [("registry", marks.registry), ("made_at", repr(marks.made_at)), ("version", marks.version)]
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file holds everything
            copy.execute("BEGIN")
            copy.execute(f"DROP TABLE IF EXISTS {_MARKS}")
            copy.execute(_CREATE)
            copy.executemany(f"INSERT INTO {_MARKS} VALUES (?, ?)", rows)  # noqa: S608 - a constant
            copy.execute("COMMIT")
    except sqlite3.Error as error:
        raise store_error(error, str(target)) from error


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Make an empty file beside the target for the length of a block, readable by this user alone."""
    part = target.with_name(f".{target.name[:100]}.{uuid.uuid4()}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield part
    except OSError as error:
        raise Invalid("store", "backup-path", f"cannot write {target}: {error.strerror}") from error
    finally:
        for each in (part, part.with_name(f"{part.name}-journal"), part.with_name(f"{part.name}-wal")):
            each.unlink(missing_ok=True)


def _exists(target: Path) -> Conflict:
    return Conflict("store", "file-exists", f"{target} is there already: name another file")
