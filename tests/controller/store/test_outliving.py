"""What one process leaves to the next: which migrations failed, and which instances are stale."""

from dataclasses import replace

import pytest

from controller.store import stale_instances
from controller.store.opening import Store
from reconcile.circuit_breaker import FailureRecord
from reconcile.failure_spread import Cause
from reconcile.lrps import ProcessGuid
from tests.controller.store.samples import lrp_record, migration
from tests.stores import open_store

ONE, TWO = ProcessGuid("process-1"), ProcessGuid("process-2")
ALL = FailureRecord(
    ("", ""), frozenset({Cause("org", "image"), Cause("org-2", "i")}), frozenset({"cell-1"}), 7.25, "p: why"
)
OF_IMAGE = FailureRecord(
    ("", "image"), frozenset({Cause("org", "org")}), frozenset(), None, "p: why", cells_not_proven=True
)


async def test_failures_are_kept_in_the_order_of_the_last_one(store: Store) -> None:
    assert await store.failures.list_failures() == ()

    await store.failures.save_failures([ALL, OF_IMAGE], [])
    assert await store.failures.list_failures() == (ALL, OF_IMAGE)

    again = replace(ALL, opened_at=9.0, last_failure="p-2: why")
    await store.failures.save_failures([again], [])
    assert await store.failures.list_failures() == (OF_IMAGE, again)


async def test_failures_that_ended_are_forgotten(store: Store) -> None:
    await store.failures.save_failures([ALL, OF_IMAGE], [])
    await store.failures.save_failures([], [ALL.scope, ("org", "never-failed")])

    assert await store.failures.list_failures() == (OF_IMAGE,)


async def test_what_failed_is_kept_short(store: Store) -> None:
    await store.failures.save_failures([replace(ALL, last_failure="x" * 10_000)], [])

    (found,) = await store.failures.list_failures()
    assert len(found.last_failure) == 1024


async def test_the_end_of_a_migration_leaves_its_stale_instances(store: Store) -> None:
    await store.journal.save_migration(migration("process-1"))
    await store.journal.delete_migration(ONE, frozenset({"i-1", "i-2"}))
    await store.journal.delete_migration(TWO, frozenset({"i-3"}))
    await store.journal.delete_migration(ONE, frozenset({"i-2", "i-4"}))
    await store.journal.delete_migration(ProcessGuid("process-3"))

    found = await store.stale_instances.list_stale()
    assert dict(found) == {TWO: {"i-3"}, ONE: {"i-1", "i-2", "i-4"}}
    assert list(found) == [TWO, ONE]
    assert await store.journal.list_migrations() == ()


async def test_the_instances_of_an_lrp_that_is_gone_are_forgotten(store: Store) -> None:
    await store.records.save_lrp(lrp_record())
    await store.journal.delete_migration(ONE, frozenset({"i-1"}))
    await store.journal.delete_migration(TWO, frozenset({"i-2"}))

    await store.records.forget_lrps([ONE])

    assert await store.stale_instances.list_stale() == {TWO: {"i-2"}}


async def test_the_oldest_of_very_many_instances_are_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale_instances, "MOST_INSTANCES", 3)
    for number in range(5):
        await store.journal.delete_migration(ProcessGuid(f"p-{number}"), frozenset({f"i-{number}"}))

    assert list(await store.stale_instances.list_stale()) == ["p-2", "p-3", "p-4"]


async def test_a_journal_in_memory_remembers_no_instances(url: str) -> None:
    async with open_store(url, journal_key=None, run_id="r") as store:
        await store.journal.save_migration(migration())
        await store.journal.delete_migration(ONE, frozenset({"i-1"}))
        assert await store.stale_instances.list_stale() == {}
