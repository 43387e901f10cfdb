"""How the droplets of a plan are followed, and when LRPs may go after them; time is virtual."""

import asyncio
from collections.abc import Iterable
from typing import Self

import pytest

from controller.admin.droplet_changes import (
    LRPS_WAIT,
    MOST_FAILED_LOOKS,
    STALLED_AFTER,
    AppliedDroplets,
    DropletEvent,
    DropletListener,
)
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplet_plan import DropletChange, DropletPlan, DropletSubject, PlannedDroplet
from reconcile.droplets import DropletGuid, DropletOrder
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.selection import NOBODY

pytestmark = pytest.mark.looptime

SOURCE = "registry.example/team/web:7"
COPY = "cache.internal:5000/guid:latest"
ONE, TWO, OTHER = DropletGuid("one"), DropletGuid("two"), DropletGuid("other")
APP, OTHER_APP = AppGuid("app"), AppGuid("other-app")


class Droplets:
    """Takes orders, and reports what a test says."""

    def __init__(self) -> None:
        self.placed: dict[DropletGuid, tuple[DropletOrder, DropletListener]] = {}
        self.status: CloudControllerStatus | None = CloudControllerStatus("https://api.example")

    @property
    def orders(self) -> Self:
        return self

    def fail(self) -> None:
        """Let requests fail from now on."""
        self.status = CloudControllerStatus("https://api.example", failing_since=1.0, error="it is down")

    def place_order(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:
        self.placed[guid] = order, listener
        return True

    def withdraw_order(self, guid: DropletGuid) -> None:
        self.placed.pop(guid, None)

    def report(self, guid: DropletGuid, reason: Reason, detail: str = "") -> None:
        _, listener = self.placed[guid]
        listener(guid, reason, detail)


def planned(
    guid: DropletGuid,
    app: AppGuid = APP,
    change: DropletChange = DropletChange.RESTORE,
    image: str = COPY,
) -> PlannedDroplet:
    return PlannedDroplet(DropletSubject(guid, app, NOBODY, image), change, SOURCE, Reason.RESTORE_REQUESTED)


class Scene:
    """Three droplets of two apps, of which orders are given."""

    def __init__(
        self,
        changes: Iterable[PlannedDroplet] | None = None,
        *,
        goal: Goal = Goal.SOURCE,
        is_down: bool = False,
    ) -> None:
        chosen = (planned(ONE), planned(TWO), planned(OTHER, OTHER_APP)) if changes is None else changes
        self.droplets, self.woken = Droplets(), 0
        if is_down:
            self.droplets.fail()
        self.run = AppliedDroplets(DropletPlan(tuple(chosen)), goal, self.droplets, self.wake)
        self.run.place(now=5.0)

    def wake(self) -> None:
        self.woken += 1

    def take(self) -> list[DropletEvent]:
        return list(self.run.take())


async def test_lrps_follow_when_all_droplets_of_their_app_are_put_back() -> None:
    scene = Scene()

    scene.droplets.report(ONE, Reason.RESTORED)
    scene.droplets.report(OTHER, Reason.RESTORED)
    events = scene.take()

    assert [(event.is_over, event.has_failed) for event in events] == [(True, False)] * 2
    assert scene.run.are_over(OTHER_APP)
    assert not scene.run.are_over(APP)
    scene.droplets.report(TWO, Reason.RESTORED)
    scene.take()
    assert scene.run.are_over(APP)
    assert scene.run.done == scene.run.total == 3


async def test_an_order_names_what_the_plan_showed() -> None:
    scene = Scene([planned(ONE)])

    order, _ = scene.droplets.placed[ONE]

    assert order == DropletOrder(Goal.SOURCE, 5.0, image=COPY, target=SOURCE)


async def test_a_text_with_a_login_is_not_compared_since_plans_contain_none() -> None:
    scene = Scene([planned(ONE, image="***@cache.internal:5000/guid:latest")])

    order, _ = scene.droplets.placed[ONE]

    assert order.image is None


async def test_a_silent_cloud_controller_keeps_no_lrp_waiting() -> None:
    scene = Scene()

    scene.droplets.report(ONE, Reason.CLOUD_CONTROLLER_UNAVAILABLE, "it is down")
    (event,) = scene.take()

    assert not event.is_over
    assert scene.run.are_over(APP)
    assert scene.run.are_over(OTHER_APP)


async def test_a_cloud_controller_that_fails_already_is_waited_for_by_no_lrp() -> None:
    scene = Scene(is_down=True)

    assert scene.run.are_over(APP)
    assert len(scene.droplets.placed) == 3, "it may answer again"
    scene.run.leave()


async def test_when_nothing_else_is_left_a_failing_cloud_controller_is_not_waited_for() -> None:
    scene = Scene([planned(ONE), planned(OTHER, OTHER_APP, DropletChange.PATCH)], goal=Goal.CACHE)
    scene.droplets.report(OTHER, Reason.WAITING_FOR_COPY)
    scene.take()

    scene.run.give_up_if_failing()
    while_it_answers = scene.take()
    scene.droplets.fail()
    scene.run.give_up_if_failing()
    (event,) = scene.take()

    assert while_it_answers == []
    assert (event.planned.subject.droplet_guid, event.detail) == (ONE, "it is down")
    assert event.has_failed
    assert set(scene.droplets.placed) == {OTHER}, "its copy is still being made"
    scene.run.leave()


async def test_lrps_wait_for_slow_droplets_for_a_while_only() -> None:
    scene = Scene()

    await asyncio.sleep(LRPS_WAIT - 1)
    assert not scene.run.are_over(APP)
    await asyncio.sleep(2)

    assert scene.run.are_over(APP)
    assert scene.woken
    scene.run.leave()


async def test_a_droplet_that_cannot_be_looked_at_is_given_up() -> None:
    scene = Scene([planned(ONE)])

    for _ in range(MOST_FAILED_LOOKS):
        scene.droplets.report(ONE, Reason.CHECK_FAILED, "no")
    events = scene.take()

    assert [event.is_over for event in events] == [False] * (MOST_FAILED_LOOKS - 1) + [True]
    assert events[-1].has_failed
    assert not scene.droplets.placed


async def test_what_nothing_is_heard_of_is_given_up_and_its_app_stays_pinned() -> None:
    scene = Scene()

    await asyncio.sleep(STALLED_AFTER - 1)
    scene.droplets.report(ONE, Reason.RESTORED)
    scene.take()
    await asyncio.sleep(STALLED_AFTER - 1)
    assert not scene.take()
    await asyncio.sleep(2)
    events = scene.take()

    assert {event.planned.subject.droplet_guid for event in events} == {TWO, OTHER}
    assert all(event.is_over and event.has_failed for event in events)
    assert scene.run.pinned_apps == {APP, OTHER_APP}, "the daemon puts them back later"


async def test_what_waits_for_its_copy_is_not_given_up() -> None:
    scene = Scene([planned(ONE, change=DropletChange.PATCH)], goal=Goal.CACHE)

    scene.droplets.report(ONE, Reason.WAITING_FOR_COPY)
    scene.take()
    await asyncio.sleep(3 * STALLED_AFTER)
    assert not scene.take()
    scene.droplets.report(ONE, Reason.DROPLET_PATCHED)
    (event,) = scene.take()

    assert event.is_over
    assert not event.has_failed


async def test_a_droplet_that_changed_since_the_plan_is_left_and_pins_no_app() -> None:
    scene = Scene([planned(ONE)])

    scene.droplets.report(ONE, Reason.PLAN_IS_STALE, "it names another image now")
    (event,) = scene.take()

    assert event.is_over
    assert event.has_failed
    assert scene.run.pinned_apps == frozenset()


async def test_a_stop_leaves_what_has_begun() -> None:
    scene = Scene()
    scene.droplets.report(ONE, Reason.RESTORING_DROPLET)
    scene.take()

    scene.run.withdraw_not_begun()

    assert set(scene.droplets.placed) == {ONE}
    assert scene.run.pinned_apps == {APP}
    scene.run.leave()
    assert not scene.droplets.placed


async def test_a_pin_gives_no_order() -> None:
    scene = Scene([planned(ONE, change=DropletChange.PIN)])

    assert not scene.droplets.placed
    assert scene.run.total == 0
    assert scene.run.are_over(APP)
    assert scene.run.pinned_apps == {APP}


async def test_a_daemon_that_changes_no_droplets_says_so_of_each() -> None:
    """A plan may have been saved when it still did."""

    class Left(Droplets):
        def place_order(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:
            return False

    run = AppliedDroplets(DropletPlan((planned(ONE),)), Goal.SOURCE, Left(), lambda: None)
    run.place(now=5.0)
    (event,) = run.take()

    assert event.is_over
    assert event.has_failed
    assert "config" in event.detail
    assert run.are_over(APP)
    run.leave()
