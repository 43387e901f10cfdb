"""What operators ask of a daemon, over a real store: what outlives the process and what does not."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.control import OperatorControl, is_over
from controller.store.opening import Store
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal
from reconcile.orders import Order
from reconcile.reasons import AppState, Reason
from tests.stores import open_store

PROCESS, OTHER = ProcessGuid("p-1"), ProcessGuid("p-2")
APP, SECOND = AppGuid("app-1"), AppGuid("app-2")
ORDER = Order(Goal.CACHE, since=1.0)
FINAL = [reason for reason in Reason if reason.state not in {AppState.PENDING, AppState.MIGRATING}]
UNDER_WAY = sorted(set(Reason) - set(FINAL))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store/cache.db"


def opened(url: str) -> AbstractAsyncContextManager[Store]:
    return open_store(url, journal_key=None, run_id="run-1")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Open one in memory, for what no other process is to see."""
    async with opened("sqlite://") as store:
        yield store


async def loaded(store: Store, *, start_paused: bool = False) -> OperatorControl:
    control = OperatorControl(store.operations)
    await control.load(start_paused=start_paused)
    return control


@dataclass
class Listener:
    """Remembers what it is told."""

    reported: list[tuple[ProcessGuid, str, str]] = field(default_factory=list)

    def __call__(self, process_guid: ProcessGuid, reason: str, detail: str) -> None:
        self.reported.append((process_guid, reason, detail))


class SlowRecords:
    """Saves what it is told as a store does, and lets whoever told it go away at that moment."""

    def __init__(self, store: Store) -> None:
        self._records = store.operations
        self.has_saved = asyncio.Event()

    async def find_paused(self) -> bool | None:
        return await self._records.find_paused()

    async def list_pins(self) -> frozenset[AppGuid]:
        return await self._records.list_pins()

    async def save_paused(self, *, is_paused: bool) -> None:
        await self._records.save_paused(is_paused=is_paused)
        await self._say()

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        await self._records.pin(app_guids)
        await self._say()

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        await self._records.unpin(app_guids)
        await self._say()

    async def _say(self) -> None:
        self.has_saved.set()
        await asyncio.sleep(0)

    async def cut_off(self, call: Coroutine[object, object, None]) -> None:
        """Make a call, and go away as soon as what it asks for is saved."""
        self.has_saved.clear()
        calling = asyncio.create_task(call)
        await self.has_saved.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling


async def test_what_is_saved_is_in_force_although_the_operator_goes_away(store: Store) -> None:
    """Otherwise it would be only after the next restart."""
    records = SlowRecords(store)
    control = OperatorControl(records)
    await control.load(start_paused=False)

    states = list[tuple[bool, bool]]()
    for call in (control.pause(), control.pin([APP]), control.resume(), control.unpin([APP])):
        await records.cut_off(call)
        states.append((control.is_paused, control.is_pinned(APP)))

    assert states == [(True, False), (True, True), (False, True), (False, False)]


