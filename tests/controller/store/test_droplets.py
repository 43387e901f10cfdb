"""What the store keeps of droplets."""

from dataclasses import replace

import pytest

from controller.store.database import Database
from controller.store.droplets import MOST_APPS, SqlDroplets
from controller.store.opening import Store
from reconcile.droplets import BuildGuid, DropletGuid, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.records import JobState, requester_of_droplet
from reconcile.references import CacheGuid
from tests.controller.store.samples import APP, binding, job

COPY = CacheGuid("3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77")
RECORD = DropletRecord(
    DropletGuid("droplet-1"),
    APP,
    BuildGuid("build-1"),
    original="registry.example/team/web:V7",
    username="robot",
    cache_guid=COPY,
    registry="cache.internal:5000",
    target=f"cache.internal:5000/{COPY}:latest",
    phase=DropletPhase.PATCHING,
    reason=Reason.PATCHING_DROPLET,
    created_at=100.25,
    updated_at=200.5,
    detail="cause",
    attempts=2,
    rounds=1,
    not_before=300.75,
)
BARE = replace(
    RECORD,
    droplet_guid=DropletGuid("droplet-2"),
    build_guid=None,
    username="",
    cache_guid=None,
    registry="",
    target="",
    phase=DropletPhase.LEFT,
    reason=Reason.DENIED,
    created_at=101.0,
    detail="",
    attempts=0,
    rounds=0,
    not_before=0.0,
)


async def test_a_record_is_read_as_it_was_saved(store: Store) -> None:
    for record in (RECORD, BARE):
        await store.droplets.save_droplet(record)

        assert await store.droplets.find_droplet(record.droplet_guid) == record
    assert await store.droplets.find_droplet(DropletGuid("Droplet-1")) is None


async def test_a_later_record_of_a_droplet_takes_the_place_of_an_earlier_one(store: Store) -> None:
    await store.droplets.save_droplet(RECORD)
    patched = replace(RECORD, phase=DropletPhase.PATCHED, reason=Reason.DROPLET_PATCHED, updated_at=400.0)
    await store.droplets.save_droplet(patched)

    assert await store.droplets.list_droplets() == (patched,)


async def test_droplets_are_found_by_their_app_and_by_their_copy_the_newest_first(store: Store) -> None:
    other = replace(RECORD, droplet_guid=DropletGuid("droplet-3"), app_guid=AppGuid("app-3"), created_at=50.0)
    for record in (RECORD, BARE, other):
        await store.droplets.save_droplet(record)

    assert await store.droplets.list_droplets_of_app(APP) == (BARE, RECORD)
    assert await store.droplets.list_droplets_of_copy(COPY) == (RECORD, other)
    assert await store.droplets.list_droplets_of_app(AppGuid("App-1")) == ()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
async def test_all_droplets_are_listed_by_their_guid_whatever_a_page_holds(
    store: Store, database: Database, count: int
) -> None:
    records = tuple(replace(RECORD, droplet_guid=DropletGuid(f"droplet-{n}")) for n in range(count))
    for record in reversed(records):
        await store.droplets.save_droplet(record)

    assert await SqlDroplets(database, page=2).list_droplets() == records


async def test_droplets_are_counted_by_phase_and_reason(store: Store) -> None:
    for record in (RECORD, BARE, replace(BARE, droplet_guid=DropletGuid("droplet-3"))):
        await store.droplets.save_droplet(record)

    assert await store.droplets.count_droplets() == {
        (DropletPhase.PATCHING, Reason.PATCHING_DROPLET): 1,
        (DropletPhase.LEFT, Reason.DENIED): 2,
    }


async def test_droplets_that_are_gone_are_forgotten(store: Store) -> None:
    for record in (RECORD, BARE):
        await store.droplets.save_droplet(record)
    await store.droplets.forget_droplets([RECORD.droplet_guid, DropletGuid("droplet-9")])

    assert await store.droplets.list_droplets() == (BARE,)


async def test_what_is_shown_of_a_droplet_is_one_short_line(store: Store) -> None:
    hostile = "x\x1b[31m\n" * 5000
    await store.droplets.save_droplet(replace(RECORD, username=hostile, detail=hostile))

    found = await store.droplets.find_droplet(RECORD.droplet_guid)

    assert found is not None
    assert found.username.isprintable()
    assert len(found.username) <= 256
    assert found.detail.isprintable()
    assert len(found.detail) <= 1024


async def test_the_records_of_some_apps_are_listed_with_the_newest_of_each_first(store: Store) -> None:
    other = replace(BARE, droplet_guid=DropletGuid("droplet-3"), app_guid=AppGuid("app-other"))
    for record in (RECORD, BARE, other):
        await store.droplets.save_droplet(record)

    assert await store.droplets.list_droplets_of_apps([APP]) == (BARE, RECORD)
    assert await store.droplets.list_droplets_of_apps([other.app_guid]) == (other,)
    many = [AppGuid(f"app-{number}") for number in range(MOST_APPS + 1)]
    found = await store.droplets.list_droplets_of_apps([*many, APP])
    assert [each for each in found if each.app_guid == APP] == [BARE, RECORD]
    assert await store.droplets.list_droplets_of_apps([]) == ()


async def test_the_binding_of_a_droplet_is_kept_however_many_are_newer(store: Store) -> None:
    """An app may be rolled back to each of its droplets; what is gone needs none."""
    records, droplets = store.records, [DropletGuid(f"droplet-{n}") for n in range(8)]
    for number, guid in reversed(
        list(enumerate(droplets))
    ):  # the newest first, as Cloud Controller lists them
        name = f"job-{guid}"
        requested = replace(binding(name, staged_at=number), requester=requester_of_droplet(guid))
        await records.add_job(job(name, state=JobState.FAILED), requested)
        await store.droplets.save_droplet(replace(BARE, droplet_guid=guid, reason=Reason.NOT_CACHED))

    assert all([await records.find_binding(requester_of_droplet(each)) for each in droplets])

    for each in droplets[:2]:
        await store.droplets.save_droplet(replace(BARE, droplet_guid=each, reason=Reason.DROPLET_GONE))
    for number in range(4):
        await records.put_binding(
            binding(f"job-{droplets[-1]}", task=f"task-{number}", staged_at=100 + number)
        )

    kept = [await records.find_binding(requester_of_droplet(each)) is not None for each in droplets]
    assert kept == [False, False, True, True, True, True, True, True]
