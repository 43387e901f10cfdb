"""Writes, finds and deletes the notes beside copies, as OCI artifacts that refer to their copies.

A note is found through the registry's list of referrers where it keeps one, and else by a tag of its own.

Source: OCI image specification 1.1, "Guidelines for Artifact Usage".
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from controller.registry.oci.catalog import list_repositories, list_tags
from controller.registry.oci.manifests import OCI_MANIFEST, Descriptor, Document, Manifest, digest_of
from controller.registry.oci.referrers import artifact_type_of, list_referrers
from controller.registry.oci.repository import Repository
from controller.registry.registries import Registries
from controller.threads import Cancellation, in_thread
from reconcile.errors import Denied, Invalid, NotFound
from reconcile.notes import (
    ARTIFACT_TYPE,
    CopyNote,
    annotations_of,
    check_note,
    note_from_annotations,
    note_tag,
)
from reconcile.references import CacheGuid, CacheRepositories, Digest, parse_image_reference

_EMPTY_CONTENT = b"{}"
_EMPTY = Descriptor("application/vnd.oci.empty.v1+json", digest_of(_EMPTY_CONTENT), len(_EMPTY_CONTENT))
"""The empty descriptor of the image specification, for an artifact that has no config or no layers."""
_MOST_REFERRERS = 100
_THREADS = 2
_ANY_GUID = CacheGuid("00000000-0000-4000-8000-000000000000")
"""A GUID that no copy has, to find out where in the names of copies the GUID stands."""


class CopyNotes:
    """The notes in the private registry.

    Args:
        registries: Opens the private registry with the daemon's own login.
        cache: The names of copies.
        keys: The journal's keys. The first one seals the notes that are written; a note that any of them has
            sealed is believed. Without keys, notes are written unsealed.
    """

    def __init__(self, registries: Registries, cache: CacheRepositories, keys: Sequence[bytes]) -> None:
        self._registries, self._cache, self._keys = registries, cache, tuple(keys)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="notes")

    @property
    def has_keys(self) -> bool:
        """Whether notes are sealed."""
        return bool(self._keys)

    async def close(self) -> None:
        """End the threads and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._registries.close)

    async def write(self, note: CopyNote) -> None:
        """Write a note in place of an earlier one.

        Raises:
            NotFound: The registry does not hold the copy.
        """
        cancellation = Cancellation()
        await in_thread(lambda: self._write(note, cancellation), self._threads, cancellation)

    async def find_digest(self, guid: CacheGuid) -> Digest | None:
        """Read the digest of a copy's manifest; None when the registry does not hold the copy."""
        cancellation = Cancellation()

        def work() -> Digest | None:
            repository = self._open(guid, cancellation)
            tag = repository.image.tag_or_digest
            try:
                return repository.head_manifest(tag).digest or repository.fetch_manifest(tag).digest
            except NotFound:
                return None

        return await in_thread(work, self._threads, cancellation)

    async def find(self, guid: CacheGuid, digest: Digest) -> CopyNote | None:
        """Find the note beside a copy; None when there is none.

        Args:
            guid: GUID of the copy.
            digest: Digest of the copy's manifest as the registry serves it.

        Raises:
            Invalid: `bad-note`: there are notes, but none that can be read and is about the copy.
        """
        cancellation = Cancellation()
        return await in_thread(lambda: self._find(guid, digest, cancellation), self._threads, cancellation)

    async def list_blobs(self, guid: CacheGuid, digest: Digest) -> dict[Digest, int]:
        """List the config and layers of a copy with their sizes in bytes; none of an index."""
        cancellation = Cancellation()

        def work() -> dict[Digest, int]:
            document = self._open(guid, cancellation).fetch_manifest(str(digest))
            blobs = document.blobs() if isinstance(document, Manifest) else ()
            return {blob.digest: blob.size for blob in blobs if not blob.urls}

        return await in_thread(work, self._threads, cancellation)

    async def list_copies(self) -> tuple[CacheGuid, ...]:
        """List the GUIDs of the copies that the private registry lists, in order.

        Raises:
            DockerCacheError: The registry does not list its repositories or tags.
        """
        cancellation = Cancellation()

        def work() -> tuple[CacheGuid, ...]:
            repository = self._open(_ANY_GUID, cancellation)
            if _ANY_GUID in repository.image.path:  # each copy has a repository of its own
                paths, tag = list_repositories(repository), repository.image.tag
                names = [f"{self._cache.address}/{path}:{tag}" for path in paths]
            else:
                names = [f"{repository.image.repository}:{tag}" for tag in list_tags(repository)]
            found = (self._guid_of(name) for name in names)
            return tuple(sorted({guid for guid in found if guid is not None}))

        return await in_thread(work, self._threads, cancellation)

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        """Delete the notes beside a copy, if there are any.

        Raises:
            Invalid: The registry does not allow deletion.
        """
        cancellation = Cancellation()

        def work() -> None:
            repository = self._open(guid, cancellation)
            for document in self._documents(repository, digest):
                with suppress(NotFound):
                    repository.delete_manifest(document.digest)

        await in_thread(work, self._threads, cancellation)

    def _open(self, guid: CacheGuid, cancellation: Cancellation) -> Repository:
        return self._registries.repository(self._cache.image(guid), None, cancellation)

    def _write(self, note: CopyNote, cancellation: Cancellation) -> None:
        repository = self._open(note.cache_guid, cancellation)
        document = _artifact(note, repository.fetch_manifest(str(note.digest)), self._keys)
        if repository.find_blob(_EMPTY.digest) is None:
            repository.uploads.push(_EMPTY, _EMPTY_CONTENT)
        if not repository.push_manifest(document, str(document.digest)):
            repository.push_manifest(document, note_tag(repository.image))
            return
        for other in self._documents(repository, note.digest):
            if other.digest != document.digest:
                with suppress(NotFound, Denied, Invalid):  # the note stays where the registry deletes nothing
                    repository.delete_manifest(other.digest)

    def _find(self, guid: CacheGuid, digest: Digest, cancellation: Cancellation) -> CopyNote | None:
        refusal: Invalid | None = None
        best: CopyNote | None = None
        for document in self._documents(self._open(guid, cancellation), digest):
            try:
                note = note_from_annotations(_annotations(document), self._keys)
                check_note(note, guid=guid, digest=digest)
            except Invalid as error:
                refusal = error
                continue
            if note.is_sealed:
                return note
            best = best or note
        if best is None and refusal is not None:
            raise refusal
        return best

    def _documents(self, repository: Repository, digest: Digest) -> Iterator[Document]:
        """Read the notes beside a copy, whoever wrote them."""
        with suppress(NotFound):
            document = repository.fetch_manifest(note_tag(repository.image))
            if artifact_type_of(document) == ARTIFACT_TYPE:
                yield document
        for entry in list_referrers(repository, digest)[:_MOST_REFERRERS]:
            with suppress(NotFound, Invalid):  # what cannot be read is no note of ours
                document = repository.fetch_manifest(str(entry.digest))
                if artifact_type_of(document) == ARTIFACT_TYPE:
                    yield document

    def _guid_of(self, name: str) -> CacheGuid | None:
        try:
            return self._cache.guid_of(parse_image_reference(name))
        except Invalid:
            return None


def _artifact(note: CopyNote, copy: Document, keys: Sequence[bytes]) -> Manifest:
    """Make the manifest of a note: its annotations hold the content of the note."""
    subject = {"mediaType": copy.media_type, "digest": str(note.digest), "size": len(copy.raw)}
    empty = {"mediaType": _EMPTY.media_type, "digest": str(_EMPTY.digest), "size": _EMPTY.size}
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": empty,
        "layers": [empty],
        "subject": subject,
        "annotations": annotations_of(note, keys),
    }
    raw = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    return Manifest(raw, OCI_MANIFEST, digest_of(raw), _EMPTY, (_EMPTY,))


def _annotations(document: Document) -> dict[str, object]:
    annotations = json.loads(document.raw).get("annotations")
    return annotations if isinstance(annotations, dict) else {}
