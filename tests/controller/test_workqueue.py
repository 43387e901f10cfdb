# ruff: noqa: N802 - names carry the numbers of known cases
"""The work queue, by example in virtual time and as a state machine; what a key means is not covered here."""

import asyncio
import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.turns import CALM, MAX_TURNS
from controller.workqueue import LONGEST_BACK_OFF, Priority, PriorityLines, WorkQueue
from tests.examples import examples

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


class NothingBesideFirst(PriorityLines[str]):
    """Lines that let nothing go while the key "first" is held."""

    def __init__(self) -> None:
        super().__init__()
        self._is_held = False

    def take(self) -> str | None:
        key = None if self._is_held else super().take()
        self._is_held = self._is_held or key == "first"
        return key

    def release(self, key: str) -> None:
        self._is_held = self._is_held and key != "first"


async def test_one_release_may_let_several_keys_be_taken() -> None:
    queue: WorkQueue[str] = WorkQueue(NothingBesideFirst())
    queue.add("first")
    first = await queue.take()
    async with asyncio.timeout(1.0), asyncio.TaskGroup() as takers:
        taken = [takers.create_task(queue.take()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.add("second")
        queue.add("third")
        await asyncio.sleep(0)
        queue.done(first)

    assert {each.result() for each in taken} == {"second", "third"}


async def test_fresh_keys_go_before_routine_ones() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("sweep", Priority.ROUTINE)
    queue.add("event")

    assert [await queue.take(), await queue.take()] == ["event", "sweep"]


async def test_urgent_keys_go_before_all_others_also_after_a_wait() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.again(await queue.take(), 1.0, Priority.URGENT)
    queue.add("b")
    queue.add("c")
    queue.add("c", Priority.URGENT)
    await asyncio.sleep(1.5)

    assert [await queue.take() for _ in range(3)] == ["c", "a", "b"]


async def test_a_held_key_that_a_sweep_adds_waits_again_after_its_release() -> None:
    """The sweep has noted its new version: nobody would tell of it once more."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.take()
    queue.add(key, Priority.ROUTINE)
    queue.done(key)

    assert await queue.take() == "a"


async def test_a_routine_key_that_an_event_names_becomes_fresh() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b"):
        queue.add(key, Priority.ROUTINE)
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
    queue.add("a", Priority.ROUTINE)

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
    assert LONGEST_BACK_OFF / 2 <= waits[-1] <= LONGEST_BACK_OFF
    assert after_success <= 0.5


async def test_what_a_failed_pass_has_caused_itself_does_not_shorten_its_back_off() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    for _ in range(5):
        key = await queue.take()
        queue.add(key, Priority.URGENT)
        queue.back_off(key, lambda _: 2.0)
    await queue.take()

    assert loop.time() == pytest.approx(10.0)


async def test_what_is_expected_does_not_shorten_a_wait_also_while_the_key_is_held() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.take()
    queue.add(key, Priority.ROUTINE)
    queue.again(key, 5.0)
    queue.add(key, Priority.ROUTINE)
    await queue.take()

    assert loop.time() == pytest.approx(5.0)


async def test_a_key_that_is_added_later_comes_at_its_time_or_when_it_is_added() -> None:
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b"):
        queue.add_later(key, 5.0)
    queue.add_later("c", 0.0)
    queue.add("b")

    assert [await queue.take(), await queue.take(), loop.time()] == ["c", "b", 0.0]
    assert (await queue.take(), loop.time()) == ("a", 5.0)


class TestBusyKeys:
    """Whatever brings a key back at once, again and again, does so ever more seldom."""

    @pytest.mark.parametrize(
        ("priority", "most"), [(Priority.FRESH, MAX_TURNS + 10), (Priority.URGENT, MAX_TURNS + 62)]
    )
    async def test_a_key_whose_passes_bring_it_back_is_taken_a_limited_number_of_times_in_a_minute(
        self, priority: Priority, most: int
    ) -> None:
        assert MAX_TURNS < await turns_in_a_minute(priority, lambda queue, key: queue.done(key)) <= most

    async def test_the_same_holds_for_a_key_that_asks_to_come_back_at_once(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")

        assert await taken_in_a_minute(queue, lambda key: queue.again(key, 0.0)) <= MAX_TURNS + 10

    async def test_many_busy_keys_are_all_delayed(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        for number in range(100):
            queue.add(f"key-{number}")

        def bring_back(key: str) -> None:
            queue.done(key)
            queue.add(key)

        assert await taken_in_a_minute(queue, bring_back) <= 100 * (MAX_TURNS + 10)

    async def test_what_happens_meanwhile_does_not_end_the_delay(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        await make_busy(queue)
        queue.add("a", Priority.URGENT)
        assert len(queue) == 0

        assert await queue.take() == "a"

    async def test_a_key_that_comes_back_after_the_shortest_pause_is_never_delayed(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")

        assert await taken_in_a_minute(queue, lambda key: queue.again(key, CALM)) == MINUTE / CALM

    async def test_a_key_that_was_busy_once_is_not_delayed_after_a_calm_time(self) -> None:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        await make_busy(queue)
        queue.done(await queue.take())
        await asyncio.sleep(MINUTE)
        begun = loop.time()
        for _ in range(MAX_TURNS):
            queue.add("a")
            queue.done(await queue.take())

        assert loop.time() == begun

    async def test_it_is_said_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await taken_in_a_minute(queue, lambda key: queue.again(key, 0.0))

        (line,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert line["message"] == "docker-cache.workqueue.delayed-busy-key"
        assert (line["level"], line["data"]["key"]) == ("error", "a"), "lager's levels know no warning"


MINUTE = 60.0


async def make_busy(queue: WorkQueue[str]) -> None:
    """Bring a key back at once until it is delayed."""
    queue.add("a")
    while len(queue):
        queue.done(await queue.take())
        queue.add("a")


async def turns_in_a_minute(priority: Priority, release: Callable[[WorkQueue[str], str], None]) -> int:
    """Count how often a key that is added again while it is held is taken in a minute."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", priority)

    def bring_back(key: str) -> None:
        queue.add(key, priority)
        release(queue, key)

    return await taken_in_a_minute(queue, bring_back)


async def taken_in_a_minute(queue: WorkQueue[str], release: Callable[[str], None]) -> int:
    """Count how often keys are taken in a minute."""
    taken = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MINUTE):
            while True:
                key = await queue.take()
                taken += 1
                release(key)
                await asyncio.sleep(0)
    queue.close()
    return taken


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


