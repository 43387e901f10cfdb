"""Makes the engines of a database on a server: of PostgreSQL, MySQL or MariaDB.

Isolation: units of work that read run in REPEATABLE READ, which is one snapshot on each of them. Those that
write run in READ COMMITTED, one at a time: each first takes its turn, a lock of the whole database that every
process takes. So what a unit has read holds until it has written, rows that were not there included, as
SQLite's BEGIN IMMEDIATE has it.

No wait is endless: each statement, each wait for a lock and each silence of the server has a limit. A
transaction in which nothing happens, such as one of a process that stands still, is ended by the server, so
that no other process waits for it. When somebody has found out that the server is silent, all waits for its
answers can be ended at once.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from controller.store.engines import Engines, OpenConnections
from controller.store.location import Server, ServerLocation, require_driver
from reconcile.errors import ErrorCode, Invalid, Unavailable

_OLDEST = MappingProxyType({"PostgreSQL": (13, 0), "MySQL": (8, 0), "MariaDB": (10, 6)})
"""The oldest version of each server whose locks and limits are as they are used here."""

_CONNECT_WITHIN = 5
_STATEMENT_WITHIN = 30
LOCK_WITHIN = 15
_SILENT_AT_MOST = 10
"""Seconds that a transaction may do nothing, and that a network may."""

PING_WITHIN = 5
"""Seconds for the answer of a server that is asked only whether it is there, also by a new connection."""

MIGRATE_WITHIN = 3600
"""Seconds of a statement of a migration, and of its turn."""

_TURN = 6_015_437_402_113_874_221
"""The key of PostgreSQL's advisory lock, which is one of the database."""

_TURN_NAME = "docker-cache-%s"
"""The name of MySQL's lock, which is one of the server, with that of the database."""

_IDLE_AT_MOST = 60
"""Seconds that a connection to MySQL may do nothing outside of a turn."""

_POOL: dict[str, Any] = {
    "hide_parameters": True,
    "pool_size": 2,
    "max_overflow": 2,
    "pool_timeout": LOCK_WITHIN,
    "pool_pre_ping": True,
    "pool_recycle": 1800,
}


@dataclass(frozen=True, slots=True)
class _Limits:
    """Seconds that a statement, and a wait for a lock, may take."""

    statement: int
    lock: int

    @property
    def answer(self) -> int:
        """Seconds for an answer of a server that keeps to these limits."""
        return self.statement + self.lock + _SILENT_AT_MOST


def open_engines(location: ServerLocation) -> Engines:
    """Make the engines that read, write and migrate; nothing is connected.

    Raises:
        Invalid: `no-driver`.
    """
    require_driver(location.server)
    make = _postgresql if location.server is Server.POSTGRESQL else _mysql
    connections, short = OpenConnections(), _Limits(_STATEMENT_WITHIN, LOCK_WITHIN)
    return Engines(
        make(location, short, connections, is_reading=True),
        make(location, short, connections, is_reading=False),
        make(location, _Limits(MIGRATE_WITHIN, MIGRATE_WITHIN), OpenConnections(), is_reading=False),
        connections,
    )


@contextmanager
def turn(connection: Connection, within: int) -> Iterator[None]:
    """Wait for the turn to write, which lasts until the transaction has ended; SQLite has turns of its own.

    Raises:
        Unavailable: `busy`: another process writes for too long.
    """
    match connection.dialect.name:
        case "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TURN})
            yield
        case "mysql":
            name = (_TURN_NAME % connection.engine.url.database)[:64]
            with _ended_when_idle(connection), _mysql_lock(connection, name, within):
                yield
        case _:
            yield


@contextmanager
def _ended_when_idle(connection: Connection) -> Iterator[None]:
    """Let MySQL end a session whose transaction does nothing; MariaDB has a limit for that itself."""
    if _is_mariadb(connection.dialect):
        yield
        return
    connection.execute(text(f"SET SESSION wait_timeout = {_SILENT_AT_MOST}"))
    try:
        yield
    finally:
        if not connection.invalidated:
            with suppress(DBAPIError):  # a session that is idle in the pool then ends earlier
                connection.execute(text(f"SET SESSION wait_timeout = {_IDLE_AT_MOST}"))


@contextmanager
def _mysql_lock(connection: Connection, name: str, within: int) -> Iterator[None]:
    if connection.scalar(text("SELECT GET_LOCK(:name, :within)"), {"name": name, "within": within}) != 1:
        raise Unavailable("store", "busy", f"another process has been writing for {within} s")
    try:
        yield
    finally:
        _release_mysql_lock(connection, name)


def _release_mysql_lock(connection: Connection, name: str) -> None:
    if connection.invalidated:  # the server has released it
        return
    is_released = False
    with suppress(DBAPIError):
        is_released = connection.scalar(text("SELECT RELEASE_LOCK(:name)"), {"name": name}) == 1
    if not is_released:
        connection.invalidate()  # it would keep the lock in the pool


def check_server(connection: Connection) -> None:
    """Refuse a server that the store cannot be kept on.

    Raises:
        Invalid: `database-version` or `database-encoding`.
    """
    dialect = connection.dialect
    kind = "PostgreSQL" if dialect.name == "postgresql" else "MariaDB" if _is_mariadb(dialect) else "MySQL"
    version = tuple(dialect.server_version_info or ())
    if version[:2] < _OLDEST[kind]:
        oldest = ".".join(map(str, _OLDEST[kind]))
        detail = (
            f"the server is {kind} {'.'.join(map(str, version))}: {oldest} is the oldest that is supported"
        )
        raise Invalid("store", "database-version", detail)
    if dialect.name == "postgresql" and connection.scalar(text("SHOW server_encoding")) != "UTF8":
        detail = "the database cannot hold every text: create it with ENCODING 'UTF8' TEMPLATE template0"
        raise Invalid("store", "database-encoding", detail)


