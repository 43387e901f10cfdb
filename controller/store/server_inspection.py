"""Looks at a database on a server beside running instances; nothing is created or changed there."""

import time
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from controller.leadership.ports import Holder, parse_holder
from controller.store import journal_keys
from controller.store.database import database_on
from controller.store.key_uses import KeyUses, uses_of
from controller.store.leadership_tables import ROW, locks
from controller.store.location import ServerLocation
from controller.store.schema import SchemaState, head
from controller.store.schema_upgrade import state_of
from controller.store.server_engines import check_server
from controller.store.setting_names import STORE_ID
from reconcile.store_markers import StoreId


@dataclass(frozen=True, slots=True)
class InspectedServer:
    """What was seen of a server and of the database there.

    Attributes:
        version: Of the server, with its name.
        is_encrypted: Whether the connection was.
        is_durable: Whether what is committed outlives a power failure of the server, as far as it says.
        clock_ahead: By how many seconds its clock is ahead of this machine's.
        schema: Of the database.
        registries: The number of copies by the registry that they were made in; empty with another schema.
        key_uses: None without a journal key, and with another schema.
        store_ids: The id of the store; empty where it has none, or another schema.
        holder: Who holds the lock of the database, or held it when it ended; None where nobody does.
        used_keys: Fingerprints of the journal keys of the instance that was active last; empty for none.
        own_keys: Fingerprints of the journal keys here; empty without one.
    """

    version: str
    is_encrypted: bool
    is_durable: bool
    clock_ahead: float
    schema: SchemaState
    registries: dict[str, int]
    key_uses: KeyUses | None
    store_ids: frozenset[StoreId]
    holder: Holder | None
    used_keys: tuple[str, ...]
    own_keys: tuple[str, ...]


def inspect_server(location: ServerLocation, journal_key: bytes | None = None) -> InspectedServer:
    """Look at a database; blocks.

    Raises:
        Invalid: `no-driver`, `database-version`, `database-encoding` or `database-ca-cert-file`.
        Unavailable: The server does not answer, or refuses the login.
    """
    with closing(database_on(location)) as database:
        return database.read_now(lambda connection: _inspect(connection, journal_key))


def _inspect(connection: Connection, journal_key: bytes | None) -> InspectedServer:
    check_server(connection)
    is_postgresql = connection.dialect.name == "postgresql"
    began = time.time()
    there = connection.scalar(text(_CLOCK[is_postgresql]))
    now = (began + time.time()) / 2
    schema = state_of(connection)
    is_current = schema.revision == head()
    registries = "SELECT registry, count(*) FROM images GROUP BY registry"
    ids = text("SELECT value FROM settings WHERE name = :name")

    def tokens(sql: str) -> list[tuple[bytes | None]]:
        return [(row[0],) for row in connection.execute(text(sql))]

    return InspectedServer(
        version=_version(connection, is_postgresql=is_postgresql),
        is_encrypted=_is_encrypted(connection, is_postgresql=is_postgresql),
        is_durable=_is_durable(connection, is_postgresql=is_postgresql),
        clock_ahead=float(there or now) - now,
        schema=schema,
        registries={row[0]: row[1] for row in connection.execute(text(registries))} if is_current else {},
        key_uses=uses_of(tokens, journal_key) if is_current and journal_key is not None else None,
        store_ids=frozenset(map(StoreId, connection.scalars(ids, {"name": STORE_ID})))
        if is_current
        else frozenset(),
        holder=_holder(connection) if locks.name in schema.tables else None,
        used_keys=journal_keys.find(connection),
        own_keys=journal_keys.fingerprints(journal_key),
    )


def _holder(connection: Connection) -> Holder | None:
    row = connection.execute(select(locks.c.owner, locks.c.value).where(locks.c.id == ROW)).one_or_none()
    return None if row is None or not row[0] else parse_holder(row[0], row[1])


_CLOCK = {
    True: "SELECT extract(epoch FROM clock_timestamp())",
    False: "SELECT unix_timestamp(sysdate(6))",
}


def _version(connection: Connection, *, is_postgresql: bool) -> str:
    found = str(connection.scalar(text("SHOW server_version" if is_postgresql else "SELECT version()")))
    number = found.partition(" ")[0].partition("-")[0]
    if is_postgresql:
        return f"PostgreSQL {number}"
    return f"{'MariaDB' if 'MariaDB' in found else 'MySQL'} {number}"


def _is_encrypted(connection: Connection, *, is_postgresql: bool) -> bool:
    if is_postgresql:
        return bool(connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))
    row = connection.execute(text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")).one_or_none()
    return row is not None and bool(row[1])


def _is_durable(connection: Connection, *, is_postgresql: bool) -> bool:
    if is_postgresql:
        return bool(connection.scalar(text("SHOW fsync")) == "on")
    cluster = connection.execute(text("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")).one_or_none()
    has_other_nodes = cluster is not None and int(cluster[1]) > 1
    return has_other_nodes or connection.scalar(text("SELECT @@innodb_flush_log_at_trx_commit")) == 1
