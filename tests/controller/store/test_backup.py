"""Backups of a store in use, and how they are put in the place of the database."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller.store.backup import Backup, BackupMarks, back_up
from controller.store.database import database_at
from controller.store.opening import open_store
from controller.store.restoring import Restored, cancel_restore, complete_restore, prepare_restore
from reconcile.errors import Conflict, Invalid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import OriginalSource
from reconcile.references import CacheGuid, Rootfs
from tests.controller.store.samples import digest, image, lrp_record, migration
from tests.controller.store.test_schema import upgrade

KEY = Fernet.generate_key()
REGISTRY = "registry.internal:5000"
MARKS = BackupMarks(REGISTRY, 1_800_000_000.0, "1.2.3")
GUID = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "store" / "cache.db"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return tmp_path / "cache.backup"


async def fill(database: Path, *process_guids: str, pinned: str = "") -> None:
    """Let a daemon save an image and the migrations of some LRPs."""
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        await store.records.keep_image(image(GUID, platform=digest(9)), ())
        for guid in process_guids:
            await store.journal.save_migration(migration(guid))
        if pinned:
            await store.operations.pin([AppGuid(pinned)])


async def back_up_in_thread(database: Path, target: Path, marks: BackupMarks = MARKS) -> Backup:
    return await asyncio.to_thread(back_up, database, target, marks)


def prepare(backup: Path, database: Path, stamp: str = "1") -> Path:
    return prepare_restore(backup, database, stamp=stamp, registries=[REGISTRY])


def files_beside(database: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in database.parent.iterdir()}


async def test_a_backup_is_made_while_the_daemon_writes(database: Path, backup: Path) -> None:
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        await store.records.keep_image(image(GUID, platform=digest(9)), ())
        await store.journal.save_migration(migration())

        async def write() -> None:
            for number in range(200):
                await store.records.save_lrp(lrp_record(f"process-{number}"))

        made, _ = await asyncio.gather(back_up_in_thread(database, backup), write())

    assert (made.images, made.migrations, made.bytes) == (1, 1, backup.stat().st_size)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in backup.parent.iterdir() if each.is_file()] == [backup.name]
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_nothing_is_overwritten_by_a_backup(database: Path, backup: Path) -> None:
    await fill(database)
    backup.write_bytes(b"precious")

    with pytest.raises(Conflict) as refused:
        await back_up_in_thread(database, backup)

    assert refused.value.code == "file-exists"
    assert backup.read_bytes() == b"precious"


async def test_what_is_no_store_is_not_backed_up(database: Path, backup: Path) -> None:
    with pytest.raises(Invalid) as missing:
        await back_up_in_thread(database, backup)
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(Invalid) as foreign:
        await back_up_in_thread(database, backup)

    assert (missing.value.code, foreign.value.code) == ("database-missing", "schema-foreign")
    assert not backup.exists()


async def test_a_backup_takes_the_place_of_a_lost_database(database: Path, backup: Path) -> None:
    await fill(database)
    await back_up_in_thread(database, backup)
    shutil.rmtree(database.parent)
    database.parent.mkdir()

    await asyncio.to_thread(prepare, backup, database)
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        assert store.restored == Restored(None)
        assert await store.records.find_image(GUID) is not None
        assert await store.operations.find_paused() is True

    assert database.stat().st_mode & 0o777 == 0o600


async def test_the_live_journal_wins_over_that_of_the_backup(database: Path, backup: Path) -> None:
    await fill(database, "ended-since", "goes-on", pinned="app-of-backup")
    await back_up_in_thread(database, backup)
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        await store.journal.delete_migration(ProcessGuid("ended-since"))
        await store.journal.save_migration(replace(migration("goes-on"), rounds=7))
        await store.journal.save_migration(migration("begun-since"))
        await store.operations.pin([AppGuid("app-pinned-since")])
        source = OriginalSource(
            ProcessGuid("p"), GUID, Rootfs("docker:///team/web#7"), needs_credentials=False, credentials=None
        )
        await store.original_sources.save_original_source(source)

    replaced = await asyncio.to_thread(prepare, backup, database)
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        open_now = {row.process_guid: row.rounds for row in await store.journal.list_migrations()}
        assert open_now == {"goes-on": 7, "begun-since": 0}
        assert store.restored == Restored(
            replaced, (ProcessGuid("begun-since"), ProcessGuid("goes-on")), (ProcessGuid("ended-since"),)
        )
        assert await store.operations.list_pins() == {"app-of-backup", "app-pinned-since"}
        assert await store.original_sources.find_original_source(ProcessGuid("p")) == source

    with closing(sqlite3.connect(replaced)) as connection:
        kept = {guid for (guid,) in connection.execute("SELECT process_guid FROM migrations")}
    assert kept == {"goes-on", "begun-since"}


async def test_a_corrupt_database_is_replaced_and_kept(database: Path, backup: Path) -> None:
    await fill(database, "under-way")
    await back_up_in_thread(database, backup)
    content = b"SQLite format 3\x00" + os.urandom(8192)
    database.write_bytes(content)

    replaced = await asyncio.to_thread(prepare, backup, database)
    restored = await asyncio.to_thread(complete_restore, database)

    assert restored is not None
    assert (restored.replaced, restored.dropped) == (replaced, (ProcessGuid("under-way"),))
    assert "restore-backup" in restored.problem
    assert replaced.read_bytes() == content
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        assert await store.journal.list_migrations() == ()
        assert await store.records.find_image(GUID) is not None


class Killed(Exception):
    """The process ended here."""


def corrupted(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[8192:16384] = os.urandom(8192)
    backup.write_bytes(content)


def cut(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:10_000])


def no_database(backup: Path) -> None:
    backup.write_text("not a database at all, but long enough to be looked at" * 50)


def empty(backup: Path) -> None:
    backup.write_bytes(b"")


def foreign(backup: Path) -> None:
    backup.unlink()
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("CREATE TABLE other (x)")


def newer(backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def of_other_registry(backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE backup SET value = 'other.example:5000' WHERE name = 'registry'")
        connection.commit()


def without_a_table(backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("DROP TABLE audit")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (corrupted, "backup-corrupt"),
        (cut, "backup-corrupt"),
        (no_database, "backup-corrupt"),
        (empty, "backup-foreign"),
        (foreign, "schema-foreign"),
        (newer, "schema-newer"),
        (of_other_registry, "backup-of-other-registry"),
        (without_a_table, "backup-foreign"),
        (Path.unlink, "backup-path"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_changed(
    database: Path, backup: Path, spoil: object, code: str
) -> None:
    await fill(database)
    await back_up_in_thread(database, backup)
    assert callable(spoil)
    spoil(backup)
    before = files_beside(database)

    with pytest.raises(Invalid) as refused:
        await asyncio.to_thread(prepare, backup, database)

    assert refused.value.code == code
    assert files_beside(database) == before


async def test_the_database_of_another_program_is_not_replaced(database: Path, backup: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    await fill(database)
    await back_up_in_thread(database, backup)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE other (x)")

    with pytest.raises(Invalid) as refused:
        await asyncio.to_thread(prepare, backup, other)

    assert refused.value.code == "schema-foreign"


async def test_one_backup_waits_at_a_time_and_can_be_called_off(database: Path, backup: Path) -> None:
    await fill(database)
    await back_up_in_thread(database, backup)
    await asyncio.to_thread(prepare, backup, database, "1")

    with pytest.raises(Conflict) as refused:
        await asyncio.to_thread(prepare, backup, database, "2")
    await asyncio.to_thread(cancel_restore, database, "1")

    assert refused.value.code == "restore-pending"
    assert await asyncio.to_thread(complete_restore, database) is None


@pytest.mark.parametrize("renames", range(5))
async def test_a_crash_between_any_two_steps_loses_nothing(
    database: Path, backup: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, "goes-on")
    await back_up_in_thread(database, backup)
    replaced = await asyncio.to_thread(prepare, backup, database)
    rename, done = os.rename, 0

    def fail(old: str, new: str) -> None:
        nonlocal done
        if done == renames:
            raise Killed
        done += 1
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with suppress(Killed):
        await asyncio.to_thread(complete_restore, database)
    monkeypatch.undo()

    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        assert [row.process_guid for row in await store.journal.list_migrations()] == ["goes-on"]
        assert await store.records.find_image(GUID) is not None
    assert replaced.exists()
    left = {each.name for each in database.parent.iterdir()}
    assert left == {"cache.db", "cache.db.lock", replaced.name}


async def test_a_backup_of_an_older_schema_is_brought_to_this_one(database: Path, backup: Path) -> None:
    """The records stay; what older versions did not write has its default."""
    await fill(database)
    older = database_at(await asyncio.to_thread(new_file, backup))
    await asyncio.to_thread(older.transact, lambda connection: upgrade(connection, "0003"))
    values = "('process-1', 'a', 'docker:///team/web#7', 0, 'waiting-until-stopped', '', 1.5)"
    columns = "process_guid, app_guid, rootfs, rounds, reason, detail, updated_at"
    await older.write(lambda each: each.exec_driver_sql(f"INSERT INTO lrps ({columns}) VALUES {values}"))
    await asyncio.to_thread(older.close)

    await asyncio.to_thread(prepare, backup, database)
    async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
        assert [record.process_guid for record in await store.records.list_lrps()] == ["process-1"]
        assert await store.copy_checks.list_checks() == ()


def new_file(path: Path) -> Path:
    path.touch()
    return path
