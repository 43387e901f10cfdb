"""Whether a private registry holds all that a droplet's text names, as the registry itself has it."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.daemon.environment import Registry
from tests.simulators.registry.store import Store

MANIFEST = "its manifest"


def find_missing(registries: Iterable[Registry], text: str) -> str:
    """Say what is missing of a copy; empty when it is all there, or no private registry is named."""
    host, _, rest = text.partition("/")
    name, _, tag = rest.partition(":")
    for registry in registries:
        if registry.address == host:
            if registry.storage is not None:
                return _missing_in_files(registry.storage, name, tag or "latest")
            return _missing_in_store(registry.faults.store, name, tag or "latest")
    return ""


def _missing_in_store(store: Store, name: str, tag: str) -> str:
    with store.lock:  # the daemon writes meanwhile
        repository = store.repositories.get(name)
        found = None if repository is None else store.find_manifest(name, tag)
        if repository is None or found is None:
            return MANIFEST
        missing = [each for each in _blobs_of(found[1].content) if each not in repository.blobs]
    return ", ".join(missing)


def _missing_in_files(storage: Path, name: str, tag: str) -> str:
    registry = storage / "docker/registry/v2"
    link = registry / "repositories" / name / "_manifests/tags" / tag / "current/link"
    if not link.exists():
        return MANIFEST
    manifest = _data_of(registry, link.read_text().strip())
    if not manifest.exists():
        return MANIFEST
    blobs = _blobs_of(manifest.read_bytes())
    return ", ".join(each for each in blobs if not _data_of(registry, each).exists())


def _data_of(registry: Path, digest: str) -> Path:
    algorithm, _, name = digest.partition(":")
    return registry / "blobs" / algorithm / name[:2] / name / "data"


def _blobs_of(content: bytes) -> list[str]:
    """Name config and layers of an image's manifest."""
    document = json.loads(content)
    return [document["config"]["digest"], *(each["digest"] for each in document["layers"])]
