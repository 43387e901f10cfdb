"""Copies deleted and read back for operators, over a real store and a registry in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest
from cryptography.fernet import Fernet

from controller.admin.copies import Copies, CopyDependencies, CopyStatus, ReadBackResult
from controller.store.opening import Store
from reconcile.errors import Conflict, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.eviction import EvictionDecision, EvictionVerdict, decide_eviction
from reconcile.reasons import Reason
from reconcile.records import CachedImage, CacheJob, CopyCheck, JobId, JobState
from reconcile.references import CacheGuid, CacheRepositories, Digest, ImageReference
from reconcile.usage import CopyUser, Usage, UseKind
from tests.controller.store.samples import digest, image
from tests.stores import open_store

CACHE = CacheRepositories("cache.example:8080")
CONTENT, BLOBS = digest(9), (digest(50), digest(51))
UNKNOWN = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
NOW = 1_800_000_000.0


def image_here(guid: CacheGuid, content: Digest) -> CachedImage:
    """Record a copy in the registry of these tests."""
    return replace(image(guid, platform=content), registry=CACHE.address)


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
    asked: int = 0

    def __post_init__(self) -> None:
        self.may_delete.set()

    async def delete_copy(self, target: ImageReference, digest: Digest) -> None:
        self.asked += 1
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
class Uses:
    """What uses copies, as looks find it, the first and those after it."""

    found: list[Usage] = field(default_factory=lambda: [Usage(NOW)])
    decided: dict[CacheGuid, EvictionDecision] = field(default_factory=dict)
    store: Store | None = None

    async def decide(self, wanted: Collection[CacheGuid]) -> list[EvictionDecision]:
        assert self.store is not None
        images = await self.store.records.list_images()
        usage = await self.look(images)
        return [
            self.decided.get(image.cache_guid)
            or decide_eviction(image, usage, unused_since=1.0, grace=600.0, twin=None)
            for image in images
            if image.cache_guid in wanted
        ]

    async def look(self, images: Sequence[CachedImage]) -> Usage:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    async def confirm(self, images: Sequence[CachedImage]) -> Usage:
        return await self.look(images)


@dataclass
class Makers:
    """One who makes copies, whose lock a test can hold."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def content_lock(self, platform_digest: Digest) -> asyncio.Lock:
        return self.lock if platform_digest == CONTENT else asyncio.Lock()


@dataclass
class Repairs:
    """The jobs that repair copies: each does something, and ends in some state."""

    ends: list[tuple[JobState, str]] = field(default_factory=list)
    attempts_before: int = 0
    does: Callable[[], None] = lambda: None
    checked: list[CacheGuid] = field(default_factory=list)
    jobs: dict[JobId, CacheJob] = field(default_factory=dict)

    async def order(self, copy: CachedImage) -> CacheJob:
        job_id = JobId(f"job-{len(self.jobs)}")
        self.does()
        state, failure = self.ends.pop(0)
        attempts = self.attempts_before
        queued = CacheJob(
            job_id, copy.source, JobState.QUEUED, Reason.REPAIRING_COPY, NOW, NOW, attempts=attempts
        )
        ended = replace(queued, state=state, failure=failure, attempts=attempts + 1)
        self.jobs[job_id] = queued
        asyncio.get_running_loop().call_soon(self.jobs.__setitem__, job_id, ended)
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
    uses: Uses = field(default_factory=Uses)
    cache: CacheRepositories = CACHE
    makers: Makers = field(default_factory=Makers)
    repairs: Repairs = field(default_factory=Repairs)

    @property
    def copies(self) -> Copies:
        self.uses.store = self.store
        return Copies(
            self.store.records,
            CopyDependencies(
                self.registry,
                self.cache,
                self.makers,
                self.repairs,
                self.registry,
                usage=self.uses,
                checks=self.store.copy_checks,
            ),
        )

    async def evict(self) -> DockerCacheError | None:
        """Delete the copy, and return why it was not deleted."""
        (evicted,) = [each async for each in self.copies.evict([self.image])]
        assert evicted.image == self.image
        return evicted.error

    def use(self, *process_guids: str, kind: UseKind = UseKind.LRP) -> Usage:
        """Make what a look finds."""
        return Usage(NOW, {self.guid: tuple(CopyUser(kind, each) for each in process_guids)})

    @property
    def guid(self) -> CacheGuid:
        return self.image.cache_guid

    @property
    def target(self) -> ImageReference:
        return CACHE.image(self.guid)

    async def known(self) -> CachedImage | None:
        """Read the copy's record, if all of it is there; blobs whose holder is gone would be lost for good."""
        holders = await self.store.records.find_holders(BLOBS, None)
        found = await self.store.records.find_image(self.guid)
        assert (found is None) == (holders == {})
        return found

    async def doubt(self, at: float) -> None:
        await self.store.records.mark_for_verification(self.guid, at)
        self.image = replace(self.image, needs_verification_since=at)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_store("sqlite://", journal_key=Fernet.generate_key(), run_id="run-1") as store:
        made = image_here(await store.records.reserve_guid(CONTENT), CONTENT)
        await store.records.keep_image(made, BLOBS)
        bench = Bench(store, made)
        bench.registry.held.add(bench.target)
        yield bench


