"""What passes tell of migrations, to those who word it for app developers."""

from dataclasses import replace

from controller.reconciler import Reconciler
from reconcile.app_events import AppEvent, MigrationBegun, MigrationEnded
from reconcile.lrps import DesiredLrp, ProcessGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from tests.controller import test_reconciler
from tests.controller.test_reconciler import CACHE, CONTENT, Bench

certificates = test_reconciler.certificates
bench = test_reconciler.bench

SOURCE = "registry.example.com/team/app:1"


def listening(reconciler: Reconciler) -> list[tuple[str, AppEvent]]:
    """Keep what a reconciler tells: the app, and the event."""
    told: list[tuple[str, AppEvent]] = []

    def listen(lrp: DesiredLrp, event: AppEvent) -> None:
        told.append((lrp.app_guid, event))

    reconciler.of_migrations.append(listen)
    return told


async def test_a_migration_is_told_of_when_it_begins_and_when_it_has_ended(bench: Bench) -> None:
    app = await bench.app_with_copy()
    reconciler = bench.reconciler()
    told = listening(reconciler)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.MIGRATED)
    (app_guid, begun), (_, ended) = told
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
    told = listening(reconciler)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.COPY_VANISHED, Reason.WAITING_FOR_COPY)

    assert told == []


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
        await bench.reason(app, Reason.MIGRATED)

    assert [type(event) for _, event in (*before, *after)] == [MigrationBegun, MigrationEnded]


async def test_a_way_back_is_told_of_with_who_asked_for_it(bench: Bench) -> None:
    app = await bench.app_with_copy()
    bench.may_bridge = True
    reconciler = bench.reconciler()
    told = listening(reconciler)
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, Reason.MIGRATED)
        await bench.order(app, Goal.SOURCE).end()
    begun, ended = (event for _, event in told[2:])

    assert isinstance(begun, MigrationBegun)
    assert isinstance(ended, MigrationEnded)
    assert (begun.goal, begun.reason) == (Goal.SOURCE, Reason.RESTORE_REQUESTED)
    assert (ended.goal, ended.reason) == (Goal.SOURCE, Reason.RESTORED)
