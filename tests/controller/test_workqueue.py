"""The work queue, by example in virtual time and as a state machine; what a key means is not covered here."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.workqueue import MAX_BACK_OFF, WorkQueue

pytestmark = pytest.mark.looptime


async def test_a_key_that_waits_is_given_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("a")

    assert await queue.take() == "a"
    assert len(queue) == 0


async def test_a_key_added_while_held_is_given_again_after_its_release() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.take()
    queue.add(key)
    assert len(queue) == 0, "nobody else may hold it meanwhile"

    queue.done(key)

    assert await queue.take() == "a"


async def test_fresh_keys_go_before_routine_ones() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_routine("sweep")
    queue.add("event")

    assert [await queue.take(), await queue.take()] == ["event", "sweep"]


async def test_urgent_keys_go_before_all_others_also_after_a_wait() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.again_urgent(await queue.take(), 1.0)
    queue.add("b")
    queue.add("c")
    queue.add_urgent("c")
    await asyncio.sleep(1.5)

    assert [await queue.take() for _ in range(3)] == ["c", "a", "b"]


async def test_a_sweep_that_meets_a_held_key_has_it_looked_at_again() -> None:
    """The sweep has noted its new version: nobody would tell of it once more."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.take()
    queue.add_routine(key)
    queue.done(key)

    assert await queue.take() == "a"


async def test_a_routine_key_that_an_event_names_becomes_fresh() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b"):
        queue.add_routine(key)
    queue.add("b")

    assert [await queue.take(), await queue.take()] == ["b", "a"]


async def test_a_key_comes_back_after_the_time_it_asked_for() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.again(await queue.take(), 7.0)
    begun = loop.time()

    assert await queue.take() == "a"
    assert loop.time() - begun == pytest.approx(7.0)


async def test_an_event_cuts_the_waiting_time_short() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.again(await queue.take(), 60.0)
    begun = loop.time()
    queue.add("a")

    assert await queue.take() == "a"
    assert loop.time() == begun
    queue.done("a")
    queue.close()


async def test_a_sweep_does_not_cut_a_back_off_short() -> None:
    """A registry that fails would otherwise be asked again at each sweep."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.back_off(await queue.take())
    queue.add_routine("a")

    assert len(queue) == 0
    queue.close()


async def test_back_off_grows_and_is_forgotten_after_success() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waits = []
    for _ in range(12):
        queue.add("a")
        waits.append(queue.back_off(await queue.take()))
    queue.add("a")
    queue.done(await queue.take())
    queue.add("a")
    after_success = queue.back_off(await queue.take())
    queue.close()

    assert 0.25 <= waits[0] <= 0.5
    assert waits[3] > waits[0]
    assert MAX_BACK_OFF / 2 <= waits[-1] <= MAX_BACK_OFF
    assert after_success <= 0.5


async def test_a_key_is_not_lost_with_a_waiter_that_is_cancelled_as_it_arrives() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first = asyncio.create_task(queue.take())
    second = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()

    assert await second == "a"
    with pytest.raises(asyncio.CancelledError):
        await first


KEYS = st.sampled_from("abcd")


class NoKeyIsLostOrHeldTwice(RuleBasedStateMachine):
    """Whatever is done to the queue, a key that was added is given, and to one holder at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.queue: WorkQueue[str] = WorkQueue()
        self.held: set[str] = set()
        self.owed: set[str] = set()

    def teardown(self) -> None:
        self.queue.close()
        self.loop.close()

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owed.add(key)

    @rule(key=KEYS)
    def add_routine(self, key: str) -> None:
        self.queue.add_routine(key)
        self.owed.add(key)

    @rule(key=KEYS)
    def add_urgent(self, key: str) -> None:
        self.queue.add_urgent(key)
        self.owed.add(key)

    @precondition(lambda self: self.owed - self.held)
    @rule()
    def take(self) -> None:
        key = self.loop.run_until_complete(asyncio.wait_for(self.queue.take(), 1.0))
        assert key not in self.held
        assert key in self.owed
        self.held.add(key)
        self.owed.discard(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.queue.done(key)
        self.held.discard(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))

        async def release() -> None:
            self.queue.again(key, 0.0)
            await asyncio.sleep(0.001)

        self.loop.run_until_complete(release())
        self.held.discard(key)
        self.owed.add(key)

    @invariant()
    def it_holds_what_was_taken(self) -> None:
        assert len(self.queue) == len(self.owed - self.held)


TestNoKeyIsLostOrHeldTwice = NoKeyIsLostOrHeldTwice.TestCase
TestNoKeyIsLostOrHeldTwice.settings = settings(max_examples=50, deadline=None)
