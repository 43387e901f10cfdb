"""Copies deleted and read back for operators, over a real store and a registry and a BBS in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest
from cryptography.fernet import Fernet

from controller.admin.copies import Copies, CopyDependencies, CopyStatus, ReadBackResult
from controller.store.opening import Store, open_store
from controller.store.sql import SqlRecords
from reconcile.errors import Conflict, Invalid, NotFound, Unavailable
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference, Rootfs
from tests.controller.store.samples import digest, image, migration

CACHE = CacheRepositories("cache.example:8080")
CONTENT, BLOBS = digest(9), (digest(50), digest(51))
UNKNOWN = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
NOW = 1_800_000_000.0


@dataclass
class Registry:
    """A private registry that holds copies; some are corrupt, and it may refuse to delete."""

    held: set[ImageReference] = field(default_factory=set)
    corrupt: set[ImageReference] = field(default_factory=set)
    refusal: Exception | None = None
    notes: set[CacheGuid] = field(default_factory=set)
    note_refusal: Exception | None = None
    deleting: asyncio.Event = field(default_factory=asyncio.Event)
    may_delete: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_delete.set()

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        self.deleting.set()
        await self.may_delete.wait()
        if self.refusal is not None:
            raise self.refusal
        if target not in self.held or digest != CONTENT:
            raise NotFound("registry", "MANIFEST_UNKNOWN", str(target))
        self.held.remove(target)

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        """Delete the notes beside a copy."""
        if self.note_refusal is not None:
            raise self.note_refusal
        self.notes.discard(guid)

    async def read_back(self, target: ImageReference, digest: Digest) -> None:
        if self.refusal is not None:
            raise self.refusal
        if target not in self.held:
            raise NotFound("registry", "MANIFEST_UNKNOWN", str(target))
        if target in self.corrupt:
            raise Invalid("registry", "not-verified", str(target))


@dataclass
class Listing:
    infos: list[SchedulingInfo]
    skipped: int

    async def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        for info in self.infos:
            yield info


@dataclass
class Bbs:
    """A BBS that lists LRPs, of which it cannot give some."""

    infos: list[SchedulingInfo] = field(default_factory=list)
    unreadable: int = 0

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Listing:
        return Listing([info for info in self.infos if domain in {"", info.domain}], self.unreadable)

    def desire(self, process_guid: str, rootfs: str, *, domain: str = "cf-apps") -> None:
        tag = ModificationTag("e", 0)
        self.infos.append(
            SchedulingInfo(ProcessGuid(process_guid), domain, AppGuid("a"), Rootfs(rootfs), 1, tag)
        )


@dataclass
class LateListing(Listing):
    records: SqlRecords
    cache_guid: CacheGuid

    async def __aiter__(self) -> AsyncIterator[SchedulingInfo]:
        if await self.records.find_image(self.cache_guid) is None:
            for info in self.infos:
                yield info


@dataclass
class LateBbs(Bbs):
    """An LRP is desired from a copy in the moment in which the copy is forgotten."""

    records: SqlRecords = field(kw_only=True)
    cache_guid: CacheGuid = field(kw_only=True)

    def list_scheduling_infos(self, domain: str, *, docker_only: bool) -> Listing:
        return LateListing(self.infos, 0, self.records, self.cache_guid)


@dataclass
class Makers:
    """One who makes copies, whose lock a test can hold."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def content_lock(self, platform_digest: Digest) -> asyncio.Lock:
        assert platform_digest == CONTENT
        return self.lock


@dataclass
class Repairs:
    """The jobs that repair copies: each does something, and ends in some state."""

    ends: list[tuple[JobState, str]] = field(default_factory=list)
    does: Callable[[], None] = lambda: None
    checked: list[CacheGuid] = field(default_factory=list)
    jobs: dict[JobId, CacheJob] = field(default_factory=dict)

    async def order(self, copy: CachedImage) -> CacheJob:
        job_id = JobId(f"job-{len(self.jobs)}")
        self.does()
        state, failure = self.ends.pop(0)
        queued = CacheJob(job_id, copy.source, JobState.QUEUED, Reason.REPAIRING_COPY, NOW, NOW)
        self.jobs[job_id] = replace(queued, state=state, failure=failure, attempts=1)
        return queued

    async def find(self, job_id: JobId) -> CacheJob | None:
        return self.jobs.get(job_id)

    def check(self, cache_guid: CacheGuid) -> None:
        self.checked.append(cache_guid)