async def test_Y15_an_app_in_mid_migration_that_fails_once_goes_before_all_that_wait() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("app", Priority.URGENT)
    queue.back_off(await queue.take())
    for number in range(100):
        queue.add(f"other-{number}")
    await asyncio.sleep(1.0)

    assert await queue.take() == "app"


async def test_a_key_that_a_failed_pass_found_urgent_comes_back_as_urgent() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("app")
    queue.back_off(await queue.take(), priority=Priority.URGENT)
    queue.add("other")
    await asyncio.sleep(1.0)

    assert await queue.take() == "app"


async def test_a_key_keeps_the_priority_at_which_it_was_added_while_held() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("app")
    key = await queue.take()
    for priority in (Priority.URGENT, Priority.ROUTINE):
        queue.add(key, priority)
    queue.add("other")
    queue.done(key)

    assert [await queue.take(), await queue.take()] == ["app", "other"]


async def test_a_key_is_no_longer_urgent_after_it_was_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("app", Priority.URGENT)
    key = await queue.take()
    queue.add(key, Priority.ROUTINE)
    queue.done(key)
    queue.add("other")

    assert [await queue.take(), await queue.take()] == ["other", "app"]


async def test_a_back_off_is_as_long_as_the_caller_says() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")

    assert [queue.back_off(await queue.take(), lambda failures: failures * 2.0) for _ in range(3)] == [
        2,
        4,
        6,
    ]
    queue.close()


