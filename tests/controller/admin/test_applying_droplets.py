"""How a plan with droplets is applied: an app's droplets go back first, and interruptions leave no mess."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import cast

import pytest

from controller.admin.applier import Applier
from controller.admin.apply_run import ApplyEvent, DropletProgress
from controller.admin.survey import Survey
from controller.control import OperatorControl
from controller.workqueue import WorkQueue
from reconcile.droplet_plan import DropletChange, DropletPlan, DropletSubject, PlannedDroplet
from reconcile.droplets import DropletGuid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal
from reconcile.observed import Observed
from reconcile.plan import Plan
from reconcile.reasons import Reason
from reconcile.selection import NOBODY
from tests.controller.admin.test_applier import Cells, settle
from tests.controller.admin.test_droplet_changes import COPY, SOURCE, Droplets
from tests.controller.admin.test_plan_comparison import BACK, IN_FLIGHT, ON_COPY, OneLrp
from tests.reconcile.test_decide import PROCESS, RULES

pytestmark = pytest.mark.looptime

APP = BACK.subject.app_guid
STOPPED = AppGuid("app-stopped")
DROPLET, OTHER = DropletGuid("d-web"), DropletGuid("d-stopped")


class Pins:
    """Keeps pins as the store does."""

    def __init__(self) -> None:
        self.pins: set[AppGuid] = set()

    async def find_paused(self) -> bool | None:
        return False

    async def save_paused(self, *, is_paused: bool) -> None:
        raise NotImplementedError

    async def list_pins(self) -> frozenset[AppGuid]:
        return frozenset(self.pins)

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        self.pins |= set(app_guids)

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        self.pins -= set(app_guids)


def change(guid: DropletGuid, app: AppGuid) -> PlannedDroplet:
    subject = DropletSubject(guid, app, NOBODY, COPY)
    return PlannedDroplet(subject, DropletChange.RESTORE, SOURCE, Reason.RESTORE_REQUESTED)


class Scene:
    """A plan back to the source for one LRP, its app's droplet, and the droplet of an app that does not run."""

    def __init__(self, observed: Observed = ON_COPY) -> None:
        self.control, self.droplets, self.stop = OperatorControl(Pins()), Droplets(), asyncio.Event()
        self.applier = Applier(
            cast(Survey, OneLrp(observed)), self.control, WorkQueue[ProcessGuid](), Cells(), self.droplets
        )
        changes = (change(DROPLET, APP), change(OTHER, STOPPED))
        self.plan = Plan(
            Goal.SOURCE, RULES.cache.address, 1.0, migrations=(BACK,), droplets=DropletPlan(changes)
        )
        self.events: list[ApplyEvent | DropletProgress] = []
        self.run: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.run = asyncio.create_task(self._apply())

    async def _apply(self) -> None:
        async for event in self.applier.apply(self.plan, now=2.0, max_in_flight=None, stop=self.stop):
            self.events.append(event)

    async def end(self) -> None:
        assert self.run is not None
        await asyncio.wait_for(self.run, 1000)

    @property
    def is_ordered(self) -> bool:
        return self.control.order_of(PROCESS) is not None


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    if made.run is not None:
        made.run.cancel()
        await asyncio.gather(made.run, return_exceptions=True)


async def test_an_lrp_gets_its_order_when_its_apps_droplet_is_put_back(scene: Scene) -> None:
    scene.begin()
    await settle()
    before = scene.is_ordered

    scene.droplets.report(DROPLET, Reason.RESTORED)
    await settle()
    after = scene.is_ordered
    scene.control.report(PROCESS, Reason.RESTORED, "")
    await settle()
    scene.droplets.report(OTHER, Reason.RESTORED)
    await scene.end()

    assert (before, after) == (False, True)
    assert [type(event) for event in scene.events] == [DropletProgress, ApplyEvent, DropletProgress]
    last = scene.events[-1]
    assert isinstance(last, DropletProgress)
    assert (last.droplets_done, last.droplets_total, last.done, last.total) == (2, 2, 1, 1)
    assert scene.control.pinned_apps == {APP, STOPPED}


async def test_a_silent_cloud_controller_ends_in_failed_droplets_and_restored_lrps(scene: Scene) -> None:
    """Their apps stay pinned, so the daemon puts the droplets back once it answers."""
    scene.begin()
    await settle()
    scene.droplets.fail()
    scene.droplets.report(DROPLET, Reason.CLOUD_CONTROLLER_UNAVAILABLE, "it is down")
    await settle()
    assert scene.is_ordered
    began = asyncio.get_running_loop().time()
    scene.control.report(PROCESS, Reason.RESTORED, "")
    await scene.end()

    ends = [each for each in scene.events if isinstance(each, DropletProgress) and each.event.is_over]
    assert [each.event.has_failed for each in ends] == [True, True]
    assert asyncio.get_running_loop().time() == began, "nothing else was waited for"
    assert scene.control.pinned_apps == {APP, STOPPED}
    assert not scene.droplets.placed


async def test_a_stop_before_anything_has_begun_leaves_no_pin(scene: Scene) -> None:
    scene.begin()
    await settle()

    scene.stop.set()
    await scene.end()

    assert scene.events == []
    assert not scene.droplets.placed
    assert not scene.is_ordered
    assert scene.control.pinned_apps == frozenset()


async def test_a_stop_keeps_what_is_put_back_pinned_for_the_next_run(scene: Scene) -> None:
    scene.begin()
    await settle()
    scene.droplets.report(DROPLET, Reason.RESTORING_DROPLET)
    await settle()

    scene.stop.set()
    await settle()
    scene.droplets.report(DROPLET, Reason.RESTORED)
    await scene.end()

    assert not scene.is_ordered
    assert scene.control.pinned_apps == {APP}
    assert len(scene.events) == 2


async def test_an_lrp_that_is_being_migrated_waits_for_no_droplet() -> None:
    """It turns round at once, and its order stands when the caller goes away."""
    scene = Scene(replace(ON_COPY, migration=IN_FLIGHT))
    scene.begin()
    await settle()

    assert scene.is_ordered
    assert scene.run is not None
    scene.run.cancel()
    await asyncio.gather(scene.run, return_exceptions=True)
    assert scene.is_ordered
