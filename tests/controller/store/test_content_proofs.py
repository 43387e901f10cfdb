"""Who has shown which content, as the store remembers it."""

from contextlib import closing
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from controller.store import jobs
from controller.store.database import database_in_memory
from controller.store.opening import Store
from controller.store.proofs import find, list_sources
from controller.store.schema_upgrade import migrate
from reconcile.copying_ports import TargetState
from reconcile.lrps import AppGuid, Credentials, Secret
from reconcile.records import CachedImage, JobId, JobState
from reconcile.references import Digest, ImageReference, parse_image_reference
from reconcile.trust import (
    BlobHolder,
    ContentProof,
    ContentStanding,
    Reader,
    ShareContent,
    Sharing,
    TrustDomain,
)
from tests.controller.store.samples import (
    APP,
    MARKER_PASSWORD,
    SOURCE,
    binding,
    digest,
    image,
    job,
)
from tests.controller.store.test_schema import upgrade
from tests.stores import open_store

CONTENT = digest(60)
BLOBS = (digest(50), digest(51))
HOST = SOURCE.domain
PUBLIC = Reader(TrustDomain(f"registry {HOST}"), host=HOST)
ALICE = replace(PUBLIC, logins=("a" * 64,))
MALLORY = replace(PUBLIC, logins=("b" * 64,))
ELSEWHERE = Reader(TrustDomain("registry evil.example"), host="evil.example")
EVERYBODY = Sharing(ShareContent.ALL, (b"key",)).reader(SOURCE, "", None)


async def cached(store: Store, reader: Reader, *, content: Digest = CONTENT) -> CachedImage:
    """Let a job copy some content, whose source shows it."""
    copying = job(f"job-{content.hex[-3:]}", state=JobState.COPYING)
    await store.records.add_job(copying, binding(copying.job_id, task=copying.job_id))
    guid, _ = await store.content_proofs.begin_copy(content, reader)
    made = image(guid, platform=content)
    ended = replace(copying, state=JobState.CACHED, cache_guid=guid)
    proof = ContentProof(content, reader, SOURCE.repository, 5.0)
    await store.records.finish_job(ended, made, BLOBS, proof)
    return made


async def standing(store: Store, reader: Reader) -> ContentStanding:
    return (await store.content_proofs.find_shown(CONTENT, reader)).standing


async def test_what_was_read_with_a_login_is_proven_for_that_login_alone(store: Store) -> None:
    await cached(store, ALICE)

    assert await standing(store, ALICE) is ContentStanding.PROVEN
    assert await standing(store, MALLORY) is ContentStanding.SHARED
    assert await standing(store, PUBLIC) is ContentStanding.SHARED
    assert await standing(store, ELSEWHERE) is ContentStanding.FOREIGN


async def test_what_was_read_without_a_login_is_proven_in_its_domain(store: Store) -> None:
    await cached(store, PUBLIC)

    assert await standing(store, ALICE) is ContentStanding.PROVEN
    assert await standing(store, ELSEWHERE) is ContentStanding.FOREIGN


async def test_blobs_are_mounted_from_copies_of_the_same_domain_those_that_are_proven_first(
    store: Store,
) -> None:
    private = await cached(store, ALICE)
    public = await cached(store, PUBLIC, content=digest(61))
    find_holders = store.records.find_holders

    assert {each.is_proven for each in (await find_holders(BLOBS, ALICE)).values()} == {True}
    assert await find_holders(BLOBS, PUBLIC) == dict.fromkeys(BLOBS, BlobHolder(public.cache_guid))
    assert await find_holders(BLOBS, ELSEWHERE) == {}
    assert set(await find_holders(BLOBS, EVERYBODY)) == set(BLOBS)

    await store.records.drop_image(public.cache_guid)

    assert await find_holders(BLOBS, PUBLIC) == dict.fromkeys(
        BLOBS, BlobHolder(private.cache_guid, is_proven=False)
    )


