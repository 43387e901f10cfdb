"""Instances that share a database have keys that open what the others seal."""

import asyncio

import pytest
from cryptography.fernet import Fernet

from controller.store import journal_keys
from controller.store.location import location_from_url
from controller.store.opening import check_standby, open_database, open_store
from reconcile.errors import Invalid

OLD, NEW, OTHER = (Fernet.generate_key() for _ in range(3))


def test_a_fingerprint_tells_keys_apart_and_holds_nothing_of_them() -> None:
    old, new = journal_keys.fingerprints(OLD + b"\n" + NEW)

    assert (old,) == journal_keys.fingerprints(OLD)
    assert old != new
    assert len(old) == 16
    assert journal_keys.fingerprints(None) == ()


@pytest.mark.parametrize(
    ("used", "own"),
    [
        (OLD, OLD),
        (OLD, NEW + b"\n" + OLD),
        (OLD + b"\n" + NEW, OLD),
        (OLD + b"\n" + NEW, NEW + b"\n" + OLD),
    ],
    ids=["the same", "a new one above", "an old one is gone", "another order"],
)
async def test_keys_that_open_what_was_sealed_last_are_accepted(
    kept_url: str, used: bytes, own: bytes
) -> None:
    location = await asyncio.to_thread(location_from_url, kept_url)
    async with open_database(location, run_id="r") as database:
        await check_standby(database, journal_key=used)
        await open_store(database, journal_key=used)
        await check_standby(database, journal_key=own)
        await open_store(database, journal_key=own)

        assert await database.read(journal_keys.find) == journal_keys.fingerprints(own)


@pytest.mark.parametrize(
    ("used", "own"), [(OLD, OTHER), (NEW + b"\n" + OLD, OLD)], ids=["others", "without the newest"]
)
async def test_keys_that_do_not_are_refused_with_advice_on_a_shared_database(
    kept_url: str, used: bytes, own: bytes
) -> None:
    """A file is used by one process at a time. One that has lost its keys looks after its apps all the same."""
    location = await asyncio.to_thread(location_from_url, kept_url)
    async with open_database(location, run_id="r") as database:
        await open_store(database, journal_key=used)
        if not database.is_shared:
            await check_standby(database, journal_key=own)
            await open_store(database, journal_key=own)
            return

        for take_over in (check_standby, open_store):
            with pytest.raises(Invalid, match="write all keys of that instance") as caught:
                await take_over(database, journal_key=own)
            assert caught.value.code == "journal-keys-differ"
            assert used.decode()[:8] not in caught.value.detail
        assert await database.read(journal_keys.find) == journal_keys.fingerprints(used)