KEYS = st.sampled_from("abcd")
PRIORITIES = st.sampled_from(Priority)
AN_HOUR = 3600.0


class WhatIsAddedIsTakenByItsPriority(RuleBasedStateMachine):
    """No key is lost, none is held twice, and each waits at the highest priority since it was last done.

    The model beside the queue: of each key that is not forgotten its priority, and the keys that wait in
    the order in which they came to their priority.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.queue: WorkQueue[str] = WorkQueue()
        self.priorities: dict[str, Priority] = {}
        self.waiting: list[str] = []
        self.held: set[str] = set()
        self.added_while_held: dict[str, Priority] = {}
        self.timed: set[str] = set()

    def teardown(self) -> None:
        self.queue.close()
        self.loop.close()

    def runs(self, act: Callable[[], object]) -> None:
        """Do something on the loop, as every caller of the queue does."""

        async def run() -> None:
            act()

        self.loop.run_until_complete(run())

    def waits(self, key: str, priority: Priority) -> None:
        self.timed.discard(key)
        before = self.priorities.get(key)
        self.priorities[key] = priority if before is None else max(priority, before)
        if key in self.waiting and self.priorities[key] != before:
            self.waiting.remove(key)
        if key not in self.waiting:
            self.waiting.append(key)

    def released(self, key: str) -> bool:
        """Let the model's key wait if it was added while it was held, and tell whether it was."""
        self.held.discard(key)
        added = self.added_while_held.pop(key, None)
        if added is not None:
            self.waits(key, added)
        return added is not None

    def one_of_the_held(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.held)))

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: Priority) -> None:
        self.runs(lambda: self.queue.add(key, priority))
        if key in self.held:
            self.added_while_held[key] = max(priority, self.added_while_held.get(key, Priority.ROUTINE))
        elif key not in self.timed or priority > Priority.ROUTINE:
            self.waits(key, priority)

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        key = self.loop.run_until_complete(asyncio.wait_for(self.queue.take(), 60.0))

        highest = max(self.priorities[each] for each in self.waiting)
        assert key == next(each for each in self.waiting if self.priorities[each] is highest)
        assert key not in self.held
        self.waiting.remove(key)
        self.held.add(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = self.one_of_the_held(data)
        self.runs(lambda: self.queue.done(key))
        del self.priorities[key]
        self.released(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, AN_HOUR]), priority=PRIORITIES)
    def again(self, data: st.DataObject, seconds: float, priority: Priority) -> None:
        key = self.one_of_the_held(data)
        self.runs(lambda: self.queue.again(key, seconds, priority))
        self.priorities[key] = priority
        if self.added_while_held.get(key) is Priority.ROUTINE:  # the wait is no longer for it
            del self.added_while_held[key]
        if not self.released(key):
            self.comes_back(key, seconds)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, AN_HOUR]), priority=PRIORITIES)
    def back_off(self, data: st.DataObject, seconds: float, priority: Priority) -> None:
        key = self.one_of_the_held(data)
        self.runs(lambda: self.queue.back_off(key, lambda _: seconds, priority))
        added = self.added_while_held.pop(key, Priority.ROUTINE)
        self.priorities[key] = max(priority, added, self.priorities[key])
        self.held.discard(key)
        self.comes_back(key, seconds)

    def comes_back(self, key: str, seconds: float) -> None:
        if seconds:
            self.timed.add(key)
        else:
            self.loop.run_until_complete(asyncio.sleep(0.001))
            self.waits(key, self.priorities[key])

    @invariant()
    def what_waits_is_known(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert not self.held & (self.timed | set(self.waiting))


TestWhatIsAddedIsTakenByItsPriority = WhatIsAddedIsTakenByItsPriority.TestCase
TestWhatIsAddedIsTakenByItsPriority.settings = settings(
    max_examples=examples(gate=40, long=200), deadline=None
)
