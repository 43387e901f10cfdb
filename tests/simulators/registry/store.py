"""What a simulated registry holds; blobs are visible only in repositories that were given them."""

import hashlib
import json
import threading
from dataclasses import dataclass, field

INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Write the digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed."""

    media_type: str
    content: bytes = field(repr=False)


@dataclass(slots=True)
class StoredRepository:
    """One repository; tags name digests."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Store:
    """Everything in one registry."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.contents: dict[str, bytes] = {}
        self.repositories: dict[str, StoredRepository] = {}

    def repository(self, name: str) -> StoredRepository:
        """Give a repository; a new one is empty."""
        with self.lock:
            return self.repositories.setdefault(name, StoredRepository())

    def add_blob(self, name: str, content: bytes) -> str:
        """Keep a blob in a repository and name it; it is found under its sha512 digest as well."""
        digest = digest_of(content)
        with self.lock:
            for each in (digest, digest_of(content, "sha512")):
                self.contents[each] = content
                self.repository(name).blobs.add(each)
        return digest

    def add_manifest(self, name: str, reference: str, manifest: StoredManifest) -> str:
        """Keep a manifest under a tag or its digest, unchecked."""
        digest = digest_of(manifest.content)
        with self.lock:
            repository = self.repository(name)
            repository.manifests[digest] = manifest
            if ":" not in reference:
                repository.tags[reference] = digest
        return digest

    def find_blob(self, name: str, digest: str) -> bytes | None:
        """Give a blob that the repository holds."""
        with self.lock:
            return self.contents.get(digest) if digest in self.repository(name).blobs else None

    def find_manifest(self, name: str, reference: str) -> tuple[str, StoredManifest] | None:
        """Give a manifest with its digest."""
        with self.lock:
            repository = self.repository(name)
            digest = reference if ":" in reference else repository.tags.get(reference, "")
            manifest = repository.manifests.get(digest)
            return None if manifest is None else (digest, manifest)

    def referrers(self, name: str, subject: str) -> list[dict[str, object]]:
        """List the manifests of a repository whose subject is a given one."""
        found = []
        with self.lock:
            for digest, manifest in self.repository(name).manifests.items():
                document = json.loads(manifest.content)
                if document.get("subject", {}).get("digest") == subject:
                    kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                    size = len(manifest.content)
                    entry = {"mediaType": manifest.media_type, "digest": digest, "size": size}
                    found.append({**entry, "artifactType": kind})
        return found

    def missing(self, name: str, manifest: StoredManifest, *, foreign_too: bool = True) -> list[str]:
        """List what a manifest refers to and the repository does not hold."""
        document = json.loads(manifest.content)
        with self.lock:
            repository = self.repository(name)
            if manifest.media_type in INDEXES:
                wanted = [child["digest"] for child in document.get("manifests") or ()]
                held = repository.blobs | set(repository.manifests)
            else:
                wanted = [
                    document["config"]["digest"],
                    *(
                        each["digest"]
                        for each in document.get("layers") or ()
                        if foreign_too or not each.get("urls")
                    ),
                ]
                held = repository.blobs
            return [digest for digest in dict.fromkeys(wanted) if digest not in held]
