"""How a store is opened; what it asks of files, permissions, SQLite's locks and its WAL has no like on a server."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller.store.connections import open_snapshot
from controller.store.database import database_at
from controller.store.inspection import check_database, check_schema
from reconcile.errors import Invalid, Unavailable
from tests.controller.store.samples import binding, digest, job, lrp_record
from tests.stores import at, open_store

KEY = Fernet.generate_key()

NOBODY = 65534


async def refusal(url: str) -> Invalid:
    """Let both the check and the opening refuse a URL, for the same reason."""
    with pytest.raises(Invalid) as checked:
        await asyncio.to_thread(at, check_database, url)
    with pytest.raises(Invalid) as opened:
        async with open_store(url, journal_key=None, run_id="r"):
            pass
    assert checked.value.code == opened.value.code
    return opened.value


def modes_below(path: Path) -> dict[str, int]:
    return {inner.name: inner.stat().st_mode & 0o777 for inner in path.rglob("*")}


async def test_directory_and_files_are_for_this_user_alone(url: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_store(url, journal_key=None, run_id="r") as store:
            await store.records.save_lrp(lrp_record())
            modes = modes_below(tmp_path)
    finally:
        os.umask(before)

    files = dict.fromkeys(["store.db", "store.db-wal", "store.db-shm", "store.db.lock"], 0o600)
    assert files | {"state": 0o700} == modes


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("oracle://somebody:hunter2@db.example/store", "database-unsupported"),
        ("postgresql://somebody:hunter2@db.example/store?sslmode=hunter2", "database-url"),
        ("postgresql://somebody:hunter2@db.example:port/store", "database-url"),
        ("postgresql://somebody:hunter2@/store", "database-url"),
        ("mysql://db.example/hunter2", "database-url"),
        ("mysql://somebody:hunter2@db.example", "database-url"),
        ("sqlite+aiosqlite:///store.db", "database-unsupported"),
        ("hunter2", "database-url"),
        ("sqlite:///store.db?mode=hunter2", "database-url"),
        ("sqlite:///store.db?hunter2", "database-url"),
        ("sqlite://?mode=hunter2", "database-url"),
        ("sqlite://somebody:hunter2@host/store.db", "database-url"),
    ],
)
async def test_a_url_that_is_no_sqlite_file_is_refused_unseen(url: str, code: str) -> None:
    refused = await refusal(url)

    assert code == refused.code
    assert "sqlite:////" in refused.detail
    assert "hunter2" not in refused.detail


async def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()

    for path in (tmp_path / "file/store.db", tmp_path / "directory"):
        refused = await refusal(f"sqlite:///{path}")
        assert refused.code == "database-path"
        assert "database_url" in refused.detail


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    """Give a directory, and let the process be nobody's for a while, since root may write everywhere."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        for name, mode in (("closed", 0o500), ("hidden", 0o000)):
            (Path(directory) / name).mkdir(mode=mode)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield Path(directory)
        finally:
            os.seteuid(user)
            (Path(directory) / "hidden").chmod(0o700)


async def test_a_path_that_is_not_writable_is_refused(as_ordinary_user: Path) -> None:
    assert (await refusal(f"sqlite:///{as_ordinary_user}/closed/store.db")).code == "database-path"


async def test_a_path_that_may_not_be_looked_at_is_refused_to_readers(as_ordinary_user: Path) -> None:
    url = f"sqlite:///{as_ordinary_user}/hidden/store.db"
    for check in (check_database, check_schema):
        with pytest.raises(Invalid) as caught:
            await asyncio.to_thread(at, check, url)
        assert caught.value.code == "database-path"


async def test_an_odd_path_is_taken_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a b/store#1.db"
    async with open_store(url, journal_key=None, run_id="r") as store:
        await store.records.save_lrp(lrp_record())

    await asyncio.to_thread(at, check_schema, url)
    assert (tmp_path / "a b/store#1.db").exists()


async def test_records_outlive_the_store(kept_url: str) -> None:
    async with open_store(kept_url, journal_key=KEY, run_id="r") as store:
        await store.records.add_job(job(), binding())

    async with open_store(kept_url, journal_key=KEY, run_id="r") as store:
        assert (job(),) == await store.records.list_open_jobs()


async def test_a_command_reads_while_the_daemon_writes_and_cannot_write(url: str, tmp_path: Path) -> None:
    def execute(sql: str) -> list[tuple[str]]:
        with open_snapshot(tmp_path / "state/store.db") as connection:
            return connection.execute(sql).fetchall()

    async with open_store(url, journal_key=None, run_id="r") as store:
        await store.records.save_lrp(lrp_record())
        found = await asyncio.to_thread(execute, "SELECT process_guid FROM lrps")
        with pytest.raises(Invalid) as caught:
            await asyncio.to_thread(execute, "DELETE FROM lrps")

    assert found == [(lrp_record().process_guid,)]
    assert caught.value.code == "SQLITE_READONLY"


