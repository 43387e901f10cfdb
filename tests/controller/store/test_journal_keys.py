"""Instances that share a database have keys that open what the others seal."""

import pytest
from cryptography.fernet import Fernet

from controller.store import journal_keys
from controller.store.location import location_from_url
from controller.store.opening import check_journal_keys, open_database, open_store
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
        (None, NEW),
        (OLD, OLD),
        (OLD, NEW + b"\n" + OLD),
        (OLD + b"\n" + NEW, OLD),
        (OLD + b"\n" + NEW, NEW + b"\n" + OLD),
    ],
    ids=["the first instance", "the same", "a new one above", "an old one is gone", "another order"],
)
def test_keys_that_open_what_was_sealed_last_are_accepted(used: bytes | None, own: bytes) -> None:
    journal_keys.refuse_others(journal_keys.fingerprints(used), journal_keys.fingerprints(own))


@pytest.mark.parametrize(("used", "own"), [(OLD, OTHER), (NEW + b"\n" + OLD, OLD), (OLD, None)])
def test_keys_that_do_not_are_refused_with_advice(used: bytes, own: bytes | None) -> None:
    with pytest.raises(Invalid, match="write all keys of that instance into journal_key_file") as caught:
        journal_keys.refuse_others(journal_keys.fingerprints(used), journal_keys.fingerprints(own))

    assert caught.value.code == "journal-keys-differ"
    assert used.decode()[:8] not in caught.value.detail


async def test_the_keys_of_the_instance_that_was_active_last_count() -> None:
    async with open_database(location_from_url("sqlite://"), run_id="r") as database:
        await check_journal_keys(database, journal_key=OLD)
        assert await database.read(journal_keys.find) == ()

        await open_store(database, journal_key=OLD)
        await open_store(database, journal_key=NEW + b"\n" + OLD)

        found = await database.read(journal_keys.find)
        assert found == journal_keys.fingerprints(NEW + b"\n" + OLD)


async def test_a_file_is_used_by_one_process_at_a_time_which_may_have_lost_its_keys() -> None:
    """What none of its keys opens is said of it otherwise, and its apps must be looked after all the same."""
    async with open_database(location_from_url("sqlite://"), run_id="r") as database:
        await open_store(database, journal_key=OLD)
        await check_journal_keys(database, journal_key=OTHER)
        await open_store(database, journal_key=OTHER)
