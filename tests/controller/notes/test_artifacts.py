"""Notes in a registry: one that lists referrers, and one that does not."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import httpx
import pytest

from controller.notes.artifacts import CopyNotes
from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from reconcile.errors import DockerCacheError, Invalid, NotFound
from reconcile.notes import CopyNote, annotations_of
from reconcile.references import CacheGuid, CacheRepositories, Digest, parse_digest, parse_image_reference
from tests.simulators import images
from tests.simulators import registry as registry_simulator
from tests.simulators.registry import Refuse, RegistrySimulator

GUID = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
OTHER = CacheGuid("8c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d12")
KEY = b"a key"


@pytest.fixture(params=["{guid}:latest", "docker-cache:{guid}"])
def template(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["referrers", "tags"])
def simulator(request: pytest.FixtureRequest, servers: None) -> Iterator[RegistrySimulator]:
    with registry_simulator.serve() as simulated:
        simulated.referrers = request.param == "referrers"
        yield simulated


@dataclass
class Scene:
    """A private registry with its notes, and what copies are in it."""

    simulator: RegistrySimulator
    cache: CacheRepositories
    notes: CopyNotes

    def push(self, guid: CacheGuid, seed: int) -> Digest:
        """Have a copy, as the daemon makes it."""
        target = self.cache.image(guid)
        with httpx.Client(base_url=self.simulator.url) as client:
            images.push_image(client, target.path, target.tag or "", images.image([images.layer(500, seed)]))
        found = self.simulator.store.find_manifest(target.path, target.tag or "")
        assert found is not None
        return parse_digest(found[0])

    def note(self, guid: CacheGuid, digest: Digest) -> CopyNote:
        source = parse_image_reference("registry.example/team/web:7")
        return CopyNote(guid, source, digest, digest, digest, 1234, 1_800_000_000.5, needs_login=False)

    def documents(self, guid: CacheGuid) -> list[dict[str, object]]:
        repository = self.simulator.store.repository(self.cache.image(guid).path)
        return [json.loads(each.content) for each in repository.manifests.values()]


@pytest.fixture
async def scene(simulator: RegistrySimulator, template: str) -> AsyncIterator[Scene]:
    registries = Registries({simulator.address: RegistrySettings(plain_http=True, any_address=True)})
    cache = CacheRepositories(simulator.address, template)
    notes = CopyNotes(registries, cache, [KEY])
    yield Scene(simulator, cache, notes)
    await notes.close()


async def test_a_note_is_found_beside_its_copy(scene: Scene) -> None:
    digests = {guid: scene.push(guid, seed) for seed, guid in enumerate((GUID, OTHER))}
    for guid, digest in digests.items():
        await scene.notes.write(scene.note(guid, digest))

    for guid, digest in digests.items():
        assert await scene.notes.find_digest(guid) == digest
        assert await scene.notes.find(guid, digest) == replace(scene.note(guid, digest), is_sealed=True)
        assert len(await scene.notes.list_blobs(guid, digest)) == 2
    assert set(await scene.notes.list_copies()) == {GUID, OTHER}


async def test_a_note_refers_to_its_copy_and_says_what_it_is(scene: Scene) -> None:
    digest = scene.push(GUID, 1)
    await scene.notes.write(scene.note(GUID, digest))

    (note,) = [each for each in scene.documents(GUID) if "subject" in each]
    assert note["artifactType"] == "application/vnd.diego-docker-cache.note.v1"
    assert isinstance(note["subject"], dict)
    assert note["subject"]["digest"] == str(digest)
    assert note["annotations"] == annotations_of(scene.note(GUID, digest), [KEY])
    tags = scene.simulator.store.repository(scene.cache.image(GUID).path).tags
    assert len(tags) == (1 if scene.simulator.referrers else 2)


async def test_a_copy_without_a_note_has_none(scene: Scene) -> None:
    digest = scene.push(GUID, 1)

    assert await scene.notes.find(GUID, digest) is None
    assert await scene.notes.find_digest(OTHER) is None


async def test_no_note_is_written_beside_a_copy_that_is_not_there(scene: Scene) -> None:
    digest = scene.push(OTHER, 1)

    with pytest.raises(NotFound):
        await scene.notes.write(replace(scene.note(GUID, digest), digest=Digest("sha256", "0" * 64)))


async def test_writing_again_replaces_a_note(scene: Scene) -> None:
    digest = scene.push(GUID, 1)
    note = scene.note(GUID, digest)
    for each in (note, note, replace(note, needs_login=True)):
        await scene.notes.write(each)

    found = await scene.notes.find(GUID, digest)
    assert found == replace(note, needs_login=True, is_sealed=True)


async def test_notes_are_deleted_and_the_copy_stays(scene: Scene) -> None:
    digest = scene.push(GUID, 1)
    await scene.notes.write(scene.note(GUID, digest))

    await scene.notes.delete(GUID, digest)
    await scene.notes.delete(GUID, digest)

    assert await scene.notes.find(GUID, digest) is None
    assert await scene.notes.find_digest(GUID) == digest
    assert not [each for each in scene.documents(GUID) if "subject" in each]


async def test_a_note_that_was_moved_beside_another_copy_is_refused(scene: Scene) -> None:
    mine, other = scene.push(GUID, 1), scene.push(OTHER, 2)
    note = replace(scene.note(GUID, other), cache_guid=GUID)
    # It is about the other copy's content, and lies beside mine.
    scene.push(GUID, 2)
    await scene.notes.write(note)
    scene.push(GUID, 1)

    if scene.simulator.referrers:
        assert await scene.notes.find(GUID, mine) is None
    else:
        with pytest.raises(Invalid):
            await scene.notes.find(GUID, mine)


async def test_a_registry_that_lists_nothing_says_so_or_is_read_by_tags(scene: Scene) -> None:
    scene.push(GUID, 1)
    scene.simulator.catalog = False

    if "docker-cache" in scene.cache.template:
        assert await scene.notes.list_copies() == (GUID,)
    else:
        with pytest.raises(DockerCacheError):
            await scene.notes.list_copies()


async def test_long_lists_are_read_to_their_end(scene: Scene) -> None:
    guids = [CacheGuid(f"{number:08x}-52a1-4d5b-8f7e-2b6a1f0c9d11") for number in range(1500)]
    for guid in guids:
        target = scene.cache.image(guid)
        scene.simulator.store.repository(target.path).tags[target.tag or ""] = "sha256:" + "0" * 64

    assert set(await scene.notes.list_copies()) == set(guids)


async def test_a_refused_note_is_an_error(scene: Scene) -> None:
    digest = scene.push(GUID, 1)
    scene.simulator.fail("PUT", "manifests", Refuse(400), times=None)

    with pytest.raises(Invalid):
        await scene.notes.write(scene.note(GUID, digest))
