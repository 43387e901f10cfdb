"""What LRPs ran from before they were moved.

What is readable on a disk, and what becomes of a login without its key, is asked of a file: the store writes
the same values to a server, which refuses to be opened without the keys that were used before.
"""

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from controller.store.opening import Store
from reconcile.lrps import Credentials, ProcessGuid, Secret
from reconcile.migrations import OriginalSource
from reconcile.references import CacheGuid, Rootfs
from tests.controller.store.samples import MARKER_PASSWORD, lrp_record
from tests.stores import change, connect_beside, open_store

GUID = ProcessGuid("process-1")
PRIVATE = OriginalSource(
    GUID,
    CacheGuid("g"),
    Rootfs("docker://registry.example/team/web#7"),
    needs_credentials=True,
    credentials=Credentials("robot", Secret(MARKER_PASSWORD)),
)


async def test_an_origin_survives_with_its_login(store: Store) -> None:
    await store.original_sources.save_original_source(PRIVATE)

    assert await store.original_sources.find_original_source(GUID) == PRIVATE
    assert await store.original_sources.find_original_source(ProcessGuid("other")) is None


async def test_many_are_read_with_one_query(store: Store) -> None:
    other = replace(PRIVATE, process_guid=ProcessGuid("process-2"))
    for each in (PRIVATE, other):
        await store.original_sources.save_original_source(each)

    found = await store.original_sources.list_original_sources([GUID, ProcessGuid("other")])

    assert found == {GUID: PRIVATE}


async def test_it_goes_with_the_lrps_record(store: Store) -> None:
    await store.records.save_lrp(lrp_record(GUID))
    await store.original_sources.save_original_source(PRIVATE)
    await store.records.forget_lrps([GUID])

    assert await store.original_sources.find_original_source(GUID) is None


async def test_the_login_is_not_readable_in_the_file_and_without_its_key_it_counts_as_lost(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/store/cache.db"
    async with open_store(url, journal_key=Fernet.generate_key(), run_id="r") as store:
        await store.original_sources.save_original_source(PRIVATE)
    content = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert MARKER_PASSWORD.encode() not in content

    for key in (Fernet.generate_key(), None):
        async with open_store(url, journal_key=key, run_id="r") as store:
            found = await store.original_sources.find_original_source(GUID)
        assert found is not None
        assert (found.needs_credentials, found.credentials) == (True, None)


async def test_without_a_key_no_login_is_written_at_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store/cache.db"
    async with open_store(url, journal_key=None, run_id="r") as store:
        await store.original_sources.save_original_source(PRIVATE)
        found = await store.original_sources.find_original_source(GUID)

    assert found is not None
    assert found.credentials is None


WITH_LOGIN = replace(
    PRIVATE,
    rootfs=Rootfs(f"docker://robot:a@{MARKER_PASSWORD}@registry.example/team/web#7"),
    needs_credentials=False,
    credentials=None,
)


@pytest.mark.parametrize("credentials", [None, PRIVATE.credentials])
async def test_a_login_in_the_rootfs_is_not_readable_in_the_file_and_comes_back_with_the_key(
    tmp_path: Path, credentials: Credentials | None
) -> None:
    url, key = f"sqlite:///{tmp_path}/store/cache.db", Fernet.generate_key()
    saved = replace(WITH_LOGIN, credentials=credentials, needs_credentials=credentials is not None)
    async with open_store(url, journal_key=key, run_id="r") as store:
        await store.original_sources.save_original_source(saved)
        assert await store.original_sources.find_original_source(GUID) == saved

    content = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert MARKER_PASSWORD.encode() not in content
    for other in (Fernet.generate_key(), None):
        async with open_store(url, journal_key=other, run_id="r") as store:
            found = await store.original_sources.find_original_source(GUID)
        assert found is not None
        assert (found.rootfs, found.credentials) == (PRIVATE.rootfs, None), "cells pull the same without it"


async def test_without_a_key_the_login_in_the_rootfs_is_not_written(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/store/cache.db", journal_key=None, run_id="r") as store:
        await store.original_sources.save_original_source(WITH_LOGIN)
        found = await store.original_sources.find_original_source(GUID)

    content = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert MARKER_PASSWORD.encode() not in content
    assert found is not None
    assert found.rootfs == PRIVATE.rootfs


@pytest.mark.parametrize("credentials", [None, PRIVATE.credentials])
async def test_a_login_that_an_earlier_version_wrote_into_the_rootfs_is_hidden_at_the_next_start(
    kept_url: str, credentials: Credentials | None
) -> None:
    key, saved = Fernet.generate_key(), replace(PRIVATE, credentials=credentials)
    await save_with_login(kept_url, key, saved)

    async with open_store(kept_url, journal_key=key, run_id="r"):
        pass
    assert await asyncio.to_thread(written_rootfs, kept_url) == PRIVATE.rootfs.uri
    async with open_store(kept_url, journal_key=key, run_id="r") as store:
        found = await store.original_sources.find_original_source(GUID)
    assert found == replace(saved, rootfs=WITH_LOGIN.rootfs)


@pytest.mark.parametrize("credentials", [None, PRIVATE.credentials])
async def test_such_a_login_is_lost_at_a_start_without_a_key(
    url: str, credentials: Credentials | None
) -> None:
    """In a file: a database that instances share is not opened without a key."""
    key, saved = Fernet.generate_key(), replace(PRIVATE, credentials=credentials)
    await save_with_login(url, key, saved)

    async with open_store(url, journal_key=None, run_id="r"):
        pass
    assert await asyncio.to_thread(written_rootfs, url) == PRIVATE.rootfs.uri
    async with open_store(url, journal_key=key, run_id="r") as store:
        found = await store.original_sources.find_original_source(GUID)
    assert found == replace(saved, rootfs=PRIVATE.rootfs)


async def save_with_login(url: str, key: bytes, saved: OriginalSource) -> None:
    """Save what an earlier version would have written, with a login in the rootfs."""
    async with open_store(url, journal_key=key, run_id="r") as store:
        await store.original_sources.save_original_source(saved)
    await change(url, "UPDATE original_sources SET rootfs = :rootfs", rootfs=WITH_LOGIN.rootfs.uri)


def written_rootfs(url: str) -> object:
    chosen = text("SELECT rootfs FROM original_sources")
    with closing(connect_beside(url)) as database:
        return database.read_now(lambda connection: connection.scalar(chosen))
