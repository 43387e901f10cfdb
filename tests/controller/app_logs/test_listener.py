"""Events become lines in the logs of their apps, at a bounded rate, and never fail whoever tells of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from controller.app_logs import AppLogs, LogQueue
from controller.app_logs.counters import COUNTERS, component_counters
from controller.app_logs.listener import LOOK_INTERVAL, MOST_EVENTS, POSTPONED_INTERVAL, PROGRESS_INTERVAL
from controller.app_logs.sending import Entry
from controller.app_tags import AppTags
from controller.engines.progress import CopyProgress
from controller.metrics import Metrics
from controller.process import Process
from controller.progress import Progress
from reconcile.app_events import (
    CopyBegun,
    CopyFailed,
    CopyPostponed,
    CopyProgressed,
    DropletChanged,
    ImageCached,
    MigrationBegun,
)
from reconcile.app_log_lines import AppLogLine, ComponentCounter
from reconcile.failure_kinds import FailureKind
from reconcile.line_rates import BURST
from reconcile.lrps import AppGuid, DesiredLrp, ModificationTag, ProcessGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.records import JobId
from reconcile.references import Rootfs

pytestmark = pytest.mark.looptime

APP, OTHER, JOB = AppGuid("app-1"), AppGuid("app-2"), JobId("job-1")
SOURCE = "registry.example/team/web:1"


@dataclass
class Scene:
    """App logs over an agent in memory, with a clock that a test sets."""

    taken: list[Entry] = field(default_factory=list)
    progress: dict[JobId, Progress] = field(default_factory=dict)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.process = Process("run", clock=lambda: self.now, monotonic=lambda: self.now)
        self.tags = AppTags()
        self.logs = AppLogs(LogQueue(self, self.process), self.progress.get, self.process, self.tags)

    async def send(self, entries: Sequence[Entry]) -> None:
        self.taken += entries

    async def lines(self) -> list[AppLogLine]:
        await self.logs.flush(1.0)
        return [each for each in self.taken if isinstance(each, AppLogLine)]

    def counted(self, outcome: str) -> float | None:
        return self.process.metrics.registry.get_sample_value(
            "docker_cache_app_log_entries_total", {"outcome": outcome}
        )


def lrp_of(process: str) -> DesiredLrp:
    return DesiredLrp(
        process_guid=ProcessGuid(process),
        domain="cf-apps",
        app_guid=APP,
        rootfs=Rootfs("docker://registry.example/team/web#1"),
        instances=1,
        tag=ModificationTag("epoch", 0),
        definition=b"",
        action=None,
        metric_tags={"app_name": "shop", "process_type": process, "instance_id": "0"},
    )


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_line_has_the_time_of_its_event_and_the_names_of_its_app(scene: Scene) -> None:
    scene.tags.note(APP, {"app_name": "web", "space_name": "prod", "instance_id": "7"})
    scene.logs.copy_event(APP, JOB, CopyBegun(SOURCE))
    scene.now += 5
    (line,) = await scene.lines()

    assert (line.app_guid, line.at) == (APP, 1000 * 10**9)
    assert line.tags == {"app_name": "web", "space_name": "prod"}


async def test_a_line_names_the_process_that_it_is_about_and_no_other(scene: Scene) -> None:
    """The events of all processes of an app are worded together."""
    begun = MigrationBegun(SOURCE, "", Goal.CACHE, has_bridge=True, reason=Reason.RUNS_FROM_SOURCE)
    for process in ("web", "worker"):
        scene.logs.lrp_event(lrp_of(process), begun)
    scene.logs.happened(APP, DropletChanged(SOURCE, is_copy=False))
    lines = await scene.lines()

    assert [line.tags.get("process_type") for line in lines] == ["web", "worker", None]
    assert {line.tags["app_name"] for line in lines} == {"shop"}


async def test_an_app_that_is_scaled_to_nothing_reads_of_no_instances(scene: Scene) -> None:
    begun = MigrationBegun(SOURCE, "", Goal.CACHE, has_bridge=False, reason=Reason.RUNS_FROM_SOURCE)
    scene.logs.lrp_event(replace(lrp_of("web"), instances=0), begun)

    assert await scene.lines() == []


async def test_an_app_gets_no_more_lines_than_its_rate_and_others_get_theirs(scene: Scene) -> None:
    for _ in range(BURST + 10):
        scene.logs.happened(APP, CopyBegun(SOURCE))
    scene.logs.happened(OTHER, CopyBegun(SOURCE))
    lines = await scene.lines()

    assert [sum(line.app_guid == app for line in lines) for app in (APP, OTHER)] == [BURST, 1]
    assert scene.counted("limited") == 10


async def test_an_event_that_cannot_be_worded_costs_only_its_line(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = CopyProgressed(SOURCE, 1, "much")  # type: ignore[arg-type] # what a bug might make of it
    scene.logs.happened(APP, broken)
    scene.logs.happened(APP, CopyBegun(SOURCE))

    assert len(await scene.lines()) == 1
    assert "failed-to-word-app-log-line" in capsys.readouterr().out


async def test_events_that_nobody_words_are_bounded(scene: Scene) -> None:
    for _ in range(MOST_EVENTS + 3):
        scene.logs.happened(APP, CopyBegun(SOURCE))

    assert scene.counted("dropped") == 3


async def test_a_long_copy_is_told_of_at_intervals_until_it_ends(scene: Scene) -> None:
    scene.progress[JOB] = CopyProgress(total=100, transferred=20, skipped=5)
    scene.logs.copy_event(APP, JOB, CopyBegun(SOURCE))
    for _ in range(5):
        scene.logs.look_at_copies()
        scene.now += PROGRESS_INTERVAL / 2
    scene.logs.copy_event(APP, JOB, ImageCached(SOURCE, "cache.example:8080/guid:latest", 100, 100, 61.0))
    scene.now += PROGRESS_INTERVAL
    scene.logs.look_at_copies()
    begun, *progress, cached = [line.text for line in await scene.lines()]

    assert len(progress) == 2
    assert all("(25 %)" in each for each in progress)
    assert ("copying" in begun, "is cached as" in cached) == (True, True)


async def test_a_copy_that_has_not_begun_is_not_told_of(scene: Scene) -> None:
    scene.logs.copy_event(APP, JOB, CopyBegun(SOURCE))
    scene.now += PROGRESS_INTERVAL
    scene.logs.look_at_copies()
    scene.progress[JOB] = CopyProgress()
    scene.logs.look_at_copies()

    assert len(await scene.lines()) == 1


async def test_a_copy_that_has_failed_is_watched_no_longer(scene: Scene) -> None:
    scene.progress[JOB] = CopyProgress(total=100, transferred=20)
    scene.logs.copy_event(APP, JOB, CopyBegun(SOURCE))
    scene.logs.copy_event(APP, JOB, CopyFailed(SOURCE, "timeout: nobody answers"))
    scene.now += PROGRESS_INTERVAL
    scene.logs.look_at_copies()

    assert len(await scene.lines()) == 2


async def test_further_attempts_at_a_copy_are_no_news(scene: Scene) -> None:
    for app in (APP, APP, OTHER):
        scene.logs.copy_event(app, JOB, CopyBegun(SOURCE))

    assert [line.app_guid for line in await scene.lines()] == [APP, OTHER]


async def test_a_copy_that_waits_for_one_cause_is_told_of_once_and_then_seldom(scene: Scene) -> None:
    """A private registry that is down for a day would otherwise fill the log of each app that is staged."""
    down, slow = "disk-full: cache.example: no space left", "TOOMANYREQUESTS: registry.example"
    scene.logs.copy_event(APP, JOB, CopyBegun(SOURCE))
    for failure in (down, down, slow, slow, down):
        scene.logs.copy_event(APP, JOB, CopyPostponed(SOURCE, failure, 2.0))
        scene.now += 4
    for _ in range(10):
        scene.logs.copy_event(APP, JOB, CopyPostponed(SOURCE, down, 300.0))
        scene.now += 300
    scene.logs.copy_event(OTHER, JOB, CopyPostponed(SOURCE, down, 300.0))
    lines = await scene.lines()
    waits = [line for line in lines if "is not copied yet" in line.text]

    assert [line.app_guid for line in waits] == [APP] * 4 + [OTHER]
    assert ["limits how often" in line.text for line in waits[:3]] == [False, True, False]
    assert waits[3].at - waits[2].at >= POSTPONED_INTERVAL * 10**9


async def test_a_copy_of_an_earlier_process_is_told_of_once_it_must_wait(scene: Scene) -> None:
    scene.progress[JOB] = CopyProgress(total=100, transferred=20)
    scene.logs.copy_event(APP, JOB, CopyPostponed(SOURCE, "timeout: nobody answers", 2.0))
    scene.now += PROGRESS_INTERVAL
    scene.logs.look_at_copies()

    assert ["(20 %)" in line.text for line in await scene.lines()] == [False, True]


async def test_a_fault_in_a_look_at_copies_ends_nothing(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.progress[JOB] = CopyProgress(total="much")  # type: ignore[arg-type] # what a bug might make of it
    scene.logs.copy_event(APP, JOB, CopyBegun(SOURCE))
    scene.now += PROGRESS_INTERVAL
    scene.logs.look()
    scene.progress.clear()

    assert len(await scene.lines()) == 1
    assert "failed-to-look-at-copies" in capsys.readouterr().out


async def test_its_loops_send_lines_and_counters_by_themselves(scene: Scene) -> None:
    scene.process.metrics.jobs.attempts.labels(outcome="cached").inc(2)
    running = asyncio.create_task(scene.logs.run())
    scene.logs.happened(APP, CopyBegun(SOURCE))
    await asyncio.sleep(LOOK_INTERVAL + 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    counters = [each for each in scene.taken if isinstance(each, ComponentCounter)]
    assert [type(each) for each in scene.taken].count(AppLogLine) == 1
    assert [each.name for each in counters] == [*COUNTERS] * 2, "at once, and at intervals"
    assert {each.name: each.total for each in counters} == {**dict.fromkeys(COUNTERS, 0), "ImagesCached": 2}


def test_every_counter_is_made_of_metrics_that_exist() -> None:
    metrics = Metrics()
    metrics.jobs.count_bytes("docker.io", transferred=3, mounted=1, present=1)
    declared = {family.name: family.labels for family in metrics.declared}

    for name, label, values in COUNTERS.values():
        known = declared[name][label]
        assert isinstance(known, tuple)
        assert values <= set(known)


def test_counters_add_up_what_they_are_made_of() -> None:
    metrics = Metrics()
    metrics.jobs.attempts.labels("cached").inc(2)
    metrics.jobs.count_failure("failed", FailureKind.DENIED)
    metrics.jobs.count_bytes("docker.io", transferred=3, mounted=2, present=1)
    for reason, count in ((Reason.NOT_STARTED, 4), (Reason.MIGRATED, 5)):
        metrics.migrations.ended.labels(Goal.CACHE, reason.state, reason).inc(count)
    metrics.migrations.ended.labels(Goal.SOURCE, Reason.RESTORED.state, Reason.RESTORED).inc(6)
    metrics.app_logs.entries.labels("dropped").inc(7)

    assert {each.name: each.total for each in component_counters(metrics, 0)} == {
        "ImagesCached": 2,
        "CopiesFailed": 1,
        "BytesTransferred": 3,
        "AppsMigrated": 5,
        "MigrationsFailed": 4,
        "AppsRestored": 6,
        "AppLogLinesDropped": 7,
    }
