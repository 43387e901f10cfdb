"""A pause says once how many wait for its end."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from controller.pause_report import PauseReport
from controller.workqueue import WorkQueue
from reconcile.lrps import ProcessGuid
from reconcile.reasons import Reason
from tests.written_lines import written_lines

A, B, C = map(ProcessGuid, "abc")


@dataclass
class Scene:
    """A report over a queue whose keys a test passes over."""

    is_paused: bool = True
    copies: int = 3
    queue: WorkQueue[ProcessGuid] = field(default_factory=WorkQueue)

    def __post_init__(self) -> None:
        self.report = PauseReport(self.queue, lambda: self.is_paused, lambda: self.copies)

    def sweep(self, *keys: ProcessGuid) -> None:
        for key in keys:
            self.queue.add(key)
        self.report.note_sweep()

    async def passes(self, *reasons: Reason) -> None:
        for reason in reasons:
            key = await self.queue.take()
            self.queue.done(key)
            self.report.note_pass(key, reason)


@pytest.fixture
def scene() -> Scene:
    return Scene()


Said = Callable[[], list[tuple[int, int]]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Give how many LRPs and copies were said to wait, in each line since the last call."""
    return lambda: [(line["data"]["lrps"], line["data"]["copies"]) for line in written_lines(capsys)]


async def test_it_is_said_when_the_last_lrp_was_looked_at(scene: Scene, said: Said) -> None:
    scene.sweep(A, B, C)
    await scene.passes(Reason.PAUSED, Reason.ALREADY_CACHED)
    assert said() == []
    await scene.passes(Reason.PAUSED)

    assert said() == [(2, 3)]


async def test_later_sweeps_say_nothing(scene: Scene, said: Said) -> None:
    for _ in range(3):
        scene.sweep(A)
        await scene.passes(Reason.PAUSED)

    assert said() == [(1, 3)]


async def test_a_platform_on_which_nothing_waits_says_so_at_once(scene: Scene, said: Said) -> None:
    scene.copies = 0
    scene.sweep()

    assert said() == [(0, 0)]


async def test_the_next_pause_says_it_again(scene: Scene, said: Said) -> None:
    scene.sweep(A)
    await scene.passes(Reason.PAUSED)
    scene.is_paused = False
    scene.report.note_resumption()
    scene.sweep(A)
    await scene.passes(Reason.MIGRATED)
    scene.is_paused = True
    scene.sweep(A, B)
    await scene.passes(Reason.PAUSED, Reason.ALREADY_CACHED)

    assert said() == [(1, 3), (1, 3)]
