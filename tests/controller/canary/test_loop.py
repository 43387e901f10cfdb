"""When canaries run, and who gets to know what they show; in virtual time, with cells that are made up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.canary import CanaryLoop, DropletPulls, NullCanaryLoop
from controller.canary.loop import FOREIGN_GOOD_FOR, LEFTOVERS_PAUSE
from controller.process import Process
from reconcile.errors import Unavailable
from reconcile.failure_spread import Cause
from reconcile.lrps import Credentials, Secret
from reconcile.pull_proof import CanaryKind, CanaryLogin, CanaryResult, CellAnswer
from reconcile.start_failures import Blame, StartFailure

pytestmark = pytest.mark.looptime

SHARED, SEGMENT = frozenset[str](), frozenset({"segment"})
REFUSED = StartFailure(Blame.REGISTRY, "connection refused")
CAUSE = Cause("acme", "web")
SECONDS = 0.3


LOGIN = Credentials("puller", Secret("next"))


@dataclass
class Cells:
    """Two cells; `broken` names those that cannot pull, `refused` the logins that the registry refuses."""

    broken: set[str] = field(default_factory=set)
    task_goes_to: str = "a"
    problem: str = ""
    runs: list[tuple[float, CanaryKind, frozenset[str]]] = field(default_factory=list)
    has_leftovers: bool = True
    failing_removals: int = 0
    removals: int = 0
    login: Credentials | None = None
    refused: set[CanaryLogin] = field(default_factory=set)
    logins: list[CanaryLogin] = field(default_factory=list)

    async def run(self, kind: CanaryKind, placement_tags: frozenset[str], login: CanaryLogin) -> CanaryResult:
        self.runs.append((asyncio.get_running_loop().time(), kind, placement_tags))
        self.logins.append(login)
        await asyncio.sleep(SECONDS)
        names = (self.task_goes_to,) if kind is CanaryKind.TASK else ("a", "b")
        broken = set(names) if login in self.refused else self.broken
        answers = [CellAnswer(name, REFUSED if name in broken else None) for name in names]
        return CanaryResult(
            kind, () if self.problem else tuple(answers), self.problem, cells=frozenset({"a", "b"})
        )

    async def remove_leftovers(self) -> None:
        self.removals += 1
        if self.removals <= self.failing_removals:
            raise Unavailable("bbs", "connection", "the BBS does not answer")
        self.has_leftovers = False

    def use_login(self, credentials: Credentials) -> None:
        self.login = credentials


@dataclass
class Listener:
    """Notes what it is told."""

    reported: list[str] = field(default_factory=list)

    def note_proven_cells(self, *, is_mended: bool) -> None:
        self.reported.append("mended" if is_mended else "proven")

    def note_unproven_cells(self) -> None:
        self.reported.append("unproven")


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
        return self.metric("docker_cache_cells_not_proven")

    def metric(self, name: str) -> float | None:
        return self.process.metrics.registry.get_sample_value(name)


async def test_shared_cells_are_asked_at_the_start_and_never_again_without_a_cause() -> None:
    scene = Scene()
    async with scene.running():
        await asyncio.sleep(3600)

        assert [(kind, tags) for _, kind, tags in scene.cells.runs] == [(CanaryKind.TASK, SHARED)]
        assert (scene.cells.has_leftovers, scene.cells.removals) == (False, 1)
        assert scene.loop.why_not(SHARED) is None
        assert scene.listener.reported == ["proven"]
        assert scene.not_proven == 0


async def test_what_could_not_be_removed_is_removed_later() -> None:
    scene = Scene()
    scene.cells.failing_removals = 3
    async with scene.running():
        await asyncio.sleep(2.5 * LEFTOVERS_PAUSE)
        assert (scene.cells.has_leftovers, scene.cells.removals) == (True, 3)
        await asyncio.sleep(LEFTOVERS_PAUSE)
        assert (scene.cells.has_leftovers, scene.cells.removals) == (False, 4)

        scene.cells.has_leftovers = True  # as after a canary that could not be removed
        scene.loop.use_login(LOGIN)
        await asyncio.sleep(LEFTOVERS_PAUSE)
        assert (scene.cells.has_leftovers, scene.cells.removals) == (False, 5)


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
        assert scene.listener.reported == ["unproven"], "not with each canary"
        assert 60 < len(scene.cells.runs) < 140

        scene.cells.broken.clear()
        await asyncio.sleep(61)
        assert scene.loop.why_not(SHARED) is None
        assert scene.listener.reported == ["unproven", "proven"]
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
        assert scene.listener.reported[-1] == "mended", "what failed before counts no more"


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
        assert scene.listener.reported == ["unproven"]

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
    cells = NullCanaryLoop()
    cells.note_failure("a", SHARED, REFUSED, cause=CAUSE)
    cells.note_success("a", SHARED)
    assert not cells.is_refuted(SHARED)
    assert cells.proofs == {}
    assert cells.why_not(SHARED) is None


CELLS, NONE, MADE_UP = CanaryLogin.CELLS, CanaryLogin.NONE, CanaryLogin.MADE_UP


class TestDroplets:
    """What Cloud Controller desires from droplets has no login, or that of the source registry."""

    async def test_no_canary_runs_for_them_before_somebody_needs_to_know(self) -> None:
        scene = Scene()
        async with scene.running():
            await asyncio.sleep(3600)
            assert scene.cells.logins == [CELLS]

    async def test_an_image_with_a_login_waits_for_a_canary_with_one_that_is_made_up(self) -> None:
        scene = Scene()
        pulls, reported = DropletPulls(scene.loop, cells_have_login=False), list[str | None]()
        async with scene.running():
            await asyncio.sleep(100)
            pulls.listen(lambda: reported.append(pulls.why_not(SHARED, "robot")))
            not_known = pulls.why_not(SHARED, "robot")
            await asyncio.sleep(1)

            assert not_known is not None
            assert "a login that the registry does not know" in not_known
            assert reported == [None], "who waits for it learns it at once"
            assert pulls.why_not(SHARED, "") is None, "it is pulled as what was migrated is"
            assert scene.cells.logins == [CELLS, MADE_UP]

    async def test_a_registry_that_refuses_such_a_login_is_found_and_migrations_do_not_care(self) -> None:
        scene = Scene(Cells(refused={MADE_UP}))
        pulls = DropletPulls(scene.loop, cells_have_login=True)
        async with scene.running():
            pulls.why_not(SHARED, "robot")
            await asyncio.sleep(10)

            assert pulls.is_refuted(SHARED, "robot")
            assert "cell a: connection refused" in (pulls.problem_of(SHARED, "robot") or "")
            assert scene.loop.why_not(SHARED) is None
            assert scene.listener.reported == ["proven"]
            assert scene.not_proven == 0
            assert scene.metric("docker_cache_foreign_logins_not_proven") == 1

    async def test_where_cells_have_a_login_a_public_image_needs_a_canary_without_one(self) -> None:
        scene = Scene(Cells(refused={NONE}))
        pulls = DropletPulls(scene.loop, cells_have_login=True)
        async with scene.running():
            pulls.why_not(SHARED, "")
            pulls.why_not(SHARED, "robot")
            await asyncio.sleep(1)

            assert pulls.is_refuted(SHARED, "")
            assert pulls.why_not(SHARED, "robot") is None, "a registry that takes any login, but wants one"
            assert scene.cells.logins[:3] == [CELLS, MADE_UP, NONE]

    async def test_cells_that_pull_with_no_login_at_all_keep_droplets_as_they_are(self) -> None:
        scene = Scene(Cells(refused={CELLS}))
        pulls = DropletPulls(scene.loop, cells_have_login=True)
        async with scene.running():
            pulls.why_not(SHARED, "robot")
            await asyncio.sleep(1)

            assert pulls.is_refuted(SHARED, "robot")

    async def test_a_registry_that_refuses_is_asked_rarely_and_believed_when_it_has_changed(self) -> None:
        scene = Scene(Cells(refused={MADE_UP}))
        pulls = DropletPulls(scene.loop, cells_have_login=False)
        async with scene.running():
            pulls.why_not(SHARED, "robot")
            await asyncio.sleep(3600)
            assert 10 < len(scene.cells.runs) < 40

            scene.cells.refused.clear()
            await asyncio.sleep(301)
            assert pulls.why_not(SHARED, "robot") is None

    async def test_a_registry_that_begins_to_ask_for_logins_is_found_within_an_hour(self) -> None:
        scene = Scene()
        pulls = DropletPulls(scene.loop, cells_have_login=False)
        async with scene.running():
            pulls.why_not(SHARED, "robot")
            await asyncio.sleep(10 * FOREIGN_GOOD_FOR)
            assert 9 <= scene.cells.logins.count(MADE_UP) <= 11
            assert pulls.problem_of(SHARED, "robot") is None

            scene.cells.refused.add(MADE_UP)
            await asyncio.sleep(FOREIGN_GOOD_FOR + 1)
            assert pulls.is_refuted(SHARED, "robot")
            assert scene.metric("docker_cache_foreign_logins_not_proven") == 1
            assert scene.cells.logins.count(CELLS) == 1, "of their own login each start is evidence"

    async def test_while_paused_no_canary_is_repeated(self) -> None:
        scene = Scene()
        async with scene.running():
            scene.loop.why_not(SHARED, MADE_UP)
            await asyncio.sleep(10)
            scene.pause.is_paused = True
            await asyncio.sleep(3 * FOREIGN_GOOD_FOR)
            assert scene.cells.logins == [CELLS, MADE_UP]

    async def test_another_login_of_the_cells_and_an_instance_that_fails_make_the_question_new(self) -> None:
        scene = Scene()
        pulls = DropletPulls(scene.loop, cells_have_login=False)
        async with scene.running():
            doubts: tuple[Callable[[], None], ...] = (
                lambda: scene.loop.use_login(LOGIN),
                lambda: scene.loop.note_failure("a", SHARED, REFUSED, cause=CAUSE),
            )
            for doubt in doubts:
                pulls.why_not(SHARED, "robot")
                await asyncio.sleep(10)
                known = pulls.why_not(SHARED, "robot")
                doubt()
                assert (known, pulls.why_not(SHARED, "robot") is None) == (None, False)
                await asyncio.sleep(10)
                assert pulls.why_not(SHARED, "robot") is None

    async def test_what_migrations_wait_for_goes_first(self) -> None:
        scene = Scene()
        async with scene.running():
            await asyncio.sleep(10)
            scene.loop.why_not(SHARED, MADE_UP)
            scene.loop.why_not(SEGMENT)
            await asyncio.sleep(10)
        assert scene.cells.logins == [CELLS, CELLS, MADE_UP]

    async def test_cells_that_no_canary_can_ask_are_not_taken_to_pull_with_any_login(self) -> None:
        pulls = DropletPulls(NullCanaryLoop(), cells_have_login=False)

        assert pulls.why_not(SHARED, "") is None
        assert "no canary can be made" in (pulls.why_not(SHARED, "robot") or "")
        assert not pulls.is_refuted(SHARED, "robot")
