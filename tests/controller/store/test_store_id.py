from uuid import UUID

from cryptography.fernet import Fernet

from tests.stores import open_store


async def test_a_store_has_the_same_id_each_time_it_is_opened(kept_url: str) -> None:
    found, key = [], Fernet.generate_key()
    for run in ("run-1", "run-2"):
        async with open_store(kept_url, journal_key=key, run_id=run) as store:
            found.append(store.store_id)

    assert found == [str(UUID(found[0]))] * 2


async def test_two_stores_have_different_ids() -> None:
    async with (
        open_store("sqlite://", journal_key=None, run_id="run-1") as first,
        open_store("sqlite://", journal_key=None, run_id="run-2") as second,
    ):
        assert first.store_id != second.store_id
