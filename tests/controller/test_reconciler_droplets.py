"""Passes over apps that Cloud Controller desires from their copies, since their droplets name these."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controller.canary import NullCanaryLoop
from controller.reconciler import Reconciler
from protos.bbs.actual_lrp_pb2 import ActualLRP
from protos.bbs.desired_lrp_pb2 import DesiredLRP
from reconcile.droplets import DropletGuid, DropletPhase, DropletRecord
from reconcile.errors import Unavailable
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import Goal, OriginalSource
from reconcile.pull_proof import CanaryLogin
from reconcile.reasons import Reason
from reconcile.records import LrpRecord
from reconcile.references import CacheGuid, CacheRepositories
from tests.controller import test_reconciler
from tests.controller.test_reconciler import CACHE, FROM_SOURCE, Bench
from tests.simulators.bbs import Version
from tests.simulators.cloud_controller import App

certificates = test_reconciler.certificates
bench = test_reconciler.bench

DESIRE = "/v1/desired_lrp/desire.r2"
UPDATE = "/v1/desired_lrp/update"
LOGIN = ("robot", "source-password")


class CellsPull:
    """Cells pull with any login, as canaries have shown."""

    def why_not(self, _placement_tags: frozenset[str], _username: str) -> str | None:
        return None


async def restarted_from_copy(bench: Bench, *, instances: int = 1) -> tuple[App, CacheGuid]:
    """Let an app's droplet name its copy, with a record of that, and restart the app."""
    app = await bench.app_with_copy(instances=instances)
    guid = await bench.store.records.reserve_guid(test_reconciler.CONTENT)
    assert app.current is not None
    assert app.current.image is not None
    record = DropletRecord(
        DropletGuid(app.current.guid),
        AppGuid(app.guid),
        None,
        original=app.current.image,
        username="robot",
        cache_guid=guid,
        registry=CACHE.address,
        target=str(CACHE.image(guid)),
        phase=DropletPhase.PATCHED,
        reason=Reason.DROPLET_PATCHED,
        created_at=1.0,
        updated_at=1.0,
        rounds=1,
    )
    await bench.store.droplets.save_droplet(record)
    bench.cloud.patch(app.current, record.target)
    await bench.cloud.restart(app)
    bench.bbs.requests.clear()
    assert login(bench, app) == LOGIN
    return app, guid


def login(bench: Bench, app: App) -> tuple[str, str]:
    lrp = bench.lrp(app)
    assert lrp is not None
    return lrp.image_username, lrp.image_password


async def until(bench: Bench, app: App, is_so: Callable[[ActualLRP], bool]) -> None:
    """Wait until something is so of an instance of an app."""
    async with asyncio.timeout(60):
        while not any(  # noqa: ASYNC110 - a state of the simulator
            is_so(row)
            for row in bench.bbs.state.rows()
            if row.actual_lrp_key.process_guid == app.process_guid
        ):
            await asyncio.sleep(0.01)


async def serves(bench: Bench, app: App, count: int) -> None:
    """Wait until as many instances of an app's own LRP run."""

    def is_own(row: ActualLRP) -> bool:
        return row.actual_lrp_key.process_guid == app.process_guid and row.state == "RUNNING"

    async with asyncio.timeout(60):
        while sum(map(is_own, bench.bbs.state.rows())) < count:  # noqa: ASYNC110 - a state of the simulator
            await asyncio.sleep(0.01)


@asynccontextmanager
async def passes(bench: Bench, app: App) -> AsyncIterator[Reconciler]:
    """Run passes, one over the app first."""
    reconciler = bench.reconciler()
    async with bench.running(reconciler):
        bench.queue.add(ProcessGuid(app.process_guid))
        yield reconciler


async def test_its_login_is_brought_in_line_in_place_once_its_source_is_saved(bench: Bench) -> None:
    app, guid = await restarted_from_copy(bench)
    async with passes(bench, app):
        await bench.reason(app, "login-updated")

    source = await bench.store.original_sources.find_original_source(ProcessGuid(app.process_guid))
    assert source is not None
    assert (source.cache_guid, source.rootfs.uri) == (guid, FROM_SOURCE)
    assert source.credentials is not None
    assert (source.credentials.username, source.credentials.password.value) == LOGIN
    assert login(bench, app) == ("puller", "cache-password")
    assert (bench.bbs.requests[UPDATE], bench.bbs.requests[DESIRE]) == (1, 0), "nothing is migrated"


