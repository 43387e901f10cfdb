import base64
from dataclasses import fields, replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from controller.store.journal import MemoryJournal, SqlJournal
from controller.store.opening import Store
from controller.store.originals import bytes_from_lrp, bytes_from_pull, lrp_from_bytes, pull_from_bytes
from reconcile.errors import Invalid
from reconcile.lrps import (
    Action,
    AppGuid,
    Credentials,
    DesiredLrp,
    ModificationTag,
    OtherAction,
    ProcessGuid,
    Pull,
    RunAction,
    Secret,
    WrapperAction,
)
from reconcile.migrations import Migration, Phase
from reconcile.references import Rootfs
from tests.controller.store.samples import (
    MARKER_ENV,
    MARKER_PASSWORD,
    desired_lrp,
    migration,
    turned_back_migration,
)
from tests.stores import change, open_store

texts = st.text(max_size=8)
tags = st.dictionaries(texts, texts, max_size=3)
actions: st.SearchStrategy[Action] = st.recursive(
    st.builds(OtherAction) | st.builds(RunAction, texts, st.lists(texts, max_size=2).map(tuple), tags),
    lambda inner: st.builds(WrapperAction, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=6,
)
desired_lrps = st.builds(
    DesiredLrp,
    process_guid=texts.map(ProcessGuid),
    domain=texts,
    app_guid=texts.map(AppGuid),
    rootfs=texts.map(Rootfs),
    instances=st.integers(0, 2**31),
    tag=st.builds(ModificationTag, texts, st.integers(0, 2**32)),
    definition=st.binary(max_size=64),
    action=st.none() | actions,
    metric_tags=tags,
    credentials=st.none() | st.builds(Credentials, texts, texts.map(Secret)),
    routes=st.dictionaries(texts, st.binary(max_size=8), max_size=3),
    placement_tags=st.frozensets(texts, max_size=2),
)
pulls = st.builds(Pull, texts.map(Rootfs), st.none() | st.builds(Credentials, texts, texts.map(Secret)))


@pytest.fixture(params=["sql", "memory"])
def journal(request: pytest.FixtureRequest, store: Store) -> SqlJournal | MemoryJournal:
    return store.journal if request.param == "sql" else MemoryJournal()


@given(desired_lrps)
def test_an_original_survives_exactly(lrp: DesiredLrp) -> None:
    assert lrp == lrp_from_bytes(bytes_from_lrp(lrp))


@given(pulls)
def test_what_an_lrp_ran_from_survives_exactly(pull: Pull) -> None:
    assert pull == pull_from_bytes(bytes_from_pull(pull))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}', b"\xff"])
def test_an_unknown_original_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        lrp_from_bytes(content)


async def test_a_migration_comes_back_as_it_was_saved(journal: SqlJournal | MemoryJournal) -> None:
    await journal.save_migration(migration())

    assert migration() == await journal.find_migration(ProcessGuid("process-1"))
    assert await journal.find_migration(ProcessGuid("other")) is None


async def test_all_that_a_migration_remembers_comes_back(journal: SqlJournal | MemoryJournal) -> None:
    turned_back = turned_back_migration()
    unset = [each.name for each in fields(Migration) if not getattr(turned_back, each.name)]
    assert unset == [], "the sample leaves nothing out"
    public = replace(turned_back, way_back=Pull(Rootfs("docker:///team/public#1"), None))

    await journal.save_migration(turned_back)
    assert turned_back == await journal.find_migration(turned_back.process_guid)
    await journal.save_migration(public)
    assert public == await journal.find_migration(public.process_guid)
    await journal.save_migration(migration())
    assert (migration(),) == await journal.list_migrations(), "nothing of an earlier row is left"


async def test_a_later_row_takes_the_place_of_an_earlier_one(journal: SqlJournal | MemoryJournal) -> None:
    later = replace(migration(), phase=Phase.REMOVING, rounds=2, run_id="run-2")
    await journal.save_migration(migration())
    await journal.save_migration(later)

    assert (later,) == await journal.list_migrations()


async def test_migrations_are_listed_oldest_first(journal: SqlJournal | MemoryJournal) -> None:
    for name, started_at in (("c", 3.0), ("a", 2.0), ("b", 1.0)):
        await journal.save_migration(migration(name, started_at=started_at))

    assert [row.process_guid for row in await journal.list_migrations()] == ["b", "a", "c"]
    assert await journal.list_undecryptable() == ()


async def test_a_closed_migration_is_gone(journal: SqlJournal | MemoryJournal) -> None:
    await journal.save_migration(migration())
    await journal.delete_migration(ProcessGuid("process-1"))
    await journal.delete_migration(ProcessGuid("process-1"))

    assert await journal.list_migrations() == ()