@dataclass
class Bench:
    """One copy, and all that knows of it."""

    store: Store
    image: CachedImage
    registry: Registry = field(default_factory=Registry)
    bbs: Bbs = field(default_factory=Bbs)
    cache: CacheRepositories = CACHE
    makers: Makers = field(default_factory=Makers)
    repairs: Repairs = field(default_factory=Repairs)

    @property
    def copies(self) -> Copies:
        return Copies(
            self.store.records,
            self.store.journal,
            self.bbs,
            CopyDependencies(self.registry, self.cache, self.makers, self.repairs, self.registry),
        )

    @property
    def guid(self) -> CacheGuid:
        return self.image.cache_guid

    @property
    def target(self) -> ImageReference:
        return CACHE.image(self.guid)

    async def known(self) -> CachedImage | None:
        """Read the copy's record, if all of it is there; blobs whose holder is gone would be lost for good."""
        holders = await self.store.records.find_holders(BLOBS)
        found = await self.store.records.find_image(self.guid)
        assert (found is None) == (holders == {})
        return found

    async def doubt(self, at: float) -> None:
        await self.store.records.mark_for_verification(self.guid, at)
        self.image = replace(self.image, needs_verification_since=at)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="run-1") as store:
        made = image(await store.records.reserve_guid(CONTENT), platform=CONTENT)
        await store.records.keep_image(made, BLOBS)
        bench = Bench(store, made)
        bench.registry.held.add(bench.target)
        yield bench


class TestUsers:
    async def test_a_copy_is_used_by_the_lrps_that_are_desired_from_it(self, bench: Bench) -> None:
        bench.bbs.desire("p-2", CACHE.rootfs(bench.guid).uri)
        bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri)
        bench.bbs.desire("p-3", CACHE.rootfs(UNKNOWN).uri)
        bench.bbs.desire("p-4", "docker:///library/nginx#latest")

        assert list(await bench.copies.users(bench.image)) == ["p-1", "p-2"]

    async def test_an_lrp_of_any_domain_uses_it(self, bench: Bench) -> None:
        """Bridges, and whoever desires an LRP without us."""
        bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri, domain="somebody-else")

        assert list(await bench.copies.users(bench.image)) == ["p-1"]

    async def test_an_lrp_uses_it_however_it_spells_the_registry(self, bench: Bench) -> None:
        bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri.replace("cache.example", "Cache.Example"))

        assert list(await bench.copies.users(bench.image)) == ["p-1"]

    async def test_an_lrp_uses_it_by_its_digest_too(self, bench: Bench) -> None:
        path = f"docker://{CACHE.address}/{bench.guid}"
        bench.bbs.desire("p-1", f"{path}@{CONTENT.algorithm}#{CONTENT.hex}")
        bench.bbs.desire("p-2", f"docker://user:password@{CACHE.address}/{bench.guid}#latest")
        bench.bbs.desire("p-3", f"docker://registry.example/{bench.guid}#latest")

        assert list(await bench.copies.users(bench.image)) == ["p-1", "p-2"]

    async def test_an_lrp_that_is_being_moved_to_it_uses_it(self, bench: Bench) -> None:
        await bench.store.journal.save_migration(replace(migration("p-1"), cache_guid=bench.guid))
        await bench.store.journal.save_migration(replace(migration("p-2"), cache_guid=UNKNOWN))

        assert list(await bench.copies.users(bench.image)) == ["p-1"]

    async def test_an_lrp_that_is_both_is_named_once(self, bench: Bench) -> None:
        await bench.store.journal.save_migration(replace(migration("p-1"), cache_guid=bench.guid))
        bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri)

        assert list(await bench.copies.users(bench.image)) == ["p-1"]

    async def test_what_cannot_be_read_may_use_it(self, bench: Bench) -> None:
        bench.bbs.unreadable = 2

        with pytest.raises(Invalid) as caught:
            await bench.copies.users(bench.image)

        assert caught.value.code == "unreadable-lrps"


