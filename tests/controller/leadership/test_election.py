"""Two and three elections over one lock, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from controller.leadership.election import Election
from controller.leadership.lease import ActiveLease
from controller.leadership.ports import Holder, HolderNote
from reconcile.errors import Conflict, LeaseLost, Unavailable
from reconcile.lease import LeaseTimes

pytestmark = pytest.mark.looptime

TIMES = LeaseTimes(15.0, 5.0)


@dataclass
class Row:
    """The lock of a service, which is free when its time to live has passed."""

    now: Callable[[], float]
    note: HolderNote | None = None
    renewed_at: float = 0.0

    def take(self, note: HolderNote) -> None:
        held = self.note
        if held is not None and held.owner != note.owner and self.now() < self.renewed_at + TIMES.ttl:
            raise Conflict("lock", "lock-held", held.owner)
        self.note, self.renewed_at = note, self.now()


@dataclass
class Service:
    """One process's way to the lock, which can be cut."""

    row: Row
    delay: float = 0.0
    is_cut: bool = False
    answers_are_lost: bool = False
    owner: str = ""
    attempts: list[float] = field(default_factory=list)

    async def acquire(self, note: HolderNote) -> None:
        self.attempts.append(self.row.now())
        self.owner = note.owner
        if self.is_cut:
            await asyncio.sleep(3600)
        self.row.take(note)
        if self.answers_are_lost:
            raise Unavailable("lock", "timeout", "no answer")
        await asyncio.sleep(self.delay)

    async def release(self) -> None:
        if self.is_cut:
            await asyncio.sleep(3600)
        if self.row.note is not None and self.row.note.owner == self.owner:
            self.row.note = None

    async def find_holder(self) -> Holder | None:
        note = self.row.note
        return None if note is None else Holder(note.owner, note)


@dataclass
class Instance:
    service: Service
    lease: ActiveLease
    election: Election


class World:
    def __init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.row = Row(self.clock)

    def instance(self, name: str) -> Instance:
        service = Service(self.row)
        lease = ActiveLease(TIMES, clock=self.clock, wall_clock=self.clock)
        note = HolderNote(name, "run", f"{name}:8910", 0.0, "1")
        return Instance(service, lease, Election(service, lease, note, wall_clock=lambda: 1.7e9))


@pytest.fixture
async def world() -> World:
    return World()


@asynccontextmanager
async def keeping(instance: Instance) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.ensure_future(instance.election.keep())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, LeaseLost):
            await task


async def test_one_of_two_becomes_active_and_the_other_says_who_it_is(world: World) -> None:
    a, b = world.instance("a"), world.instance("b")
    await a.election.wait()

    with pytest.raises(Conflict):
        await b.election.take()

    assert a.lease.is_active
    assert not b.lease.is_active
    assert b.election.holder is not None
    assert str(b.election.holder) == "instance a at a:8910 since 2023-11-14T22:13:20+00:00"


async def test_a_lock_is_renewed_at_each_interval_and_the_lease_never_ends(world: World) -> None:
    a = world.instance("a")
    await a.election.wait()
    async with keeping(a) as task:
        for _ in range(100):
            await asyncio.sleep(1.0)
            assert a.lease.remaining() >= 7.0

        assert not task.done()
    assert a.service.attempts[:4] == [0.0, 5.0, 10.0, 15.0]


async def test_renewals_that_take_nearly_their_whole_time_keep_the_lease(world: World) -> None:
    a = world.instance("a")
    a.service.delay = 4.9
    await a.election.wait()
    async with keeping(a) as task:
        for _ in range(100):
            await asyncio.sleep(0.5)
            assert a.lease.is_active

        assert not task.done()


async def test_the_first_renewal_that_fails_ends_it(world: World) -> None:
    a = world.instance("a")
    await a.election.wait()
    async with keeping(a) as task:
        a.service.is_cut = True
        await asyncio.sleep(9.9)
        a.lease.check()
        await asyncio.wait([task])

        assert world.clock() == 10.0
        assert not a.lease.is_active
        with pytest.raises(
            LeaseLost, match="could not be renewed: leadership: timeout: no answer within 5 s"
        ):
            task.result()


