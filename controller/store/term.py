"""Numbers the active instances of a store, so that what an earlier one still writes fails.

The number is read with a lock in each transaction that writes. So a transaction of the instance before ends
before the next one has its number, and everything that it read later holds.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from controller.leadership.lease import ActiveLease
from controller.store.database import Database
from controller.store.leadership_tables import ROW, prepare, terms

_CURRENT = select(terms.c.term).where(terms.c.id == ROW)


@dataclass(frozen=True, slots=True)
class Fence:
    """Lets an instance write as long as no other one has become active.

    Attributes:
        term: The number of this instance.
    """

    term: int
    lease: ActiveLease

    def check(self, connection: Connection) -> None:
        """Hold the term until the end of a transaction.

        Raises:
            LeaseLost: Another instance is active now.
        """
        term = connection.scalar(_CURRENT.with_for_update(read=True))
        if term != self.term:
            self.lease.revoke(
                f"another instance writes to the database: its term is {term}, ours {self.term}"
            )
        self.lease.check()


def begin_term(database: Database, lease: ActiveLease, *, owner: str, now: float) -> Fence:
    """Become the next active instance of a store, and let only that one write; blocks.

    It waits for what the instance before is writing.

    Args:
        database: Of the store.
        lease: Of this process, which must be active.
        owner: Of the lock.
        now: UTC seconds since 1970.

    Raises:
        LeaseLost: This process is not active any more.
    """
    prepare(database, terms)

    def begin(connection: Connection) -> int:
        before = connection.scalar(_CURRENT.with_for_update()) or 0
        lease.check()
        begun = {"term": before + 1, "owner": owner, "since": now}
        connection.execute(update(terms).where(terms.c.id == ROW).values(begun))
        lease.check()
        return int(before) + 1

    fence = Fence(database.transact(begin), lease)
    database.fence, database.before_commit = fence.check, lease.check
    return fence
