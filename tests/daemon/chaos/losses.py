"""What registries lose in a chaos run: copies, blobs of copies, and images of the source."""

import asyncio
import json
import random

from tests.daemon.chaos.scene import Scene
from tests.simulators.registry.store import StoredManifest, StoredRepository

TAG = "latest"
"""The tag of each copy; a repository may hold a note alone, under a tag of its own."""


class CopiesDeleted:
    """Deletes copies from the private registry, as its own retention or a person does."""

    pause = 3.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene, self._chance = scene, chance

    async def act(self) -> None:
        """Delete the manifest and the tags of one copy, or all that its repository holds."""
        found = _choose_copy(self._scene, self._chance)
        if found is None:
            return
        name, repository, _ = found
        with self._scene.env.cache.faults.store.lock:
            repository.manifests.clear()
            repository.tags.clear()
            if self._chance.random() < 0.3:
                repository.blobs.clear()
            self._scene.note_lost_copy(name)
        self._scene.note_loss("copies deleted", name)

    def end(self) -> None:
        """Do nothing: the daemon mends it."""

    def unrest(self) -> list[str]:
        """Say nothing: what is called cached is looked at."""
        return []


class LayersDeleted:
    """Lets the private registry lose a blob of a copy, in all repositories that hold it."""

    pause = 4.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene, self._chance = scene, chance

    async def act(self) -> None:
        """Lose one blob of one copy."""
        found = _choose_copy(self._scene, self._chance)
        if found is None:
            return
        name, _, manifest = found
        digest = self._chance.choice(_blobs_of(manifest))
        store = self._scene.env.cache.faults.store
        with store.lock:
            for each, held in store.repositories.items():
                if digest in held.blobs:
                    held.blobs.discard(digest)
                    self._scene.note_lost_copy(each)
        self._scene.note_loss("blobs lost", f"{name}, {digest}")

    def end(self) -> None:
        """Do nothing: the daemon mends it."""

    def unrest(self) -> list[str]:
        """Say nothing: what is called cached is looked at."""
        return []


class ImagesLost:
    """Lets the source lose images; in the end their owners have pushed them again."""

    pause = 8.0

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene, self._chance = scene, chance
        self._store = scene.env.source.faults.store
        self._lost: dict[str, tuple[dict[str, StoredManifest], dict[str, str]]] = {}

    async def act(self) -> None:
        """Lose one image, for a while or until the end."""
        held = sorted(name for name, each in self._store.repositories.items() if each.tags)
        if not held:
            return
        name = self._chance.choice(held)
        with self._store.lock:
            repository = self._store.repository(name)
            self._lost[name] = dict(repository.manifests), dict(repository.tags)
            repository.manifests.clear()
            repository.tags.clear()
        self._scene.lost_images.add(f"{self._scene.env.source.address}/{name}:1")
        self._scene.note_loss("images lost by the source", name)
        if self._chance.random() < 0.7:
            await asyncio.sleep(min(self._chance.uniform(1.0, 6.0), self._scene.seconds_left))
            self._bring_back(name)

    def _bring_back(self, name: str) -> None:
        manifests, tags = self._lost.pop(name)
        with self._store.lock:
            repository = self._store.repository(name)
            repository.manifests.update(manifests)
            repository.tags.update(tags)
        self._scene.lost_images.discard(f"{self._scene.env.source.address}/{name}:1")

    def end(self) -> None:
        """Have all images again."""
        for name in list(self._lost):
            self._bring_back(name)

    def unrest(self) -> list[str]:
        """Say nothing: it waits for nobody."""
        return []


def _choose_copy(scene: Scene, chance: random.Random) -> tuple[str, StoredRepository, StoredManifest] | None:
    """Choose a finished copy, mostly one that an LRP runs from; None if there is none."""
    env = scene.env
    prefix = f"docker://{env.cache.address}/"
    used = {
        lrp.root_fs.removeprefix(prefix).partition("#")[0]
        for lrp in env.bbs.state.desired.values()
        if lrp.root_fs.startswith(prefix)
    }
    store = env.cache.faults.store
    with store.lock:  # the daemon writes meanwhile
        finished = {
            name: (repository, found[1])
            for name, repository in store.repositories.items()
            if (found := store.find_manifest(name, TAG)) is not None
        }
    chosen = [name for name in sorted(finished) if name in used]
    if not chosen or chance.random() < 0.2:
        chosen = sorted(finished)
    return (name := chance.choice(chosen), *finished[name]) if chosen else None


def _blobs_of(manifest: StoredManifest) -> list[str]:
    """Name config and layers of a copy's image."""
    document = json.loads(manifest.content)
    return [document["config"]["digest"], *(each["digest"] for each in document["layers"])]
