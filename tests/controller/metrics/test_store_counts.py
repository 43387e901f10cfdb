"""What is counted in the store, in a real database, and shown without asking it again."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet

from controller.process import Process
from controller.store.opening import Store
from controller.store_counts import StoreCounts
from reconcile.migrations import Phase
from reconcile.reasons import Reason
from reconcile.records import JobId, JobState
from reconcile.references import CacheRepositories
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
