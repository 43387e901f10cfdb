"""Which copies are known to be unused, over a real store and a BBS whose listings may be wrong."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace

import pytest

from controller.droplet_uses import CONFIRMS_FOR, MAY_BE_OLD, DropletUses
from controller.process import Process
from controller.store.opening import Store
from controller.unused_copies import ASKED_FOR, UnusedCopies, UsageSources
from reconcile.droplets import Droplet, DropletGuid, DropletPhase, DropletRecord
from reconcile.errors import Denied, Unavailable
from reconcile.eviction import EvictionDecision, EvictionVerdict
from reconcile.lrps import (
    AppGuid,
    DesiredLrp,
    ModificationTag,
    ProcessGuid,
    SchedulingInfo,
    Task,
    TaskGuid,
    TaskState,
)
from reconcile.migrations import OriginalSource, Phase
from reconcile.reasons import Reason
from reconcile.records import CachedImage, JobState, LrpRecord
from reconcile.references import CacheGuid, CacheRepositories, Rootfs
from tests.controller.store.samples import SOURCE, binding, digest, image, job, migration
from tests.reconcile.test_decide import LRP
from tests.stores import open_store

CACHE = CacheRepositories("cache.example:8080")
GRACE = 600.0
FROM_SOURCE = "docker://registry.example/team/web#7"


@dataclass
class Listing:
    infos: list[SchedulingInfo]
    skipped: int
    received: int

    async def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        for info in self.infos:
            yield info


@dataclass
class Bbs:
    """A BBS with one LRP that is of no interest, whose next listings may be wrong.

    Attributes:
        unlisted: LRPs that it has and does not list.
        is_empty: Whether it lists nothing.
        asked: The LRPs that it was asked for.
    """

    lrps: dict[str, SchedulingInfo] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)
    is_empty: bool = False
    unreadable: int = 0
    problem: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def list_scheduling_infos(self, domain: str = "", *, docker_only: bool = False) -> Listing:
        assert docker_only
        if self.is_empty:
            return Listing([], 0, 0)
        infos = [info for guid, info in self.lrps.items() if guid not in self.unlisted]
        return Listing(infos, self.unreadable, len(infos) + 1)

    async def list_tasks(self, domain: str = "") -> tuple[Task, ...]:
        if self.problem is not None:
            raise self.problem
        return tuple(self.tasks)

    async def find_desired_lrp(self, process_guid: ProcessGuid) -> DesiredLrp | None:
        self.asked.append(process_guid)
        return replace(LRP, process_guid=process_guid) if process_guid in self.lrps else None

    def desire(self, guid: str, rootfs: str, *, app: str = "app-9", domain: str = "cf-apps") -> None:
        tag = ModificationTag("e", 0)
        self.lrps[guid] = SchedulingInfo(ProcessGuid(guid), domain, AppGuid(app), Rootfs(rootfs), 1, tag)


@dataclass
class Pins:
    pinned_apps: frozenset[AppGuid] = frozenset()


@dataclass
class Records:
    """The records of droplets."""

    rows: list[DropletRecord] = field(default_factory=list)

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        return tuple(self.rows)


@dataclass
class Api:
    """Cloud Controller, which may fail in the middle of a listing.

    Attributes:
        listings: How often droplets were listed.
    """

    images: dict[str, str] = field(default_factory=dict)
    problem: Exception | None = None
    listings: int = 0

    async def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        assert not app_guids
        self.listings += 1
        for guid, text in self.images.items():
            yield Droplet(DropletGuid(guid), "STAGED", True, text, AppGuid("a"), None, 0.0, 0.0)
        if self.problem is not None:
            raise self.problem


@dataclass
class Bench:
    """One copy, and all that knows of it."""

    store: Store
    image: CachedImage
    bbs: Bbs = field(default_factory=Bbs)
    pins: Pins = field(default_factory=Pins)
    now: float = 1_800_000_000.0
    other_store: str = ""
    droplet_records: Records = field(default_factory=Records)
    api: Api | None = None
    unused: UnusedCopies = field(init=False)

    def __post_init__(self) -> None:
        store = self.store
        self.process = Process("run-1", clock=lambda: self.now)
        sources = UsageSources(
            bbs=self.bbs,
            records=store.records,
            journal=store.journal,
            marks=store.copy_checks,
            pins=self.pins,
            cache=CACHE,
            other_store=lambda: self.other_store,
            droplets=DropletUses(
                self.droplet_records,
                self.api,
                self.api,
                cache=CACHE,
                monotonic=lambda: self.now,
            ),
        )
        self.unused = UnusedCopies(sources, grace=GRACE, process=self.process)

    @property
    def guid(self) -> CacheGuid:
        return self.image.cache_guid

    async def decide(self) -> EvictionDecision:
        (decision,) = await self.unused.decide([self.guid])
        return decision

    async def verdicts(self, *, after: float = GRACE) -> list[EvictionVerdict]:
        """Look twice, some seconds apart."""
        first = await self.decide()
        self.now += after
        return [first.verdict, (await self.decide()).verdict]

    async def unused_since(self) -> float:
        return (await self.store.copy_checks.find_check(self.guid)).unused_since

    async def remember(self, process_guid: str) -> None:
        """Save that an LRP was migrated to the copy."""
        await self.store.records.save_lrp(
            LrpRecord(
                ProcessGuid(process_guid),
                AppGuid("app-9"),
                CACHE.rootfs(self.guid).uri,
                self.guid,
                rounds=1,
                reason=Reason.MIGRATED,
                updated_at=self.now,
            )
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_store("sqlite://", journal_key=None, run_id="run-1") as store:
        content = digest(9)
        made = image(await store.records.reserve_guid(content), platform=content)
        await store.records.keep_image(made, (digest(50),))
        yield Bench(store, made)


IN_USE, TOO_SOON, DELETABLE, UNKNOWN = (
    EvictionVerdict.IN_USE,
    EvictionVerdict.TOO_SOON,
    EvictionVerdict.DELETABLE,
    EvictionVerdict.UNKNOWN,
)


async def test_a_copy_may_be_deleted_when_two_looks_apart_in_time_agree(bench: Bench) -> None:
    assert await bench.verdicts() == [TOO_SOON, DELETABLE]


async def test_two_looks_soon_after_one_another_are_not_enough(bench: Bench) -> None:
    assert await bench.verdicts(after=GRACE - 1) == [TOO_SOON, TOO_SOON]


async def test_a_use_in_between_begins_the_time_anew(bench: Bench) -> None:
    await bench.decide()
    bench.now += GRACE
    bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri)
    used = await bench.decide()
    bench.bbs.lrps.clear()

    assert (used.verdict, used.detail) == (IN_USE, "used by LRP p-1")
    assert await bench.unused_since() == 0.0
    assert await bench.verdicts() == [TOO_SOON, DELETABLE]


async def test_what_was_seen_outlives_the_process(bench: Bench) -> None:
    await bench.decide()
    since = bench.now
    bench.now += GRACE
    bench.__post_init__()

    decision = await bench.decide()

    assert (decision.verdict, decision.unused_since) == (DELETABLE, since)


async def test_a_pending_task_of_any_domain_uses_a_copy(bench: Bench) -> None:
    rootfs = CACHE.rootfs(bench.guid)
    task = Task(
        TaskGuid("t-1"), "somebody-else", TaskState.PENDING, created_at=0, rootfs=rootfs, log_guid="a"
    )
    bench.bbs.tasks.append(task)

    decision = await bench.decide()

    assert (decision.verdict, decision.detail) == (IN_USE, "used by task t-1")


async def test_an_lrp_of_any_domain_uses_a_copy(bench: Bench) -> None:
    bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri, domain="somebody-else")

    assert (await bench.decide()).verdict is IN_USE


async def test_an_open_migration_uses_a_copy(bench: Bench) -> None:
    await bench.store.journal.save_migration(
        replace(migration("p-1"), cache_guid=bench.guid, phase=Phase.REMOVED)
    )

    assert (await bench.decide()).verdict is IN_USE


async def test_what_an_lrp_ran_from_before_is_needed_as_long_as_it_exists(bench: Bench) -> None:
    await bench.store.original_sources.save_original_source(
        OriginalSource(ProcessGuid("p-1"), bench.guid, Rootfs(FROM_SOURCE), False, None)
    )
    bench.bbs.desire("p-1", FROM_SOURCE)
    used = await bench.verdicts()
    bench.bbs.lrps.clear()

    assert used == [IN_USE, IN_USE]
    assert await bench.verdicts() == [TOO_SOON, DELETABLE]


async def test_the_staging_of_an_app_that_exists_needs_its_copy(bench: Bench) -> None:
    saved = job()
    await bench.store.records.add_job(saved, replace(binding(), staged_at=1))
    await bench.store.records.save_job(replace(saved, state=JobState.COPYING))
    cached = replace(saved, state=JobState.CACHED, cache_guid=bench.guid)
    await bench.store.records.finish_job(cached, bench.image, ())
    bench.bbs.desire("p-1", f"docker://{SOURCE.domain}/{SOURCE.path}#{SOURCE.tag}", app="app-1")

    assert (await bench.decide()).detail == "used by app that was staged for it: app-1"

    bench.pins.pinned_apps = frozenset({AppGuid("app-1")})
    assert (await bench.decide()).verdict is TOO_SOON


async def test_an_empty_listing_deletes_nothing_however_often_it_comes(bench: Bench) -> None:
    bench.bbs.is_empty = True

    assert await bench.verdicts() == [UNKNOWN, UNKNOWN]
    assert "the BBS lists no LRP at all" in (await bench.decide()).detail
    assert await bench.unused_since() == 0.0


async def test_an_empty_listing_after_a_long_time_without_use_deletes_nothing(bench: Bench) -> None:
    await bench.decide()
    bench.now += GRACE
    bench.bbs.is_empty = True

    assert (await bench.decide()).verdict is UNKNOWN


async def test_a_listing_that_lacks_an_lrp_which_the_store_remembers_deletes_nothing(bench: Bench) -> None:
    await bench.remember("p-1")
    bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri)
    bench.bbs.unlisted.add("p-1")

    assert await bench.verdicts() == [UNKNOWN, UNKNOWN]
    assert "the BBS did not list p-1, which it has" in (await bench.decide()).detail
    assert await bench.unused_since() == 0.0


async def test_an_lrp_that_the_bbs_does_not_have_either_when_it_is_asked_for_it_is_gone(bench: Bench) -> None:
    await bench.remember("p-1")

    assert await bench.verdicts() == [TOO_SOON, DELETABLE]
    assert set(bench.bbs.asked) == {"p-1"}


async def test_lrps_that_are_gone_are_asked_for_once_by_the_looks_at_an_interval(bench: Bench) -> None:
    for number in range(ASKED_FOR + 3):
        await bench.remember(f"p-{number:03}")
    images = await bench.store.records.list_images()

    asked, since = list[int](), list[float]()
    for _ in range(3):
        await bench.unused._note((images, await bench.unused.look(images)))
        asked.append(len(bench.bbs.asked))
        since.append(await bench.unused_since())

    assert asked == [ASKED_FOR, ASKED_FOR + 3, ASKED_FOR + 3]
    assert since == [0.0, bench.now, bench.now], "not before all were asked for"


async def test_an_lrp_that_cannot_be_read_may_use_any_copy(bench: Bench) -> None:
    bench.bbs.unreadable = 1

    assert await bench.verdicts() == [UNKNOWN, UNKNOWN]


async def test_a_daemon_with_another_store_may_use_any_copy(bench: Bench) -> None:
    """Its migrations are in its own journal, and a copy may have been adopted by both."""
    bench.other_store = "a daemon with another store works on this BBS"

    assert await bench.verdicts() == [UNKNOWN, UNKNOWN]
    assert bench.other_store in (await bench.decide()).detail


async def test_a_copy_that_was_just_made_stays(bench: Bench) -> None:
    await bench.store.copy_checks.mark_unused({bench.guid: 1.0})
    bench.now = bench.image.created_at + 1

    decision = await bench.decide()

    assert decision.verdict is TOO_SOON
    assert decision.detail.startswith("copied 1 s ago")


async def test_metrics_say_how_much_is_unused(bench: Bench) -> None:
    await bench.decide()

    samples = {
        sample.name: sample.value
        for family in bench.process.metrics.registry.collect()
        for sample in family.samples
    }
    assert samples["docker_cache_unused_copies"] == 1
    assert samples["docker_cache_unused_copy_bytes"] == bench.image.size


async def test_a_bbs_that_does_not_answer_is_an_error_and_changes_nothing(bench: Bench) -> None:
    await bench.decide()
    since = await bench.unused_since()
    bench.bbs.problem = Unavailable("bbs", "timeout", "x")

    with pytest.raises(Unavailable):
        await bench.decide()

    assert await bench.unused_since() == since


def record(bench: Bench, phase: DropletPhase) -> DropletRecord:
    return DropletRecord(
        DropletGuid("d-1"),
        AppGuid("app-9"),
        None,
        original="registry.example/team/web:7",
        username="",
        cache_guid=bench.guid,
        registry=CACHE.address,
        target=str(CACHE.image(bench.guid)),
        phase=phase,
        reason=Reason.MIGRATED,
        created_at=1.0,
        updated_at=1.0,
    )


class TestDroplets:
    """What Cloud Controller desires from next."""

    @pytest.mark.parametrize("phase", list(DropletPhase))
    async def test_a_droplet_that_names_a_copy_by_its_record_or_may_name_it_uses_it(
        self, bench: Bench, phase: DropletPhase
    ) -> None:
        bench.droplet_records.rows.append(record(bench, phase))

        decision = await bench.decide()

        may_name_it = phase in {DropletPhase.PATCHING, DropletPhase.PATCHED, DropletPhase.RESTORING}
        assert decision.detail.startswith("used by droplet d-1") == may_name_it
        assert decision.verdict is (IN_USE if may_name_it else TOO_SOON)

    async def test_a_droplet_that_was_restored_just_now_may_come_to_name_its_copy(self, bench: Bench) -> None:
        """A request whose answer was lost may take effect after it."""
        restored = record(bench, DropletPhase.RESTORED)
        bench.droplet_records.rows.append(replace(restored, updated_at=bench.now - 10))

        decision = await bench.decide()

        assert (decision.verdict, decision.detail) == (IN_USE, "used by droplet d-1")

    @pytest.mark.parametrize(
        "text",
        ["{address}/{guid}:latest", "{address}/{guid}@sha256:{hex}", "Cache.Example:08080/{guid}:latest"],
    )
    async def test_a_droplet_that_no_record_knows_uses_the_copy_that_it_names(
        self, bench: Bench, text: str
    ) -> None:
        """Cloud Controller copies droplets, and a database may have been lost."""
        image = text.format(address=CACHE.address, guid=bench.guid, hex=bench.image.digest.hex)
        bench.api = Api({"d-1": "registry.example/team/web:7", "d-2": image})
        bench.__post_init__()

        decision = await bench.decide()

        assert (decision.verdict, decision.detail) == (IN_USE, "used by droplet d-2")

    @pytest.mark.parametrize(
        "problem",
        [
            Unavailable("cloud-controller", "timeout", "x"),
            Denied("capi", "cloud-controller-scope-missing", "x"),
        ],
    )
    async def test_while_droplets_cannot_be_listed_no_copy_is_known_to_be_unused(
        self, bench: Bench, problem: Exception
    ) -> None:
        bench.api = Api()
        bench.__post_init__()
        await bench.decide()
        since, bench.now = await bench.unused_since(), bench.now + GRACE
        bench.api.problem = problem

        decision = await bench.decide()

        assert (decision.verdict, await bench.unused_since()) == (UNKNOWN, since)
        assert "a droplet may name it" in decision.detail

    async def test_a_listing_that_begins_names_what_it_has_named_even_when_it_fails_then(
        self, bench: Bench
    ) -> None:
        bench.api = Api(
            {"d-2": str(CACHE.image(bench.guid))}, problem=Unavailable("cloud-controller", "timeout", "x")
        )
        bench.__post_init__()

        assert (await bench.decide()).verdict is UNKNOWN

    async def test_who_deletes_asks_anew_and_who_only_looks_seldom(self, bench: Bench) -> None:
        bench.api = Api()
        bench.__post_init__()
        uses = bench.unused._sources.droplets
        for _ in range(4):
            await uses.list_named_lately()
            bench.now += MAY_BE_OLD / 2 - 1
        assert bench.api.listings == 2

        await bench.decide()
        for _ in range(3):  # as for one batch of copies after the other
            await bench.unused.confirm([bench.image])
            bench.now += CONFIRMS_FOR / 2 - 1
        assert bench.api.listings == 3
        bench.now += 2
        await bench.unused.confirm([bench.image])
        assert bench.api.listings == 4

    async def test_droplets_are_not_listed_where_nothing_else_is_unused(self, bench: Bench) -> None:
        bench.api = Api()
        bench.__post_init__()
        bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri)

        assert (await bench.decide()).verdict is IN_USE
        assert bench.api.listings == 0

    async def test_without_a_cloud_controller_the_records_alone_count(self, bench: Bench) -> None:
        assert await bench.verdicts() == [TOO_SOON, DELETABLE]