async def test_a_rebuilt_copy_is_shared_in_the_registry_that_it_was_copied_from(store: Store) -> None:
    made = image(await store.records.reserve_guid(CONTENT), platform=CONTENT)
    await store.records.keep_image(made, BLOBS)

    assert await standing(store, PUBLIC) is ContentStanding.SHARED
    assert await standing(store, ELSEWHERE) is ContentStanding.FOREIGN
    assert (await store.records.find_holders(BLOBS, PUBLIC))[BLOBS[0]].is_proven is False
    assert await store.records.find_holders(BLOBS, ELSEWHERE) == {}


async def test_a_host_whose_name_begins_like_another_ones_is_not_that(store: Store) -> None:
    made = image(await store.records.reserve_guid(CONTENT), platform=CONTENT)
    await store.records.keep_image(made, BLOBS)
    short = HOST[:-1]

    like = Reader(TrustDomain(f"registry {short}"), host=short)

    assert await standing(store, like) is ContentStanding.FOREIGN
    assert await store.records.find_holders(BLOBS, like) == {}
    wild = Reader(TrustDomain("registry %"), host="%")
    assert await store.records.find_holders(BLOBS, wild) == {}


async def test_whoever_has_copied_content_before_finds_its_own_blobs(store: Store) -> None:
    begin = store.content_proofs.begin_copy

    assert (await begin(CONTENT, ALICE))[1] is TargetState.EMPTY
    assert (await begin(CONTENT, ALICE))[1] is TargetState.OWN
    assert (await begin(CONTENT, MALLORY))[1] is TargetState.UNKNOWN
    assert (await begin(CONTENT, MALLORY))[1] is TargetState.UNKNOWN
    assert (await begin(CONTENT, ALICE))[1] is TargetState.UNKNOWN
    assert (await begin(CONTENT, EVERYBODY))[1] is TargetState.OWN


async def test_content_that_was_brought_by_nobody_knows_whom_is_nobodys_own(store: Store) -> None:
    await store.records.reserve_guid(CONTENT)

    states = [(await store.content_proofs.begin_copy(CONTENT, MALLORY))[1] for _ in range(3)]

    assert set(states) == {TargetState.UNKNOWN}


async def test_what_lies_where_a_rebuilt_copy_was_is_nobodys_own(store: Store) -> None:
    """It was tried before by somebody who did not have it."""
    guid, _ = await store.content_proofs.begin_copy(CONTENT, MALLORY)
    await store.records.keep_image(image(guid, platform=CONTENT), BLOBS)
    await store.records.drop_image(guid)

    assert (await store.content_proofs.begin_copy(CONTENT, MALLORY))[1] is TargetState.UNKNOWN


async def test_the_proofs_of_a_copy_go_with_it(store: Store) -> None:
    made = await cached(store, PUBLIC)
    await store.records.drop_image(made.cache_guid)

    assert await standing(store, PUBLIC) is ContentStanding.FOREIGN
    assert await store.records.list_sources([CONTENT]) == {}


async def test_all_sources_of_a_copy_are_listed_the_first_one_first(store: Store) -> None:
    await cached(store, PUBLIC)
    for reader, source in ((ELSEWHERE, "evil.example/a"), (ALICE, SOURCE.repository), (PUBLIC, f"{HOST}/b")):
        await store.content_proofs.save_proof(ContentProof(CONTENT, reader, source, 6.0))
    await store.content_proofs.save_proof(ContentProof(CONTENT, MALLORY, "", 7.0))

    found = await store.records.list_sources([CONTENT, digest(99)])

    assert found == {CONTENT: (SOURCE.repository, "evil.example/a", f"{HOST}/b")}


@pytest.fixture
def most_proofs(monkeypatch: pytest.MonkeyPatch) -> int:
    """Spare the databases hundreds of proofs."""
    monkeypatch.setattr("controller.store.proofs.MOST_PROOFS", 20)
    return 20


async def test_one_tenant_cannot_fill_the_store_with_proofs(store: Store, most_proofs: int) -> None:
    await cached(store, PUBLIC)
    for number in range(most_proofs + 20):
        proof = ContentProof(CONTENT, ALICE, f"{HOST}/repository-{number}", 6.0)
        await store.content_proofs.save_proof(proof)

    sources = (await store.records.list_sources([CONTENT]))[CONTENT]

    assert len(sources) == most_proofs
    assert await standing(store, MALLORY) is ContentStanding.PROVEN, "what is public stays so"


