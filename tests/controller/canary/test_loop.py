"""When canaries run, and who gets to know what they show; in virtual time, with cells that are made up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.canary import CanaryLoop, UnaskedCells
from controller.process import Process
from reconcile.failure_spread import Cause
from reconcile.lrps import Credentials, Secret
from reconcile.pull_proof import CanaryKind, CanaryResult, CellAnswer
from reconcile.start_failures import Blame, StartFailure

pytestmark = pytest.mark.looptime

SHARED, SEGMENT = frozenset[str](), frozenset({"segment"})
REFUSED = StartFailure(Blame.REGISTRY, "connection refused")
CAUSE = Cause("acme", "web")
SECONDS = 0.3


LOGIN = Credentials("puller", Secret("next"))


@dataclass
class Cells:
    """Two cells; `broken` names those that cannot pull."""

    broken: set[str] = field(default_factory=set)
    task_goes_to: str = "a"
    problem: str = ""
    runs: list[tuple[float, CanaryKind, frozenset[str]]] = field(default_factory=list)
    was_cleaned: bool = False
    login: Credentials | None = None

    async def run(self, kind: CanaryKind, placement_tags: frozenset[str]) -> CanaryResult:
        self.runs.append((asyncio.get_running_loop().time(), kind, placement_tags))
        await asyncio.sleep(SECONDS)
        names = (self.task_goes_to,) if kind is CanaryKind.TASK else ("a", "b")
        answers = [CellAnswer(name, REFUSED if name in self.broken else None) for name in names]
        return CanaryResult(
            kind, () if self.problem else tuple(answers), self.problem, cells=frozenset({"a", "b"})
        )

    async def remove_leftovers(self) -> None:
        self.was_cleaned = True

    def use_login(self, credentials: Credentials) -> None:
        self.login = credentials


@dataclass
class Listener:
    """Notes what it is told."""

    told: list[str] = field(default_factory=list)

    def note_proven_cells(self, *, is_mended: bool) -> None:
        self.told.append("mended" if is_mended else "proven")

    def note_unproven_cells(self) -> None:
        self.told.append("unproven")


@dataclass
class Pause:
    """Whether an operator has paused the daemon."""

    is_paused: bool = False


@dataclass
class Scene:
    """A loop that runs."""

    cells: Cells = field(default_factory=Cells)
    listener: Listener = field(default_factory=Listener)
    pause: Pause = field(default_factory=Pause)
    process: Process = field(init=False)
    loop: CanaryLoop = field(init=False)

    def __post_init__(self) -> None:
        time = asyncio.get_running_loop().time
        self.process = Process("run", clock=time, monotonic=time)
        self.loop = CanaryLoop(self.cells, pause=self.pause, process=self.process)
        self.loop.listen(self.listener)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.loop.run())
        yield
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @property
    def not_proven(self) -> float | None:
        return self.process.metrics.registry.get_sample_value("docker_cache_cells_not_proven")


async def test_shared_cells_are_asked_at_the_start_and_never_again_without_a_cause() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(3600)

        assert [(kind, tags) for _, kind, tags in scene.cells.runs] == [(CanaryKind.TASK, SHARED)]
        assert scene.cells.was_cleaned
        assert scene.loop.why_not(SHARED) is None
        assert scene.listener.told == ["proven"]
        assert scene.not_proven == 0


async def test_with_another_login_cells_are_asked_again() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(3600)
        scene.loop.use_login(LOGIN)
        not_known = scene.loop.why_not(SHARED)
        await asyncio.sleep(3600)

        assert not_known is not None
        assert scene.cells.login == LOGIN
        assert len(scene.cells.runs) == 2
        assert scene.loop.why_not(SHARED) is None


async def test_a_canary_that_pulled_with_the_old_login_proves_nothing() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(SECONDS / 2)
        scene.loop.use_login(LOGIN)
        await asyncio.sleep(SECONDS)
        not_known = scene.loop.why_not(SHARED)
        await asyncio.sleep(3600)

        assert not_known is not None
        assert len(scene.cells.runs) == 2
        assert scene.loop.why_not(SHARED) is None


async def test_nothing_is_known_before_the_first_canary_has_ended() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(SECONDS / 2)
        assert scene.loop.why_not(SHARED) == "a canary is to show whether cells can pull"
        assert scene.not_proven == 0, "an alert would be early"


async def test_while_paused_cells_are_asked_only_when_an_order_needs_it() -> None:
    scene = Scene(pause=Pause(is_paused=True))
    async with scene.running():
        await asyncio.sleep(3600)
        assert scene.cells.runs == []

        assert scene.loop.why_not(SHARED) is not None
        await asyncio.sleep(1)
        assert scene.loop.why_not(SHARED) is None


async def test_a_plan_that_asks_what_is_known_makes_no_canary_run() -> None:
    scene = Scene(pause=Pause(is_paused=True))
    async with scene.running():
        assert scene.loop.problem_of(SHARED) is None
        await asyncio.sleep(3600)
        assert scene.cells.runs == []


async def test_the_cells_of_a_segment_are_asked_once_an_lrp_of_it_waits() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(10)
        assert scene.loop.why_not(SEGMENT) is not None
        await asyncio.sleep(10)
        assert scene.loop.why_not(SEGMENT) is None
        assert [tags for *_, tags in scene.cells.runs] == [SHARED, SEGMENT]


async def test_cells_that_cannot_pull_are_asked_again_less_and_less_often() -> None:
    scene = Scene(Cells(broken={"a"}))
    async with scene.running():
        await asyncio.sleep(3600)
        why = scene.loop.why_not(SHARED)
        assert why == "cells cannot pull from the private registry: cell a: connection refused"
        assert scene.loop.is_refuted(SHARED)
        assert scene.not_proven == 1
        assert scene.listener.told == ["unproven"], "not with each canary"
        assert 60 < len(scene.cells.runs) < 140

        scene.cells.broken.clear()
        await asyncio.sleep(61)
        assert scene.loop.why_not(SHARED) is None
        assert scene.listener.told == ["unproven", "proven"]
        assert scene.not_proven == 0


async def test_a_migration_that_met_a_cell_that_cannot_pull_makes_a_canary_run_at_once() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(100)
        scene.cells.broken, scene.cells.task_goes_to = {"b"}, "b"
        scene.loop.note_failure("b", SHARED, REFUSED, cause=CAUSE)
        why = scene.loop.why_not(SHARED)
        assert why == "perhaps cells cannot pull from the private registry: cell b: connection refused"
        await asyncio.sleep(SECONDS / 2)
        assert scene.cells.runs[-1][0] == pytest.approx(100)

        await asyncio.sleep(10)
        scene.cells.broken.clear()
        await asyncio.sleep(60)
        assert scene.loop.why_not(SHARED) is None
        assert scene.listener.told[-1] == "mended", "what failed before counts no more"


async def test_one_cell_of_several_is_found_although_tasks_go_to_the_others() -> None:
    scene = Scene(Cells(broken={"b"}))
    async with scene.running():
        await asyncio.sleep(100)
        assert scene.loop.why_not(SHARED) is None, "nobody has been on it"

        scene.loop.note_failure("b", SHARED, REFUSED, cause=CAUSE)
        await asyncio.sleep(2)
        why = scene.loop.why_not(SHARED)
        assert why == "cells cannot pull from the private registry: cell b: connection refused"
        assert [kind for _, kind, _ in scene.cells.runs[1:3]] == [CanaryKind.TASK, CanaryKind.EVERY_CELL]

        scene.cells.broken.clear()
        await asyncio.sleep(301)
        assert scene.loop.why_not(SHARED) is None


async def test_no_room_is_said_and_nobody_calls_the_cells_broken() -> None:
    scene = Scene(Cells(problem="insufficient resources: memory"))
    async with scene.running():
        await asyncio.sleep(10)
        why = scene.loop.why_not(SHARED)
        assert why == "no canary could show whether cells can pull: insufficient resources: memory"
        assert not scene.loop.is_refuted(SHARED)
        assert scene.listener.told == ["unproven"]

        scene.cells.problem = ""
        await asyncio.sleep(60)
        assert scene.loop.why_not(SHARED) is None


async def test_two_segments_are_asked_one_after_the_other() -> None:
    scene = Scene()
    async with scene.running():
        for tags in (SHARED, SEGMENT):
            scene.loop.why_not(tags)
        await asyncio.sleep(1)
    assert scene.cells.runs[1][0] - scene.cells.runs[0][0] == pytest.approx(SECONDS)


async def test_cells_for_which_no_canary_can_be_made_are_taken_to_pull() -> None:
    cells = UnaskedCells()
    cells.note_failure("a", SHARED, REFUSED, cause=CAUSE)
    cells.note_success("a", SHARED)
    assert not cells.is_refuted(SHARED)
    assert cells.proofs == {}