async def test_reading_creates_nothing(url: str, tmp_path: Path) -> None:
    for missing in (url, "sqlite://"):
        await asyncio.to_thread(at, check_database, missing)
        with pytest.raises(Invalid) as caught:
            await asyncio.to_thread(at, check_schema, missing)
        assert caught.value.code == "database-missing"

    assert modes_below(tmp_path) == {}


@pytest.fixture
async def made_store(url: str) -> None:
    """Make the store's file and close it again."""
    async with open_store(url, journal_key=None, run_id="r"):
        pass


@pytest.fixture
def killed_store(made_store: None, tmp_path: Path) -> str:
    """Copy the files as they are in the middle of a write before WAL is on, and name the copy."""
    directory = tmp_path / "killed"
    directory.mkdir()
    with closing(sqlite3.connect(tmp_path / "state/store.db", isolation_level=None)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
        connection.execute("PRAGMA synchronous = OFF")  # or the journal counts only once it is synced
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO reservations VALUES ('g', 'h')")
        for name in ("store.db", "store.db-journal"):
            shutil.copy(tmp_path / "state" / name, directory)
    return f"sqlite:///{directory}/store.db"


async def test_a_database_that_a_killed_process_left_in_a_write_is_completed_by_the_next(
    killed_store: str,
) -> None:
    """A process that turns WAL on in a new file and is killed leaves a journal, which readers cannot roll back."""
    await asyncio.to_thread(at, check_database, killed_store)
    with pytest.raises(Unavailable) as caught:
        await asyncio.to_thread(at, check_schema, killed_store)
    async with open_store(killed_store, journal_key=None, run_id="r") as store:
        await store.records.save_lrp(lrp_record())

    assert caught.value.code == "SQLITE_READONLY_ROLLBACK"
    assert caught.value.detail.endswith("by a process that was killed: start the daemon")
    await asyncio.to_thread(at, check_schema, killed_store)


def test_commits_are_synced_and_keys_enforced(made_store: None, tmp_path: Path) -> None:
    """FULL is 2: without it a power cut may take back a journal row on which an LRP was removed."""
    with closing(database_at(tmp_path / "state/store.db")) as database:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = database.transact(
            lambda connection: [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
        )

    assert values == ["wal", 2, 1, 5000]


def test_a_full_disk_is_for_later(made_store: None, tmp_path: Path) -> None:
    """A limit of pages stands for the disk: SQLite answers both alike."""
    with closing(database_at(tmp_path / "state/store.db")) as database:
        database.transact(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1").scalar())
        with pytest.raises(Unavailable) as caught:
            database.transact(
                lambda connection: connection.exec_driver_sql(
                    "INSERT INTO reservations VALUES ('g', ?)", ("x" * 100_000,)
                )
            )

    assert caught.value.code == "SQLITE_FULL"
    assert "free some space" in caught.value.detail
    assert "store.db" in caught.value.detail


def test_a_database_that_another_program_locks_is_for_later(made_store: None, tmp_path: Path) -> None:
    path = tmp_path / "state/store.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(database_at(path)) as database,
    ):
        database.transact(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 1"))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            database.transact(lambda _: None)

    assert caught.value.code == "SQLITE_BUSY"
    assert str(path) in caught.value.detail


async def test_closing_waits_for_what_runs_and_refuses_what_comes_later(kept_url: str) -> None:
    async with open_store(kept_url, journal_key=KEY, run_id="r") as store:
        running = asyncio.ensure_future(store.records.reserve_guid(digest(9)))
        await asyncio.sleep(0)
    guid = await running

    with pytest.raises(Unavailable) as caught:
        await store.records.list_images()
    assert caught.value.code == "closed"
    async with open_store(kept_url, journal_key=KEY, run_id="r") as again:
        assert guid == await again.records.reserve_guid(digest(9))


async def test_an_opening_that_is_cancelled_leaves_nothing_held(kept_url: str) -> None:
    async def open_for_ever() -> None:
        async with open_store(kept_url, journal_key=KEY, run_id="r"):
            await asyncio.Event().wait()

    for turns in range(4):
        opening = asyncio.ensure_future(open_for_ever())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)

    async with open_store(kept_url, journal_key=KEY, run_id="r") as store:
        assert await store.records.list_images() == ()