class TestEvict:
    async def test_a_copy_that_nothing_runs_from_is_gone_from_registry_and_store(self, bench: Bench) -> None:
        bench.bbs.desire("p-1", "docker:///library/nginx#latest")

        await bench.copies.evict(bench.image)

        assert await bench.known() is None
        assert bench.registry.held == set()

    async def test_its_content_gets_the_same_guid_again(self, bench: Bench) -> None:
        """So that what was desired from it once runs again when it is copied again."""
        await bench.copies.evict(bench.image)

        assert await bench.store.records.reserve_guid(CONTENT) == bench.guid

    async def test_its_note_goes_with_it(self, bench: Bench) -> None:
        bench.registry.notes.add(bench.guid)
        await bench.copies.evict(bench.image)

        assert bench.registry.notes == set()

    async def test_a_note_that_cannot_be_deleted_keeps_no_copy(self, bench: Bench) -> None:
        bench.registry.note_refusal = Unavailable("registry", "timeout", "no answer")
        await bench.copies.evict(bench.image)

        assert await bench.known() is None
        assert bench.registry.held == set()

    async def test_the_note_of_a_copy_that_stays_stays_too(self, bench: Bench) -> None:
        bench.registry.notes.add(bench.guid)
        bench.registry.refusal = Invalid("registry", "UNSUPPORTED", "no deletion")

        with pytest.raises(Invalid):
            await bench.copies.evict(bench.image)

        assert bench.registry.notes == {bench.guid}

    async def test_a_copy_that_is_not_known_is_not_found(self, bench: Bench) -> None:
        with pytest.raises(NotFound) as caught:
            await bench.copies.evict(replace(bench.image, cache_guid=UNKNOWN))

        assert caught.value.code == "no-such-image"
        assert await bench.known() == bench.image

    async def test_a_copy_that_is_used_stays_and_its_users_are_named(self, bench: Bench) -> None:
        for number in range(5):
            bench.bbs.desire(f"p-{number}", CACHE.rootfs(bench.guid).uri)

        with pytest.raises(Conflict, match=r"p-0, p-1, p-2 and 2 more$") as caught:
            await bench.copies.evict(bench.image)

        assert caught.value.code == "image-in-use"
        assert await bench.known() == bench.image
        assert bench.registry.held == {bench.target}

    async def test_a_copy_that_somebody_begins_to_use_in_that_moment_stays(self, bench: Bench) -> None:
        """A pass that had looked before it was forgotten."""
        bench.bbs = LateBbs(records=bench.store.records, cache_guid=bench.guid)
        bench.bbs.desire("p-1", CACHE.rootfs(bench.guid).uri)
        assert list(await bench.copies.users(bench.image)) == []

        with pytest.raises(Conflict) as caught:
            await bench.copies.evict(bench.image)

        assert caught.value.code == "image-in-use"
        assert await bench.known() == bench.image
        assert bench.registry.held == {bench.target}

    async def test_a_copy_stays_when_it_is_not_known_who_uses_it(self, bench: Bench) -> None:
        bench.bbs.unreadable = 1

        with pytest.raises(Invalid):
            await bench.copies.evict(bench.image)

        assert await bench.known() == bench.image
        assert bench.registry.held == {bench.target}

    async def test_a_registry_that_does_not_delete_is_told_how_to_and_the_copy_stays_known(
        self, bench: Bench
    ) -> None:
        """E14."""
        bench.registry.refusal = Invalid("registry", "UNSUPPORTED", "the operation is unsupported")

        with pytest.raises(Invalid, match="REGISTRY_STORAGE_DELETE_ENABLED=true") as caught:
            await bench.copies.evict(bench.image)

        assert caught.value.code == "UNSUPPORTED"
        assert await bench.known() == bench.image

    async def test_a_registry_that_does_not_answer_leaves_the_copy_known(self, bench: Bench) -> None:
        bench.registry.refusal = Unavailable("registry", "timeout", "x")

        with pytest.raises(Unavailable):
            await bench.copies.evict(bench.image)

        assert await bench.known() == bench.image

    async def test_a_caller_who_leaves_in_the_middle_leaves_the_copy_known(self, bench: Bench) -> None:
        bench.registry.may_delete.clear()
        evicting = asyncio.create_task(bench.copies.evict(bench.image))
        await bench.registry.deleting.wait()
        evicting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await evicting

        assert await bench.known() == bench.image

    async def test_a_copy_that_was_deleted_there_already_is_forgotten(self, bench: Bench) -> None:
        bench.registry.held.clear()

        await bench.copies.evict(bench.image)

        assert await bench.known() is None

    async def test_a_copy_that_stays_needs_verification_as_before(self, bench: Bench) -> None:
        await bench.doubt(5.0)
        bench.registry.refusal = Unavailable("registry", "timeout", "x")

        with pytest.raises(Unavailable):
            await bench.copies.evict(bench.image)

        assert await bench.known() == bench.image

    async def test_it_waits_for_whoever_makes_a_copy_of_the_same_content(self, bench: Bench) -> None:
        """Otherwise the record of a copy that was just made would outlive its manifest."""
        async with asyncio.TaskGroup() as group, bench.makers.lock:
            group.create_task(bench.copies.evict(bench.image))
            for _ in range(3):  # reads of the store, behind those of the other
                assert await bench.known() == bench.image

        assert await bench.known() is None

    async def test_the_same_manifest_in_a_shared_repository_is_not_taken_along(self, bench: Bench) -> None:
        """E13."""
        bench.cache = CacheRepositories("cache.example:8080", "docker-cache:{guid}")
        twin = image(await bench.store.records.reserve_guid(digest(8)), platform=digest(8))
        await bench.store.records.keep_image(replace(twin, digest=bench.image.digest), BLOBS)

        with pytest.raises(Conflict) as caught:
            await bench.copies.evict(bench.image)

        assert caught.value.code == "image-shared"
        assert bench.registry.held == {bench.target}

    async def test_a_copy_that_needs_verification_can_be_deleted(self, bench: Bench) -> None:
        await bench.doubt(5.0)

        await bench.copies.evict(bench.image)

        assert await bench.known() is None


