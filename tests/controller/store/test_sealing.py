"""What older journal keys have sealed is sealed anew, and it is known which keys are still needed.

What none of the keys opens, or is opened without any, is asked of a file: a database that instances share is
opened with keys that open what was sealed last, or not at all. What is sealed on servers is counted there by
test_servers.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, InvalidToken
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import LargeBinary

from controller.store.cipher import sealed_by, signing_keys
from controller.store.key_uses import SEALED_COLUMNS, KeyUses, count_key_uses
from controller.store.opening import Store
from controller.store.sealing import SEALED, SealedAnew
from controller.store.tables import IS_SEALED, metadata
from reconcile.errors import Invalid
from reconcile.lrps import ProcessGuid
from tests.controller.store.samples import migration, turned_back_migration
from tests.controller.store.test_original_sources import PRIVATE
from tests.stores import open_store

OLD, OLDER, NEW = (Fernet.generate_key() for _ in range(3))


def keys(*some: bytes) -> bytes:
    return b"\n".join(some) + b"\n"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state/store.db"


async def uses_of(database: Path, *some: bytes) -> KeyUses:
    return await asyncio.to_thread(count_key_uses, database, keys(*some))


async def fill(store: Store, name: str) -> None:
    """Save a login, and two migrations that have three sealed values."""
    await store.original_sources.save_original_source(
        replace(PRIVATE, process_guid=ProcessGuid(f"{name}-login"))
    )
    public = replace(PRIVATE, process_guid=ProcessGuid(f"{name}-public"), credentials=None)
    await store.original_sources.save_original_source(public)
    await store.journal.save_migration(migration(f"{name}-a"))
    back = turned_back_migration()
    original = replace(back.original, process_guid=ProcessGuid(f"{name}-b"))
    await store.journal.save_migration(
        replace(back, process_guid=ProcessGuid(f"{name}-b"), original=original)
    )


async def test_what_older_keys_have_sealed_is_readable_with_the_new_one_alone(
    url: str, database: Path
) -> None:
    async with open_store(url, journal_key=keys(OLDER), run_id="r") as store:
        await fill(store, "older")
    async with open_store(url, journal_key=keys(OLD, OLDER), run_id="r") as store:
        await fill(store, "old")
        before = await store.journal.list_migrations()
    assert (await uses_of(database, NEW, OLD, OLDER)).by_place == (0, 4, 4)

    async with open_store(url, journal_key=keys(NEW, OLD, OLDER), run_id="r") as store:
        assert store.sealing.has_older_keys
        await fill(store, "new")
        assert await store.sealing.seal_anew() == SealedAnew(values=12, renewed=8)
        assert await store.sealing.seal_anew() == SealedAnew(values=12), "nothing is left to do"
    assert (await uses_of(database, NEW, OLD, OLDER)).by_place == (12, 0, 0)

    async with open_store(url, journal_key=keys(NEW), run_id="r") as store:
        assert not store.sealing.has_older_keys
        after = await store.journal.list_migrations()
        assert [row for row in before if row not in after] == []
        assert await store.journal.list_undecryptable() == ()
        found = await store.original_sources.find_original_source(ProcessGuid("older-login"))
        assert found is not None
        assert found.credentials == PRIVATE.credentials


async def test_what_no_key_opens_is_counted_and_kept(url: str, database: Path) -> None:
    async with open_store(url, journal_key=keys(OLDER), run_id="r") as store:
        await fill(store, "lost")
    async with open_store(url, journal_key=keys(NEW, OLD), run_id="r") as store:
        await fill(store, "new")
        assert await store.sealing.seal_anew() == SealedAnew(values=8, renewed=0, unreadable=4)
    uses = await uses_of(database, NEW, OLD)
    assert (uses.by_place, uses.unreadable) == ((4, 0), 4)

    async with open_store(url, journal_key=keys(NEW, OLD, OLDER), run_id="r") as store:
        assert await store.sealing.seal_anew() == SealedAnew(values=8, renewed=4)


async def test_more_rows_than_one_transaction_takes_are_all_sealed_anew(
    kept_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.store.sealing._BATCH", 3)
    names = [ProcessGuid(f"process-{n}") for n in range(9)]
    async with open_store(kept_url, journal_key=keys(OLD), run_id="r") as store:
        for name in names:
            await store.original_sources.save_original_source(replace(PRIVATE, process_guid=name))

    async with open_store(kept_url, journal_key=keys(NEW, OLD), run_id="r") as store:
        assert await store.sealing.seal_anew() == SealedAnew(values=9, renewed=9)
    async with open_store(kept_url, journal_key=keys(NEW), run_id="r") as store:
        found = await store.original_sources.list_original_sources(names)
        assert {each.credentials for each in found.values()} == {PRIVATE.credentials}


def test_each_column_of_bytes_says_whether_it_is_sealed() -> None:
    """What is encrypted with a journal key and not marked would be lost with the key."""
    columns = [
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    ]
    assert [str(column) for column in columns if IS_SEALED not in column.info] == []
    assert {str(column) for column in columns if column.info[IS_SEALED]} >= {
        "migrations.original",
        "migrations.way_back",
        "original_sources.credentials",
    }


async def test_without_a_key_there_is_nothing_to_seal(url: str) -> None:
    async with open_store(url, journal_key=None, run_id="r") as store:
        assert not store.sealing.has_older_keys
        assert await store.sealing.seal_anew() == SealedAnew()


def test_another_schema_is_refused_and_nothing_is_counted(database: Path) -> None:
    database.parent.mkdir()
    database.touch()
    with pytest.raises(Invalid):
        count_key_uses(database, keys(NEW))


@given(st.binary(max_size=200), st.integers(0, 2), st.integers(0, 400))
def test_the_key_that_opens_a_token_is_the_one_that_is_told(content: bytes, place: int, broken: int) -> None:
    all_keys = [NEW, OLD, OLDER]
    token = bytearray(Fernet(all_keys[place]).encrypt(content))
    assert sealed_by(bytes(token), signing_keys(keys(*all_keys))) == place

    token[broken % len(token)] ^= 1
    try:
        Fernet(all_keys[place]).decrypt(bytes(token))
    except InvalidToken:
        told = sealed_by(bytes(token), signing_keys(keys(*all_keys)))
        assert told is None


def test_the_columns_whose_values_are_counted_are_those_that_are_sealed() -> None:
    named = {table.name: tuple(each.name for each in columns) for table, columns in SEALED.items()}

    assert named == dict(SEALED_COLUMNS)