class CellsThatNobodyAsked(NullCanaryLoop):
    """Cells of which no canary has shown anything yet."""

    def why_not(self, placement_tags: frozenset[str], login: CanaryLogin = CanaryLogin.CELLS) -> str | None:
        return f"nothing is known, {sorted(placement_tags)}, {login}"


class FailingOnce:
    """Saves original sources, but not the first one.

    Attributes:
        updates: How many logins were updated when each was to be saved.
    """

    def __init__(self, bench: Bench) -> None:
        self._sources, self._requests = bench.store.original_sources, bench.bbs.requests
        self.updates: list[int] = []

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        return await self._sources.find_original_source(process_guid)

    async def save_original_source(self, original_source: OriginalSource) -> None:
        self.updates.append(self._requests[UPDATE])
        if len(self.updates) == 1:
            raise Unavailable("store", "down", "the database does not answer")
        await self._sources.save_original_source(original_source)


async def test_no_login_is_changed_whose_source_could_not_be_saved(bench: Bench) -> None:
    app, _ = await restarted_from_copy(bench)
    bench.original_sources = failing = FailingOnce(bench)
    async with passes(bench, app):
        await bench.reason(app, "login-updated")

    assert failing.updates == [0, 0]
    assert bench.bbs.requests[UPDATE] == 1


async def test_it_is_called_cached_when_it_runs(bench: Bench) -> None:
    bench.cell.settings.start_delay = 0.0
    app, _ = await restarted_from_copy(bench)
    async with passes(bench, app):
        await bench.reason(app, "login-updated")
        bench.queue.add(ProcessGuid(app.process_guid))
        await bench.reason(app, "already-cached")

    assert bench.rootfs(app).startswith("docker://cache.example:8080/")


@pytest.mark.parametrize("before", [Reason.COPY_NOT_PULLED, Reason.ALREADY_CACHED])
async def test_one_that_its_owner_desired_from_its_copy_after_that_failed_is_told_of(
    bench: Bench, before: Reason
) -> None:
    bench.cell.settings.start_delay = 0.0
    app, guid = await restarted_from_copy(bench)
    app_guid, process_guid = AppGuid(app.guid), ProcessGuid(app.process_guid)
    record = LrpRecord(process_guid, app_guid, "", guid, 1, before, time.time())
    await bench.store.records.save_lrp(record)
    reported: list[str] = []
    async with passes(bench, app) as reconciler:
        reconciler.listeners.of_recoveries.append(reported.append)
        await bench.reason(app, "login-updated")
        bench.queue.add(process_guid)
        await bench.reason(app, "already-cached")

    assert reported == ([app.guid] if before is Reason.COPY_NOT_PULLED else [])


async def test_a_bbs_that_does_not_store_logins_leaves_it_the_one_of_its_source(bench: Bench) -> None:
    bench.bbs.state.version = Version.OLD
    bench.droplet_pulls = CellsPull()
    app, _ = await restarted_from_copy(bench)
    async with passes(bench, app) as reconciler:
        await bench.reason(app, "already-cached")
        assert reconciler.gate.logins.outdated == 0

    assert login(bench, app) == LOGIN
    assert (bench.bbs.requests[UPDATE], bench.bbs.requests[DESIRE]) == (1, 0)


async def test_one_whose_droplet_this_program_did_not_change_gets_no_login(bench: Bench) -> None:
    app, guid = await restarted_from_copy(bench)
    (record,) = await bench.store.droplets.list_droplets_of_copy(guid)
    await bench.store.droplets.save_droplet(replace(record, app_guid=AppGuid("another-app")))
    async with passes(bench, app):
        await bench.reason(app, "foreign-login")

    assert login(bench, app) == LOGIN
    assert await bench.store.original_sources.find_original_source(ProcessGuid(app.process_guid)) is None


