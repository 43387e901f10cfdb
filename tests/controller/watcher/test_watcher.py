"""What becomes of events, staging tasks and listings, over a BBS in memory and a real store, in virtual time.

How a BBS behaves is tested with the whole process (`tests/daemon`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from controller.app_placements import AppPlacements
from controller.copy_uses import CopyUses
from controller.coverage import StagingCoverage
from controller.droplets import UnchangedDroplets
from controller.event_cache import LrpEventCache
from controller.lrp_index import LrpIndex
from controller.process import Process
from controller.store.opening import Store
from controller.watcher import Watcher, WatcherDependencies
from controller.watcher.sweep import FIRST_REQUEST_PAUSE, RECHECK_INTERVAL
from controller.workqueue import WorkQueue
from reconcile.bridges import BRIDGE_DOMAIN, bridge_of
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.events import (
    ActualLrpChanged,
    ActualLrpCrashed,
    ActualLrpCreated,
    ActualLrpRemoved,
    BrokenEvent,
    DesiredLrpChanged,
    DesiredLrpCreated,
    DesiredLrpRemoved,
    Event,
    TaskChanged,
    TaskCreated,
    TaskRemoved,
)
from reconcile.lrps import (
    ActualLrp,
    ActualLrpState,
    DesiredLrp,
    ModificationTag,
    Presence,
    ProcessGuid,
    SchedulingInfo,
    Task,
    TaskGuid,
    TaskState,
)
from reconcile.reasons import Reason
from reconcile.records import Binding, CacheJob, CacheRequest, JobId, JobState, LrpRecord
from reconcile.references import Rootfs
from reconcile.stop_requests import StopRequests
from tests.reconcile.test_decide import GUID, LRP, PROCESS, RULES
from tests.reconcile.test_staging import staging_task
from tests.stores import open_store

pytestmark = pytest.mark.looptime

INTERVAL = 30.0
NOW = 1_800_000_000.0
STREAM_ENDED = Unavailable("bbs", "stream-ended", "the BBS closed the stream")
CACHED = replace(LRP, rootfs=Rootfs("docker://cache.example:8080/guid#latest"))
STAGING = staging_task("-dockerRef=registry.example.com/team/app:1")


def info(lrp: DesiredLrp = LRP) -> SchedulingInfo:
    return SchedulingInfo(lrp.process_guid, lrp.domain, lrp.app_guid, lrp.rootfs, lrp.instances, lrp.tag)


def bridge_row(state: ActualLrpState) -> ActualLrp:
    has_key = state in {ActualLrpState.CLAIMED, ActualLrpState.RUNNING}
    return ActualLrp(
        bridge_of(PROCESS),
        0,
        BRIDGE_DOMAIN,
        state,
        Presence.ORDINARY,
        instance_guid="bridge-0" if has_key else "",
        cell_id="cell-1" if has_key else "",
        tag=ModificationTag("", 0),
    )


@dataclass
class Scan:
    """A listing that is over at once."""

    infos: Sequence[SchedulingInfo]
    skipped: int = 0

    async def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        for each in self.infos:
            yield each


RECORD = LrpRecord(
    process_guid=PROCESS,
    app_guid=LRP.app_guid,
    rootfs=str(LRP.rootfs),
    cache_guid=None,
    rounds=0,
    reason=Reason.MIGRATED,
    updated_at=1.0,
)


@dataclass
class MemoryBbs:
    """A BBS with one stream for all events, and with what it lists.

    Attributes:
        closes: By what the stream ends when whoever reads it is cancelled.
    """

    tasks: list[Task] = field(default_factory=list)
    infos: list[SchedulingInfo] = field(default_factory=list)
    skipped: int = 0
    problem: DockerCacheError | None = None
    events: "asyncio.Queue[Event | DockerCacheError]" = field(default_factory=asyncio.Queue)
    lrps: list[DesiredLrp] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    subscribed: int = 0
    listed: int = 0
    closes: DockerCacheError | None = None

    @asynccontextmanager
    async def subscribe_tasks(self) -> AsyncIterator[AsyncIterator[Event]]:
        self.subscribed += 1
        yield self._read()

    @asynccontextmanager
    async def subscribe_lrp_instances(self) -> AsyncIterator[AsyncIterator[Event]]:
        yield self._silence()

    async def _read(self) -> AsyncIterator[Event]:
        while True:
            try:
                event = await self.events.get()
            except asyncio.CancelledError:
                if self.closes is None:
                    raise
                raise self.closes from None
            if isinstance(event, DockerCacheError):
                raise event
            yield event

    async def _silence(self) -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        yield BrokenEvent("never", "never")

    async def list_tasks(self, domain: str) -> tuple[Task, ...]:
        if self.problem is not None:
            raise self.problem
        self.listed += 1
        return tuple(task for task in self.tasks if task.domain == domain)

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Scan:
        return Scan([each for each in self.infos if each.domain == domain], self.skipped)

    async def list_desired_lrps(
        self, domain: str, process_guids: Sequence[ProcessGuid]
    ) -> AsyncIterator[DesiredLrp]:
        assert domain == ""
        self.batches.append(len(process_guids))
        for lrp in self.lrps:
            if lrp.process_guid in process_guids:
                yield lrp


@dataclass
class Requests:
    """Takes requests for copies, after as many failures as are ordered."""

    taken: list[CacheRequest] = field(default_factory=list)
    failures: int = 0

    async def request(self, request: CacheRequest) -> CacheJob:
        if self.failures:
            self.failures -= 1
            raise Unavailable("store", "locked", "later")
        self.taken.append(request)
        return CacheJob(JobId("job"), request.source, JobState.QUEUED, request.reason, 0.0, 0.0)


@dataclass
class CopyKeeper:
    """Looks after copies."""

    rows: list[ActualLrp] = field(default_factory=list)
    gone: list[ActualLrp] = field(default_factory=list)
    crashes: list[ActualLrpCrashed] = field(default_factory=list)

    def note_instance(self, row: ActualLrp) -> None:
        self.rows.append(row)

    def note_gone_instance(self, row: ActualLrp) -> None:
        self.gone.append(row)

    def note_crash(self, crash: ActualLrpCrashed) -> None:
        self.crashes.append(crash)


@dataclass
class Mode:
    """Which way LRPs are migrated."""

    is_restoring: bool = False


@dataclass
class Scene:
    """A watcher at work, and all that it reaches."""

    bbs: MemoryBbs
    store: Store
    watcher: Watcher
    queue: WorkQueue[ProcessGuid]
    requests: Requests
    event_cache: LrpEventCache
    stops: StopRequests
    mode: Mode
    presence: CopyKeeper
    running: "asyncio.Task[None]"

    async def happens(self, *events: Event | DockerCacheError) -> None:
        """Let events arrive, and what they cause come to rest."""
        for event in events:
            self.bbs.events.put_nowait(event)
        await asyncio.sleep(0.1)

    async def queued(self) -> list[ProcessGuid]:
        """Take all keys that wait, in their order."""
        keys = [await self.queue.take() for _ in range(len(self.queue))]
        for key in keys:
            self.queue.done(key)
        return keys


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what needs the database, whose thread may get no turn for a while."""
    for _ in range(200):
        if holds():
            return
        await asyncio.sleep(0.1)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as opened:
        yield opened


