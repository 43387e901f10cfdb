"""What is counted in the store, in a real database, and shown without asking it again."""

import asyncio
import math
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, select

from controller import store_counts
from controller.process import Process
from controller.store.counts import SqlCounts
from controller.store.opening import Store
from controller.store.tables import blob_sizes
from controller.store_counts import StoreCounts
from reconcile.migrations import Phase
from reconcile.reasons import Reason
from reconcile.records import JobId, JobState
from reconcile.references import CacheRepositories, Digest
from reconcile.stored_counts import StoredCounts
from tests.controller.store.samples import binding, digest, image, job, lrp_record, migration
from tests.stores import open_store

CACHE = "cache.example:8080"


class Scene:
    """A store, and the metrics of what it holds.

    Attributes:
        now: UTC seconds since 1970.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, 1000.0
        self.process = Process("run", clock=lambda: self.now)
        self.counts = StoreCounts(store.counts, CacheRepositories(CACHE), self.process)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.process.metrics.registry.get_sample_value(f"docker_cache_{name}", labels)


@pytest.fixture(params=["durable", "in memory"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    key = Fernet.generate_key() if request.param == "durable" else None
    async with open_store("sqlite://", journal_key=key, run_id="r") as store:
        yield Scene(store)


async def test_an_empty_store_has_nothing_in_any_state(scene: Scene) -> None:
    await scene.counts.count()

    assert scene.sample("lrps", state="cached", reason="migrated") == 0
    assert scene.sample("jobs", state="failed") == 0
    assert scene.sample("stored_copies") == scene.sample("stored_bytes") == 0
    assert scene.sample("copies_needing_verification") == 0
    assert scene.sample("job_oldest_age_seconds", state="queued") == 0
    assert scene.sample("migration_oldest_age_seconds", phase="prepared") == 0


async def test_states_and_the_oldest_of_each_are_shown(scene: Scene) -> None:
    records = scene.store.records
    for number, created_at in ((1, 700.0), (2, 900.0)):
        each = replace(job(f"job-{number}", created_at=created_at), state=JobState.QUEUED)
        await records.add_job(each, replace(binding(f"lrp:{number}"), job_id=JobId(f"job-{number}")))
    for guid, reason in (("p-1", Reason.MIGRATED), ("p-2", Reason.MIGRATED), ("p-3", Reason.BRIDGE_CRASHED)):
        await records.save_lrp(replace(lrp_record(guid), reason=reason))
    await scene.store.journal.save_migration(migration("p-4", started_at=940.0))
    await scene.store.journal.save_migration(replace(migration("p-5", started_at=950.0), phase=Phase.REMOVED))
    await scene.store.journal.save_migration(replace(migration("p-6", started_at=930.0), phase=Phase.REMOVED))

    await scene.counts.count()

    assert scene.sample("lrps", state="cached", reason="migrated") == 2
    assert scene.sample("lrps", state="failed", reason="bridge-crashed") == 1
    assert scene.sample("jobs", state="queued") == 2
    assert scene.sample("job_oldest_age_seconds", state="queued") == 300
    assert scene.sample("migrations_in_flight", phase="removed") == 2
    assert scene.sample("migrations_in_flight", phase="prepared") == 1
    assert scene.sample("migration_oldest_age_seconds", phase="removed") == 70
    assert scene.sample("migration_oldest_age_seconds", phase="starting") == 0

    scene.now += 30.0

    assert scene.sample("migration_oldest_age_seconds", phase="removed") == 100, "it ages between counts"


async def test_copies_of_the_present_registry_count_and_their_sources_are_told_apart(scene: Scene) -> None:
    records = scene.store.records
    copies = []
    for number, registry in ((1, CACHE), (2, CACHE), (3, "former.example")):
        guid = await records.reserve_guid(digest(number))
        copies.append(replace(image(guid, platform=digest(number)), registry=registry, size=100))
        await records.keep_image(copies[-1], [digest(9)])
    await records.mark_for_verification(copies[0].cache_guid, 5.0)
    names = scene.process.metrics.registries.names
    host = copies[0].source.domain

    assert names.of(host) == "other"

    await scene.counts.count()
    await scene.counts.note_sources()

    assert scene.sample("stored_copies") == 2
    assert scene.sample("stored_bytes") == 200
    assert scene.sample("copies_needing_verification") == 1
    assert names.of(host) == host


async def test_what_copies_share_is_counted_once(scene: Scene) -> None:
    """A base image that many apps have is there once."""
    records = scene.store.records
    kept: list[tuple[int, str, Mapping[Digest, int] | list[Digest]]] = [
        (1, CACHE, {digest(8): 40, digest(9): 50}),
        (2, CACHE, {digest(8): 40, digest(7): 5}),
        (3, CACHE, {digest(8): 40, digest(9): 50}),
        (4, "former.example", {digest(8): 40, digest(6): 60}),
        (5, CACHE, [digest(8)]),  # of a version that did not know sizes
    ]
    guids = []
    for number, registry, blobs in kept:
        guids.append(await records.reserve_guid(digest(number)))
        copy = replace(image(guids[-1], platform=digest(number)), registry=registry, size=100)
        await records.keep_image(copy, blobs)

    assert math.isnan(scene.sample("stored_distinct_bytes") or 0), "nothing is known yet"

    await scene.counts.count()
    await scene.counts.count_shared()

    assert scene.sample("stored_bytes") == 400
    assert scene.sample("stored_distinct_bytes") == 400 - 3 * 40 - 50 == scene.counts.distinct_bytes

    for guid in guids[:3]:
        await records.drop_image(guid)
    await scene.counts.count()
    await scene.counts.count_shared()

    assert scene.sample("stored_distinct_bytes") == 100


async def test_the_size_of_a_blob_is_forgotten_with_the_last_copy_that_has_it(scene: Scene) -> None:
    records = scene.store.records
    one, two = [await records.reserve_guid(digest(number)) for number in (1, 2)]
    await records.keep_image(image(one, platform=digest(1)), {digest(8): 40, digest(9): 50})
    await records.keep_image(image(two, platform=digest(2)), {digest(8): 40})

    async def known() -> list[str]:
        def read(connection: Connection) -> list[str]:
            return sorted(connection.scalars(select(blob_sizes.c.digest)))

        return await scene.store.counts._database.read(read)

    await records.drop_image(one)
    assert await known() == [str(digest(8))]
    await records.drop_image(two)
    assert await known() == []


class Watched(SqlCounts):
    """Tells when it was asked what copies share."""

    def __init__(self, counts: SqlCounts) -> None:
        super().__init__(counts._database, counts._journal)
        self.asked = asyncio.Event()

    async def count_shared_bytes(self, registries: Collection[str]) -> int:
        self.asked.set()
        return await super().count_shared_bytes(registries)


async def test_the_loop_counts_everything_at_once(scene: Scene) -> None:
    records = Watched(scene.store.counts)
    counts = StoreCounts(records, CacheRepositories(CACHE), scene.process)
    running = asyncio.create_task(counts.run())
    async with asyncio.timeout(5):
        await records.asked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert scene.sample("jobs", state="queued") == 0
    assert scene.sample("stored_copies") == 0


class Faulty(SqlCounts):
    """Fails as a fault of this program does, the first time."""

    def __init__(self, counts: SqlCounts) -> None:
        super().__init__(counts._database, counts._journal)
        self.calls = 0
        self.was_asked_again = asyncio.Event()

    async def count(self) -> StoredCounts:
        self.calls += 1
        if self.calls == 1:
            raise ValueError("a state that nobody knows")
        self.was_asked_again.set()
        return await super().count()


async def test_a_fault_does_not_end_the_loop(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With it the daemon would end."""
    monkeypatch.setattr(store_counts, "INTERVAL", 0.01)
    records = Faulty(scene.store.counts)
    running = asyncio.create_task(StoreCounts(records, CacheRepositories(CACHE), scene.process).run())
    async with asyncio.timeout(60):
        await records.was_asked_again.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert capsys.readouterr().out.count("store-counts.failed-to-count") == 1
