"""What becomes of a process's work when its lock is lost, and of its lock when the work ends."""

import asyncio
from dataclasses import dataclass, field

import pytest

from controller.assembly.leadership import Leadership, open_leadership
from controller.config import Config
from controller.leadership.ports import Holder, HolderNote
from controller.process import Process
from controller.store.location import location_from_url
from reconcile.errors import Conflict, Invalid, LeaseLost, Unavailable
from reconcile.lease import LeaseTimes

pytestmark = pytest.mark.looptime

TIMES = LeaseTimes(15.0, 5.0)
NOTE = HolderNote("a", "1", "a:8910", 0.0, "1")


@dataclass
class Service:
    """Gives the lock until it does not any more."""

    gives_until: float = float("inf")
    is_held_until: float = 0.0
    takes: float = 0.0
    """Seconds after which it has given the lock and answers."""
    calls: list[str] = field(default_factory=list)

    async def acquire(self, note: HolderNote) -> None:
        now = asyncio.get_running_loop().time()
        if now < self.is_held_until:
            raise Conflict("lock", "lock-held", "instance b holds it")
        if now >= self.gives_until:
            raise Unavailable("lock", "timeout", "no answer")
        self.calls.append("acquire")
        await asyncio.sleep(self.takes)

    async def release(self) -> None:
        self.calls.append("release")

    async def find_holder(self) -> Holder | None:
        return None


def leadership(service: Service | None, *, patience: float = 0.0) -> Leadership:
    clock = asyncio.get_running_loop().time
    return Leadership(TIMES, NOTE, service, patience=patience, clock=clock)


def nothing() -> None:
    """Take note of nothing."""


async def test_a_database_server_that_is_away_does_not_keep_a_process_from_answering_health_checks() -> None:
    config = Config.model_construct(
        uuid="a", locket_address=None, admin_address=None, lock_ttl=15.0, lock_retry_interval=5.0
    )
    location = location_from_url("postgresql://docker_cache@127.0.0.1:1/docker_cache")

    async with open_leadership(config, location, Process("run-1"), run_id="run-1") as opened:
        assert not opened.standing.position.is_active


async def test_work_that_ends_gives_the_lock_back_and_cannot_go_on() -> None:
    service = Service()
    held = leadership(service)
    await held.wait()
    async with held.holding(nothing):
        await asyncio.sleep(60.0)
        held.lease.check()

    assert service.calls == ["acquire"] * 12 + ["release"]
    with pytest.raises(LeaseLost, match="stopping"):
        held.lease.check()


async def test_work_is_cancelled_when_the_lock_is_lost() -> None:
    service, losses = Service(gives_until=20.0), list[float]()
    held = leadership(service)
    await held.wait()
    clock = asyncio.get_running_loop().time
    with pytest.raises(LeaseLost, match="could not be renewed: lock: timeout: no answer"):
        async with held.holding(lambda: losses.append(clock())):
            await asyncio.sleep(3600.0)

    assert losses == [20.0]
    assert clock() == 20.0
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr] # a test is a task
    assert held.standing.position.obstacle.startswith("it is not active any more")


async def test_work_is_cancelled_although_what_is_told_of_the_loss_fails() -> None:
    """No thread can be started for it on a machine that has too many of them."""
    held = leadership(Service(gives_until=20.0))
    await held.wait()
    failures = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def start_thread() -> None:
        raise RuntimeError("can't start new thread")

    with pytest.raises(LeaseLost):
        async with held.holding(start_thread):
            await asyncio.sleep(3600.0)

    assert [str(each) for each in failures] == ["can't start new thread"]


async def test_a_lost_lock_is_said_whatever_the_work_ends_with() -> None:
    """Loops whose writes are refused end with errors of their own."""
    held = leadership(Service(gives_until=20.0))
    await held.wait()

    async def work() -> None:
        try:
            await asyncio.sleep(3600.0)
        finally:
            raise ValueError("in the middle of something")

    with pytest.raises(LeaseLost) as caught:
        async with held.holding(nothing):
            await work()
    assert isinstance(caught.value.__cause__, ValueError)