@asynccontextmanager
async def watching(store: Store, bbs: MemoryBbs) -> AsyncIterator[Scene]:
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    requests, event_cache, stops, mode = Requests(), LrpEventCache(), StopRequests(), Mode()
    presence = CopyKeeper()
    dependencies = WatcherDependencies(
        bbs=bbs,
        queue=queue,
        index=LrpIndex(),
        placements=AppPlacements(),
        stagings=UnchangedDroplets(),
        copy_uses=CopyUses(),
        presence=presence,
        coverage=StagingCoverage(),
        requests=requests,
        bindings=store.records,
        records=store.records,
        event_cache=event_cache,
        stops=stops,
        mode=mode,
        rules=RULES,
        process=Process("run-1", clock=lambda: NOW + asyncio.get_running_loop().time()),
    )
    watcher = Watcher(dependencies, sync_interval=INTERVAL)
    task = asyncio.create_task(watcher.run())
    try:
        await asyncio.sleep(0.1)
        await until(lambda: watcher.is_watching or bbs.problem is not None)
        yield Scene(bbs, store, watcher, queue, requests, event_cache, stops, mode, presence, task)
    finally:
        task.cancel()
        async with asyncio.timeout(600.0):
            await asyncio.gather(task, return_exceptions=True)
        watcher.close()
        queue.close()