async def test_what_an_index_leads_to_is_remembered_for_the_platform_that_was_chosen(store: Store) -> None:
    proofs = store.content_proofs
    proofs.use_platforms("linux/amd64")
    await proofs.save_index(digest(1), CONTENT)
    await proofs.save_index(digest(1), CONTENT)

    assert await proofs.find_in_index(digest(1)) == CONTENT
    assert await proofs.find_in_index(digest(2)) is None
    proofs.use_platforms("linux/arm64")
    assert await proofs.find_in_index(digest(1)) is None


async def test_one_tenant_cannot_fill_the_store_with_indexes(store: Store, most_proofs: int) -> None:
    made, proofs = await cached(store, PUBLIC), store.content_proofs
    for number in range(most_proofs + 5):
        await proofs.save_index(digest(1000 + number), CONTENT)

    known = [await proofs.find_in_index(digest(1000 + number)) for number in range(most_proofs + 5)]

    assert 0 < known.count(CONTENT) <= most_proofs
    assert known[-1] == CONTENT
    await store.records.drop_image(made.cache_guid)
    assert await proofs.find_in_index(digest(1000 + most_proofs + 4)) is None


@pytest.mark.parametrize("pinned", [CONTENT, digest(1), digest(70)], ids=["image", "index", "other index"])
async def test_pinned_content_is_used_unasked_where_it_is_proven(store: Store, pinned: Digest) -> None:
    made = await cached(store, ALICE)
    await store.content_proofs.save_index(digest(70), CONTENT)
    source = SOURCE.at(pinned)
    find_pinned = store.content_proofs.find_pinned_copy

    assert await find_pinned(AppGuid("app-2"), source, ALICE) == made
    assert await find_pinned(AppGuid("app-2"), source, MALLORY) is None
    assert await find_pinned(AppGuid("app-2"), source, PUBLIC) is None
    assert await find_pinned(APP, source, MALLORY) == made, "this app was given it before"
    evil = parse_image_reference(f"evil.example/team/web@{pinned}")
    assert await find_pinned(APP, evil, ELSEWHERE) is None


async def test_an_app_without_a_guid_is_not_taken_for_another_one(store: Store) -> None:
    copying = job("of-operator", state=JobState.COPYING)
    await store.records.add_job(copying, binding("of-operator", app=""))
    guid, _ = await store.content_proofs.begin_copy(CONTENT, ALICE)
    ended = replace(copying, state=JobState.CACHED, cache_guid=guid)
    await store.records.finish_job(ended, image(guid, platform=CONTENT), BLOBS)

    found = await store.content_proofs.find_pinned_copy(AppGuid(""), SOURCE.at(CONTENT), PUBLIC)

    assert found is None


def test_an_open_job_of_an_older_version_belongs_to_its_app_alone() -> None:
    with closing(database_in_memory()) as database:
        database.transact(lambda connection: upgrade(connection, "0005"))
        for state in ("queued", "failed"):
            for statement in (
                (
                    "INSERT INTO jobs (job_id, source, state, reason, created_at, updated_at, "
                    "needs_credentials, attempts, failure) "
                    "VALUES (:state, 'r.example/a:1', :state, 'staging-task', 1, 2, 0, 1, '')"
                ),
                (
                    "INSERT INTO bindings (requester, app_guid, source, staged_at, job_id, opted_in) "
                    "VALUES (:state, 'app-1', 'r.example/a:1', 1, :state, 0)"
                ),
            ):
                database.transact(
                    lambda connection, sql=statement, row={"state": state}: connection.execute(  # type: ignore[misc]
                        text(sql), row
                    )
                )
        database.transact(lambda connection: migrate(connection, "memory"))

        found = {
            each: database.transact(lambda connection, name=each: jobs.find(connection, JobId(name)))  # type: ignore[misc]
            for each in ("queued", "failed")
        }

    assert {name: each.organization for name, each in found.items() if each} == {
        "queued": "app:app-1",
        "failed": "",
    }


