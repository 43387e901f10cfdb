"""Finds the path in the database URL, and prepares file and directory for this user alone."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from reconcile.errors import Invalid

_URL = re.compile(r"(?P<driver>[\w+]+)://(?P<host>[^/?]*)(/(?P<path>[^?]*))?(\?(?P<options>.*))?", re.DOTALL)
_DRIVERS = frozenset({"sqlite", "sqlite+pysqlite"})
_HINT = "write sqlite:////absolute/path/of/file.db"


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is.

    Attributes:
        path: Of a SQLite file; None for a database in memory.
    """

    path: Path | None = None


def location_from_url(url: str) -> Location:
    """Parse a database URL.

    Raises:
        Invalid: `database-url` or `database-unsupported`, without the URL, which may hold a password.
    """
    return Location(path_from_url(url))


def path_from_url(url: str) -> Path | None:
    """Parse a database URL; None means a database in memory.

    Raises:
        Invalid: `database-url` or `database-unsupported`, without the URL, which may hold a password.
    """
    parsed = _URL.fullmatch(url)
    if parsed is None:
        raise Invalid("store", "database-url", f"database_url cannot be read: {_HINT}")
    if parsed["driver"] not in _DRIVERS:
        raise Invalid(
            "store",
            "database-unsupported",
            f"database_url names {parsed['driver']}, and only SQLite is supported so far: {_HINT}",
        )
    if parsed["host"] or parsed["options"]:
        raise Invalid("store", "database-url", f"database_url has a host or options: {_HINT}")
    if parsed["path"] in {None, "", ":memory:"}:
        return None
    return Path(parsed["path"]).resolve()


def is_there(path: Path) -> bool:
    """Whether there is a database file.

    Raises:
        Invalid: `database-path`: this user may not read the directory.
    """
    try:
        return path.exists()
    except OSError as error:
        raise _refused(path, "its directory cannot be read", error) from error


def check_access(path: Path) -> None:
    """Check that the database can be created or written to, without creating anything.

    Raises:
        Invalid: `database-path`.
    """
    directory = next(each for each in path.parents if is_there(each))
    if not directory.is_dir():
        raise _refused(path, f"{directory} is no directory", None)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _refused(path, f"{directory} is not writable", None)
    if is_there(path) and (path.is_dir() or not os.access(path, os.R_OK | os.W_OK)):
        raise _refused(path, "it is no file that can be read and written", None)


def prepare_directory(path: Path) -> None:
    """Create the directory of the database if need be, for this user alone.

    Raises:
        Invalid: `database-path`.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, "its directory cannot be created", error) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        # SQLite keeps two more files beside the database.
        raise _refused(path, "its directory is not writable", None)


def prepare_file(path: Path) -> None:
    """Create the database file if need be, readable by this user alone, and check that it is writable.

    Only while the store's lock is held: closing a file drops the locks that SQLite
    holds on it anywhere in the same process.

    Raises:
        Invalid: `database-path`.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _refused(path, "it cannot be created or is not writable", error) from error


def _refused(path: Path, what: str, error: OSError | None) -> Invalid:
    why = f" ({error.strerror})" if error is not None else ""
    return Invalid(
        "store",
        "database-path",
        f"cannot use {path}: {what}{why}; give this user access or name another file in database_url",
    )