class TestPause:
    def test_before_anything_was_read_nothing_is_begun(self, store: Store) -> None:
        assert OperatorControl(store.operations).is_paused

    @pytest.mark.parametrize("start_paused", [True, False])
    async def test_a_store_that_is_new_begins_as_the_config_says(
        self,
        store: Store,
        start_paused: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        assert (await loaded(store, start_paused=start_paused)).is_paused == start_paused

    @pytest.mark.parametrize("start_paused", [True, False])
    async def test_a_store_that_was_used_goes_on_as_it_was_whatever_the_config_says(
        self,
        url: str,
        start_paused: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        async with opened(url) as store:
            await loaded(store, start_paused=start_paused)
        async with opened(url) as store:
            assert (await loaded(store, start_paused=not start_paused)).is_paused == start_paused

    async def test_a_pause_survives_the_process(self, url: str) -> None:
        async with opened(url) as store:
            await (await loaded(store)).pause()
        async with opened(url) as store:
            assert (await loaded(store)).is_paused

    async def test_so_does_its_end(self, url: str) -> None:
        async with opened(url) as store:
            control = await loaded(store, start_paused=True)
            await control.resume()
            assert not control.is_paused
        async with opened(url) as store:
            assert not (await loaded(store, start_paused=True)).is_paused

    async def test_a_process_for_orders_alone_is_paused_and_leaves_no_trace_of_it(self, url: str) -> None:
        async with opened(url) as store:
            await loaded(store)
        async with opened(url) as store:
            alone = OperatorControl(store.operations)
            await alone.load_for_orders_only()
            assert alone.is_paused
        async with opened(url) as store:
            assert not (await loaded(store)).is_paused

    async def test_a_process_for_orders_alone_does_not_make_a_store_used(self, url: str) -> None:
        async with opened(url) as store:
            await OperatorControl(store.operations).load_for_orders_only()
        async with opened(url) as store:
            assert (await loaded(store, start_paused=True)).is_paused


class TestPins:
    async def test_an_app_is_pinned(self, store: Store) -> None:
        control = await loaded(store)

        await control.pin([APP])

        assert control.is_pinned(APP)
        assert not control.is_pinned(SECOND)

    async def test_pins_survive_the_process(self, url: str) -> None:
        async with opened(url) as store:
            await (await loaded(store)).pin([APP, SECOND])
        async with opened(url) as store:
            assert (await loaded(store)).pinned_apps == {APP, SECOND}

    async def test_a_process_for_orders_alone_knows_them(self, url: str) -> None:
        async with opened(url) as store:
            await (await loaded(store)).pin([APP])
        async with opened(url) as store:
            alone = OperatorControl(store.operations)
            await alone.load_for_orders_only()
            assert alone.is_pinned(APP)

    async def test_apps_that_are_unpinned_are_pinned_no_more(self, url: str) -> None:
        async with opened(url) as store:
            control = await loaded(store)
            await control.pin([APP, SECOND])
            await control.unpin([APP, AppGuid("never-pinned")])
            assert control.pinned_apps == {SECOND}
        async with opened(url) as store:
            assert (await loaded(store)).pinned_apps == {SECOND}

    async def test_each_change_of_a_pin_is_told(self, store: Store) -> None:
        control = await loaded(store)
        reported = list[tuple[AppGuid, bool]]()
        control.of_pins.append(lambda app_guid: reported.append((app_guid, control.is_pinned(app_guid))))

        await control.pin([APP])
        await control.pin([APP, SECOND])
        await control.unpin([APP, AppGuid("never-pinned")])

        assert reported == [(APP, True), (SECOND, True), (APP, False)]

    async def test_the_end_of_a_pause_is_told(self, store: Store) -> None:
        control = await loaded(store)
        reported = list[bool]()
        control.of_resumption.append(lambda: reported.append(control.is_paused))

        await control.pause()
        await control.resume()

        assert reported == [False]

    async def test_an_app_without_a_guid_is_not_pinned(self, store: Store) -> None:
        """It would pin every LRP that names no app."""
        control = await loaded(store)

        await control.pin([AppGuid("")])

        assert not control.is_pinned(AppGuid(""))
        assert await store.operations.list_pins() == frozenset()


class TestOrders:
    async def test_an_order_is_given_for_one_lrp(self, store: Store) -> None:
        control = await loaded(store)

        assert control.place_order(PROCESS, ORDER, Listener())

        assert control.order_of(PROCESS) == ORDER
        assert control.order_of(OTHER) is None

    async def test_a_second_one_is_refused_and_changes_nothing(self, store: Store) -> None:
        control, first, second = await loaded(store), Listener(), Listener()
        control.place_order(PROCESS, ORDER, first)

        assert not control.place_order(PROCESS, Order(Goal.SOURCE, since=2.0), second)

        control.report(PROCESS, Reason.WAITING_FOR_COPY, "")
        assert control.order_of(PROCESS) == ORDER
        assert (len(first.reported), second.reported) == (1, [])

    async def test_it_is_over_with_a_pass_that_came_to_an_end(self, store: Store) -> None:
        control = await loaded(store)
        for reason in FINAL:
            listener = Listener()
            control.place_order(PROCESS, ORDER, listener)

            control.report(PROCESS, reason, "why")

            assert control.order_of(PROCESS) is None, reason
            assert listener.reported == [(PROCESS, reason, "why")]

    async def test_it_goes_on_while_something_is_under_way(self, store: Store) -> None:
        control, listener = await loaded(store), Listener()
        control.place_order(PROCESS, ORDER, listener)
        for reason in UNDER_WAY:
            control.report(PROCESS, reason, "why")

            assert control.order_of(PROCESS) == ORDER, reason

        assert listener.reported == [(PROCESS, reason, "why") for reason in UNDER_WAY]

    async def test_nobody_is_told_of_an_lrp_without_one(self, store: Store) -> None:
        control, listener = await loaded(store), Listener()
        control.place_order(PROCESS, ORDER, listener)

        control.report(OTHER, Reason.MIGRATED, "")

        assert listener.reported == []
        assert control.order_of(PROCESS) == ORDER

    async def test_whoever_is_told_of_its_end_may_give_the_next_one(self, store: Store) -> None:
        control, taken = await loaded(store), list[bool]()

        def give_another(process_guid: ProcessGuid, reason: str, detail: str) -> None:
            taken.append(control.place_order(process_guid, ORDER, Listener()))

        control.place_order(PROCESS, ORDER, give_another)
        control.report(PROCESS, Reason.MIGRATED, "")

        assert taken == [True]
        assert control.order_of(PROCESS) == ORDER

    async def test_one_that_was_withdrawn_is_gone_and_nobody_told(self, store: Store) -> None:
        control, listener = await loaded(store), Listener()
        control.place_order(PROCESS, ORDER, listener)

        control.withdraw_order(PROCESS)
        control.withdraw_order(PROCESS)
        control.report(PROCESS, Reason.MIGRATED, "")

        assert control.order_of(PROCESS) is None
        assert listener.reported == []

    async def test_one_that_was_left_stands_until_it_is_over(self, store: Store) -> None:
        control, listener = await loaded(store), Listener()
        control.place_order(PROCESS, ORDER, listener)

        control.leave_order(PROCESS)
        control.leave_order(OTHER)
        control.report(PROCESS, Reason.BRIDGING, "")

        assert control.order_of(PROCESS) == ORDER
        assert control.order_of(OTHER) is None
        control.report(PROCESS, Reason.MIGRATED, "")
        assert control.order_of(PROCESS) is None
        assert listener.reported == []

    async def test_the_next_one_takes_the_place_of_one_that_was_left(self, store: Store) -> None:
        control, listener, another = await loaded(store), Listener(), Order(Goal.SOURCE, since=2.0)
        control.place_order(PROCESS, ORDER, Listener())
        control.leave_order(PROCESS)

        assert control.place_order(PROCESS, another, listener)
        assert control.order_of(PROCESS) == another
        control.report(PROCESS, Reason.BRIDGING, "")
        assert len(listener.reported) == 1

    async def test_one_ends_with_the_process(self, url: str) -> None:
        async with opened(url) as store:
            (await loaded(store)).place_order(PROCESS, ORDER, Listener())
        async with opened(url) as store:
            assert (await loaded(store)).order_of(PROCESS) is None


@pytest.mark.parametrize(
    "reason",
    [Reason.MIGRATED, Reason.RESTORED, Reason.PLAN_IS_STALE, Reason.COPY_FAILED, Reason.PINNED_TO_SOURCE],
)
def test_what_will_not_change_by_itself_is_over(reason: Reason) -> None:
    assert is_over(reason)


@pytest.mark.parametrize(
    "reason",
    [Reason.WAITING_FOR_COPY, Reason.IN_FLIGHT_LIMIT, Reason.REMOVED, Reason.NOT_REMOVED, Reason.CANCELLED],
)
def test_what_goes_on_by_itself_is_not_over(reason: Reason) -> None:
    assert not is_over(reason)
