"""How a plan that is being applied is stopped: what has begun is waited for, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from controller.admin.applier import Applier, _waking
from controller.admin.apply_run import ApplyEvent, ApplyRun
from controller.admin.droplet_changes import FollowedDroplets
from controller.admin.survey import Survey
from controller.control import OperatorControl
from controller.workqueue import WorkQueue
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal
from reconcile.orders import Order
from reconcile.pull_proof import CanaryLogin, PullProof
from reconcile.reasons import Reason
from tests.controller.admin.test_messages import MOVE

APP = MOVE.subject.app_guid
GUIDS = [ProcessGuid(f"p-{number}") for number in range(4)]


class Operations:
    async def find_paused(self) -> bool | None:
        return False

    async def save_paused(self, *, is_paused: bool) -> None:
        pass

    async def list_pins(self) -> frozenset[AppGuid]:
        return frozenset()

    async def pin(self, app_guids: object) -> None:
        pass

    async def unpin(self, app_guids: object) -> None:
        pass


@dataclass
class Cells:
    """Cells that can pull, or that have said that they cannot."""

    cannot_pull: bool = False
    proofs: Mapping[frozenset[str], PullProof] = field(default_factory=dict)

    def problem_of(
        self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS
    ) -> str | None:
        raise NotImplementedError

    def is_refuted(self, _placement_tags: frozenset[str], _login: CanaryLogin = CanaryLogin.CELLS) -> bool:
        return self.cannot_pull


@dataclass
class Scene:
    """Orders for four LRPs, and what is reported of them."""

    cells: Cells = field(default_factory=Cells)
    control: OperatorControl = field(default_factory=lambda: OperatorControl(Operations()))
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    goal: Goal = Goal.CACHE
    in_flight: frozenset[ProcessGuid] = frozenset()
    events: list[ApplyEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        planned = {guid: replace(MOVE, subject=replace(MOVE.subject, process_guid=guid)) for guid in GUIDS}
        self.run = ApplyRun(
            planned, set(planned), frozenset({APP}), dict.fromkeys(GUIDS, frozenset()), self.in_flight
        )
        self.run.begun |= self.in_flight
        for guid in GUIDS:
            assert self.control.place_order(guid, Order(self.goal, since=0.0), self.run.follow)
        queue: WorkQueue[ProcessGuid] = WorkQueue()
        droplets = cast(FollowedDroplets, None)
        self.applier = Applier(cast(Survey, None), self.control, queue, self.cells, droplets)

    async def follow(self) -> None:
        async with _waking(self.run, self.stop):
            async for event in self.applier._watch(self.run, self.goal, self.stop):
                assert isinstance(event, ApplyEvent)
                self.events.append(event)

    def report(self, number: int, reason: Reason) -> None:
        self.control.report(GUIDS[number], reason, "")

    @property
    def ordered(self) -> list[ProcessGuid]:
        return [guid for guid in GUIDS if self.control.order_of(guid) is not None]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with asyncio.timeout(60):
        yield scene


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_after_a_stop_only_what_has_begun_is_waited_for(scene: Scene) -> None:
    following = asyncio.ensure_future(scene.follow())
    scene.report(0, Reason.MIGRATED)
    scene.report(1, Reason.BRIDGING)
    scene.report(2, Reason.WAITING_FOR_COPY)
    await settle()
    scene.stop.set()
    await settle()

    assert scene.ordered == [GUIDS[1]], "nothing else is asked for any more"
    assert not following.done()
    scene.report(1, Reason.STARTING)
    scene.report(1, Reason.MIGRATED)
    await following
    assert [event.reason for event in scene.events if event.is_over] == [Reason.MIGRATED] * 2
    assert scene.events[-1].done == 2


async def test_a_stop_with_nothing_begun_ends_it_at_once(scene: Scene) -> None:
    scene.stop.set()

    await scene.follow()

    assert scene.events == []
    assert scene.ordered == []


async def test_what_was_reported_before_a_stop_is_told(scene: Scene) -> None:
    """Also when nobody had read it by then: an LRP that is being migrated keeps its order."""
    scene.report(3, Reason.BRIDGED)
    scene.report(0, Reason.MIGRATED)
    scene.stop.set()
    following = asyncio.ensure_future(scene.follow())
    await settle()

    assert scene.ordered == [GUIDS[3]]
    scene.report(3, Reason.BRIDGE_CRASHED)
    await following
    assert [event.reason for event in scene.events] == [
        Reason.BRIDGED,
        Reason.MIGRATED,
        Reason.BRIDGE_CRASHED,
    ]


async def test_without_a_stop_all_are_waited_for(scene: Scene) -> None:
    following = asyncio.ensure_future(scene.follow())
    for number in range(4):
        await settle()
        assert not following.done()
        scene.report(number, Reason.MIGRATED)
    await following

    assert scene.events[-1].done == scene.events[-1].total == 4


async def test_cells_that_cannot_pull_end_what_has_not_begun(scene: Scene) -> None:
    """It would wait until somebody mends them; while a canary runs, its answer is waited for."""
    following = asyncio.ensure_future(scene.follow())
    scene.report(0, Reason.BRIDGING)
    for number in range(1, 4):
        scene.report(number, Reason.CELLS_NOT_PROVEN)
    await settle()
    assert len(scene.ordered) == 4

    scene.cells.cannot_pull = True
    for number in range(1, 4):
        scene.report(number, Reason.CELLS_NOT_PROVEN)
    await settle()
    assert scene.ordered == [GUIDS[0]]

    scene.report(0, Reason.MIGRATED)
    await following
    assert [event.reason for event in scene.events if event.is_over] == [
        Reason.CELLS_NOT_PROVEN,
        Reason.CELLS_NOT_PROVEN,
        Reason.CELLS_NOT_PROVEN,
        Reason.MIGRATED,
    ]


class TestInFlight:
    """Orders for LRPs that were being migrated when the plan was applied."""

    @pytest.fixture
    def scene(self) -> Scene:
        return Scene(goal=Goal.SOURCE, in_flight=frozenset({GUIDS[0]}))

    async def test_after_a_stop_they_are_waited_for_before_any_pass_has_said_something(
        self, scene: Scene
    ) -> None:
        following = asyncio.ensure_future(scene.follow())
        scene.stop.set()
        await settle()

        assert scene.ordered == [GUIDS[0]]
        scene.report(0, Reason.RESTORE_REQUESTED)
        scene.report(0, Reason.RESTORED)
        await following
        assert scene.events[-1].is_over
        assert not scene.events[-1].has_failed

    async def test_their_apps_stay_pinned(self, scene: Scene) -> None:
        assert scene.run.needlessly_pinned == frozenset()

        scene.report(0, Reason.RESTORE_REQUESTED)
        assert scene.run.needlessly_pinned == frozenset()

    async def test_an_app_is_not_pinned_whose_lrp_could_not_be_restored_after_all(self, scene: Scene) -> None:
        scene.report(0, Reason.SOURCE_CREDENTIALS_UNKNOWN)

        assert scene.run.needlessly_pinned == {APP}

    async def test_an_order_to_restore_one_stands_when_the_caller_goes_away(self, scene: Scene) -> None:
        scene.applier._leave(scene.run, Goal.SOURCE)

        assert scene.ordered == [GUIDS[0]]

    async def test_an_order_for_the_copy_does_not(self, scene: Scene) -> None:
        scene.applier._leave(scene.run, Goal.CACHE)

        assert scene.ordered == []
