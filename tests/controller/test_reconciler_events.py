"""What passes tell of migrations, to those who word it for app developers."""

import asyncio
import re
from dataclasses import replace

import pytest

from controller.reconciler import Reconciler
from reconcile.app_events import AppEvent, MigrationBegun, MigrationEnded
from reconcile.lrps import DesiredLrp, ProcessGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from tests.controller import test_reconciler
from tests.controller.test_reconciler import CACHE, CONTENT, Bench
from tests.simulators.bbs import Fault
from tests.written_lines import written_lines

certificates = test_reconciler.certificates
bench = test_reconciler.bench

SOURCE = "registry.example.com/team/app:1"


def listening(reconciler: Reconciler) -> list[tuple[str, AppEvent]]:
    """Keep what a reconciler tells: the app, and the event."""
    reported: list[tuple[str, AppEvent]] = []

    def listen(lrp: DesiredLrp, event: AppEvent) -> None:
        reported.append((lrp.app_guid, event))

    reconciler.listeners.of_migrations.append(listen)
    return reported


async def end_of(reported: list[tuple[str, AppEvent]]) -> None:
    """Wait until the end of a migration was told: that is right after the record of the LRP says so."""
    async with asyncio.timeout(60):
        while not any(isinstance(event, MigrationEnded) for _, event in reported):  # noqa: ASYNC110 - a list
            await asyncio.sleep(0.01)


async def test_a_migration_is_told_of_when_it_begins_and_when_it_has_ended(bench: Bench) -> None:
    app = await bench.app_with_copy()
    reconciler = bench.reconciler()
    reported = listening(reconciler)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await end_of(reported)
    (app_guid, begun), (_, ended) = reported
    copy = str(CACHE.image(await bench.store.records.reserve_guid(CONTENT)))

    assert app_guid == app.guid
    assert begun == MigrationBegun(SOURCE, "", Goal.CACHE, has_bridge=False, reason=Reason.RUNS_FROM_SOURCE)
    assert isinstance(ended, MigrationEnded)
    assert replace(ended, seconds=0.0) == MigrationEnded(SOURCE, copy, "", Goal.CACHE, Reason.MIGRATED, 0.0)
    assert ended.seconds > 0


async def test_a_migration_that_cannot_begin_is_told_of_by_nothing(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.registry.held.clear()
    reconciler = bench.reconciler()
    reported = listening(reconciler)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.COPY_VANISHED, Reason.WAITING_FOR_COPY)

    assert reported == []


async def test_a_migration_that_an_earlier_run_began_is_told_of_when_it_ends(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.lose_stops()
    first = bench.reconciler()
    before = listening(first)
    async with bench.running(first):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.INSTANCES_STOPPING)
    bench.queue = type(bench.queue)()
    second = bench.reconciler(run_id="run-2")
    after = listening(second)
    await second.recover()
    bench.end_instances()
    async with bench.running(second):
        await end_of(after)

    assert [type(event) for _, event in (*before, *after)] == [MigrationBegun, MigrationEnded]


async def test_a_way_back_is_told_of_with_who_asked_for_it(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.may_bridge = True
    reconciler = bench.reconciler()
    reported = listening(reconciler)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.MIGRATED)
        await bench.order(app, Goal.SOURCE).end()
    begun, ended = (event for _, event in reported[2:])

    assert isinstance(begun, MigrationBegun)
    assert isinstance(ended, MigrationEnded)
    assert (begun.goal, begun.reason) == (Goal.SOURCE, Reason.RESTORE_REQUESTED)
    assert (ended.goal, ended.reason) == (Goal.SOURCE, Reason.RESTORED)


async def test_the_lines_of_a_pass_have_the_id_that_its_requests_carry(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """By it the lines of the BBS about a call that failed are found; `test_calls` looks at the header."""
    app = await bench.app_with_copy()
    path = "/v1/desired_lrps/get_by_process_guid.r3"
    bench.bbs.faults.order(Fault.UNAVAILABLE, path, calls=5)  # of as many attempts at one call
    async with bench.running(bench.reconciler(), loops=1):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.MIGRATED)

    lines = [line for line in written_lines(capsys) if ".reconciler." in line["message"]]
    (failed,) = (line for line in lines if line["message"].endswith("failed-to-reconcile"))
    ids = [line["data"]["trace-id"] for line in lines if line["message"].endswith(".reconciled")]
    assert failed["level"] == "debug", "all LRPs may wait for the same BBS, which has lines of its own"
    assert path in failed["data"]["error"]
    assert re.fullmatch("[0-9a-f]{32}", failed["data"]["trace-id"])
    assert len({failed["data"]["trace-id"], *ids}) == len(ids) + 1, "each pass has one of its own"