async def test_work_that_fails_by_itself_gives_the_lock_back() -> None:
    service = Service()
    held = leadership(service)
    await held.wait()
    with pytest.raises(Invalid):
        async with held.holding(nothing):
            raise Invalid("store", "schema-newer", "written by a newer version")

    assert service.calls[-1] == "release"


async def test_work_that_is_cancelled_from_outside_gives_the_lock_back() -> None:
    service = Service()
    held = leadership(service)
    await held.wait()

    async def work() -> None:
        async with held.holding(nothing):
            await asyncio.sleep(3600.0)

    working = asyncio.ensure_future(work())
    await asyncio.sleep(1.0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert service.calls == ["acquire", "release"]


async def test_a_process_that_begins_anew_leaves_its_lock_to_the_next_one() -> None:
    service = Service()
    held = leadership(service)
    await held.wait()
    async with held.holding(nothing):
        held.keep_for_next()

    assert service.calls == ["acquire"]
    with pytest.raises(LeaseLost, match="begins anew"):
        held.lease.check()


async def test_a_standby_that_is_stopped_gives_back_what_an_attempt_may_have_taken() -> None:
    service = Service(is_held_until=3600.0)
    waiting = asyncio.ensure_future(leadership(service).wait())
    await asyncio.sleep(12.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert service.calls == ["release"]


async def test_a_standby_says_why_it_cannot_take_a_lock_that_nobody_else_is_known_to_hold() -> None:
    service = Service(gives_until=0.0)
    held = leadership(service)
    waiting = asyncio.ensure_future(held.wait())
    await asyncio.sleep(1.0)
    assert held.standing.position.obstacle == "it cannot take the lock: lock: timeout: no answer"

    service.gives_until = float("inf")
    await waiting
    assert "cannot take" not in held.standing.position.obstacle


async def test_a_lock_that_was_taken_too_slowly_to_be_of_use_is_given_back() -> None:
    """The machine slept during the attempt."""
    service, clock = Service(takes=1.0), asyncio.get_running_loop().time
    held = Leadership(TIMES, NOTE, service, clock=lambda: clock() * 100)
    with pytest.raises(LeaseLost):
        await held.wait()

    assert service.calls == ["acquire", "release"]


async def test_an_operator_gives_back_what_an_attempt_without_an_answer_may_have_taken() -> None:
    service = Service(takes=60.0)
    with pytest.raises(Unavailable, match="no answer within 5 s"):
        await leadership(service).take()

    assert service.calls == ["acquire", "release"]


async def test_an_operator_who_gives_up_gives_back_what_an_attempt_may_have_taken() -> None:
    service = Service(takes=60.0)
    taking = asyncio.ensure_future(leadership(service).take())
    await asyncio.sleep(1.0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking

    assert service.calls == ["acquire", "release"]


async def test_without_a_lock_the_work_is_active_from_the_start() -> None:
    held = leadership(None)
    await held.wait()
    await held.take()
    async with held.holding(nothing):
        held.lease.check()

    held.lease.check()
    assert not held.lease.has_end


async def test_an_operator_is_refused_while_another_process_holds_the_lock() -> None:
    with pytest.raises(Conflict, match="instance b holds it"):
        await leadership(Service(is_held_until=3600.0)).take()
    assert asyncio.get_running_loop().time() == 0.0


async def test_an_operator_waits_for_the_lock_of_a_process_that_crashed() -> None:
    """The row of a shared database says only after its time that nobody renews it."""
    held = leadership(Service(is_held_until=16.0), patience=20.0)
    await held.take()

    held.lease.check()
    with pytest.raises(Conflict):
        await leadership(Service(is_held_until=3600.0), patience=20.0).take()
