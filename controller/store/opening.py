"""Connects to the database for the daemon alone, and opens the store in it at this version's schema."""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography.fernet import MultiFernet

from controller.shielding import to_the_end
from controller.store import journal_keys, proofs
from controller.store.cipher import cipher_from_key
from controller.store.content_proofs import SqlContentProofs
from controller.store.copy_checks import SqlCopyChecks
from controller.store.copy_notes import SqlCopyNotes
from controller.store.counts import SqlCounts
from controller.store.database import Database, database_at, database_in_memory, database_on
from controller.store.droplets import SqlDroplets
from controller.store.failures import SqlFailures
from controller.store.journal import MemoryJournal, SqlJournal, list_process_guids
from controller.store.location import Location, prepare_directory, prepare_file
from controller.store.lock import hold_lock
from controller.store.open_uploads import SqlOpenUploads
from controller.store.operations import SqlOperations
from controller.store.original_sources import SqlOriginalSources
from controller.store.paging import SqlPages
from controller.store.restored import Restored
from controller.store.restoring import complete_restore
from controller.store.schema_upgrade import check_migratable, migrate
from controller.store.sealing import Sealing
from controller.store.server_engines import check_server
from controller.store.sql import SqlRecords
from controller.store.stale_instances import SqlStaleInstances
from controller.store.store_id import ensure_store_id
from reconcile.errors import Invalid
from reconcile.store_markers import StoreId

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The records of one daemon, each kind by itself.

    Attributes:
        store_id: Made once, and the same after a restore of its backup.
        path: Of the database; None for one in memory.
        login_keys: Hash the logins in the proofs; without a journal key, they are lost with this process.
        restored: The backup that was put in place when it was opened; None where none waited.
    """

    records: SqlRecords
    journal: SqlJournal | MemoryJournal
    original_sources: SqlOriginalSources
    operations: SqlOperations
    pages: SqlPages
    failures: SqlFailures
    stale_instances: SqlStaleInstances
    copy_checks: SqlCopyChecks
    copy_notes: SqlCopyNotes
    content_proofs: SqlContentProofs
    droplets: SqlDroplets
    counts: SqlCounts
    login_keys: tuple[bytes, ...] = field(repr=False)
    sealing: Sealing
    open_uploads: SqlOpenUploads
    store_id: StoreId
    path: Path | None = None
    restored: Restored | None = None


@asynccontextmanager
async def open_database(location: Location, *, run_id: str) -> AsyncIterator[Database]:
    """Connect to the database until the block ends; its schema is not looked at.

    A file is held by this process alone from here on, and a backup that waits beside it is put in its place.

    Args:
        location: Of the database.
        run_id: Names this process in the lock file.

    Raises:
        Conflict: `store-in-use`: another process holds it.
        Invalid: `database-path` or `no-wal`.
        Unavailable: The file is locked or its disk is full.
    """
    resources = ExitStack()
    try:
        yield await _in_thread(partial(_connect, resources, location, run_id))
    finally:
        await _in_thread(resources.close)


async def open_store(database: Database, *, journal_key: bytes | None) -> Store:
    """Bring the schema of a database to this version's, and open its records.

    Args:
        database: Open as long as the store is used.
        journal_key: Fernet keys, separated by white space; None keeps the journal in memory.

    Raises:
        Invalid: `journal-key`, `journal-keys-differ`, `schema-newer` or `schema-foreign`.
        Unavailable: The file is locked or its disk is full.
    """
    return await _in_thread(partial(_open, database, journal_key))


async def check_standby(database: Database, *, journal_key: bytes | None) -> None:
    """Refuse a schema, and keys, with which this instance could not take over; nothing is changed.

    Raises:
        Invalid: `schema-newer`, `schema-foreign` or `journal-keys-differ`.
    """
    if database.is_shared:
        await database.read(partial(check_migratable, name=database.name))
        await database.read(partial(journal_keys.check, journal_key=journal_key))


async def _in_thread(call: Callable[[], T]) -> T:
    # A cancelled caller waits too, so that what the call opens is closed after it.
    return await to_the_end(asyncio.get_running_loop().run_in_executor(None, call))


def _connect(resources: ExitStack, location: Location, run_id: str) -> Database:
    path = location.path
    if location.server is not None:
        database = database_on(location.server)
    elif path is None:
        database = database_in_memory()
    else:
        prepare_directory(path)
        resources.enter_context(hold_lock(path, run_id=run_id))
        restored = complete_restore(path)
        prepare_file(path)
        database = database_at(path)
        database.restored = restored
    resources.callback(database.close)
    if database.is_shared:
        database.transact_unfenced(check_server)
    return database


def _open(database: Database, journal_key: bytes | None) -> Store:
    cipher = None if journal_key is None else cipher_from_key(journal_key)
    if journal_key is None and database.is_shared:
        raise Invalid("store", "journal-key", "a database on a server needs a journal_key_file")
    if database.is_shared:
        database.transact(partial(journal_keys.check, journal_key=journal_key))
    database.migrate(partial(migrate, name=database.name))
    database.transact(partial(journal_keys.save, journal_key=journal_key))
    login_keys = _login_keys(journal_key)
    if journal_key is None:
        database.transact(proofs.forget_logins)
    sources = SqlOriginalSources(database, cipher)
    database.transact(sources.hide_logins)
    journal = _journal(database, cipher)
    return Store(
        records=SqlRecords(database),
        journal=journal,
        original_sources=sources,
        operations=SqlOperations(database),
        pages=SqlPages(database),
        failures=SqlFailures(database),
        stale_instances=SqlStaleInstances(database),
        copy_checks=SqlCopyChecks(database),
        copy_notes=SqlCopyNotes(database),
        content_proofs=SqlContentProofs(database),
        droplets=SqlDroplets(database),
        counts=SqlCounts(database, journal),
        login_keys=login_keys,
        sealing=Sealing(database, journal_key),
        open_uploads=SqlOpenUploads(database, cipher),
        store_id=database.transact(ensure_store_id),
        path=database.path,
        restored=database.restored,
    )


def _login_keys(journal_key: bytes | None) -> tuple[bytes, ...]:
    """Derive keys that hash logins from the journal's keys, the first of which is the newest."""
    if journal_key is None:
        return (secrets.token_bytes(32),)
    return tuple(hmac.digest(key, b"logins that have read content", "sha256") for key in journal_key.split())


def _journal(database: Database, cipher: MultiFernet | None) -> SqlJournal | MemoryJournal:
    if cipher is None:
        return MemoryJournal(database.transact(list_process_guids))
    return SqlJournal(database, cipher)