@pytest.fixture
async def scene(store: Store) -> AsyncIterator[Scene]:
    async with watching(store, MemoryBbs()) as opened:
        yield opened


class TestStreams:
    @pytest.mark.parametrize("turns", range(8))
    async def test_the_end_of_a_stream_does_not_hide_that_the_process_ends(
        self, scene: Scene, turns: int
    ) -> None:
        """Both happen at once when the process has lost its lock, since it stood still."""
        scene.bbs.events.put_nowait(STREAM_ENDED)
        for _ in range(turns):
            await asyncio.sleep(0)

        scene.running.cancel()

        await asyncio.wait([scene.running], timeout=600.0)
        assert scene.running.cancelled()
        assert scene.bbs.subscribed == 1

    async def test_a_stream_that_ends_since_the_process_ends_does_not_hide_that(self, store: Store) -> None:
        async with watching(store, MemoryBbs(closes=STREAM_ENDED)) as scene:
            scene.running.cancel()

            await asyncio.wait([scene.running], timeout=600.0)
            assert scene.running.cancelled()

    async def test_the_end_of_a_stream_is_loss_and_all_starts_anew(self, scene: Scene) -> None:
        assert (scene.watcher.is_watching, scene.bbs.subscribed, scene.bbs.listed) == (True, 1, 1)

        scene.bbs.problem = Unavailable("bbs", "Timeout", "later")
        await scene.happens(STREAM_ENDED)
        await asyncio.sleep(5.0)
        assert not scene.watcher.is_watching, "it has subscribed, but not listed since"
        assert scene.bbs.subscribed > 2

        scene.bbs.problem = None
        await asyncio.sleep(11.0)
        assert (scene.watcher.is_watching, scene.bbs.listed) == (True, 2)

    async def test_a_bbs_that_stays_away_is_asked_ever_more_seldom(self, store: Store) -> None:
        bbs = MemoryBbs(problem=Unavailable("bbs", "Timeout", "later"))
        async with watching(store, bbs):
            await asyncio.sleep(60.0)
            in_the_first_minute = bbs.subscribed
            await asyncio.sleep(600.0)

        assert in_the_first_minute < 20
        assert 60 <= bbs.subscribed - in_the_first_minute <= 121

    async def test_an_lrp_that_is_desired_from_its_source_is_looked_at_until_it_runs_from_the_cache(
        self, scene: Scene
    ) -> None:
        await scene.happens(DesiredLrpCreated(LRP))
        assert await scene.queued() == [PROCESS]

        await scene.happens(DesiredLrpChanged(LRP, CACHED), DesiredLrpRemoved(CACHED))
        assert await scene.queued() == []

    async def test_one_that_its_owner_desires_from_a_copy_is_looked_at_once(self, scene: Scene) -> None:
        """Its app's droplet may name the copy: its source is not saved yet, and its login is another one."""
        await scene.happens(DesiredLrpCreated(CACHED))
        assert await scene.queued() == [PROCESS]

        await scene.happens(DesiredLrpChanged(CACHED, replace(CACHED, instances=3)))
        assert await scene.queued() == []

    async def test_an_event_of_a_bridge_is_about_the_lrp_in_migration_which_goes_first(
        self, scene: Scene
    ) -> None:
        scene.event_cache.track(PROCESS)
        other = replace(LRP, process_guid=ProcessGuid("other"))
        before, after = bridge_row(ActualLrpState.CLAIMED), bridge_row(ActualLrpState.RUNNING)

        await scene.happens(DesiredLrpCreated(other), ActualLrpChanged(before, after))

        assert await scene.queued() == [PROCESS, "other"]

    async def test_what_the_daemon_causes_itself_does_not_shorten_a_wait(self, scene: Scene) -> None:
        scene.event_cache.track(PROCESS)
        bridge = replace(CACHED, process_guid=bridge_of(PROCESS), domain=BRIDGE_DOMAIN)
        row = bridge_row(ActualLrpState.RUNNING)
        scene.queue.add(PROCESS)
        scene.queue.again(await scene.queue.take(), 5.0)
        scene.stops.note(row, 0.0)

        await scene.happens(
            DesiredLrpCreated(bridge),
            DesiredLrpChanged(bridge, bridge),
            ActualLrpCreated(bridge_row(ActualLrpState.UNCLAIMED)),
            ActualLrpChanged(row, bridge_row(ActualLrpState.CLAIMED)),
            ActualLrpRemoved(row),
            DesiredLrpRemoved(bridge),
        )

        assert len(scene.queue) == 0

    @pytest.mark.parametrize(
        "event",
        [
            DesiredLrpChanged(LRP, LRP),
            DesiredLrpRemoved(LRP),
            ActualLrpRemoved(bridge_row(ActualLrpState.RUNNING)),
            ActualLrpChanged(bridge_row(ActualLrpState.CLAIMED), bridge_row(ActualLrpState.RUNNING)),
            ActualLrpChanged(bridge_row(ActualLrpState.RUNNING), bridge_row(ActualLrpState.CRASHED)),
            ActualLrpCrashed(bridge_of(PROCESS), 0, BRIDGE_DOMAIN, "bridge-0", "cell-1", 1, "exited"),
        ],
    )
    async def test_what_decides_something_ends_a_wait(self, scene: Scene, event: Event) -> None:
        scene.event_cache.track(PROCESS)
        scene.queue.add(PROCESS)
        scene.queue.again(await scene.queue.take(), 5.0)

        await scene.happens(event)

        assert await scene.queued() == [PROCESS]
        scene.queue.close()

    async def test_the_end_of_an_instance_that_was_asked_to_stop_ends_a_wait(self, scene: Scene) -> None:
        """The BBS emits one removed event when it sends the stop, and another when the row is gone."""
        scene.event_cache.track(PROCESS)
        row = bridge_row(ActualLrpState.RUNNING)
        scene.stops.note(row, 0.0)
        scene.queue.add(PROCESS)
        scene.queue.again(await scene.queue.take(), 5.0)

        await scene.happens(ActualLrpRemoved(row), ActualLrpRemoved(row))

        assert await scene.queued() == [PROCESS]

    @pytest.mark.parametrize(
        ("before", "queued"),
        [(ActualLrpState.UNCLAIMED, [PROCESS]), (ActualLrpState.RUNNING, [])],
        ids=["it-begins-to-run", "it-has-served-before"],
    )
    async def test_an_instance_from_before_a_removal_is_looked_at_when_it_begins_to_run(
        self, scene: Scene, before: ActualLrpState, queued: list[ProcessGuid]
    ) -> None:
        """Later its app would lose it: a change of what runs is no begin."""
        scene.event_cache.untrack(PROCESS, frozenset({"old"}))
        runs = replace(bridge_row(ActualLrpState.RUNNING), process_guid=PROCESS, instance_guid="old")

        await scene.happens(ActualLrpChanged(replace(runs, state=before), runs))

        assert await scene.queued() == queued
        assert scene.event_cache.stale(PROCESS) == frozenset({"old"} if queued else ())

    async def test_versions_of_an_lrp_in_migration_are_remembered(self, scene: Scene) -> None:
        scene.event_cache.track(PROCESS)
        newer = replace(LRP, tag=ModificationTag(LRP.tag.epoch, 7))

        await scene.happens(DesiredLrpChanged(LRP, newer), DesiredLrpRemoved(LRP))

        assert scene.event_cache.versions(PROCESS) == (newer,)

    async def test_an_event_that_cannot_be_read_leads_to_a_look_at_every_lrp(self, scene: Scene) -> None:
        scene.bbs.infos.append(info())
        await scene.happens(DesiredLrpCreated(LRP))
        assert await scene.queued() == [PROCESS]

        await scene.happens(BrokenEvent("desired_lrp_created", "cut off"))
        await asyncio.sleep(FIRST_REQUEST_PAUSE + 0.1)

        await until(lambda: scene.bbs.listed == 2)
        assert scene.bbs.listed == 2
        assert await scene.queued() == [PROCESS]

    async def test_events_that_cannot_be_read_lead_to_few_listings(self, scene: Scene) -> None:
        for _ in range(600):
            await scene.happens(BrokenEvent("desired_lrp_created", "cut off"))

        assert scene.bbs.listed <= 8, "within a minute"


