"""What an instance writes that is not the active one any more fails."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select

from controller.leadership.lease import ActiveLease, lease_without_lock
from controller.store.database import Database
from controller.store.leadership_tables import locks, terms
from controller.store.location import Location
from controller.store.opening import open_database, open_store
from controller.store.schema import LEADERSHIP_TABLES
from controller.store.term import Fence, begin_term
from reconcile.errors import LeaseLost
from reconcile.lease import LeaseTimes

_metadata = MetaData()
things = Table("things", _metadata, Column("id", Integer, primary_key=True, autoincrement=False))


@pytest.fixture
async def connect(shared_database: Callable[[], Database]) -> Callable[[], Database]:
    await shared_database().write(_metadata.create_all)
    return shared_database


async def begin(database: Database, owner: str, lease: ActiveLease | None = None) -> Fence:
    held = lease or lease_without_lock()
    return await asyncio.to_thread(begin_term, database, held, owner=owner, now=1.7e9)


def write(number: int) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(insert(things).values(id=number))

    return work


async def count(database: Database) -> int:
    return await database.read(
        lambda connection: connection.scalar(select(func.count()).select_from(things)) or 0
    )


async def test_each_active_instance_has_the_next_term(connect: Callable[[], Database]) -> None:
    a, b = connect(), connect()

    assert (await begin(a, "a")).term == 1
    assert (await begin(b, "b")).term == 2
    row = await b.read(lambda connection: connection.execute(select(terms)).mappings().one())
    assert dict(row) == {"id": 1, "term": 2, "owner": "b", "since": 1.7e9}


async def test_an_earlier_instance_reads_and_does_not_write(connect: Callable[[], Database]) -> None:
    a, b = connect(), connect()
    fence = await begin(a, "a")
    await a.write(write(1))
    await begin(b, "b")

    with pytest.raises(LeaseLost, match="its term is 2, ours 1"):
        await a.write(write(2))
    assert fence.lease.lost
    await b.write(write(3))
    assert await count(a) == 2


async def test_what_is_written_when_the_lease_ends_is_rolled_back(connect: Callable[[], Database]) -> None:
    database, lease = connect(), lease_without_lock()
    await begin(database, "a", lease)

    def work(connection: Connection) -> None:
        write(1)(connection)
        lease.revoke("the lock could not be renewed")

    with pytest.raises(LeaseLost, match="could not be renewed"):
        await database.write(work)
    assert await count(database) == 0


async def test_a_term_does_not_begin_without_a_lease(connect: Callable[[], Database]) -> None:
    a, b = connect(), connect()
    await begin(a, "a")

    with pytest.raises(LeaseLost):
        await begin(b, "b", ActiveLease(LeaseTimes(15.0, 5.0)))
    await a.write(write(1))


async def test_a_term_waits_for_what_the_instance_before_is_writing(connect: Callable[[], Database]) -> None:
    """Else the new one would read a journal that a row is missing in."""
    a, b = connect(), connect()
    await begin(a, "a")
    is_writing, may_end = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        write(1)(connection)
        is_writing.set()
        may_end.wait(20)

    writing = asyncio.ensure_future(a.write(work))
    await asyncio.to_thread(is_writing.wait, 20)
    beginning = asyncio.ensure_future(begin(b, "b"))
    done, _ = await asyncio.wait([beginning], timeout=0.3)
    assert not done
    may_end.set()
    await writing
    await beginning

    assert await count(b) == 1


def test_the_schema_knows_the_tables_that_are_there_before_it() -> None:
    assert {terms.name, locks.name} == LEADERSHIP_TABLES


async def test_a_database_in_which_instances_only_agreed_on_the_active_one_gets_its_schema(
    tmp_path: Path,
) -> None:
    location = Location(tmp_path / "state" / "store.db")
    async with open_database(location, run_id="run-1") as database:
        await begin(database, "a")
        store = await open_store(database, journal_key=None)

        assert await store.records.list_images() == ()
