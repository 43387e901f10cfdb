"""Copies are read back once and few at a time, and nobody waits for what another caller reads."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.store.opening import Store
from controller.verifier import CopyVerifier
from reconcile.errors import Invalid
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference
from tests.controller.store.samples import digest, image
from tests.stores import open_store

CACHE = CacheRepositories("cache.example:8080")


class Reader:
    """A private registry that reads slowly, and of which some content is wrong."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.reading = asyncio.Event()
        self.read: list[ImageReference] = []
        self.corrupt: set[Digest] = set()

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        self.read.append(target)
        self.reading.set()
        await self.may_read.wait()
        if digest in self.corrupt:
            raise Invalid("registry", "not-verified", str(digest))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/store/cache.db", journal_key=None, run_id="r") as opened:
        yield opened


async def kept(store: Store, number: int) -> CachedImage:
    """Keep a copy that needs verification."""
    guid = await store.records.reserve_guid(digest(number))
    copy = replace(image(guid, platform=digest(number)), needs_verification_since=5.0)
    await store.records.keep_image(copy, ())
    await store.records.mark_for_verification(CacheGuid(guid), 5.0)
    return copy


async def test_nobody_waits_for_a_copy_that_another_caller_reads(store: Store) -> None:
    """It may have 50 GiB, and one tenant may have many apps that crash."""
    reader, copy = Reader(), await kept(store, 1)
    verifier = CopyVerifier(reader, store.records, CACHE)
    first = asyncio.ensure_future(verifier.verify(copy))
    await reader.reading.wait()

    assert await verifier.verify(copy) is None

    reader.may_read.set()
    assert await first is True
    assert await verifier.verify(copy) is True
    assert len(reader.read) == 1


async def test_only_few_copies_are_read_at_a_time(store: Store) -> None:
    reader = Reader()
    copies = [await kept(store, n) for n in range(3)]
    verifier = CopyVerifier(reader, store.records, CACHE, at_a_time=2)
    reading = [asyncio.ensure_future(verifier.verify(copy)) for copy in copies[:2]]
    await asyncio.sleep(0)

    assert await verifier.verify(copies[2]) is None

    reader.may_read.set()
    assert await asyncio.gather(*reading) == [True, True]
    assert await verifier.verify(copies[2]) is True


async def test_a_copy_whose_bytes_are_wrong_still_needs_verification(store: Store) -> None:
    reader, copy = Reader(), await kept(store, 1)
    reader.corrupt.add(copy.digest)
    reader.may_read.set()

    assert await CopyVerifier(reader, store.records, CACHE).verify(copy) is False

    found = await store.records.find_image(copy.cache_guid)
    assert found is not None
    assert found.needs_verification_since == 5.0