class TestStagingTasks:
    async def test_a_copy_is_requested_once_however_often_its_task_is_seen(self, scene: Scene) -> None:
        scene.bbs.tasks.append(STAGING)
        await scene.happens(TaskCreated(STAGING), TaskChanged(STAGING, STAGING))
        await asyncio.sleep(3 * INTERVAL)

        assert [request.requester for request in scene.requests.taken] == [f"task:{STAGING.task_guid}"]

    async def test_a_task_that_only_the_listing_shows_is_found(self, store: Store) -> None:
        async with watching(store, MemoryBbs(tasks=[STAGING])) as scene:
            assert [request.reason for request in scene.requests.taken] == [Reason.STAGING_TASK]

    async def test_after_a_gap_it_is_requested_again_so_that_it_counts_as_seen(self, scene: Scene) -> None:
        scene.bbs.tasks.append(STAGING)
        await scene.happens(TaskCreated(STAGING), STREAM_ENDED)
        await asyncio.sleep(1.0)

        assert len(scene.requests.taken) == 2

    async def test_one_that_could_not_be_requested_is_requested_later(self, scene: Scene) -> None:
        scene.requests.failures = 3
        await scene.happens(TaskCreated(STAGING))
        assert scene.requests.taken == []

        await asyncio.sleep(10.0)
        assert len(scene.requests.taken) == 1

    async def test_the_binding_of_a_staging_that_failed_is_dropped_and_an_older_state_changes_nothing(
        self, scene: Scene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await scene.happens(TaskCreated(STAGING))
        (request,) = scene.requests.taken
        job = CacheJob(JobId("job"), request.source, JobState.QUEUED, request.reason, 0.0, 0.0)
        binding = Binding(request.app_guid, request.source, request.requester, 1, job.job_id)
        await scene.store.records.add_job(job, binding)

        pull = "failed to create container: running image plugin create: "
        why = f"{pull}reading manifest 1 in r: manifest unknown\n: exit status 1"
        failed = replace(STAGING, state=TaskState.COMPLETED, failed=True, failure_reason=why)
        await scene.happens(TaskChanged(STAGING, failed))
        for _ in range(200):  # the store works in a thread, in real time
            await asyncio.sleep(0.01)
        assert await scene.store.records.find_binding(request.requester) is None
        assert '"detail": "reading manifest 1 in r: manifest unknown"' in capsys.readouterr().out

        await scene.happens(TaskCreated(STAGING))
        assert len(scene.requests.taken) == 1

    async def test_a_failure_that_is_reported_again_while_it_is_handled_ends_nothing(
        self, scene: Scene
    ) -> None:
        failed = replace(STAGING, state=TaskState.COMPLETED, failed=True)
        again = replace(failed, state=TaskState.RESOLVING)
        for event in (TaskChanged(STAGING, failed), TaskChanged(failed, again), TaskRemoved(again)):
            scene.bbs.events.put_nowait(event)
            for _ in range(4):  # it is read, and the task is taken
                await asyncio.sleep(0)
        for _ in range(200):  # the store works in a thread, in real time
            await asyncio.sleep(0.01)
        other = replace(STAGING, task_guid=TaskGuid("other"))
        await scene.happens(TaskCreated(other))

        assert [request.requester for request in scene.requests.taken] == ["task:other"]
        assert scene.bbs.subscribed == 1


class TestSweep:
    async def test_what_it_finds_goes_behind_what_events_tell(self, store: Store) -> None:
        async with watching(store, MemoryBbs(infos=[info()])) as scene:
            await scene.happens(DesiredLrpCreated(replace(LRP, process_guid=ProcessGuid("event"))))

            assert await scene.queued() == ["event", PROCESS]

    async def test_an_lrp_is_looked_at_again_when_it_has_changed_and_else_about_once_an_hour(
        self, store: Store
    ) -> None:
        async with watching(store, MemoryBbs(infos=[info()])) as scene:
            assert await scene.queued() == [PROCESS]
            looks = 0
            for _ in range(120):
                await asyncio.sleep(INTERVAL)
                looks += len(await scene.queued())
            assert looks == 1

            scene.bbs.infos[0] = info(replace(LRP, tag=ModificationTag("other", 0)))
            await asyncio.sleep(2 * INTERVAL)
            assert await scene.queued() == [PROCESS]

    async def test_an_lrp_that_is_removed_from_its_copy_is_looked_at_once(self, store: Store) -> None:
        """Its record would call it cached for as long as it is kept."""
        on_copy = replace(LRP, rootfs=RULES.cache.rootfs(GUID))
        async with watching(store, MemoryBbs()) as scene:
            await scene.happens(DesiredLrpCreated(on_copy))
            await scene.queued()

            await scene.happens(DesiredLrpRemoved(on_copy), DesiredLrpRemoved(on_copy))

            assert await scene.queued() == [PROCESS]

    async def test_an_lrp_that_is_gone_is_not_looked_at_for_an_event_of_an_instance(
        self, store: Store
    ) -> None:
        async with watching(store, MemoryBbs(infos=[info()])) as scene:
            await scene.queued()
            scene.bbs.infos.clear()
            await asyncio.sleep(2 * INTERVAL)
            await scene.happens(DesiredLrpRemoved(LRP))

            assert await scene.queued() == []

    async def test_one_whose_record_may_be_the_unreadable_one_is_not_taken_for_gone(
        self, store: Store
    ) -> None:
        async with watching(store, MemoryBbs(infos=[info()])) as scene:
            await scene.queued()
            scene.bbs.infos.clear()
            scene.bbs.skipped = 1
            await asyncio.sleep(2 * INTERVAL)
            await scene.happens(DesiredLrpRemoved(LRP))

            assert await scene.queued() == [PROCESS]

    async def test_those_from_the_cache_without_a_record_are_looked_at_when_it_begins(
        self, store: Store
    ) -> None:
        """The database was lost: what is said of them must not wait for an hour."""
        known, unknown = (replace(CACHED, process_guid=ProcessGuid(each)) for each in ("known", "unknown"))
        await store.records.save_lrp(replace(RECORD, process_guid=known.process_guid))
        async with watching(store, MemoryBbs(infos=[info(known), info(unknown)])) as scene:
            assert await scene.queued() == ["unknown"]
            await asyncio.sleep(INTERVAL + 1.0)
            assert await scene.queued() == []

    @pytest.mark.parametrize(
        "host",
        [
            "Cache.example:8080",
            "cache.example:08080",
            "cache.example.:8080",
            "user:password@cache.example:8080",
        ],
    )
    async def test_one_from_the_cache_is_known_in_every_spelling_of_its_host(
        self, store: Store, host: str
    ) -> None:
        copy = replace(CACHED, rootfs=Rootfs(f"docker://{host}/guid#latest"))
        await store.records.save_lrp(replace(RECORD, rootfs=str(copy.rootfs)))
        async with watching(store, MemoryBbs(infos=[info(copy)])) as scene:
            assert await scene.queued() == []
            scene.mode.is_restoring = True
            await asyncio.sleep(INTERVAL + 1.0)

            assert await scene.queued() == [PROCESS]

    async def test_while_lrps_are_restored_those_from_the_cache_are_looked_at(self, store: Store) -> None:
        await store.records.save_lrp(RECORD)
        async with watching(store, MemoryBbs(infos=[info(CACHED)])) as scene:
            assert await scene.queued() == []
            scene.mode.is_restoring = True
            await asyncio.sleep(INTERVAL + 1.0)

            assert await scene.queued() == [PROCESS]

    @pytest.mark.parametrize(
        ("reason", "queued"),
        [
            (Reason.COPY_NOT_PULLED, [PROCESS]),
            (Reason.PINNED_TO_SOURCE, [PROCESS]),
            (Reason.WAITING_FOR_COPY, [PROCESS]),
            (Reason.MIGRATED, []),
            (Reason.ALREADY_CACHED, []),
            (Reason.COPY_UNKNOWN, []),
        ],
    )
    async def test_one_from_the_cache_whose_record_is_of_its_source_is_looked_at_when_it_begins(
        self, store: Store, reason: Reason, queued: list[ProcessGuid]
    ) -> None:
        """Cloud Controller desired it anew, from a droplet that names the copy, while no daemon ran."""
        await store.records.save_lrp(replace(RECORD, reason=reason))
        async with watching(store, MemoryBbs(infos=[info(CACHED)])) as scene:
            assert await scene.queued() == queued
            await asyncio.sleep(INTERVAL + 1.0)

            assert await scene.queued() == [], "once: what it is looked at for is done by then"

    async def test_those_with_another_login_than_the_configured_one_are_looked_at_when_it_begins(
        self, store: Store
    ) -> None:
        """In batches, and once: the config changes only with the process."""
        copies = [
            replace(
                CACHED,
                process_guid=ProcessGuid(f"p-{number:03}"),
                rootfs=RULES.cache.rootfs(GUID),
                credentials=LRP.credentials if number in {7, 259} else RULES.pull_credentials,
            )
            for number in range(260)
        ]
        bbs = MemoryBbs(infos=list(map(info, copies)), lrps=copies)
        for copy in copies:
            await store.records.save_lrp(replace(RECORD, process_guid=copy.process_guid))
        async with watching(store, bbs) as scene:
            due_anyway = set(await scene.queued())
            await asyncio.sleep(3 * INTERVAL)

            assert due_anyway >= {"p-007", "p-259"}
            assert len(due_anyway) < 100, "the others by and by"
            assert bbs.batches == [250, 10]

    async def test_a_bridge_of_no_migration_is_looked_at(self, store: Store) -> None:
        bridge = replace(CACHED, process_guid=bridge_of(PROCESS), domain=BRIDGE_DOMAIN)
        async with watching(store, MemoryBbs(infos=[info(bridge)])) as scene:
            assert await scene.queued() == [bridge_of(PROCESS)]
            scene.event_cache.track(PROCESS)
            await asyncio.sleep(INTERVAL + 1.0)

            assert await scene.queued() == []

    async def test_a_listing_that_fails_is_no_loss_of_the_streams(self, scene: Scene) -> None:
        scene.bbs.problem = Unavailable("bbs", "Timeout", "later")
        await asyncio.sleep(3 * INTERVAL)

        assert (scene.watcher.is_watching, scene.bbs.subscribed) == (True, 1)

    async def test_a_full_sweep_that_fails_is_made_up_for(self, store: Store) -> None:
        async with watching(store, MemoryBbs(infos=[info()])) as scene:
            await scene.queued()
            await asyncio.sleep(INTERVAL + 1.0)
            assert await scene.queued() == []
            scene.bbs.problem = Unavailable("bbs", "Timeout", "later")
            scene.watcher.request_full_sweep()
            await asyncio.sleep(INTERVAL + 1.0)
            assert await scene.queued() == []
            scene.bbs.problem = None
            await asyncio.sleep(INTERVAL + 1.0)

            assert await scene.queued() == [PROCESS]

    @pytest.mark.parametrize(("skipped", "left"), [(0, []), (1, [PROCESS])])
    async def test_the_record_of_one_that_may_be_unreadable_is_kept(
        self, store: Store, skipped: int, left: list[ProcessGuid]
    ) -> None:
        """With its record goes its original source: without that it could not be restored."""
        await store.records.save_lrp(RECORD)
        async with watching(store, MemoryBbs(skipped=skipped)):
            await asyncio.sleep(2 * RECHECK_INTERVAL)

            assert [each.process_guid for each in await store.records.list_lrps()] == left

    async def test_one_that_was_deleted_while_no_event_was_read_is_looked_at_until_its_record_says_so(
        self, store: Store
    ) -> None:
        """Else droplets of its app would wait for the copy that it could not start from."""
        await store.records.save_lrp(replace(RECORD, reason=Reason.COPY_NOT_PULLED))
        async with watching(store, MemoryBbs()) as scene:
            assert await scene.queued() == [PROCESS]

            await store.records.save_lrp(replace(RECORD, reason=Reason.NOT_DESIRED))
            scene.watcher.request_full_sweep()
            await asyncio.sleep(INTERVAL + 1.0)
            assert await scene.queued() == []

    async def test_one_listing_that_lacks_an_lrp_does_not_forget_it(self, store: Store) -> None:
        bbs = MemoryBbs()
        await store.records.save_lrp(RECORD)
        async with watching(store, bbs):
            assert [each.process_guid for each in await store.records.list_lrps()] == [PROCESS]
            bbs.infos.append(info(LRP))
            await asyncio.sleep(INTERVAL + 1.0)
            bbs.infos.clear()
            await asyncio.sleep(RECHECK_INTERVAL)

            assert [each.process_guid for each in await store.records.list_lrps()] == [PROCESS]
