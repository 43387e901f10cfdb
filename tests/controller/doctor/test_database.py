"""The store, looked at beside a running daemon, without one, and in the states that operators get it into."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controller.doctor.database import LEAST_FREE, check_database, judge_space
from controller.doctor.findings import Finding, Level
from tests.controller.doctor.conftest import Settings, all_of, config_of, levels, the_one
from tests.controller.store.test_lock import other_holder
from tests.controller.store.test_original_sources import PRIVATE
from tests.stores import open_store


async def look(settings: Settings) -> list[Finding]:
    return await all_of(check_database(await config_of(settings)))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "store/cache.db"


async def start_and_stop(settings: Settings) -> None:
    """Leave the store as a daemon leaves it."""
    async with open_store(settings["database_url"], journal_key=None, run_id="r"):
        pass


async def test_before_the_first_start_all_is_well_and_nothing_is_made(
    settings: Settings, database: Path
) -> None:
    found = await look(settings)

    assert {Level.OK} == set(levels(found))
    assert [each.text.partition(" ")[0] for each in found][:3] == [str(database.parent), "no", str(database)]
    assert f"{database.parent} can be created by user {os.geteuid()}" in found[0].text
    assert found[2].text == f"{database} is created at the daemon's first start"
    assert not database.parent.exists()


async def test_a_store_that_nobody_holds_is_well(settings: Settings, database: Path) -> None:
    await start_and_stop(settings)

    found = await look(settings)

    assert {Level.OK} == set(levels(found))
    assert found[1].text == f"no daemon holds {database}"
    assert found[2].text == f"{database} has the schema of this version"
    assert "MiB are free on the disk of" in found[3].text
    assert found[4].text.endswith("holds a key")


@pytest.mark.usefixtures("servers")
async def test_the_process_that_holds_the_store_is_named_and_goes_on(
    settings: Settings, database: Path
) -> None:
    await start_and_stop(settings)
    with other_holder(database) as holder:
        found = await look(settings)
        again = await look(settings)
        assert holder.poll() is None

    assert {Level.OK} == set(levels(found))
    assert found[1].text.startswith(f"{database} is held by process {holder.pid} since 20")
    of_the_disk = found[3]
    assert "MiB are free" in of_the_disk.text, "which others change meanwhile"
    assert [*found[:3], *found[4:]] == [*again[:3], *again[4:]]


async def test_a_daemon_may_start_while_somebody_looks(settings: Settings) -> None:
    await start_and_stop(settings)

    await look(settings)
    await start_and_stop(settings)


@pytest.mark.parametrize(
    ("revision", "level", "told"),
    [
        ("0001", Level.WARNING, "start this version's daemon"),
        ("9999", Level.PROBLEM, "run that version"),
    ],
)
async def test_another_schema_is_said(
    revision: str, level: Level, told: str, settings: Settings, database: Path
) -> None:
    await start_and_stop(settings)
    await asyncio.to_thread(change, database, f"UPDATE alembic_version SET version_num = '{revision}'")

    found = the_one(await look(settings))

    assert (found.level, told in f"{found.text} {found.advice}") == (level, True)


def change(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(sql)
        connection.commit()


async def test_a_file_that_is_no_database_is_a_problem(settings: Settings, database: Path) -> None:
    database.parent.mkdir()
    await asyncio.to_thread(database.write_text, "not a database" * 100)

    found = the_one(await look(settings))

    assert (found.level, "is not a SQLite database" in found.text) == (Level.PROBLEM, True)


async def test_a_directory_that_cannot_be_made_is_a_problem(settings: Settings) -> None:
    settings["database_url"] = "sqlite:////dev/null/store/cache.db"

    found = the_one(await look(settings))

    assert (found.level, found.text) == (Level.PROBLEM, "/dev/null is no directory")


async def test_a_directory_that_is_not_writable_is_a_problem(settings: Settings, database: Path) -> None:
    database.parent.mkdir(mode=0o500)
    if os.access(database.parent, os.W_OK):
        pytest.skip("root may write everywhere")

    found = the_one(await look(settings))

    assert found.level is Level.PROBLEM
    assert found.text == f"{database.parent} cannot be written to by user {os.geteuid()}"


async def test_a_lock_file_that_cannot_be_read_is_a_problem(settings: Settings, database: Path) -> None:
    database.parent.mkdir()
    lock = database.with_name("cache.db.lock")
    lock.symlink_to(lock)

    found = the_one(await look(settings))

    assert (found.level, found.advice) == (Level.PROBLEM, "run doctor as the daemon's user")


@pytest.mark.parametrize(("free", "level"), [(LEAST_FREE - 1, Level.WARNING), (LEAST_FREE, Level.OK)])
def test_a_disk_that_is_nearly_full_is_a_warning(free: int, level: Level, tmp_path: Path) -> None:
    found = judge_space(tmp_path, free)

    assert (found.level, f"{free >> 20} MiB are free" in found.text) == (level, True)


async def test_no_journal_key_is_a_warning(settings: Settings) -> None:
    del settings["journal_key_file"]

    found = the_one(await look(settings))

    assert (found.level, "apps are not migrated while they run" in found.text) == (Level.WARNING, True)


@pytest.mark.parametrize("content", [b"marker-key\n", b"  \n", b"\xff", b"bWFya2VyLWtleQ==\n"])
async def test_a_journal_key_that_is_none_is_a_problem_and_not_shown(
    content: bytes, settings: Settings, tmp_path: Path
) -> None:
    config = await config_of(settings)
    (tmp_path / "journal.key").write_bytes(content)

    found = the_one(await all_of(check_database(config)))

    assert (found.level, "journal.key holds no Fernet key" in found.text) == (Level.PROBLEM, True)
    assert "marker" not in str(found)


class TestJournalKeys:
    """Which keys are still needed for what is sealed in the database."""

    async def sealed(self, settings: Settings, *keys: bytes) -> None:
        """Save a login with the first key, and write all keys to the key file."""
        async with open_store(settings["database_url"], journal_key=keys[0], run_id="r") as store:
            await store.original_sources.save_original_source(PRIVATE)
        await asyncio.to_thread(self.write, settings, *keys)

    def write(self, settings: Settings, *keys: bytes) -> None:
        Path(settings["journal_key_file"]).write_bytes(b"\n".join(keys))

    async def test_an_older_key_that_sealed_something_is_named_by_its_place(self, settings: Settings) -> None:
        old, new = Fernet.generate_key(), Fernet.generate_key()
        await self.sealed(settings, old)
        await asyncio.to_thread(self.write, settings, new, old)

        found = the_one(await look(settings))

        assert found.level is Level.WARNING
        assert found.text.endswith(
            "are still sealed by older keys of " + settings["journal_key_file"] + ": 1 by key 2"
        )
        assert old.decode() not in found.text + found.advice

    async def test_one_that_sealed_nothing_can_go(self, settings: Settings) -> None:
        await self.sealed(settings, Fernet.generate_key(), Fernet.generate_key())

        found = await look(settings)

        assert {Level.OK} == set(levels(found))
        assert "all 1 sealed values are sealed by key 1" in found[-1].text
        assert "older keys can go a week after the new one came" in found[-1].text

    async def test_what_no_key_opens_is_a_problem(self, settings: Settings) -> None:
        await self.sealed(settings, Fernet.generate_key())
        await asyncio.to_thread(self.write, settings, Fernet.generate_key())

        found = the_one(await look(settings))

        assert found.level is Level.PROBLEM
        assert found.text.startswith("1 values in ")
