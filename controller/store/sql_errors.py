"""Maps errors of the database driver to this program's errors, with advice for the operator.

Sources: sqlite.org/rescode.html; postgresql.org/docs/current/errcodes-appendix.html;
dev.mysql.com/doc/mysql-errors/8.0/en; mariadb.com/kb/en/mariadb-error-code-reference.
"""

import re
import sqlite3

from reconcile.errors import Conflict, DockerCacheError, ErrorCode, Invalid, Unavailable
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


_POSTGRESQL = {
    "08": "does not answer",
    "25006": "is read-only: it may be a standby, or its disk may be full",
    "25P03": "ended a transaction in which nothing happened: this machine may stand still",
    "28": "refuses the login: check the user in database_url and its password",
    "3D000": "is not there: create it",
    "40": "let another transaction go first",
    "53": "has no more connections, memory or disk space",
    "55P03": "is locked by another transaction",
    "57": "is starting, stopping, or ended a statement that took too long",
    "58": "cannot read or write its files: check its disk",
}
"""Beginnings of SQLSTATE codes after which the same may succeed later."""

_MYSQL = {
    1021: "has no disk space left",
    1040: "has no more connections",
    1044: "refuses the login: give the user in database_url all rights on the database",
    1045: "refuses the login: check the user in database_url and its password",
    1049: "is not there: create it",
    1053: "is stopping",
    1114: "has no disk space left",
    1129: "refuses connections from this host after too many errors: run FLUSH HOSTS there",
    1158: "does not answer",
    1159: "does not answer",
    1160: "does not answer",
    1161: "does not answer",
    1203: "has no more connections for this user",
    1205: "is locked by another transaction",
    1213: "let another transaction go first",
    1226: "has no more connections for this user",
    1290: "is read-only: it may be a replica",
    1317: "ended a statement",
    1836: "is read-only: it may be a replica",
    1927: "closed the connection",
    1969: "ended a statement that took too long",
    3024: "ended a statement that took too long",
    4031: "closed a connection that was not used",
}
"""Codes of MySQL and MariaDB after which the same may succeed later, beside those of the connection."""

_MYSQL_CONNECTION = range(2000, 3000)
_MYSQL_STORAGE = 1030
_MYSQL_DUPLICATE = 1062
_MYSQL_INTEGRITY = frozenset({1048, _MYSQL_DUPLICATE, 1451, 1452, 3819, 4025})
_MYSQL_NO_SPACE = re.compile(r"error (28|122)\b|No space left")


def store_error(error: BaseException, name: str) -> DockerCacheError:
    """Map an error of a driver; `name` is the name of the database's file, or of the server."""
    match type(error).__module__.partition(".")[0]:
        case "psycopg":
            return _postgresql_error(error, name)
        case "pymysql":
            return _mysql_error(error, name)
    code = str(getattr(error, "sqlite_errorname", type(error).__name__))
    for known, advice in _TEMPORARY.items():
        if code.startswith(known):  # extended codes, such as SQLITE_IOERR_FSYNC
            return Unavailable("store", code, f"{name} {advice}")
    for known, advice in _PERMANENT.items():
        if code.startswith(known):
            return Invalid("store", code, f"{name} {advice}")
    kind = Conflict if isinstance(error, sqlite3.IntegrityError) else Invalid
    return kind("store", code, f"{name}: {one_line(str(error))}")


def _postgresql_error(error: BaseException, name: str) -> DockerCacheError:
    code = getattr(error, "sqlstate", None)
    text = one_line(str(error))
    if code is None:
        kinds = {each.__name__ for each in type(error).__mro__}
        is_lost = not kinds.isdisjoint({"OperationalError", "InterfaceError"})
        kind = Unavailable if is_lost else Invalid
        return kind("store", ErrorCode.CONNECTION if is_lost else type(error).__name__, f"{name}: {text}")
    for known, advice in _POSTGRESQL.items():
        if code.startswith(known):
            return Unavailable("store", code, f"{name} {advice}: {text}")
    return (Conflict if code.startswith("23") else Invalid)("store", code, f"{name}: {text}")


def _mysql_error(error: BaseException, name: str) -> DockerCacheError:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = one_line(str(error.args[-1] if error.args else error))
    shown = type(error).__name__ if code is None else str(code)
    if code in _MYSQL_CONNECTION or type(error).__name__ == "InterfaceError":
        return Unavailable("store", shown, f"{name} does not answer: {text}")
    if code in _MYSQL or (code == _MYSQL_STORAGE and _MYSQL_NO_SPACE.search(text)):
        return Unavailable(
            "store", shown, f"{name} {_MYSQL.get(code or 0, 'has no disk space left')}: {text}"
        )
    return (Conflict if code in _MYSQL_INTEGRITY else Invalid)("store", shown, f"{name}: {text}")


def is_lost_connection(error: DockerCacheError) -> bool:
    """Whether an error that was mapped says that nothing is heard of the server."""
    return error.code == ErrorCode.CONNECTION or (
        error.code.isdecimal() and int(error.code) in _MYSQL_CONNECTION
    )


def is_duplicate(error: BaseException | None) -> bool:
    """Whether a driver refused a row because a unique value of it is there already."""
    return (
        getattr(error, "sqlite_errorname", "") in {"SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"}
        or getattr(error, "sqlstate", "") == "23505"  # PostgreSQL
        or (getattr(error, "args", ()) or (None,))[0] == _MYSQL_DUPLICATE
    )
