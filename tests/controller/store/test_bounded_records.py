"""No record holds or shows a text without a bound, whoever wrote it, nor one that a terminal obeys."""

from dataclasses import replace

from sqlalchemy import Connection, Table, update

from controller.store.database import Database
from controller.store.opening import Store
from controller.store.tables import audit, copy_checks, migrations
from controller.store.tables import jobs as job_rows
from controller.store.tables import lrps as lrp_rows
from reconcile.records import AuditEntry, CopyCheck
from tests.controller.store.samples import binding, digest, image, job, lrp_record, migration

LONG = "no linux/" + "\x1b[31m\ud800x\n" * 400_000
LONG_OF_BEFORE = "no linux/" + "\x1b[31mx\n" * 400_000
"""As an earlier version wrote it."""
MOST = 1024


async def overwrite(database: Database, table: Table, column: str) -> None:
    """Write a text as a version without bounds did."""

    def write(connection: Connection) -> None:
        connection.execute(update(table).values({column: LONG_OF_BEFORE}))

    await database.write(write)


async def test_why_a_job_failed_is_short(store: Store, database: Database) -> None:
    records = store.records
    await records.add_job(replace(job(), failure=LONG), binding())
    await records.save_job(replace(job(), failure=LONG))

    found = await records.find_job(job().job_id)
    assert found is not None
    assert found.failure.startswith(r"no linux/\x1b[31m\ud800x \x1b")
    assert len(found.failure) == MOST

    await overwrite(database, job_rows, "failure")
    found = await records.find_job(job().job_id)
    assert found is not None
    assert len(found.failure) == MOST
    assert found.failure.isprintable()


async def test_why_an_lrp_does_not_run_is_short(store: Store, database: Database) -> None:
    records = store.records
    await records.save_lrp(replace(lrp_record(), detail=LONG))
    (found,) = await records.list_lrps()
    assert len(found.detail) == MOST

    await overwrite(database, lrp_rows, "detail")
    (found,) = await records.list_lrps()
    assert len(found.detail) == MOST
    assert found.detail.isprintable()


async def test_what_a_copy_lacks_is_short(store: Store, database: Database) -> None:
    records, checks = store.records, store.copy_checks
    guid = await records.reserve_guid(digest(9))
    await records.keep_image(image(guid, platform=digest(9)), ())
    await checks.save_check(CopyCheck(guid, missing_since=1.0, missing=LONG))
    assert len((await checks.find_check(guid)).missing) == MOST

    await overwrite(database, copy_checks, "missing")
    (found,) = await records.list_images()
    assert len(found.missing) == MOST
    assert (await checks.find_check(guid)).missing == found.missing


async def test_what_an_operator_did_is_short(store: Store, database: Database) -> None:
    operations = store.operations
    await operations.add_entry(AuditEntry(1.0, LONG, "Evict", "{}", LONG))
    (found,) = await operations.list_entries()
    assert (len(found.caller), len(found.outcome)) == (MOST, MOST)

    for column in ("outcome", "arguments"):
        await overwrite(database, audit, column)
    (found,) = await operations.list_entries()
    assert len(found.outcome) == MOST
    assert len(found.arguments) < 20_000


async def test_what_a_migration_waits_for_is_short(store: Store, database: Database) -> None:
    journal = store.journal
    await journal.save_migration(replace(migration(), detail=LONG))
    (found,) = await journal.list_migrations()
    assert len(found.detail) == MOST

    await overwrite(database, migrations, "detail")
    (found,) = await journal.list_migrations()
    assert len(found.detail) == MOST
    assert found.detail.isprintable()
