"""Backups of a store in use, and how they are put in the place of the database."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection

from controller.store.backup import Backup, BackupMarks, back_up
from controller.store.database import database_at
from controller.store.inspection import find_store_id
from controller.store.restored import Restored
from controller.store.restoring import complete_restore, prepare_restore
from reconcile.copying_ports import TargetState
from reconcile.errors import Conflict, Invalid
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import OriginalSource
from reconcile.records import AuditEntry
from reconcile.references import CacheGuid, Rootfs
from reconcile.store_markers import StoreId
from reconcile.trust import Reader, TrustDomain
from tests.controller.store.samples import digest, image, lrp_record, migration
from tests.controller.store.test_schema import upgrade
from tests.stores import at, open_store

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


@dataclass(frozen=True)
class Content:
    """What a daemon finds in a store that it opens."""

    has_image: bool
    rounds: dict[str, int]
    pins: frozenset[str]
    stale: Mapping[ProcessGuid, frozenset[str]]
    source: OriginalSource | None
    is_paused: bool | None
    calls: tuple[str, ...]
    restored: Restored | None


def fill(database: Path, *process_guids: str, pinned: str = "") -> None:
    """Let a daemon save an image and the migrations of some LRPs."""

    async def save() -> None:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            await store.records.keep_image(image(GUID, platform=digest(9)), ())
            for guid in process_guids:
                await store.journal.save_migration(migration(guid))
            if pinned:
                await store.operations.pin([AppGuid(pinned)])

    asyncio.run(save())


def note_call(database: Path, *calls: str) -> None:
    """Let a daemon save entries of the audit log."""

    async def save() -> None:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            for call in calls:
                await store.operations.add_entry(AuditEntry(5.0, "somebody", call, "{}", "done"))

    asyncio.run(save())


def content_of(database: Path) -> Content:
    """Let a daemon open the store."""

    async def read() -> Content:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            return Content(
                await store.records.find_image(GUID) is not None,
                {row.process_guid: row.rounds for row in await store.journal.list_migrations()},
                frozenset(await store.operations.list_pins()),
                await store.stale_instances.list_stale(),
                await store.original_sources.find_original_source(ProcessGuid("p")),
                await store.operations.find_paused(),
                tuple(entry.call for entry in await store.operations.list_entries()),
                store.restored,
            )

    return asyncio.run(read())


def prepare(backup: Path, database: Path, stamp: str = "1") -> Path:
    return prepare_restore(backup, database, stamp=stamp, registries=[REGISTRY])


def files_beside(database: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in database.parent.iterdir()}


def test_a_backup_is_made_while_the_daemon_writes(database: Path, backup: Path) -> None:
    async def write_and_back_up() -> Backup:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            await store.records.keep_image(image(GUID, platform=digest(9)), ())
            await store.journal.save_migration(migration())

            async def write() -> None:
                for number in range(200):
                    await store.records.save_lrp(lrp_record(f"process-{number}"))

            made, _ = await asyncio.gather(asyncio.to_thread(back_up, database, backup, MARKS), write())
            return made

    made = asyncio.run(write_and_back_up())

    assert (made.images, made.migrations, made.bytes) == (1, 1, backup.stat().st_size)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in backup.parent.iterdir() if each.is_file()] == [backup.name]
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_overwritten_by_a_backup(database: Path, backup: Path) -> None:
    fill(database)
    backup.write_bytes(b"precious")

    with pytest.raises(Conflict) as refused:
        back_up(database, backup, MARKS)

    assert refused.value.code == "file-exists"
    assert backup.read_bytes() == b"precious"


def test_what_is_no_store_is_not_backed_up(database: Path, backup: Path) -> None:
    with pytest.raises(Invalid) as missing:
        back_up(database, backup, MARKS)
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(Invalid) as foreign:
        back_up(database, backup, MARKS)

    assert (missing.value.code, foreign.value.code) == ("database-missing", "schema-foreign")
    assert not backup.exists()


def test_a_backup_takes_the_place_of_a_lost_database(database: Path, backup: Path) -> None:
    fill(database)
    back_up(database, backup, MARKS)
    shutil.rmtree(database.parent)
    database.parent.mkdir()

    prepare(backup, database)
    content = content_of(database)

    assert (content.restored, content.has_image, content.is_paused) == (Restored(None), True, True)
    assert database.stat().st_mode & 0o777 == 0o600
    assert content_of(database).restored is None


def test_the_live_journal_wins_over_that_of_the_backup(database: Path, backup: Path) -> None:
    fill(database, "ended-since", "goes-on", pinned="app-of-backup")
    back_up(database, backup, MARKS)
    rootfs = Rootfs("docker:///team/web#7")
    source = OriginalSource(ProcessGuid("p"), GUID, rootfs, needs_credentials=False, credentials=None)

    async def go_on() -> None:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            await store.journal.delete_migration(ProcessGuid("ended-since"), frozenset({"old-1", "old-2"}))
            await store.journal.save_migration(replace(migration("goes-on"), rounds=7))
            await store.journal.save_migration(migration("begun-since"))
            await store.operations.pin([AppGuid("app-pinned-since")])
            await store.original_sources.save_original_source(source)

    asyncio.run(go_on())
    replaced = prepare(backup, database)
    content = content_of(database)

    assert content.rounds == {"goes-on": 7, "begun-since": 0}
    assert content.restored == Restored(
        replaced, (ProcessGuid("begun-since"), ProcessGuid("goes-on")), (ProcessGuid("ended-since"),)
    )
    assert content.pins == {"app-of-backup", "app-pinned-since"}
    assert content.stale == {ProcessGuid("ended-since"): {"old-1", "old-2"}}
    assert content.source == source
    with closing(sqlite3.connect(replaced)) as connection:
        kept = {guid for (guid,) in connection.execute("SELECT process_guid FROM migrations")}
    assert kept == {"goes-on", "begun-since"}


def test_after_a_restore_nobody_is_known_to_be_the_only_one_who_has_brought_content(
    database: Path, backup: Path
) -> None:
    """Somebody may have brought some of it since the backup was made."""
    reader = Reader(TrustDomain("registry evil.example"))

    async def begin() -> TargetState:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            return (await store.content_proofs.begin_copy(digest(77), reader))[1]

    fill(database)
    before = [asyncio.run(begin()), asyncio.run(begin())]
    back_up(database, backup, MARKS)
    prepare(backup, database)

    assert before == [TargetState.EMPTY, TargetState.OWN]
    assert asyncio.run(begin()) is TargetState.UNKNOWN


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_audit_log_is_that_of_both_databases(
    database: Path,
    backup: Path,
    is_lost: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whoever looks for who has replaced the database must find it."""
    fill(database)
    note_call(database, "Pause", "Evict")
    back_up(database, backup, MARKS)
    if is_lost:
        for each in database.parent.glob(f"{database.name}*"):
            each.unlink()
    note_call(database, "RestoreBackup")
    prepare(backup, database)

    assert content_of(database).calls == ("RestoreBackup", "Evict", "Pause")


