"""The loop that writes notes, and the one that looks for unknown copies."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from controller.copy_uses import CopyUses
from controller.notes import NoteWriter, UnknownCopies
from controller.notes.writer import REFUSED_FOR, WRITE_AGAIN_AFTER
from controller.process import Process
from reconcile.errors import DockerCacheError, Invalid, Unavailable
from reconcile.lrps import ProcessGuid
from reconcile.notes import CopyNote
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest
from tests.controller.store.samples import digest, image

GUIDS = [CacheGuid(f"{number:08x}-52a1-4d5b-8f7e-2b6a1f0c9d11") for number in range(8)]
EPOCH = 1_900_000_000.0
AFTER = 30.0


@dataclass
class World:
    """A registry that takes notes, and the records of copies."""

    images: list[CachedImage] = field(default_factory=list)
    noted: dict[CacheGuid, float] = field(default_factory=dict)
    written: list[CacheGuid] = field(default_factory=list)
    deleted: list[CacheGuid] = field(default_factory=list)
    problems: dict[CacheGuid, DockerCacheError] = field(default_factory=dict)
    attempts: int = 0
    store_problem: DockerCacheError | None = None

    def clock(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def add(self, guid: CacheGuid) -> None:
        self.images.append(image(guid, platform=digest(GUIDS.index(guid)), created_at=self.clock()))

    async def write(self, note: CopyNote) -> None:
        self.attempts += 1
        if note.cache_guid in self.problems:
            raise self.problems[note.cache_guid]
        self.written.append(note.cache_guid)

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        self.deleted.append(guid)

    async def list_due(
        self, *, made_before: float, noted_before: float, now: float, limit: int
    ) -> tuple[tuple[CachedImage, bool], ...]:
        self.look()
        due = [
            each
            for each in self.images
            if not made_before <= each.created_at <= now
            and not noted_before <= self.noted.get(each.cache_guid, 0.0) <= now
        ]
        return tuple((each, True) for each in due[:limit])

    async def mark_noted(self, cache_guid: CacheGuid, at: float) -> bool:
        if not any(each.cache_guid == cache_guid for each in self.images):
            return False
        self.noted[cache_guid] = at
        return True

    def look(self) -> None:
        if self.store_problem is not None:
            raise self.store_problem

    async def list_images(self) -> tuple[CachedImage, ...]:
        self.look()
        return tuple(self.images)


async def run_for(world: World, seconds: float) -> None:
    """Let the writer work for a while."""
    writer = NoteWriter(world, world, after=AFTER, process=Process("r", clock=world.clock))
    running = asyncio.create_task(writer.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.looptime
async def test_a_note_is_written_some_time_after_its_copy() -> None:
    world = World()
    world.add(GUIDS[0])

    await run_for(world, AFTER - 1)
    assert world.written == []
    await run_for(world, AFTER + 2)
    assert world.written == [GUIDS[0]]


@pytest.mark.looptime
async def test_a_note_is_written_again_after_a_week_and_not_before() -> None:
    world = World()
    world.add(GUIDS[0])
    await run_for(world, 3 * AFTER)
    assert world.written == [GUIDS[0]]
    await asyncio.sleep(WRITE_AGAIN_AFTER - 5 * AFTER)

    await run_for(world, AFTER)
    assert world.written == [GUIDS[0]]
    await run_for(world, 5 * AFTER)
    assert world.written == [GUIDS[0]] * 2


@pytest.mark.looptime
async def test_one_copy_whose_note_is_refused_delays_no_other() -> None:
    world = World(problems={GUIDS[0]: Invalid("registry", "UNSUPPORTED", "no")})
    for guid in GUIDS[:3]:
        world.add(guid)

    await run_for(world, 300.0)
    assert (world.written, world.attempts) == (GUIDS[1:3], 3)
    world.problems.clear()
    await run_for(world, REFUSED_FOR + 300.0)
    assert GUIDS[0] in world.written


@pytest.mark.looptime
async def test_a_registry_that_refuses_every_note_is_asked_seldom() -> None:
    world = World(problems={guid: Invalid("registry", "UNSUPPORTED", "no") for guid in GUIDS})
    for guid in GUIDS:
        world.add(guid)

    await run_for(world, 1800.0)

    assert world.attempts == 5


@pytest.mark.looptime
async def test_a_registry_that_does_not_answer_is_asked_ever_more_seldom() -> None:
    world = World(problems={guid: Unavailable("registry", "timeout", "no answer") for guid in GUIDS})
    for guid in GUIDS:
        world.add(guid)
    await run_for(world, 3600.0)
    assert world.attempts < 30

    world.problems.clear()
    await run_for(world, 600.0)
    assert set(world.written) == set(GUIDS)


@pytest.mark.looptime
async def test_notes_are_written_when_the_database_is_back() -> None:
    world = World(store_problem=Unavailable("store", "connection", "connection refused"))
    world.add(GUIDS[0])
    writing = asyncio.create_task(run_for(world, AFTER + 600.0))
    await asyncio.sleep(AFTER)
    world.store_problem = None
    await writing

    assert world.written == [GUIDS[0]]


@pytest.mark.looptime
async def test_the_note_of_a_copy_that_was_deleted_meanwhile_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.add(GUIDS[0])
    due = world.list_due

    async def lose(**limits: float) -> tuple[tuple[CachedImage, bool], ...]:
        found = await due(made_before=limits["made_before"], noted_before=0.5, now=limits["now"], limit=10)
        if found:
            world.images.clear()
        return found

    monkeypatch.setattr(world, "list_due", lose)
    await run_for(world, AFTER * 3)

    assert world.deleted == [GUIDS[0]]


async def test_unknown_copies_are_counted_until_they_are_known() -> None:
    world, uses = World(), CopyUses()
    process = Process("r", clock=world.clock)
    unknown = UnknownCopies(uses, world, process)
    uses.put(ProcessGuid("p-1"), GUIDS[0])
    uses.put(ProcessGuid("p-2"), GUIDS[1])
    world.add(GUIDS[1])

    def counted() -> float | None:
        return process.metrics.registry.get_sample_value("docker_cache_unknown_copies")

    await unknown.look()
    assert counted() == 1
    world.images.append(replace(world.images[0], cache_guid=GUIDS[0]))
    await unknown.look()
    assert counted() == 0


@pytest.mark.looptime
async def test_unknown_copies_are_looked_for_when_the_database_is_back() -> None:
    world, uses = World(), CopyUses()
    process = Process("r", clock=world.clock)
    uses.put(ProcessGuid("p-1"), GUIDS[0])
    world.store_problem = Unavailable("store", "connection", "connection refused")
    looking = asyncio.create_task(UnknownCopies(uses, world, process).run())
    await asyncio.sleep(1.0)

    world.store_problem = None
    await asyncio.sleep(60.0)

    assert process.metrics.registry.get_sample_value("docker_cache_unknown_copies") == 1
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