class TestVerify:
    async def test_a_copy_of_which_every_byte_is_right_is_ok(self, bench: Bench) -> None:
        assert await bench.copies.verify(bench.image, now=NOW) == ReadBackResult(CopyStatus.OK)

        assert await bench.known() == bench.image

    async def test_a_copy_that_is_ok_needs_verification_no_longer(self, bench: Bench) -> None:
        await bench.doubt(5.0)

        assert await bench.copies.verify(bench.image, now=NOW) == ReadBackResult(CopyStatus.OK)

        assert await bench.known() == replace(bench.image, needs_verification_since=0.0)

    async def test_a_corrupt_copy_needs_verification_from_now_on(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)

        result = await bench.copies.verify(bench.image, now=NOW)

        assert result.status is CopyStatus.CORRUPT
        assert "not-verified" in result.error

        assert await bench.known() == replace(bench.image, needs_verification_since=NOW)

    async def test_a_missing_copy_needs_verification_from_now_on(self, bench: Bench) -> None:
        bench.registry.held.clear()

        result = await bench.copies.verify(bench.image, now=NOW)

        assert result.status is CopyStatus.MISSING
        assert "MANIFEST_UNKNOWN" in result.error

        assert await bench.known() == replace(bench.image, needs_verification_since=NOW)

    @pytest.mark.parametrize("since", [0.0, 5.0])
    async def test_of_a_copy_that_could_not_be_read_nothing_new_is_known(
        self, bench: Bench, since: float
    ) -> None:
        await bench.doubt(since)
        bench.registry.refusal = Unavailable("registry", "timeout", "x")

        result = await bench.copies.verify(bench.image, now=NOW)

        assert result.status is CopyStatus.UNREADABLE
        assert "timeout" in result.error
        assert await bench.known() == bench.image

    async def test_a_copy_that_was_forgotten_meanwhile_stays_forgotten(self, bench: Bench) -> None:
        await bench.copies.evict(bench.image)

        assert (await bench.copies.verify(bench.image, now=NOW)).status is CopyStatus.MISSING

        assert await bench.known() is None


class TestRepair:
    async def test_what_was_missing_is_sent_again_and_read_back(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)
        found = await bench.copies.verify(bench.image, now=NOW)
        bench.repairs.ends, bench.repairs.does = [(JobState.CACHED, "")], bench.registry.corrupt.clear

        result = await bench.copies.repair(bench.image, found, now=NOW)

        assert result == ReadBackResult(CopyStatus.REPAIRED, found.error)
        assert bench.repairs.checked == [bench.image.cache_guid]
        assert await bench.known() == bench.image

    async def test_a_registry_that_keeps_what_is_wrong_is_named(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)
        found = await bench.copies.verify(bench.image, now=NOW)
        bench.repairs.ends = [(JobState.CACHED, "")]

        result = await bench.copies.repair(bench.image, found, now=NOW)

        assert result.status is CopyStatus.CORRUPT
        assert result.error.startswith("it was sent again, and still: ")

    async def test_sources_are_tried_one_after_the_other(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)
        found = await bench.copies.verify(bench.image, now=NOW)
        bench.repairs.ends = [(JobState.FAILED, "MANIFEST_UNKNOWN: gone")] * 3

        result = await bench.copies.repair(bench.image, found, now=NOW)

        assert result.status is CopyStatus.CORRUPT
        assert result.error.endswith("it cannot be sent again: MANIFEST_UNKNOWN: gone")
        assert bench.repairs.ends == []

    async def test_a_source_that_does_not_answer_is_not_waited_for(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)
        found = await bench.copies.verify(bench.image, now=NOW)
        bench.repairs.ends = [(JobState.QUEUED, "timeout: x")]

        result = await bench.copies.repair(bench.image, found, now=NOW)

        assert result.error.endswith("it is being sent again: timeout: x")