class TestLogins:
    """Logins are known by hashes whose key comes from the journal key."""

    SHARE = ShareContent.REGISTRY
    LOGIN = Credentials("robot", Secret(MARKER_PASSWORD))

    @pytest.fixture
    def keys(self) -> tuple[bytes, bytes]:
        return Fernet.generate_key(), Fernet.generate_key()

    def reader(self, store: Store, source: ImageReference = SOURCE) -> Reader:
        return Sharing(self.SHARE, store.login_keys).reader(source, "", self.LOGIN)

    async def test_they_are_recognized_after_a_restart_and_after_a_rotation(
        self, kept_url: str, keys: tuple[bytes, bytes]
    ) -> None:
        old, new = keys
        async with open_store(kept_url, journal_key=old, run_id="r") as store:
            await cached(store, self.reader(store))
        async with open_store(kept_url, journal_key=new + b"\n" + old, run_id="r") as store:
            assert await standing(store, self.reader(store)) is ContentStanding.PROVEN
        async with open_store(kept_url, journal_key=new, run_id="r") as store:
            assert await standing(store, self.reader(store)) is ContentStanding.SHARED

    async def test_without_a_journal_key_they_are_forgotten_and_what_is_public_is_not(self, url: str) -> None:
        async with open_store(url, journal_key=None, run_id="r") as store:
            await cached(store, self.reader(store))
            await store.content_proofs.begin_copy(digest(61), self.reader(store))
            assert await standing(store, self.reader(store)) is ContentStanding.PROVEN
        async with open_store(url, journal_key=None, run_id="r") as store:
            assert await standing(store, self.reader(store)) is ContentStanding.SHARED
            begun = await store.content_proofs.begin_copy(digest(61), self.reader(store))
            assert begun[1] is TargetState.UNKNOWN
            await store.content_proofs.save_proof(ContentProof(CONTENT, PUBLIC, "", 6.0))
        async with open_store(url, journal_key=None, run_id="r") as store:
            assert await standing(store, self.reader(store)) is ContentStanding.PROVEN


def test_copies_of_an_older_version_are_public_where_they_were_first_copied_from_without_a_login() -> None:
    rows = [
        ("guid-public", "pull.example/a/b:1", "pull.example/a/b:1", 0, "staging-task"),
        ("guid-private", "pull.example/c@sha256:00", "pull.example/c@sha256:00", 1, "staging-task"),
        ("guid-claimed", "pull.example/d:1", "evil.example/d:1", 0, "staging-task"),
        ("guid-moved", "pull.example/e:1", "pull.example/e:1", 0, "copy-in-former-registry"),
    ]
    with closing(database_in_memory()) as database:
        database.transact(lambda connection: upgrade(connection, "0005"))
        for number, (guid, first, source, has_login, reason) in enumerate(rows):
            values = {
                "guid": guid,
                "content": str(digest(number)),
                "first": first,
                "source": source,
                "login": has_login,
                "reason": reason,
            }
            for statement in (
                "INSERT INTO reservations VALUES (:guid, :content)",
                "INSERT INTO images VALUES (:guid, :first, :content, :content, 1, 3, 4, '')",
                (
                    "INSERT INTO jobs (job_id, source, state, reason, created_at, updated_at, "
                    "needs_credentials, attempts, failure, cache_guid) "
                    "VALUES (:guid, :source, 'cached', :reason, 1, 2, :login, 1, '', :guid)"
                ),
            ):
                database.transact(
                    lambda connection, sql=statement, row=values: connection.execute(text(sql), row)  # type: ignore[misc]
                )
        database.transact(lambda connection: migrate(connection, "memory"))

        contents = [digest(number) for number in range(len(rows))]
        reader = Reader(TrustDomain("registry pull.example"), host="pull.example")
        found = database.transact(
            lambda connection: [find(connection, content, reader).standing for content in contents]
        )
        sources = database.transact(lambda connection: list_sources(connection, contents))

    assert found == [
        ContentStanding.PROVEN,
        ContentStanding.SHARED,
        ContentStanding.SHARED,
        ContentStanding.SHARED,
    ]
    assert sources == {digest(0): ("pull.example/a/b",)}