async def test_a_stolen_lock_ends_it_although_the_lease_is_still_valid(world: World) -> None:
    a, b = world.instance("a"), world.instance("b")
    await a.election.wait()
    async with keeping(a) as task:
        world.row.note = None
        await b.election.take()
        await asyncio.wait([task])

    assert "lock-held" in a.lease.lost


async def test_a_renewal_that_took_effect_without_an_answer_ends_it(world: World) -> None:
    a = world.instance("a")
    await a.election.wait()
    async with keeping(a) as task:
        a.service.answers_are_lost = True
        await asyncio.wait([task])

    assert not a.lease.is_active


async def test_a_process_that_slept_through_its_time_does_not_renew(world: World) -> None:
    """The service lets it: the same owner may always renew."""
    a = world.instance("a")
    await a.election.wait()
    a.lease.clock = lambda: world.clock() + 60.0  # the machine was asleep

    with pytest.raises(LeaseLost, match="was not renewed in time"):
        await a.election.keep()


async def test_a_standby_takes_over_after_a_crash_within_the_time_to_live_and_an_interval(
    world: World,
) -> None:
    a, b = world.instance("a"), world.instance("b")
    await a.election.wait()
    await asyncio.sleep(0.1)

    await b.election.wait()

    assert b.lease.is_active
    assert not a.lease.is_active
    assert world.clock() <= TIMES.ttl + TIMES.retry_interval


async def test_a_standby_takes_over_at_its_next_attempt_after_a_release(world: World) -> None:
    a, b = world.instance("a"), world.instance("b")
    await a.election.wait()
    waiting = asyncio.ensure_future(b.election.wait())
    await asyncio.sleep(1.0)
    await a.election.release()
    await waiting

    assert not a.lease.is_active
    assert world.clock() == 5.0


async def test_an_attempt_of_a_standby_that_took_effect_without_an_answer_is_used_by_the_next(
    world: World,
) -> None:
    a = world.instance("a")
    a.service.answers_are_lost = True
    waiting = asyncio.ensure_future(a.election.wait())
    await asyncio.sleep(1.0)
    assert not a.lease.is_active
    assert a.election.last_error == "lock: timeout: no answer"
    a.service.answers_are_lost = False
    await waiting

    assert a.lease.remaining() == 12.0
    assert a.election.last_error == ""


async def test_a_standby_waits_for_a_service_that_does_not_answer(world: World) -> None:
    a = world.instance("a")
    a.service.is_cut = True
    waiting = asyncio.ensure_future(a.election.wait())
    await asyncio.sleep(600.0)
    a.service.is_cut = False
    await waiting

    assert a.lease.is_active
    assert world.clock() <= 605.0


async def test_a_release_that_gets_no_answer_does_not_keep_the_process(world: World) -> None:
    a = world.instance("a")
    await a.election.wait()
    a.service.is_cut = True
    await a.election.release()

    assert world.clock() == 3.0
    assert not a.lease.is_active


async def test_of_three_there_is_never_more_than_one_whatever_is_cut(world: World) -> None:
    """Each process ends when its lease does, and begins anew as another one."""
    log: list[str] = []

    async def live(name: str) -> None:
        for run in range(100):
            instance = world.instance(f"{name}{run}")
            instances[name] = instance
            instance.service.is_cut = name in cut
            await instance.election.wait()
            log.append(name)
            with suppress(LeaseLost):
                await instance.election.keep()

    instances: dict[str, Instance] = {}
    cut: set[str] = set()
    tasks = [asyncio.ensure_future(live(name)) for name in "abc"]
    try:
        for second in range(2400):
            await asyncio.sleep(0.25)
            active = [name for name, each in instances.items() if each.lease.is_active]
            assert len(active) <= 1
            if second % 160 == 80 and active:
                cut = set(active)
            for name, each in instances.items():
                each.service.is_cut = name in cut
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert len(log) > 5
