"""Copies adopted by their notes, over a real store, and a BBS and a private registry in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from cryptography.fernet import Fernet

from controller.notes import AdoptedCopy, Adoption, AdoptionDependencies, AdoptionStatus
from controller.store.opening import Store
from reconcile.errors import Conflict, Invalid, Unavailable
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo
from reconcile.migrations import OriginalSource
from reconcile.notes import CopyNote, check_note
from reconcile.records import requester_of_task
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    Digest,
    Rootfs,
    parse_image_reference,
    rootfs_from_image_text,
)
from tests.controller.store.samples import digest, image
from tests.stores import open_store

NOW = 1_900_000_000.0
CACHE = CacheRepositories("cache.example:8080")
GUID = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
OTHER = CacheGuid("8c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d12")
SOURCE = parse_image_reference("docker.io/library/nginx:1.27")
CONTENT = digest(9)
NOTE = CopyNote(
    GUID, SOURCE, digest(1), CONTENT, CONTENT, 1234, 1_800_000_000.0, needs_login=False, is_sealed=True
)


@dataclass
class Registry:
    """A private registry with copies, and notes beside some of them."""

    copies: dict[CacheGuid, Digest] = field(default_factory=dict)
    notes: dict[CacheGuid, CopyNote] = field(default_factory=dict)
    listed: tuple[CacheGuid, ...] | Exception = ()
    problem: Exception | None = None
    has_keys: bool = True

    async def find_digest(self, guid: CacheGuid) -> Digest | None:
        if self.problem is not None:
            raise self.problem
        return self.copies.get(guid)

    async def find(self, guid: CacheGuid, digest: Digest) -> CopyNote | None:
        note = self.notes.get(guid)
        if note is not None:
            check_note(note, guid=guid, digest=digest)
        return note

    async def list_blobs(self, guid: CacheGuid, digest: Digest) -> tuple[Digest, ...]:
        return (Digest("sha256", "5" * 64),)

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        if isinstance(self.listed, Exception):
            raise self.listed
        return self.listed


@dataclass
class Listing:
    infos: list[SchedulingInfo]
    skipped: int

    async def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        for info in self.infos:
            yield info


@dataclass
class Bbs:
    """A BBS with LRPs, of which it cannot give some."""

    infos: list[SchedulingInfo] = field(default_factory=list)
    unreadable: int = 0

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Listing:
        return Listing(self.infos, self.unreadable)

    def desire(self, process_guid: str, rootfs: Rootfs, domain: str = "cf-apps") -> None:
        tag = ModificationTag("e", 0)
        self.infos.append(SchedulingInfo(ProcessGuid(process_guid), domain, AppGuid("a"), rootfs, 1, tag))


@dataclass
class Bench:
    """A store that knows nothing, and a world that it once knew."""

    store: Store
    bbs: Bbs = field(default_factory=Bbs)
    registry: Registry = field(default_factory=Registry)
    queued: list[ProcessGuid] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bbs.desire("p-1", CACHE.rootfs(GUID))
        self.registry.copies[GUID] = CONTENT
        self.registry.notes[GUID] = NOTE

    async def rebuild(self, *, accepts_unsealed: bool = False) -> list[AdoptedCopy]:
        adoption = Adoption(
            AdoptionDependencies(
                bbs=self.bbs,
                notes=self.registry,
                records=self.store.copy_notes,
                images=self.store.records,
                original_sources=self.store.original_sources,
                cache=CACHE,
                own=CACHE.covers,
                domains=frozenset({"cf-apps"}),
                queue=self.queued.append,
                clock=lambda: NOW,
            )
        )
        return [row async for row, _, _ in adoption.adopt_all(accepts_unsealed=accepts_unsealed)]

    async def source_of(self, process_guid: str) -> OriginalSource | None:
        return await self.store.original_sources.find_original_source(ProcessGuid(process_guid))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="r") as store:
        yield Bench(store)


async def test_what_runs_from_an_unknown_copy_is_adopted_by_its_note(bench: Bench) -> None:
    (row,) = await bench.rebuild()

    assert row == AdoptedCopy(GUID, AdoptionStatus.ADOPTED, SOURCE, "", (ProcessGuid("p-1"),))
    found = await bench.store.records.find_image(GUID)
    assert found is not None
    assert (found.source, found.digest, found.platform_digest) == (SOURCE, CONTENT, CONTENT)
    assert (found.root_digest, found.created_at, found.size) == (digest(1), 1_800_000_000.0, 1234)
    assert found.registry == CACHE.address
    assert found.needs_verification_since == NOW, "it is read back before another app depends on it"
    assert await bench.source_of("p-1") == OriginalSource(
        ProcessGuid("p-1"),
        GUID,
        Rootfs("docker:///library/nginx#1.27"),
        needs_credentials=False,
        credentials=None,
    )
    assert bench.queued == ["p-1"]


async def test_a_second_rebuild_finds_nothing_to_do(bench: Bench) -> None:
    await bench.rebuild()
    before = await bench.store.records.list_images()
    bench.queued.clear()

    assert await bench.rebuild() == []
    assert await bench.store.records.list_images() == before
    assert bench.queued == []


async def test_what_is_known_is_not_changed(bench: Bench) -> None:
    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())
    mine = OriginalSource(
        ProcessGuid("p-1"), GUID, Rootfs("docker:///mine#1"), needs_credentials=False, credentials=None
    )
    await bench.store.original_sources.save_original_source(mine)

    assert await bench.rebuild() == []
    assert await bench.store.records.find_image(GUID) == known
    assert await bench.source_of("p-1") == mine


async def test_an_lrp_that_an_older_backup_does_not_know_gets_the_source_of_its_known_copy(
    bench: Bench,
) -> None:
    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())

    (row,) = await bench.rebuild()

    assert (row.status, row.source, row.process_guids) == (AdoptionStatus.ADOPTED, known.source, ("p-1",))
    source = await bench.source_of("p-1")
    assert source is not None
    assert source.needs_credentials, "no app is known to have pulled it without a login"
    assert "login" in row.detail


async def test_an_lrp_whose_source_alone_is_known_is_looked_at_too(bench: Bench) -> None:
    """A backup was restored that is older than its copy, and the replaced database knew its source."""
    rootfs = Rootfs("docker:///library/nginx#1.27")
    known = OriginalSource(ProcessGuid("p-1"), GUID, rootfs, needs_credentials=False, credentials=None)
    await bench.store.original_sources.save_original_source(known)

    (row,) = await bench.rebuild()

    assert (row.status, row.process_guids) == (AdoptionStatus.ADOPTED, ())
    assert bench.queued == ["p-1"], "it is no longer one of an unknown copy"


async def test_a_login_that_may_be_needed_is_said_to_be_unknown(bench: Bench) -> None:
    bench.registry.notes[GUID] = replace(NOTE, needs_login=True)

    (row,) = await bench.rebuild()

    source = await bench.source_of("p-1")
    assert source is not None
    assert (source.needs_credentials, source.credentials) == (True, None)
    assert "login" in row.detail


async def test_only_apps_get_a_source(bench: Bench) -> None:
    bench.bbs.desire("docker-cache-bridge-p-1", CACHE.rootfs(GUID), "docker-cache-bridge")
    bench.bbs.desire("elsewhere", CACHE.rootfs(GUID), "other-domain")
    bench.bbs.desire("from-source", Rootfs("docker:///library/nginx#1.27"))

    (row,) = await bench.rebuild()

    assert row.process_guids == ("p-1",)
    assert await bench.source_of("docker-cache-bridge-p-1") is None
    assert await bench.source_of("from-source") is None


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (None, "no note lies beside it"),
        (replace(NOTE, is_sealed=False), "not sealed"),
        (replace(NOTE, cache_guid=OTHER), "about the copy"),
        (replace(NOTE, digest=digest(3)), "about content"),
        (replace(NOTE, source=CACHE.image(OTHER)), "which is a copy itself"),
    ],
)
async def test_without_a_note_that_can_be_believed_the_next_staging_finds_the_copy(
    bench: Bench, note: CopyNote | None, said: str
) -> None:
    bench.registry.notes = {} if note is None else {GUID: note}

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.RESERVED
    assert said in row.detail
    assert await bench.store.records.list_images() == ()
    assert await bench.source_of("p-1") is None
    assert await bench.store.records.reserve_guid(CONTENT) == GUID


async def test_a_note_without_a_seal_is_believed_on_demand_as_far_as_the_copy_shows_it(bench: Bench) -> None:
    """Else whoever writes to the registry could have other apps run what only a note calls their image."""
    bench.registry.notes[GUID] = replace(NOTE, is_sealed=False, platform_digest=digest(7))

    (row,) = await bench.rebuild(accepts_unsealed=True)

    assert row.status is AdoptionStatus.ADOPTED
    found = await bench.store.records.find_image(GUID)
    assert found is not None
    assert (found.platform_digest, found.root_digest) == (CONTENT, CONTENT)
    assert await bench.store.records.find_guid(digest(7)) is None


async def test_notes_need_no_seal_where_there_is_no_key(bench: Bench) -> None:
    bench.registry.has_keys = False
    bench.registry.notes[GUID] = replace(NOTE, is_sealed=False)

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.ADOPTED


async def test_a_copy_that_is_gone_stays_unknown(bench: Bench) -> None:
    bench.registry.copies.clear()

    (row,) = await bench.rebuild()

    assert (row.status, row.detail) == (AdoptionStatus.UNKNOWN, "the private registry does not have it")


async def test_content_that_was_copied_again_since_keeps_its_new_copy(bench: Bench) -> None:
    await bench.store.records.keep_image(image(OTHER, platform=CONTENT), ())

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.UNKNOWN
    assert str(OTHER) in row.detail
    assert await bench.store.records.find_image(GUID) is None
    assert await bench.source_of("p-1") is not None, "its LRPs can be restored"


async def test_what_the_registry_lists_is_adopted_too(bench: Bench) -> None:
    bench.registry.listed = (GUID, OTHER)
    bench.registry.copies[OTHER] = digest(8)
    bench.registry.notes[OTHER] = replace(NOTE, cache_guid=OTHER, digest=digest(8), platform_digest=digest(8))

    rows = await bench.rebuild()

    assert {row.cache_guid: row.status for row in rows} == dict.fromkeys(
        (GUID, OTHER), AdoptionStatus.ADOPTED
    )
    assert len(await bench.store.records.list_images()) == 2


async def test_names_without_a_copy_or_a_note_are_no_loss(bench: Bench) -> None:
    empty, foreign = CacheGuid(OTHER), CacheGuid("9c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d13")
    bench.registry.listed = (empty, foreign)
    bench.registry.copies[foreign] = digest(8)

    rows = {row.cache_guid: row for row in await bench.rebuild()}

    assert rows.keys() == {GUID, foreign}
    assert rows[foreign].status is AdoptionStatus.UNKNOWN
    assert "no LRP runs from it" in rows[foreign].detail


async def test_a_registry_that_does_not_answer_or_list_is_named(bench: Bench) -> None:
    bench.registry.listed = Invalid("registry", "UNSUPPORTED", "no catalog")
    bench.registry.problem = Unavailable("registry", "timeout", "cache.example does not answer")

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.UNKNOWN
    assert "does not answer" in row.detail


async def test_lrps_that_cannot_be_read_are_said_after_all_others_are_adopted(bench: Bench) -> None:
    bench.bbs.unreadable = 2

    with pytest.raises(Invalid) as refused:
        await bench.rebuild()

    assert "2 LRPs" in refused.value.detail
    assert await bench.source_of("p-1") is not None


async def test_a_guid_of_other_content_is_not_taken(bench: Bench) -> None:
    await bench.store.copy_notes.reserve(GUID, digest(5))

    (row,) = await bench.rebuild()

    assert row.status is AdoptionStatus.UNKNOWN
    assert "guid-of-other-content" in row.detail


async def test_whether_a_login_is_needed_is_known_from_what_apps_brought(bench: Bench) -> None:
    from reconcile.lrps import TaskGuid  # noqa: PLC0415 - beside its one use
    from reconcile.records import JobState  # noqa: PLC0415 - beside its one use
    from tests.controller.store.samples import binding, job  # noqa: PLC0415 - beside its one use

    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())
    cached = replace(job(state=JobState.CACHED), cache_guid=GUID)
    for number, (requester, needs) in enumerate(
        ((requester_of_task(TaskGuid("private")), True), ("admin:1", False))
    ):
        each = replace(cached, job_id=type(cached.job_id)(f"job-{number}"), needs_credentials=needs)
        await bench.store.records.add_job(each, replace(binding(each.job_id), requester=requester))
    assert await bench.store.copy_notes.needs_login(known), "an operator's login may have been used"

    public = replace(cached, job_id=type(cached.job_id)("job-public"))
    await bench.store.records.add_job(
        public, replace(binding(public.job_id), requester="task:public", app_guid=AppGuid("other"))
    )
    assert not await bench.store.copy_notes.needs_login(known)


@pytest.mark.parametrize("needs", [False, True])
async def test_whether_a_login_is_needed_is_known_from_what_an_lrp_ran_from(
    bench: Bench, *, needs: bool
) -> None:
    """It was migrated from one private registry to the next, and is bound to a job for the content alone."""
    known = image(GUID, platform=CONTENT)
    await bench.store.records.keep_image(known, ())
    rootfs = rootfs_from_image_text(str(known.source))
    await bench.store.original_sources.save_original_source(
        OriginalSource(ProcessGuid("p"), GUID, rootfs, needs, None)
    )

    assert await bench.store.copy_notes.needs_login(known) is needs


async def test_one_rebuild_runs_at_a_time(bench: Bench) -> None:
    adoption = Adoption(
        AdoptionDependencies(
            bench.bbs,
            bench.registry,
            bench.store.copy_notes,
            bench.store.records,
            bench.store.original_sources,
            CACHE,
            CACHE.covers,
            frozenset({"cf-apps"}),
            bench.queued.append,
            lambda: NOW,
        )
    )
    first = adoption.adopt_all(accepts_unsealed=False)
    await anext(first)

    with pytest.raises(Conflict):
        await anext(adoption.adopt_all(accepts_unsealed=False))
    await first.aclose()