async def test_it_is_restored_with_the_login_that_it_came_with(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Traps 13 and 14: its annotation and its routes are what they were, and no log has a password."""
    app, guid = await restarted_from_copy(bench)
    before = bench.lrp(app)
    assert before is not None
    before = DesiredLRP.FromString(before.SerializeToString())
    async with passes(bench, app):
        await bench.reason(app, "login-updated")
        assert await bench.order(app, Goal.SOURCE).end() == "restored"

    record = await bench.store.records.find_lrp(ProcessGuid(app.process_guid))
    assert record is not None
    assert record.cache_guid == guid, "it needs no other proof that this is what it was staged with"
    after = bench.lrp(app)
    assert after is not None
    assert (after.root_fs, login(bench, app)) == (FROM_SOURCE, LOGIN)
    assert (after.annotation, after.routes) == (before.annotation, before.routes)
    assert "diego-ssh" in after.routes.routes
    logged = capsys.readouterr()
    assert "restored" in logged.out
    assert not any(password in logged.out + logged.err for password in ("source-password", "cache-password"))


async def test_one_that_does_not_start_goes_back_and_whoever_looks_after_its_droplet_is_told(
    bench: Bench,
) -> None:
    bench.cell.settings.start_delay = 0.05
    app, guid = await restarted_from_copy(bench)
    await until(bench, app, lambda row: row.state == "RUNNING")
    bench.cell.settings.crash_reason = test_reconciler.refused
    bench.cell.crash(app.process_guid, 0)
    await until(bench, app, lambda row: row.crash_reason == test_reconciler.REFUSED)
    await bench.control.pin([AppGuid(app.guid)])  # so that it is not migrated again
    reported: list[tuple[str, Reason]] = []
    bench.pulls = test_reconciler.CellsThatCannotPull()
    reconciler = bench.reconciler()
    reconciler.listeners.of_ends.append(lambda app_guid, reason: reported.append((app_guid, reason)))
    bench.queue.add(ProcessGuid(app.process_guid))
    passes = asyncio.create_task(reconciler.run())
    await bench.reason(app, "pinned-to-source")
    passes.cancel()
    await asyncio.gather(passes, return_exceptions=True)
    bench.queue.close()

    assert (bench.rootfs(app), login(bench, app)) == (FROM_SOURCE, LOGIN)
    assert reported == [(app.guid, Reason.NOT_PULLED)]
    record = await bench.store.records.find_lrp(ProcessGuid(app.process_guid))
    assert record is not None
    assert record.cache_guid == guid


FORMER_GONE = test_reconciler.REFUSED.replace("authentication required", "manifest unknown")


def gone(lrp: DesiredLRP) -> str:
    """Let the copies of the former private registry be deleted."""
    return FORMER_GONE if lrp.root_fs.startswith(test_reconciler.FROM_CACHE) else ""


class TestGoneFormerCopy:
    """An app is restarted from its copy in a former private registry, which was deleted there."""

    async def down(self, bench: Bench) -> tuple[App, CacheGuid, Reconciler]:
        app, guid = await restarted_from_copy(bench)
        bench.cell.settings.start_delay = 0.05
        bench.cell.settings.crash_reason = gone
        await bench.cloud.restart(app)
        await until(bench, app, lambda row: row.crash_reason == FORMER_GONE)
        image = await bench.store.records.find_image(guid)
        assert image is not None
        await bench.store.records.keep_image(replace(image, registry=CACHE.address), ())
        bench.cache = CacheRepositories("new.example:8080", former=(CACHE,))
        return app, guid, bench.reconciler(max_in_flight=0)

    @pytest.mark.parametrize("is_copied", [False, True])
    async def test_it_goes_back_although_other_migrations_come_first(
        self, bench: Bench, *, is_copied: bool
    ) -> None:
        app, guid, reconciler = await self.down(bench)
        image = await bench.store.records.find_image(guid)
        assert image is not None
        bench.registry.sources.add(image.source)
        if is_copied:
            copied = replace(image, registry=bench.cache.address)
            await bench.store.records.keep_image(copied, ())
        reported: list[tuple[str, str, str]] = []
        reconciler.listeners.of_failing_former.append(lambda *what: reported.append(what))
        bench.queue.add(ProcessGuid(app.process_guid))
        async with bench.running(reconciler):
            await until(bench, app, lambda row: row.state == "RUNNING")

        assert (bench.rootfs(app), login(bench, app)) == (FROM_SOURCE, LOGIN)
        (failed,) = reported
        assert failed[:2] == (app.guid, guid)
        assert "manifest unknown" in failed[2]

    @pytest.mark.parametrize("is_copied", [False, True])
    async def test_one_of_which_a_part_runs_goes_back_beside_a_bridge(
        self, bench: Bench, *, is_copied: bool
    ) -> None:
        """It does not wait until cells are known to pull its new copy, and its droplet is told of as well."""
        bench.may_bridge, bench.pulls = True, CellsThatNobodyAsked()
        bench.cell.settings.start_delay = 0.05
        app, guid = await restarted_from_copy(bench, instances=2)
        await serves(bench, app, 2)
        bench.cell.settings.crash_reason = gone
        bench.cell.crash(app.process_guid, 0)
        await until(bench, app, lambda row: row.crash_reason == FORMER_GONE)
        image = await bench.store.records.find_image(guid)
        assert image is not None
        bench.registry.sources.add(image.source)
        registry = "new.example:8080" if is_copied else CACHE.address
        await bench.store.records.keep_image(replace(image, registry=registry), ())
        bench.cache = CacheRepositories("new.example:8080", former=(CACHE,))
        reconciler, reported = bench.reconciler(), list[tuple[str, str, str]]()
        reconciler.listeners.of_failing_former.append(lambda *what: reported.append(what))
        bench.queue.add(ProcessGuid(app.process_guid))
        async with bench.running(reconciler):
            async with asyncio.timeout(60):
                while bench.lrp(app) is None or bench.rootfs(app) != FROM_SOURCE:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await serves(bench, app, 2)

        assert [each[:2] for each in reported] == [(app.guid, guid)]
        assert bench.bbs.requests[DESIRE] == 2, "the bridge and the app itself"

    async def test_it_stays_where_its_source_is_gone_too_and_its_copy_is_requested(
        self, bench: Bench
    ) -> None:
        app, _guid, reconciler = await self.down(bench)
        bench.queue.add(ProcessGuid(app.process_guid))
        async with bench.running(reconciler):
            await bench.reason(app, "waiting-for-copy")

        assert [each.reason for each in bench.requests.taken] == [Reason.COPY_IN_FORMER_REGISTRY]
        assert bench.rootfs(app).startswith(test_reconciler.FROM_CACHE)


async def test_a_rolling_deployment_is_known_by_its_app(bench: Bench) -> None:
    """Trap 11: it has a process of its own, whose GUID is neither the app's nor in the app's records."""
    app, guid = await restarted_from_copy(bench)
    deployment = await bench.cloud.deploy(app)
    process_guid = ProcessGuid(deployment.process.process_guid)
    async with passes(bench, app):
        bench.queue.add(process_guid)
        async with asyncio.timeout(60):
            while await bench.store.original_sources.find_original_source(process_guid) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert not process_guid.startswith(app.guid)
    source = await bench.store.original_sources.find_original_source(process_guid)
    assert source is not None
    assert source.cache_guid == guid


@pytest.mark.parametrize("is_patched", [True, False], ids=["names the copy", "is restored first"])
async def test_a_sync_during_its_restore_ends_on_its_source(
    bench: Bench,
    is_patched: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Trap 12: the sync finds the LRP missing, and desires it from what the droplet says."""
    app, _ = await restarted_from_copy(bench)
    assert app.current is not None
    if not is_patched:
        bench.cloud.patch(app.current, "registry.example.com/team/app:1")
    synced = asyncio.Event()

    async def sync_once() -> None:
        while bench.lrp(app) is not None:  # noqa: ASYNC110 - a state of the simulator
            await asyncio.sleep(0)
        await bench.cloud.sync()
        synced.set()

    async with passes(bench, app):
        await bench.reason(app, "login-updated")
        sync = asyncio.create_task(sync_once())
        assert await bench.order(app, Goal.SOURCE).end() == "restored"
        await sync

    assert bench.rootfs(app) == FROM_SOURCE
    assert login(bench, app) == LOGIN
