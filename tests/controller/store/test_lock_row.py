"""Several processes over one row; each has a connection of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import delete

from controller.leadership.ports import HolderNote
from controller.store.database import Database
from controller.store.leadership_tables import locks
from controller.store.lock_row import LockRow
from reconcile.errors import Conflict, Unavailable

NOTE = HolderNote("a", "1", "a:8910", 1.7e9, "1")
OTHER = HolderNote("b", "2", "b:8910", 1.7e9, "1")
AGAIN = replace(NOTE, run_id="3")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Connect = Callable[[], LockRow]


@pytest.fixture
async def connect(shared_database: Callable[[], Database], clock: Clock) -> AsyncIterator[Connect]:
    """Make what another process has."""
    async with AsyncExitStack() as stack:

        def open_lock() -> LockRow:
            lock = LockRow(shared_database(), ttl=15.0, clock=clock)
            stack.callback(lock.close)
            return lock

        yield open_lock


async def test_a_lock_has_one_owner_who_may_renew_it(connect: Connect) -> None:
    a, b = connect(), connect()
    await a.acquire(NOTE)
    await a.acquire(NOTE)

    with pytest.raises(Conflict, match="held by instance a at a:8910 since 2023") as caught:
        await b.acquire(OTHER)
    assert caught.value.code == "lock-held"
    holder = await b.find_holder()
    assert holder is not None
    assert holder.note == NOTE


async def test_nobody_holds_a_new_lock(connect: Connect) -> None:
    assert await connect().find_holder() is None


async def test_a_lock_that_was_given_back_is_free(connect: Connect) -> None:
    a, b = connect(), connect()
    await a.acquire(NOTE)
    await a.release()

    assert await a.find_holder() is None
    await b.acquire(OTHER)


async def test_only_its_holder_gives_a_lock_back(connect: Connect) -> None:
    a, b = connect(), connect()
    await a.acquire(NOTE)
    with pytest.raises(Conflict):
        await b.acquire(OTHER)
    await b.release()

    holder = await a.find_holder()
    assert holder is not None
    assert holder.owner == "a-1"


async def test_an_attempt_that_comes_after_the_release_takes_nothing(connect: Connect) -> None:
    """It waited for the database, and whoever made it has stopped."""
    a = connect()
    await a.acquire(NOTE)
    await a.release()

    with pytest.raises(Conflict):
        await a.acquire(NOTE)
    assert await a.find_holder() is None


async def test_a_lock_is_taken_over_after_it_was_seen_unchanged_for_its_time(
    connect: Connect, clock: Clock
) -> None:
    a, b = connect(), connect()
    await a.acquire(NOTE)
    for _ in range(3):
        with pytest.raises(Conflict):
            await b.acquire(OTHER)
        clock.now += 4.9
    clock.now += 0.4

    await b.acquire(OTHER)

    with pytest.raises(Conflict, match="held by instance b"):
        await a.acquire(NOTE)


async def test_each_renewal_begins_the_time_anew(connect: Connect, clock: Clock) -> None:
    a, b = connect(), connect()
    await a.acquire(NOTE)
    for _ in range(3):
        with pytest.raises(Conflict):
            await b.acquire(OTHER)
        clock.now += 14.0
        await a.acquire(NOTE)


async def test_a_process_that_has_just_started_waits_the_whole_time(connect: Connect, clock: Clock) -> None:
    """It cannot know when the lock was renewed without trusting a clock that somebody may set."""
    await connect().acquire(NOTE)
    clock.now += 3600.0
    b = connect()

    with pytest.raises(Conflict):
        await b.acquire(OTHER)
    clock.now += 15.0
    await b.acquire(OTHER)


async def test_the_time_is_the_longer_one_of_the_holder(
    shared_database: Callable[[], Database], clock: Clock
) -> None:
    a, b = (LockRow(shared_database(), ttl=ttl, clock=clock) for ttl in (60.0, 15.0))
    await a.acquire(NOTE)
    with pytest.raises(Conflict):
        await b.acquire(OTHER)
    clock.now += 59.0
    with pytest.raises(Conflict):
        await b.acquire(OTHER)
    a.close()
    b.close()


async def test_a_restarted_instance_is_another_owner(connect: Connect) -> None:
    """Its stopped predecessor on the same machine could renew otherwise."""
    await connect().acquire(NOTE)

    with pytest.raises(Conflict):
        await connect().acquire(AGAIN)


async def test_of_many_that_come_at_once_one_gets_a_new_lock(connect: Connect) -> None:
    """Each finds no table, and creates it."""
    notes = [HolderNote(name, "1", "", 1.7e9, "1") for name in "abcdef"]
    locks = [connect() for _ in notes]
    answers = await asyncio.gather(
        *(lock.acquire(note) for lock, note in zip(locks, notes, strict=True)), return_exceptions=True
    )

    assert sorted(type(each).__name__ for each in answers) == ["Conflict"] * 5 + ["NoneType"]


async def test_of_two_that_see_a_lock_end_one_gets_it(connect: Connect, clock: Clock) -> None:
    await connect().acquire(NOTE)
    b, c = connect(), connect()
    for lock, note in ((b, OTHER), (c, AGAIN)):
        with pytest.raises(Conflict):
            await lock.acquire(note)
    clock.now += 15.0
    answers = await asyncio.gather(b.acquire(OTHER), c.acquire(AGAIN), return_exceptions=True)

    assert sorted(type(each).__name__ for each in answers) == ["Conflict", "NoneType"]


async def test_a_row_that_somebody_deleted_is_made_anew_and_its_holder_ends(
    connect: Connect, shared_database: Callable[[], Database]
) -> None:
    a, b = connect(), connect()
    await a.acquire(NOTE)
    await asyncio.to_thread(
        shared_database().transact_unfenced, lambda connection: connection.execute(delete(locks))
    )
    with pytest.raises(Unavailable, match="the row of the table leadership_lock is gone"):
        await a.acquire(NOTE)

    await b.acquire(OTHER)