def test_a_corrupt_database_is_replaced_and_kept(database: Path, backup: Path) -> None:
    fill(database, "under-way")
    back_up(database, backup, MARKS)
    corrupt = b"SQLite format 3\x00" + os.urandom(8192)
    database.write_bytes(corrupt)

    replaced = prepare(backup, database)
    content = content_of(database)

    assert content.restored is not None
    assert (content.restored.replaced, content.restored.dropped) == (replaced, (ProcessGuid("under-way"),))
    assert "restore-backup" in content.restored.problem
    assert replaced.read_bytes() == corrupt
    assert (content.has_image, content.rounds) == (True, {})


def run(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


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
def test_what_does_not_fit_is_refused_before_anything_is_changed(
    database: Path, backup: Path, spoil: Callable[[Path], None], code: str
) -> None:
    fill(database)
    back_up(database, backup, MARKS)
    spoil(backup)
    before = files_beside(database)

    with pytest.raises(Invalid) as refused:
        prepare(backup, database)

    assert refused.value.code == code
    assert files_beside(database) == before


def test_the_database_of_another_program_is_not_replaced(
    database: Path, backup: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    fill(database)
    back_up(database, backup, MARKS)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE other (x)")

    with pytest.raises(Invalid) as refused:
        prepare(backup, other)

    assert refused.value.code == "schema-foreign"


def test_one_backup_waits_at_a_time(database: Path, backup: Path) -> None:
    fill(database)
    back_up(database, backup, MARKS)
    prepare(backup, database, "1")

    with pytest.raises(Conflict) as refused:
        prepare(backup, database, "2")

    assert refused.value.code == "restore-pending"


@pytest.mark.parametrize("renames", range(4))
def test_a_crash_between_any_two_steps_loses_nothing(
    database: Path, backup: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, "goes-on")
    back_up(database, backup, MARKS)
    replaced = prepare(backup, database)
    rename, done = Path.rename, 0

    def fail(old: Path, new: Path) -> Path:
        nonlocal done
        if done == renames:
            raise Killed
        renamed = rename(old, new)
        done += 1
        return renamed

    monkeypatch.setattr(Path, "rename", fail)
    with suppress(Killed):
        complete_restore(database)
    monkeypatch.undo()
    content = content_of(database)

    assert done == min(renames, 3)
    assert (content.has_image, content.rounds) == (True, {"goes-on": 0})
    assert replaced.exists()
    left = {each.name for each in database.parent.iterdir()}
    assert left == {"cache.db", "cache.db.lock", replaced.name}


def test_a_backup_of_an_older_schema_is_brought_to_this_one(database: Path, backup: Path) -> None:
    """The records stay; what older versions did not write has its default."""
    fill(database)
    backup.touch()
    columns = "cache_guid, source, root_digest, digest, size, created_at, verified_at"
    digests = f"'{digest(1)}', '{digest(9)}'"
    with closing(database_at(backup)) as older:
        older.transact(lambda connection: upgrade(connection, "0003"))
        for statement in (
            f"INSERT INTO reservations (cache_guid, platform_digest) VALUES ('{GUID}', '{digest(9)}')",
            f"INSERT INTO images ({columns}) VALUES ('{GUID}', 'a.example/b:1', {digests}, 1, 1, 1)",
        ):
            older.transact(partial(run, statement))

    prepare(backup, database)

    assert content_of(database).has_image


def store_id_of(database: Path) -> StoreId:
    """Let a daemon open the store, and read its id."""

    async def read() -> StoreId:
        async with open_store(f"sqlite:///{database}", journal_key=KEY, run_id="r") as store:
            return store.store_id

    return asyncio.run(read())


def test_a_lost_database_gets_its_id_back_with_its_backup(database: Path, backup: Path) -> None:
    made = store_id_of(database)
    back_up(database, backup, MARKS)
    shutil.rmtree(database.parent)
    database.parent.mkdir()

    prepare(backup, database)

    assert str(UUID(made)) == made
    assert made == store_id_of(database)
    assert at(find_store_id, f"sqlite:///{database}") == frozenset([made])


def test_a_database_that_is_replaced_leaves_its_id_to_the_backup(database: Path, backup: Path) -> None:
    """A daemon that runs with a new database has marked it on the BBS, and goes on with the backup at once."""
    of_backup = store_id_of(database)
    back_up(database, backup, MARKS)
    shutil.rmtree(database.parent)
    database.parent.mkdir()
    replaced = store_id_of(database)

    prepare(backup, database)

    assert replaced != of_backup
    assert replaced == store_id_of(database)
