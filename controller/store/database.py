"""Runs units of work on one database: each is one transaction, in a worker thread.

SQLite's WAL mode lets a command read while the daemon writes. `synchronous` is FULL: with WAL's usual NORMAL
a power failure may undo committed transactions, and an LRP may have been removed because of one. One thread
writes, since a database has one writer at a time; another reads, so that a long list does not delay a
journal row. How a server isolates units of work is written in `server_engines`.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool, StaticPool

from controller.shielding import to_the_end
from controller.store.availability import Availability, Use
from controller.store.connections import connect_in_memory, connect_to_write
from controller.store.engines import Engines, OpenConnections
from controller.store.location import ServerLocation
from controller.store.restored import Restored
from controller.store.server_engines import LOCK_WITHIN, MIGRATE_WITHIN, open_engines, turn
from controller.store.sql_errors import is_lost_connection, store_error
from reconcile.errors import DockerCacheError, LeaseLost, Unavailable

T = TypeVar("T")

_OF_DATABASE = (DBAPIError, PoolTimeout, sqlite3.Error)
"""Errors that drivers raise."""


class Database:
    """A database and its worker threads.

    Attributes:
        name: The file or the server, for messages.
        is_durable: Whether it outlives the process: not in memory.
        is_shared: Whether several instances can use it: on a server.
        path: The file; None for a database in memory or on a server.
        restored: The backup that was put in its place when it was opened; None where none waited.
        availability: Since when it does not do what it is asked.
        fence: Called at the beginning of each transaction that writes, in that transaction; what it raises
            ends it. It holds what must not change before the commit. None where nobody else may write.
        of_errors: Are told of each unit of work that the database has refused or not answered, in any thread;
            those of the lock and of a change of the schema do not count.
        before_commit: Called when a transaction that writes is about to be committed; what it raises rolls
            it back.
    """

    def __init__(self, engines: Engines, name: str, *, path: Path | None = None) -> None:
        self.name = name
        self.path = path
        self.restored: Restored | None = None
        self.availability = Availability()
        self.is_shared = engines.writing.dialect.name != "sqlite"
        self.is_durable = is_durable = path is not None or self.is_shared
        self.fence: Callable[[Connection], None] | None = None
        self.before_commit: Callable[[], None] | None = None
        self.of_errors: list[Callable[[DockerCacheError], None]] = []
        self._engines = engines
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        # A database in memory lives in its one connection.
        self._reader = (
            ThreadPoolExecutor(1, thread_name_prefix="store-reader") if is_durable else self._writer
        )
        self._prober = ThreadPoolExecutor(1, thread_name_prefix="store-prober")
        self._is_closed = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work that only reads, on one snapshot."""
        return await self._submit(self._reader, lambda: self.read_now(work))

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work that only reads, in the calling thread."""
        return self._noted(Use.READING, lambda: self._transact(self._engines.reading, work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work that may write; it is committed when this returns, rolled back when it raises.

        A cancelled caller returns only after the transaction has ended.
        """
        return await self._submit(self._writer, lambda: self.transact(work))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work that may write, in the calling thread."""
        fenced, engine = self._fenced(work), self._engines.writing
        return self._noted(Use.WRITING, lambda: self._transact(engine, fenced, turn_within=LOCK_WITHIN))

    def transact_unfenced(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work of the lock itself, in the calling thread.

        Nobody asks whether it may still write, and on a server it waits for no other unit of work.
        """
        return self._transact(self._engines.writing, work)

    def migrate(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work that changes the schema, and may take long, in the calling thread."""
        try:
            return self._transact(self._engines.migrating, self._fenced(work), turn_within=MIGRATE_WITHIN)
        finally:
            if self.is_shared:  # its connection is needed no more
                self._engines.migrating.dispose()

    async def probe(self) -> None:
        """Ask a server whether it answers, beside units of work that wait for it.

        When it is silent, they wait no longer.

        Raises:
            Unavailable: It does not do what it is asked.
        """
        try:
            await self._submit(self._prober, self._probe)
        except Unavailable as error:
            if is_lost_connection(error):
                self._engines.connections.break_off()
            raise

    def _probe(self) -> None:
        self.read_now(lambda connection: connection.scalar(select(1)))
        if self.availability.is_away(Use.WRITING):
            self.transact(lambda connection: connection.scalar(select(1)))

    def _noted(self, use: Use, transact: Callable[[], T]) -> T:
        """Run a unit of work, and note whether the database has done what it was asked."""
        asked_at = self.availability.clock()
        try:
            result = transact()
        except LeaseLost:
            raise
        except DockerCacheError as error:
            if isinstance(error.__cause__, _OF_DATABASE):  # and not of what it was asked for
                for listener in self.of_errors:
                    listener(error)
            if isinstance(error, Unavailable):
                self.availability.failed(use, error.detail, asked_at=asked_at)
            raise
        self.availability.answered(use)
        return result

    def _fenced(self, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
        def fenced(connection: Connection) -> T:
            if self.fence is not None:
                self.fence(connection)
            result = work(connection)
            if self.before_commit is not None:
                self.before_commit()
            return result

        return fenced

    def _transact(
        self, engine: Engine, work: Callable[[Connection], T], *, turn_within: int | None = None
    ) -> T:
        try:
            with engine.connect() as connection, ExitStack() as stack:
                if turn_within is not None:
                    stack.enter_context(turn(connection, turn_within))
                # The turn has begun a transaction on a server.
                stack.enter_context(connection.get_transaction() or connection.begin())
                return work(connection)
        except DBAPIError as error:
            raise store_error(error.orig or error, self.name) from error
        except PoolTimeout as error:
            raise Unavailable("store", "busy", f"{self.name}: every connection is in use") from error
        except sqlite3.Error as error:  # of work that uses the driver's connection
            raise store_error(error, self.name) from error

    def close(self) -> None:
        """Wait for running transactions, then close the connections; blocks."""
        self._is_closed = True
        for threads in (self._writer, self._reader, self._prober):
            threads.shutdown()
        for engine in (self._engines.reading, self._engines.writing, self._engines.migrating):
            engine.dispose()

    async def _submit(self, executor: Executor, call: Callable[[], T]) -> T:
        if self._is_closed:
            raise Unavailable("store", "closed", f"{self.name} is closed, the process is stopping")
        return await to_the_end(asyncio.get_running_loop().run_in_executor(executor, call))


def database_in_memory() -> Database:
    """Open an empty database that lives as long as this object."""
    engine = create_engine("sqlite://", hide_parameters=True, creator=connect_in_memory, poolclass=StaticPool)
    return Database(_with_transactions(engine), "the database in memory")


def database_at(path: Path) -> Database:
    """Open an existing file for reading and writing.

    Raises:
        Invalid: `no-wal`, on the first use.
    """
    engine = create_engine(
        "sqlite://",
        hide_parameters=True,
        creator=lambda: connect_to_write(path),
        poolclass=QueuePool,
        pool_size=2,
    )
    return Database(_with_transactions(engine), str(path), path=path)


def database_on(location: ServerLocation) -> Database:
    """Open a database on a server; nothing is connected before the first use.

    Raises:
        Invalid: `no-driver`.
    """
    return Database(open_engines(location), location.name)


def _with_transactions(engine: Engine) -> Engines:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once, so that what is read stays true until it is written.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return Engines(engine.execution_options(begin="BEGIN"), engine, engine, OpenConnections())
