"""What operators read of droplets, and how a plan for them is carried out by the loops."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from controller.admin.droplet_changes import AppliedDroplets, DropletEvent
from controller.admin.droplet_planner import DropletPlanner, PlannedApps
from controller.droplets.survey import MOST_READS, DropletSurvey
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplet_actions import Leave, PatchDroplet, RestoreDroplet
from reconcile.droplet_plan import (
    DecidedDroplet,
    DropletChange,
    DropletCriteria,
    DropletPlan,
    DropletScope,
)
from reconcile.droplets import DropletOrder, DropletPhase
from reconcile.errors import Unavailable
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.selection import AppNames, Selection
from tests.controller.droplets.conftest import APP, TEXT, Scene, text_of
from tests.controller.droplets.memory_api import MemoryApi

pytestmark = pytest.mark.looptime

ALL = DropletScope(None, lambda _app, _text: True)
OTHER = AppGuid("app-2")


class NamedApi(MemoryApi):
    """Cloud Controller that also knows names, and what it has answered."""

    def status(self) -> CloudControllerStatus:
        return CloudControllerStatus("https://api.example")

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        return {}


def surveyed(scene: Scene) -> DropletSurvey:
    """Make what operators reach of a scene's droplets."""
    api = NamedApi()
    api.__dict__.update(scene.api.__dict__)
    return DropletSurvey(
        scene.droplets, scene.dependencies, known=scene.known, records=scene.records, api=api
    )


async def decided(scene: Scene, goal: Goal, scope: DropletScope = ALL) -> list[DecidedDroplet]:
    order = DropletOrder(goal, since=scene.now)
    return [each async for each in surveyed(scene).decide_each(order, scope)]


async def planned(scene: Scene, goal: Goal) -> DropletPlan:
    return await DropletPlanner(surveyed(scene)).plan(
        Selection(), DropletOrder(goal, since=scene.now), DropletCriteria(goal), PlannedApps()
    )


async def applied(scene: Scene, plan: DropletPlan, goal: Goal) -> list[DropletEvent]:
    """Carry out a plan as `Apply` does."""
    changed, events = asyncio.Event(), list[DropletEvent]()
    changes = AppliedDroplets(plan, goal, surveyed(scene), changed.set)
    changes.place(now=scene.now)
    while changes.open:
        await changed.wait()
        changed.clear()
        events += changes.take()
    changes.leave()
    return events


async def test_a_droplet_that_names_its_copy_costs_no_request(scene: Scene) -> None:
    await scene.begin()
    await scene.patched()
    scene.api.asked.clear()

    (found,) = await decided(scene, Goal.CACHE)

    assert found.action == Leave(Reason.DROPLET_PATCHED)
    assert found.names_copy
    assert found.original == TEXT
    assert scene.api.asked == {"list_droplets": 1}


async def test_a_paused_daemon_still_plans_what_it_would_write(scene: Scene) -> None:
    scene.platform.is_paused = True
    await scene.begin()
    guid = await scene.staged()
    await scene.cached(await scene.requested())
    scene.droplets.note_removed_task(scene.task())
    await scene.rest()
    before = await scene.record(guid)

    (found,) = await decided(scene, Goal.CACHE)

    assert isinstance(found.action, PatchDroplet)
    assert found.action.text == text_of(1)
    assert scene.api.image_of(guid) == TEXT
    assert await scene.record(guid) == before
    assert scene.droplets.order_of(guid) is None


async def test_what_waits_for_a_copy_says_for_which(scene: Scene) -> None:
    await scene.begin()
    await scene.staged()
    job = await scene.requested()
    scene.droplets.note_removed_task(scene.task())
    await scene.rest()

    (found,) = await decided(scene, Goal.CACHE)

    assert isinstance(found.action, Leave)
    assert found.action.reason is Reason.WAITING_FOR_COPY
    assert found.waits_for == job.source


async def test_only_droplets_that_are_meant_are_decided_about(scene: Scene) -> None:
    await scene.begin()
    await scene.staged(1)
    theirs = await scene.staged(2, app_guid=OTHER)

    of_app = await decided(scene, Goal.CACHE, DropletScope(frozenset({OTHER}), lambda _app, _text: True))
    of_image = await decided(scene, Goal.CACHE, DropletScope(None, lambda _app, text: text != TEXT))
    of_none = await decided(scene, Goal.CACHE, DropletScope(frozenset(), lambda _app, _text: True))

    assert [each.guid for each in of_app] == [theirs]
    assert of_image == of_none == []