async def test_only_a_journal_in_a_file_with_a_key_is_durable(url: str) -> None:
    key = Fernet.generate_key()
    async with open_store("sqlite://", journal_key=key, run_id="r") as store:
        assert not store.journal.is_durable
    async with open_store(url, journal_key=key, run_id="r") as store:
        assert store.journal.is_durable
    async with open_store(url, journal_key=None, run_id="r") as store:
        assert not store.journal.is_durable


async def test_nothing_of_an_original_is_plain_on_disk(url: str, tmp_path: Path) -> None:
    """Neither while the daemon runs nor afterwards, in no encoding that is easily undone."""
    secrets = [MARKER_PASSWORD.encode(), MARKER_ENV.encode(), desired_lrp().rootfs.uri.encode()]
    secrets += [base64.b64encode(b"\x00\xff" + MARKER_PASSWORD.encode()), b"marker-image"]

    def read_all() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    async with open_store(url, journal_key=Fernet.generate_key(), run_id="r") as store:
        await store.journal.save_migration(migration())
        await store.journal.save_migration(replace(migration(), rounds=1))
        await store.journal.save_migration(turned_back_migration())
        assert (tmp_path / "state/store.db-wal").stat().st_size > 0
        on_disk = read_all()
    on_disk += read_all()

    assert b"process-1" in on_disk
    assert [secret for secret in secrets if secret in on_disk] == []


async def test_a_key_is_changed_by_putting_the_new_one_in_front(kept_url: str) -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()
    row = turned_back_migration()
    async with open_store(kept_url, journal_key=old, run_id="r") as store:
        await store.journal.save_migration(row)

    async with open_store(kept_url, journal_key=new + b"\n" + old + b"\n", run_id="r") as store:
        assert (row,) == await store.journal.list_migrations()
        await store.journal.save_migration(row)

    async with open_store(kept_url, journal_key=new, run_id="r") as store:
        assert (row,) == await store.journal.list_migrations()


async def test_a_row_of_another_key_is_told_and_kept(url: str) -> None:
    """In a file: a database that instances share is not opened with other keys than those used before."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    async with open_store(url, journal_key=old, run_id="r") as store:
        await store.journal.save_migration(migration("lost"))

    async with open_store(url, journal_key=new, run_id="r") as store:
        await store.journal.save_migration(migration("mine"))
        assert (migration("mine"),) == await store.journal.list_migrations()
        (told,) = await store.journal.list_undecryptable()
        assert told.code == "journal-undecryptable"
        assert "lost" in told.detail
        with pytest.raises(Invalid):
            await store.journal.find_migration(ProcessGuid("lost"))
        with pytest.raises(Invalid):
            await store.journal.save_migration(migration("lost"))

    async with open_store(url, journal_key=None, run_id="r") as store:
        assert len(await store.journal.list_undecryptable()) == 2

    async with open_store(url, journal_key=old, run_id="r") as store:
        assert (migration("lost"),) == await store.journal.list_migrations()


async def test_a_row_moved_to_another_lrp_is_not_believed(kept_url: str) -> None:
    key = Fernet.generate_key()
    async with open_store(kept_url, journal_key=key, run_id="r") as store:
        await store.journal.save_migration(migration())
    await change(kept_url, "UPDATE migrations SET process_guid = 'process-2'")

    async with open_store(kept_url, journal_key=key, run_id="r") as store:
        assert await store.journal.list_migrations() == ()
        assert len(await store.journal.list_undecryptable()) == 1


async def test_a_way_back_that_cannot_be_read_is_told_like_the_rest(kept_url: str) -> None:
    """Nothing is desired from half a row."""
    key = Fernet.generate_key()
    async with open_store(kept_url, journal_key=key, run_id="r") as store:
        await store.journal.save_migration(turned_back_migration())
    await change(kept_url, "UPDATE migrations SET way_back = :broken", broken=b"\0")

    async with open_store(kept_url, journal_key=key, run_id="r") as store:
        assert await store.journal.list_migrations() == ()
        (told,) = await store.journal.list_undecryptable()
        assert told.code == "journal-undecryptable"


@pytest.mark.parametrize(
    "key", [b"", b"secret-and-wrong", Fernet.generate_key()[:-4]], ids=["none", "text", "short"]
)
async def test_a_wrong_key_stops_the_start_and_is_not_shown(url: str, key: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        async with open_store(url, journal_key=key, run_id="r"):
            pass

    assert caught.value.code == "journal-key"
    assert "secret-and-wrong" not in str(caught.value)
