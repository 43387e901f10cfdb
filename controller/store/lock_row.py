"""A lock in a database that several instances share, for platforms without Locket.

The holder changes the row at each renewal. Another instance takes it over when it has seen the row unchanged
for the time to live, by its own clock that never stands still: neither the database's clock, which somebody
may set, nor anybody else's decides. This is as Kubernetes and Locket's expiry do it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, RowMapping, select, update
from sqlalchemy.exc import NoResultFound

from controller.leadership.lease import boot_time
from controller.leadership.ports import Holder, HolderNote, parse_holder
from controller.store.database import Database
from controller.store.leadership_tables import ROW, locks, prepare
from reconcile.errors import Conflict, ErrorCode, Unavailable

T = TypeVar("T")

_CURRENT = select(locks).where(locks.c.id == ROW)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A state of the row, and when it was first seen."""

    owner: str
    renewals: int
    at: float


class LockRow:
    """The lock of a store.

    Args:
        database: A connection of its own: a renewal waits for no other transaction of this process.
        ttl: Seconds without a renewal until another owner can have it.
        clock: Gives seconds that go on while the machine sleeps.
    """

    def __init__(self, database: Database, *, ttl: float, clock: Callable[[], float] = boot_time) -> None:
        self._database = database
        self._ttl = ttl
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lock-row")
        self._is_prepared = False
        self._seen: _Seen | None = None
        self._owner = ""
        self._is_released = False

    async def acquire(self, note: HolderNote) -> None:
        """Take the lock for the note's owner, or renew it.

        Raises:
            Conflict: `lock-held`.
            Unavailable: The database did not answer.
        """
        self._owner = note.owner
        await self._run(lambda connection: self._take(connection, note))

    async def release(self) -> None:
        """Give the lock back, where this process holds it.

        Raises:
            Unavailable: The database did not answer.
        """
        self._is_released = True  # what still waits for its turn must not take it again
        if self._owner:
            await self._run(self._free)

    async def find_holder(self) -> Holder | None:
        """Find who holds the lock.

        Raises:
            Unavailable: The database did not answer.
        """
        row = await self._run(_read)
        return parse_holder(row["owner"], row["value"]) if row["owner"] else None

    def close(self) -> None:
        """Begin no further transaction."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        # Whoever gives up waiting is not kept until the transaction has ended.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if not self._is_prepared:
            prepare(self._database, locks)
            self._is_prepared = True
        try:
            return self._database.transact_unfenced(work)
        except NoResultFound as error:  # somebody has deleted the row, or has restored the database
            self._is_prepared = False
            detail = f"{self._database.name}: the row of the table {locks.name} is gone"
            raise Unavailable("store", "leadership", detail) from error

    def _take(self, connection: Connection, note: HolderNote) -> None:
        if self._is_released:
            raise Conflict("store", ErrorCode.LOCK_HELD, "this process has given it back")
        row = _read(connection, locking=True)
        if row["owner"] not in {"", note.owner} and not self._is_over(row):
            holder = parse_holder(row["owner"], row["value"])
            raise Conflict("store", ErrorCode.LOCK_HELD, f"{self._database.name}: it is held by {holder}")
        taken = {
            "owner": note.owner,
            "value": note.as_text(),
            "ttl_ms": int(self._ttl * 1000),
            "renewals": row["renewals"] + 1,
        }
        connection.execute(update(locks).where(locks.c.id == ROW).values(taken))

    def _is_over(self, row: RowMapping) -> bool:
        """Whether the lock of another owner was not renewed in time, as far as this process has seen."""
        now, state = self._clock(), (row["owner"], row["renewals"])
        if self._seen is None or (self._seen.owner, self._seen.renewals) != state:
            self._seen = _Seen(*state, now)
        ttl: float = max(self._ttl, row["ttl_ms"] / 1000)
        return now - self._seen.at >= ttl

    def _free(self, connection: Connection) -> None:
        row = _read(connection, locking=True)
        if row["owner"] == self._owner:
            freed = {"owner": "", "value": "", "renewals": row["renewals"] + 1}
            connection.execute(update(locks).where(locks.c.id == ROW).values(freed))


def _read(connection: Connection, *, locking: bool = False) -> RowMapping:
    return connection.execute(_CURRENT.with_for_update() if locking else _CURRENT).mappings().one()
