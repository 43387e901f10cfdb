"""Brings one blob into the target repository, with as few bytes as that takes."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from controller.engines.copy_plan import CopyLimits
from controller.engines.flights import Flights
from controller.engines.progress import ProgressMeter
from controller.engines.reading_back import check_blob
from controller.registry.blobs import BlobReader, read_blob
from controller.registry.cancellation import Cancellation
from controller.registry.findings import UploadStatus
from controller.registry.foreign import read_foreign
from controller.registry.manifests import Descriptor
from controller.registry.repository import Repository
from controller.registry.urls import Url
from reconcile.errors import DockerCacheError, Invalid, NotFound, RateLimited, Unavailable

# What leaves an upload session with what it has got so far.
_BROKEN = frozenset({"connection", "timeout", "token-expired", "upload-failed"})
# What one more try of the same blob may mend.
_RESTARTED = _BROKEN | {
    "cut",
    "digest-mismatch",
    "size-mismatch",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
}


@dataclass(frozen=True, slots=True)
class Copying:
    """What the steps of one copy share.

    Attributes:
        workers: Threads that move blobs.
        aside: Threads that begin an upload while its source is asked; they never wait for others.
        buffers: Where each worker keeps its one buffer from copy to copy.
    """

    source: Repository
    target: Repository
    limits: CopyLimits
    meter: ProgressMeter
    cancellation: Cancellation
    flights: Flights
    workers: Executor
    aside: Executor
    buffers: threading.local


class BlobTransfer:
    """Moves blobs of one copy; its methods block and may be called from many threads."""

    def __init__(self, copying: Copying) -> None:
        self._source, self._target = copying.source, copying.target
        self._meter, self._copying = copying.meter, copying

    def bring(self, blob: Descriptor, holder: str | None, *, may_be_there: bool) -> bool:
        """See to it that the target holds a blob, and tell whether it did not before.

        Args:
            blob: Which.
            holder: A repository of the target's registry that holds it, where one is known.
            may_be_there: The target may hold it already, and is asked first.
        """
        key = (self._target.image.domain, blob.digest)
        own = self._target.image.path
        holder = holder or self._copying.flights.find(key)
        holder = None if holder == own else holder
        if may_be_there:
            head = self._target.find_blob(blob.digest)
            if head is not None and head.size in {blob.size, None}:
                self._meter.skip(blob.size)
                return False
        session: Url | None = None
        if holder is not None:
            is_there, session = self._mount(blob, holder)
            if is_there:
                return True
        arrived = self._copying.flights.board(key, self._copying.cancellation)
        if arrived is not None:
            is_there, other = (False, None) if arrived == own else self._mount(blob, arrived)
            if not is_there:
                self.upload(blob, other or session)
            return True
        landed = None
        try:
            self.upload(blob, session)
            landed = own
        finally:
            self._copying.flights.land(key, landed)
        return True

    def _mount(self, blob: Descriptor, holder: str) -> tuple[bool, Url | None]:
        """Try a mount; without success there may be an upload session to go on with."""
        try:
            session = self._target.mount(blob.digest, holder)
        except RateLimited:
            raise
        except DockerCacheError:
            return False, None  # a plain upload needs less permission
        if session is None:
            self._meter.skip(blob.size)
        return session is None, session

    def upload(self, blob: Descriptor, session: Url | None = None) -> None:
        """Move a blob's bytes; a failure is mended once by going on, or else from the start."""
        try:
            self._upload_once(blob, session)
        except DockerCacheError as error:
            if error.code not in _RESTARTED:
                raise
            self._meter.retry()
        else:
            return
        if self._target.find_blob(blob.digest) is None:  # an answer may have been lost, not the blob
            self._upload_once(blob, None)

    def _upload_once(self, blob: Descriptor, session: Url | None) -> None:
        # The upload is begun while the source is asked.
        beginning = self._copying.aside.submit(lambda: session or self._target.start_upload(blob.digest))
        with self._open(blob) as reader:
            begun = beginning.result()
            try:
                self._send(blob, reader, UploadStatus(begun, 0))
            except Unavailable as error:
                if error.code not in _BROKEN or not self._goes_on(blob, reader, begun):
                    raise
                self._meter.retry()

    def _goes_on(self, blob: Descriptor, reader: BlobReader, session: Url) -> bool:
        """Whether the rest of a broken upload could be sent alone."""
        try:
            status = self._target.find_upload(session)
            if status is None or status.offset > blob.size:
                return False
            self._send(blob, reader, status)
        except DockerCacheError as error:
            if isinstance(error, RateLimited) or error.code == "too-slow":
                raise
            return False
        return True

    def _send(self, blob: Descriptor, reader: BlobReader, status: UploadStatus) -> None:
        before, moved = reader.resumes, status.offset

        def counted(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
            nonlocal moved
            for piece in pieces:
                moved += len(piece)
                self._meter.move(len(piece))
                yield piece

        self._meter.move(status.offset)
        try:
            pieces = counted(reader.pieces(status.offset))
            self._target.upload_blob(status.session, blob, pieces, offset=status.offset)
        except BaseException:
            self._meter.move(-moved)
            raise
        finally:
            self._meter.retry(reader.resumes - before)

    def _open(self, blob: Descriptor) -> BlobReader:
        try:
            return read_blob(self._source, blob, self._buffer())
        except NotFound as error:
            if not blob.urls:
                raise
            if self._copying.limits.copy_foreign_layers:
                return read_foreign(self._source, blob, self._buffer())
            detail = f"{error.detail} (a foreign layer, which its registry does not hold)"
            raise Invalid(error.system, "foreign-layer", detail) from error

    def _buffer(self) -> memoryview:
        """Give this thread's one buffer."""
        own = self._copying.buffers
        buffer: memoryview | None = getattr(own, "buffer", None)
        if buffer is None:
            buffer = memoryview(bytearray(self._copying.limits.buffer))
            own.buffer = buffer
        return buffer

    def check(self, blob: Descriptor) -> None:
        """Ask whether a blob is there after its upload.

        Raises:
            Unavailable: `not-verified`.
        """
        head = self._target.find_blob(blob.digest)
        if head is None or head.size not in {blob.size, None}:
            raise Unavailable(
                "registry",
                "not-verified",
                f"{self._target.session.subject(str(blob.digest))} is not there after its upload",
            )

    def read_back(self, blob: Descriptor) -> None:
        """Read a blob from the target and hash it.

        Raises:
            Invalid: `not-verified` when it is not what it should be.
        """
        check_blob(self._target, blob, self._buffer())