async def test_the_newest_of_an_app_is_known(scene: Scene) -> None:
    await scene.begin()
    older = await scene.staged(1)
    await asyncio.sleep(5)
    newer = await scene.staged(2)

    found = {each.guid: each.is_newest for each in await decided(scene, Goal.CACHE)}

    assert found == {older: False, newer: True}


async def test_a_silent_cloud_controller_is_said(scene: Scene) -> None:
    await scene.begin()
    scene.api.problem = Unavailable("cloud-controller", "timeout", "it is down")

    with pytest.raises(Unavailable, match="it is down"):
        await decided(scene, Goal.CACHE)


async def test_restoring_writes_the_originals_and_a_second_time_has_nothing_to_do(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()
    other = await scene.staged(2, app_guid=OTHER)

    plan = await planned(scene, Goal.SOURCE)
    scene.platform.pinned |= {APP, OTHER}
    events = await applied(scene, plan, Goal.SOURCE)

    assert {each.subject.droplet_guid: each.change for each in plan.changes} == {
        guid: DropletChange.RESTORE,
        other: DropletChange.PIN,
    }
    assert [event.reason for event in events if event.is_over] == [Reason.RESTORED]
    assert not any(event.has_failed for event in events)
    assert scene.api.image_of(guid) == TEXT
    assert (await scene.record(guid)).phase is DropletPhase.RESTORED
    assert (await planned(scene, Goal.SOURCE)).changes == ()


async def test_what_an_interrupted_restoration_has_left_is_finished_by_the_next_one(scene: Scene) -> None:
    await scene.begin()
    first, second = await scene.patched(1), await scene.patched(2)
    plan = await planned(scene, Goal.SOURCE)

    await applied(scene, replace(plan, changes=plan.changes[:1]), Goal.SOURCE)
    images = {scene.api.image_of(first), scene.api.image_of(second)}
    rest = await planned(scene, Goal.SOURCE)
    await applied(scene, rest, Goal.SOURCE)

    assert len(images & {text_of(1), text_of(2)}) == 1
    assert [each.change for each in rest.changes] == [DropletChange.RESTORE]
    assert scene.api.image_of(first) == scene.api.image_of(second) == TEXT


async def test_a_plan_back_to_the_copies_is_carried_out_for_a_pinned_app(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()
    scene.platform.pinned.add(APP)
    scene.droplets.look_at_app(APP)
    await scene.until(lambda: scene.api.image_of(guid) == TEXT)
    await scene.rest()

    order = DropletOrder(Goal.CACHE, since=scene.now)
    criteria = DropletCriteria(Goal.CACHE, include_pinned=True)
    plan = await DropletPlanner(surveyed(scene)).plan(Selection(), order, criteria, PlannedApps())
    scene.platform.pinned.clear()
    events = await applied(scene, plan, Goal.CACHE)

    assert [event.has_failed for event in events if event.is_over] == [False]
    assert scene.api.image_of(guid) == text_of(1)


async def test_what_changed_since_the_plan_is_left_as_it_is(scene: Scene) -> None:
    await scene.begin()
    guid = await scene.patched()
    plan = await planned(scene, Goal.SOURCE)
    (change,) = plan.changes
    stale = replace(plan, changes=(replace(change, subject=replace(change.subject, image=text_of(7))),))

    events = await applied(scene, stale, Goal.SOURCE)

    assert [(event.reason, event.has_failed) for event in events] == [(Reason.PLAN_IS_STALE, True)]
    assert scene.api.image_of(guid) == text_of(1)


async def test_a_plan_asks_for_few_single_resources(scene: Scene) -> None:
    """Of droplets that name a copy and have no record, the package has to be read."""
    await scene.begin()
    for number in range(1, MOST_READS + 6):
        await scene.staged(number, text=text_of(1), app_guid=AppGuid(f"app-{number}"))
    await scene.rest()
    scene.api.asked.clear()

    found = await decided(scene, Goal.SOURCE)

    reads = scene.api.requests - scene.api.asked["list_droplets"]
    left = [each for each in found if isinstance(each.action, Leave)]
    assert len(found) == MOST_READS + 5
    assert reads == MOST_READS
    assert any(isinstance(each.action, Leave) and "at most" in each.action.detail for each in left)
    assert not any(isinstance(each.action, RestoreDroplet) for each in left)
