"""Maps errors of the database driver to this program's errors, with advice for the operator.

Source: sqlite.org/rescode.html.
"""

import sqlite3

from reconcile.errors import Conflict, DockerCacheError, Invalid, Unavailable
from reconcile.foreign_text import one_line

_TEMPORARY = {
    "SQLITE_BUSY": "is locked by another process: end that process, such as a backup",
    "SQLITE_LOCKED": "is locked within this process",
    "SQLITE_FULL": "cannot grow because its disk is full: free some space",
    "SQLITE_IOERR": "cannot be read or written: check its disk and the kernel's log",
    "SQLITE_CANTOPEN": "cannot be opened: check its directory, its permissions and the limit of open files",
    # Told only to readers: whoever opens the file for writing completes it.
    "SQLITE_READONLY_ROLLBACK": "was left in a write by a process that was killed: start the daemon",
}

_WAYS = (
    "put a backup in place with `restore-backup FILE --direct`; without one, move the file away, start the "
    "daemon paused (start_paused), and run `rebuild`"
)

_PERMANENT = {
    "SQLITE_READONLY": "is not writable: give this user write access to the file and its directory",
    "SQLITE_PERM": "is not accessible: give this user access to the file and its directory",
    "SQLITE_CORRUPT": f"is corrupt: {_WAYS}",
    "SQLITE_NOTADB": f"is not a SQLite database: name another file in database_url; if it was one, {_WAYS}",
}


def store_error(error: BaseException, name: str) -> DockerCacheError:
    """Map an error of the driver; `name` is the name of the database's file."""
    code = str(getattr(error, "sqlite_errorname", type(error).__name__))
    for known, advice in _TEMPORARY.items():
        if code.startswith(known):  # extended codes, such as SQLITE_IOERR_FSYNC
            return Unavailable("store", code, f"{name} {advice}")
    for known, advice in _PERMANENT.items():
        if code.startswith(known):
            return Invalid("store", code, f"{name} {advice}")
    kind = Conflict if isinstance(error, sqlite3.IntegrityError) else Invalid
    return kind("store", code, f"{name}: {one_line(str(error))}")


def is_duplicate(error: BaseException | None) -> bool:
    """Whether a driver refused a row because a unique value of it is there already."""
    return (
        getattr(error, "sqlite_errorname", "") in {"SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"}
        or getattr(error, "sqlstate", "") == "23505"  # PostgreSQL
        or (getattr(error, "args", ()) or (None,))[0] == 1062  # MySQL
    )