class TestUsers:
    async def test_lrps_that_are_desired_from_a_copy_or_being_migrated_use_it(self, bench: Bench) -> None:
        users = [
            CopyUser(UseKind.LRP, "p-2"),
            CopyUser(UseKind.MIGRATION, "p-1"),
            CopyUser(UseKind.MIGRATION, "p-2"),
            CopyUser(UseKind.STOPPED_LRP, "p-3"),
            CopyUser(UseKind.STAGED_APP, "app-1"),
        ]
        bench.uses.found = [Usage(NOW, {bench.guid: tuple(users)})]

        assert await bench.copies.users([bench.image]) == [["p-1", "p-2", "p-3"]]

    async def test_what_cannot_be_read_may_use_it(self, bench: Bench) -> None:
        bench.uses.found = [Usage(NOW, problem=Invalid("bbs", "unreadable-lrps", "2 LRPs"))]

        with pytest.raises(Invalid) as caught:
            await bench.copies.users([bench.image])

        assert caught.value.code == "unreadable-lrps"


class TestEvict:
    async def test_a_copy_that_nothing_uses_is_gone_from_registry_and_store(self, bench: Bench) -> None:
        assert await bench.evict() is None

        assert await bench.known() is None
        assert bench.registry.held == set()

    async def test_its_content_gets_the_same_guid_again(self, bench: Bench) -> None:
        """So that what was desired from it once runs again when it is copied again."""
        await bench.evict()

        assert await bench.store.records.reserve_guid(CONTENT) == bench.guid

    async def test_its_note_goes_with_it(self, bench: Bench) -> None:
        bench.registry.notes.add(bench.guid)
        await bench.evict()

        assert bench.registry.notes == set()

    async def test_a_note_that_cannot_be_deleted_keeps_no_copy(self, bench: Bench) -> None:
        bench.registry.note_refusal = Unavailable("registry", "timeout", "no answer")
        await bench.evict()

        assert await bench.known() is None
        assert bench.registry.held == set()

    async def test_the_note_of_a_copy_that_stays_stays_too(self, bench: Bench) -> None:
        bench.registry.notes.add(bench.guid)
        bench.registry.refusal = Invalid("registry", "UNSUPPORTED", "no deletion")

        error = await bench.evict()

        assert isinstance(error, Invalid)
        assert bench.registry.notes == {bench.guid}

    async def test_a_copy_that_is_not_known_is_not_found(self, bench: Bench) -> None:
        known = bench.image
        bench.image = replace(known, cache_guid=UNKNOWN)

        error = await bench.evict()

        assert isinstance(error, NotFound)
        assert error.code == "no-such-image"
        assert await bench.store.records.find_image(known.cache_guid) == known

    async def test_a_copy_that_is_used_stays_and_its_users_are_named(self, bench: Bench) -> None:
        bench.uses.found = [bench.use(*(f"p-{number}" for number in range(5)))]

        error = await bench.evict()

        assert isinstance(error, Conflict)
        assert error.code == "image-in-use"
        assert error.detail.endswith("used by LRP p-0, LRP p-1, LRP p-2 and 2 more")
        assert await bench.known() == bench.image
        assert bench.registry.held == {bench.target}

    async def test_a_copy_that_somebody_begins_to_use_in_that_moment_stays(self, bench: Bench) -> None:
        """A pass that had looked before it was forgotten."""
        bench.uses.found = [Usage(NOW), bench.use("p-1")]

        error = await bench.evict()

        assert isinstance(error, Conflict)
        assert error.code == "image-in-use"
        assert await bench.known() == bench.image
        assert bench.registry.held == {bench.target}

    @pytest.mark.parametrize("looks", [1, 2], ids=["at-first", "at-last"])
    async def test_a_copy_stays_when_it_is_not_known_who_uses_it(self, bench: Bench, looks: int) -> None:
        problem = Invalid("bbs", "listing-empty", "no LRP at all")
        bench.uses.found = [Usage(NOW)] * (looks - 1) + [Usage(NOW, problem=problem)]

        assert await bench.evict() is problem

        assert await bench.known() == bench.image
        assert bench.registry.held == {bench.target}

    async def test_a_copy_that_is_not_unused_for_long_enough_stays(self, bench: Bench) -> None:
        bench.uses.decided[bench.guid] = EvictionDecision(
            bench.image, EvictionVerdict.TOO_SOON, "first seen unused 5 s ago; 600 s are required"
        )

        error = await bench.evict()

        assert isinstance(error, Conflict)
        assert error.code == "too-soon"
        assert "first seen unused 5 s ago" in error.detail
        assert await bench.known() == bench.image

    async def test_a_registry_that_does_not_delete_is_told_how_to_and_the_copy_stays_known(
        self, bench: Bench
    ) -> None:
        """E14."""
        bench.registry.refusal = Invalid("registry", "UNSUPPORTED", "the operation is unsupported")

        error = await bench.evict()

        assert isinstance(error, Invalid)
        assert error.code == "UNSUPPORTED"
        assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in error.detail
        assert await bench.known() == bench.image

    async def test_a_registry_that_does_not_answer_leaves_the_copy_known(self, bench: Bench) -> None:
        bench.registry.refusal = Unavailable("registry", "timeout", "x")

        assert await bench.evict() is bench.registry.refusal

        assert await bench.known() == bench.image

    async def test_a_registry_that_does_not_answer_is_asked_for_one_copy_only(self, bench: Bench) -> None:
        twin = image_here(await bench.store.records.reserve_guid(digest(8)), digest(8))
        await bench.store.records.keep_image(twin, BLOBS)
        bench.registry.refusal = Unavailable("registry", "timeout", "x")

        evicted = [each async for each in bench.copies.evict([bench.image, twin])]

        assert [each.error for each in evicted] == [bench.registry.refusal] * 2
        assert bench.registry.asked == 1
        assert {each.cache_guid for each in await bench.store.records.list_images()} == {
            bench.guid,
            twin.cache_guid,
        }

    async def test_a_caller_who_leaves_in_the_middle_leaves_the_copy_known(self, bench: Bench) -> None:
        bench.registry.may_delete.clear()
        evicting = asyncio.create_task(bench.evict())
        await bench.registry.deleting.wait()
        evicting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await evicting

        assert await bench.known() == bench.image

    async def test_a_copy_that_was_deleted_there_already_is_forgotten(self, bench: Bench) -> None:
        bench.registry.held.clear()

        assert await bench.evict() is None

        assert await bench.known() is None

    async def test_a_copy_that_stays_is_known_as_before(self, bench: Bench) -> None:
        await bench.doubt(5.0)
        await bench.store.copy_checks.save_check(CopyCheck(bench.guid, checked_at=3.0))
        await bench.store.copy_checks.mark_unused({bench.guid: 4.0})
        bench.registry.refusal = Unavailable("registry", "timeout", "x")

        assert await bench.evict() is bench.registry.refusal

        assert await bench.known() == bench.image
        check = await bench.store.copy_checks.find_check(bench.guid)
        assert check == CopyCheck(bench.guid, checked_at=3.0, unused_since=4.0)

    async def test_it_waits_for_whoever_makes_a_copy_of_the_same_content(self, bench: Bench) -> None:
        """Otherwise the record of a copy that was just made would outlive its manifest."""
        async with asyncio.TaskGroup() as group, bench.makers.lock:
            group.create_task(bench.evict())
            for _ in range(3):  # reads of the store, behind those of the other
                assert await bench.known() == bench.image

        assert await bench.known() is None

    async def test_the_same_manifest_in_a_shared_repository_is_not_taken_along(self, bench: Bench) -> None:
        """E13."""
        bench.uses.decided[bench.guid] = EvictionDecision(bench.image, EvictionVerdict.SHARED, "a twin")

        error = await bench.evict()

        assert isinstance(error, Conflict)
        assert error.code == "image-shared"
        assert bench.registry.held == {bench.target}

    async def test_a_copy_that_needs_verification_can_be_deleted(self, bench: Bench) -> None:
        await bench.doubt(5.0)

        assert await bench.evict() is None

        assert await bench.known() is None

    async def test_names_that_mean_no_copy_or_several_are_told_apart_from_the_others(
        self, bench: Bench
    ) -> None:
        found, unknown = await bench.copies.find_each([bench.guid[:8], "0000000000"])

        assert found == {bench.guid[:8]: bench.image}
        assert {name: error.code for name, error in unknown.items()} == {"0000000000": "no-such-image"}


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
        await bench.evict()

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

    async def test_a_job_that_was_put_off_before_is_waited_for(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)
        found = await bench.copies.verify(bench.image, now=NOW)
        bench.repairs.ends, bench.repairs.does = [(JobState.CACHED, "")], bench.registry.corrupt.clear
        bench.repairs.attempts_before = 6

        result = await bench.copies.repair(bench.image, found, now=NOW)

        assert result == ReadBackResult(CopyStatus.REPAIRED, found.error)

    async def test_a_source_that_does_not_answer_is_not_waited_for(self, bench: Bench) -> None:
        bench.registry.corrupt.add(bench.target)
        found = await bench.copies.verify(bench.image, now=NOW)
        bench.repairs.ends = [(JobState.QUEUED, "timeout: x")]

        result = await bench.copies.repair(bench.image, found, now=NOW)

        assert result.error.endswith("it is being sent again: timeout: x")
