"""Opens connections to a SQLite database with the driver, which the daemon's engine uses too."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from controller.store.sql_errors import store_error
from reconcile.errors import Invalid

_BUSY_TIMEOUT = 5.0  # seconds


def connect_in_memory() -> sqlite3.Connection:
    """Open an empty database that lives as long as the connection."""
    return _connect(":memory:")


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open an existing file for reading and writing.

    Raises:
        Invalid: `no-wal`.
        sqlite3.Error: The file cannot be opened.
    """
    connection = _connect(f"file:{quote(str(path))}?mode=rw")
    with ExitStack() as unless_ready:
        unless_ready.callback(connection.close)
        _make_durable(connection, path)
        unless_ready.pop_all()
    return connection


@contextmanager
def open_snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Read an existing file in one transaction, beside a running daemon or without one; nothing is changed.

    Raises:
        Unavailable: The file cannot be opened, or is locked.
        Invalid: SQLite's code for a file that is no database.
    """
    try:
        with closing(_connect(f"file:{quote(str(path))}?mode=ro")) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise store_error(error, str(path)) from error


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,  # transactions begin where the caller says, not where the driver guesses
        check_same_thread=False,  # a connection is used by one thread at a time and closed by another
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise Invalid(
            "store", "no-wal", f"{path} is on a disk on which SQLite cannot use WAL: use a local disk"
        )
    connection.execute("PRAGMA synchronous = FULL")
