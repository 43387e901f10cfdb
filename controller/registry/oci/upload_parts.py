"""Uploads a blob in several requests, for registries and proxies that take no long one.

Source: OCI distribution specification, "Pushing a blob in chunks".
"""

import threading
from collections.abc import Callable, Iterable, Iterator

from controller.registry.http.urls import Url
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from controller.registry.oci.results import UploadStatus

_MIB = 1024 * 1024
_SIZES = (64 * _MIB, 16 * _MIB, 4 * _MIB, _MIB)
"""Bytes of parts that are attempted one after the other; the last is what nginx takes by default."""


class PartSizes:
    """In how long parts registries take uploads, as far as that was found out; many threads use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._most: dict[str, int] = {}

    def most(self, domain: str, least: int) -> int | None:
        """Return how many bytes a request may have; None when a blob goes in one request.

        Args:
            domain: Of the registry.
            least: What the registry states as the least, and so expects uploads in parts; 0 when nothing.
        """
        with self._lock:
            known = self._most.get(domain)
        if known is not None:
            return max(known, least)
        return max(_SIZES[0], least) if least else None

    def lower(self, domain: str, refused: int, least: int) -> bool:
        """Note that a request was too long, and return whether shorter ones can be attempted."""
        shorter = next((size for size in _SIZES if size < refused), 0)
        with self._lock:
            known = self._most.get(domain)
            if known is not None and max(known, least) < refused:
                return True  # another upload has found it out
            if not shorter or max(shorter, least) >= refused:
                return False
            self._most[domain] = shorter
            return True


class _Bytes:
    """Pieces of bytes as they come, divided anew."""

    def __init__(self, pieces: Iterable[memoryview]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")

    def take(self, count: int) -> Iterator[memoryview]:
        """Yield the next bytes, so many of them."""
        while count:
            piece = self._left if len(self._left) else next(self._pieces, None)
            if piece is None:
                return
            self._left, piece = piece[count:], piece[:count]
            count -= len(piece)
            yield piece


class PartedUpload:
    """An upload in several requests.

    Args:
        repository: Where the blob is uploaded to.
        blob: What is uploaded.
        most: Bytes of each part but the last, which may be shorter.
        moved: Told where the upload continues, after each part.
    """

    def __init__(
        self, repository: Repository, blob: Descriptor, *, most: int, moved: Callable[[Url], None]
    ) -> None:
        self._repository, self._blob, self._most, self._moved = repository, blob, most, moved

    def send(self, status: UploadStatus, pieces: Iterable[memoryview]) -> None:
        """Send the bytes of the blob from where an upload stands, and complete it with the last part."""
        rest, session, offset, most = _Bytes(pieces), status.session, status.offset, self._most
        while self._blob.size - offset > most:
            part = rest.take(most)
            session = self._repository.append_to_upload(session, self._blob, part, offset=offset, length=most)
            self._moved(session)
            offset += most
        last = rest.take(self._blob.size - offset)
        self._repository.upload_blob(session, self._blob, last, offset=offset, call=status.call)