def _is_mariadb(dialect: Any) -> bool:
    return bool(getattr(dialect, "is_mariadb", False))


def _postgresql(
    location: ServerLocation, limits: _Limits, connections: OpenConnections, *, is_reading: bool
) -> Engine:
    from controller.store.postgresql_connection import BoundedConnection  # noqa: PLC0415 - may not be installed

    tls = {"sslmode": "prefer"}
    if location.ca_cert_file is not None:
        tls = {"sslmode": "verify-full", "sslrootcert": str(location.ca_cert_file)}
    engine = create_engine(
        _url("postgresql+psycopg", location),
        connect_args={
            "application_name": "diego-docker-cache",
            "connect_timeout": _CONNECT_WITHIN,
            "gssencmode": "disable",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": _SILENT_AT_MOST * 1000,
            "prepare_threshold": None,  # a pooler in between may give each transaction another connection
            **tls,
        },
        isolation_level="REPEATABLE READ" if is_reading else "READ COMMITTED",
        **_POOL,
    )
    settings = [
        f"SET statement_timeout = '{limits.statement}s'",
        f"SET lock_timeout = '{limits.lock}s'",
        f"SET idle_in_transaction_session_timeout = '{_SILENT_AT_MOST}s'",
        # What is committed outlives a power failure; a stricter setting stays.
        (
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        ),
    ]
    if is_reading:
        settings.append("SET default_transaction_read_only = on")

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, _arguments: object, named: dict[str, Any]) -> object:
        connection = BoundedConnection.connect(**named, password=location.read_password() or None)
        connection.answer_within = PING_WITHIN
        for statement in settings:
            connection.execute(statement)
        connection.commit()
        connection.answer_within = limits.answer
        connections.add(connection, BoundedConnection.give_up)
        return connection

    ping = engine.dialect.do_ping

    def ping_in_time(dbapi_connection: Any) -> bool:
        """Find a connection that is silent without the time that a statement may take."""
        dbapi_connection.answer_within = PING_WITHIN
        try:
            return ping(dbapi_connection)
        finally:
            dbapi_connection.answer_within = limits.answer

    engine.dialect.do_ping = ping_in_time  # type: ignore[method-assign] # SQLAlchemy has no event for it
    return engine


def _mysql(
    location: ServerLocation, limits: _Limits, connections: OpenConnections, *, is_reading: bool
) -> Engine:
    engine = create_engine(
        _url("mysql+pymysql", location),
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": _CONNECT_WITHIN,
            "read_timeout": PING_WITHIN,  # until it is connected
            "write_timeout": _SILENT_AT_MOST,
        },
        isolation_level="REPEATABLE READ" if is_reading else "READ COMMITTED",
        **_POOL,
    )

    @event.listens_for(engine, "do_connect")
    def login(_dialect: object, _record: object, _arguments: object, named: dict[str, Any]) -> None:
        named["password"] = location.read_password()
        named["ssl"] = _tls(location)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        settings: dict[str, object] = {
            "sql_mode": "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",  # nothing is cut
            "innodb_lock_wait_timeout": limits.lock,
            "lock_wait_timeout": limits.lock,
        }
        if "MariaDB" in connection.get_server_info():
            settings |= {"max_statement_time": limits.statement, "idle_transaction_timeout": _SILENT_AT_MOST}
        else:
            settings |= {"max_execution_time": limits.statement * 1000, "wait_timeout": _IDLE_AT_MOST}
        with closing(connection.cursor()) as cursor:
            cursor.execute("SET " + ", ".join(f"SESSION {key} = {value}" for key, value in settings.items()))
            if is_reading:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
        _answer_within(connection, limits.answer)
        connections.add(connection, _shut)

    ping = engine.dialect.do_ping

    def ping_in_time(dbapi_connection: Any) -> bool:
        """Find a connection that is silent without the time that a statement may take."""
        _answer_within(dbapi_connection, PING_WITHIN)
        try:
            return ping(dbapi_connection)
        finally:
            _answer_within(dbapi_connection, limits.answer)

    engine.dialect.do_ping = ping_in_time  # type: ignore[method-assign] # SQLAlchemy has no event for it
    return engine


def _answer_within(connection: Any, seconds: float) -> None:
    """Limit the wait for each answer of MySQL from now on; the driver takes the limit once by itself."""
    connection._read_timeout = seconds  # noqa: SLF001


def _shut(connection: Any) -> None:
    """End a wait for an answer of MySQL in another thread, as the end of the connection does."""
    network = connection._sock  # noqa: SLF001 - the driver has no such call
    if network is not None:
        with suppress(OSError):
            socket.socket.shutdown(network, socket.SHUT_RDWR)  # TLS is not asked: the other thread uses it


def _url(driver: str, location: ServerLocation) -> URL:
    return URL.create(
        driver,
        username=location.user,
        host=location.host,
        port=location.port,
        database=location.database,
    )


def _tls(location: ServerLocation) -> ssl.SSLContext | None:
    """Make the context of a verified connection to MySQL; without one TLS is used where the server has it."""
    if location.ca_cert_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(location.ca_cert_file))
    except (OSError, ssl.SSLError) as error:
        detail = f"database_ca_cert_file {location.ca_cert_file} holds no CA certificates in PEM"
        raise Unavailable("store", ErrorCode.UNREADABLE_FILE, detail) from error
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # private authorities may lack key identifiers
    return context
