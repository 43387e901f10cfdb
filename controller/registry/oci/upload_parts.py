"""Uploads a blob in several requests, for registries and proxies that take no long one.

Source: OCI distribution specification, "Pushing a blob in chunks".
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial

from controller.registry.http.urls import Url
from controller.registry.oci.blob_uploads import BlobUploads
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.results import Repeatable, UploadStatus

_MIB = 1024 * 1024
_SIZES = (64 * _MIB, 16 * _MIB, 4 * _MIB, _MIB)
"""Bytes of parts that are attempted one after the other; the last is what nginx takes by default."""

BlobBytes = Callable[[int], Iterator[memoryview]]
"""Reads the bytes of a blob from an offset on."""


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
    """The bytes of a blob in order, divided anew; they are read again only where that is asked for."""

    def __init__(self, read_from: BlobBytes, offset: int) -> None:
        self._read_from, self._offset = read_from, offset
        self._pieces, self._left = read_from(offset), memoryview(b"")

    def take(self, offset: int, count: int) -> Iterator[memoryview]:
        """Yield so many bytes from an offset on."""
        if offset != self._offset:  # the request that took them was redirected
            self._offset = offset
            self._pieces, self._left = self._read_from(offset), memoryview(b"")
        while count:
            piece = self._left if len(self._left) else next(self._pieces, None)
            if piece is None:
                return
            self._left, piece = piece[count:], piece[:count]
            count -= len(piece)
            self._offset += len(piece)
            yield piece


class PartedUpload:
    """An upload in several requests.

    Args:
        uploads: Of the repository to which the blob is uploaded.
        blob: What is uploaded.
        most: Bytes of each part but the last, which may be shorter.
        moved: Told where the upload continues, after each part.
    """

    def __init__(
        self, uploads: BlobUploads, blob: Descriptor, *, most: int, moved: Callable[[Url], None]
    ) -> None:
        self._uploads, self._blob, self._most, self._moved = uploads, blob, most, moved

    def send(self, status: UploadStatus, read_from: BlobBytes) -> None:
        """Send the bytes of the blob from where an upload stands, and complete it with the last part."""
        session, offset, most = status.session, status.offset, self._most
        pieces = Repeatable(partial(read_from, offset))
        if self._blob.size - offset > most:
            rest = _Bytes(read_from, offset)
            while self._blob.size - offset > most:
                part = Repeatable(partial(rest.take, offset, most))
                session = self._uploads.append(session, self._blob, part, offset=offset, length=most)
                self._moved(session)
                offset += most
            pieces = Repeatable(partial(rest.take, offset, self._blob.size - offset))
        self._uploads.upload(session, self._blob, pieces, offset=offset, call=status.call)
