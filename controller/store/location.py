"""Parses the database URL, and prepares file and directory of a SQLite database for this user alone."""

import importlib.util
import os
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.lrps import Secret


class Server(StrEnum):
    """A kind of database server; MySQL stands for MariaDB too."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"


_SERVERS = MappingProxyType(
    {
        "postgresql": Server.POSTGRESQL,
        "postgres": Server.POSTGRESQL,
        "mysql": Server.MYSQL,
        "mariadb": Server.MYSQL,
    }
)
_PORTS = MappingProxyType({Server.POSTGRESQL: 5432, Server.MYSQL: 3306})
# Names of the drivers and of the extras that bring them.
_DRIVERS = MappingProxyType(
    {Server.POSTGRESQL: ("psycopg", "postgresql"), Server.MYSQL: ("pymysql", "mysql")}
)

_SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})
_FILE = re.compile(r"[\w+]+://(?P<host>[^/?]*)(/(?P<path>[^?]*))?(\?(?P<options>.*))?", re.DOTALL)
_OPTIONS = re.compile(r"[?#]")
_HINT = (
    "write sqlite:////absolute/path/of/file.db, postgresql://user@host:5432/database "
    "or mysql://user@host:3306/database"
)


@dataclass(frozen=True, slots=True)
class ServerLocation:
    """A database on a server.

    Attributes:
        password: Where there is no file of it; empty for none.
        password_file: Is read for each connection.
        ca_cert_file: CA certificates that the server's certificate must chain to, for its host name; None
            where the server is not verified.
    """

    server: Server
    host: str
    port: int
    user: str
    database: str
    password: Secret
    password_file: Path | None = None
    ca_cert_file: Path | None = None

    def read_password(self) -> str:
        """Give the password; blocks.

        Raises:
            Unavailable: `unreadable-file`.
        """
        if self.password_file is None:
            return self.password.value
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            detail = f"database_password_file {self.password_file} cannot be read"
            raise Unavailable("store", ErrorCode.UNREADABLE_FILE, detail) from error

    @property
    def name(self) -> str:
        """Name it for people, without its login."""
        return f"{self.server}://{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is; without a path and a server it is in memory.

    Attributes:
        path: Of a SQLite file.
    """

    path: Path | None = None
    server: ServerLocation | None = None

    @property
    def name(self) -> str:
        """Name it for people, without a login."""
        return str(self.path) if self.server is None else self.server.name


def location_from_url(
    url: str, *, password: str = "", password_file: Path | None = None, ca_cert_file: Path | None = None
) -> Location:
    """Parse a database URL; blocks.

    Args:
        url: Of a SQLite file, or of a database on a server.
        password: For the user in the URL of a server, where the URL has none.
        password_file: Has the password, and counts before any other.
        ca_cert_file: CA certificates that the server's certificate must chain to.

    Raises:
        Invalid: `database-url` or `database-unsupported`, without the URL, which may hold a password.
    """
    driver, separator, _ = url.partition("://")
    if not separator or re.fullmatch(r"[\w+]+", driver) is None:
        raise Invalid("store", "database-url", f"database_url cannot be read: {_HINT}")
    if driver in _SQLITE:
        return Location(_file_from_url(url))
    server = _SERVERS.get(driver)
    if server is None:
        raise Invalid(
            "store", "database-unsupported", f"database_url names {driver}, which is not supported: {_HINT}"
        )
    found = _server_from_url(server, url)
    secret = found.password if found.password.value else Secret(password)
    return Location(
        server=replace(found, password=secret, password_file=password_file, ca_cert_file=ca_cert_file)
    )


def name_of(url: str) -> str:
    """Give a database URL without its login, and without options, which may hold a password too."""
    driver, separator, rest = url.partition("://")
    if driver not in _SERVERS or not separator:
        return url
    login, _, place = rest.rpartition("@")
    # An @ behind these may be of a password in an option.
    is_clear = not _OPTIONS.search(login)
    return f"{driver}://{_OPTIONS.split(place)[0] if is_clear else '...'}"


def require_driver(server: Server) -> None:
    """Refuse a server whose driver is not installed.

    Raises:
        Invalid: `no-driver`.
    """
    package, extra = _DRIVERS[server]
    if importlib.util.find_spec(package) is None:
        raise Invalid(
            "store",
            "no-driver",
            f"database_url names a {server} server, and its driver {package} is not installed: "
            f"install diego-docker-cache[{extra}]",
        )


def _file_from_url(url: str) -> Path | None:
    parsed = _FILE.fullmatch(url)
    if parsed is None or parsed["host"] or parsed["options"]:
        raise Invalid("store", "database-url", f"database_url has a host or options: {_HINT}")
    if parsed["path"] in {None, "", ":memory:"}:
        return None
    return Path(parsed["path"]).resolve()


def _server_from_url(server: Server, url: str) -> ServerLocation:
    try:
        parts = urlsplit(url)
        host, port, database = parts.hostname, parts.port, unquote(parts.path.removeprefix("/"))
    except ValueError:
        raise Invalid("store", "database-url", f"database_url cannot be read: {_HINT}") from None
    if parts.query or parts.fragment:
        detail = f"database_url has options, or a password whose special characters are not encoded: {_HINT}"
        raise Invalid("store", "database-url", detail)
    if not host or not parts.username or not database or "/" in database:
        raise Invalid("store", "database-url", f"database_url lacks a host, user or database: {_HINT}")
    password = Secret(unquote(parts.password or ""))
    return ServerLocation(server, host, port or _PORTS[server], unquote(parts.username), database, password)


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
