"""Gets one blob into the target repository with as few bytes moved as possible."""

from collections.abc import Iterable, Iterator

from controller.engines.copy_context import CopyContext
from controller.engines.reading_back import check_blob
from controller.registry.http.urls import Url
from controller.registry.oci.blobs import BlobReader, read_blob
from controller.registry.oci.foreign_layers import read_foreign
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.results import UploadStatus
from reconcile.errors import DockerCacheError, ErrorCode, Invalid, NotFound, RateLimited, Unavailable

# After these errors the upload session still holds the bytes that it received.
_RESUMABLE = frozenset(
    {ErrorCode.CONNECTION, ErrorCode.TIMEOUT, ErrorCode.TOKEN_EXPIRED, ErrorCode.UPLOAD_FAILED}
)
# After these errors the blob is copied once more from its start.
_RESTARTED = _RESUMABLE | {
    ErrorCode.CUT,
    ErrorCode.DIGEST_MISMATCH,
    ErrorCode.SIZE_MISMATCH,
    ErrorCode.BLOB_UPLOAD_INVALID,
    ErrorCode.BLOB_UPLOAD_UNKNOWN,
    ErrorCode.DIGEST_INVALID,
}


class BlobTransfer:
    """Moves the blobs of one copy; its methods block and may be called from many threads."""

    def __init__(self, context: CopyContext) -> None:
        self._source, self._target = context.source, context.target
        self._meter, self._context = context.meter, context

    def ensure_blob(self, blob: Descriptor, holder: str | None, *, may_exist: bool) -> bool:
        """Make sure that the target holds a blob, and return whether it did not hold it before.

        Args:
            blob: The blob.
            holder: A repository of the target's registry that holds it; None when none is known.
            may_exist: The target may hold it already, and is asked first.
        """
        single_flight = self._context.resources.single_flight
        key = (self._target.image.domain, blob.digest)
        own = self._target.image.path
        holder = holder or single_flight.find(key)
        holder = None if holder == own else holder
        if may_exist:
            head = self._target.find_blob(blob.digest)
            if head is not None and head.size in {blob.size, None}:
                self._meter.skip(blob.size)
                return False
        session: Url | None = None
        if holder is not None:
            is_mounted, session = self._mount(blob, holder)
            if is_mounted:
                return True
        other = single_flight.join(key, self._context.cancellation)
        if other is not None:
            is_there, its_session = (False, None) if other == own else self._mount(blob, other)
            if not is_there:
                self.upload(blob, its_session or session)
            return True
        uploaded_to = None
        try:
            self.upload(blob, session)
            uploaded_to = own
        finally:
            single_flight.finish(key, uploaded_to)
        return True

    def _mount(self, blob: Descriptor, holder: str) -> tuple[bool, Url | None]:
        """Try to mount a blob: whether that succeeded, and else an upload session if one was started."""
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
        """Copy a blob's bytes; after a failure they are resumed once, or else copied once from the start."""
        try:
            self._upload_once(blob, session)
        except DockerCacheError as error:
            if error.code not in _RESTARTED:
                raise
            self._meter.retry()
        else:
            return
        if self._target.find_blob(blob.digest) is None:  # the response may have been lost, not the blob
            self._upload_once(blob, None)

    def _upload_once(self, blob: Descriptor, session: Url | None) -> None:
        # The upload is started while the source is asked.
        executor = self._context.resources.executor
        starting = executor.submit(lambda: session or self._target.start_upload(blob.digest))
        with self._open(blob) as reader:
            started = starting.result()
            try:
                self._send(blob, reader, UploadStatus(started, 0))
            except Unavailable as error:
                if error.code not in _RESUMABLE or not self._resume(blob, reader, started):
                    raise
                self._meter.retry()

    def _resume(self, blob: Descriptor, reader: BlobReader, session: Url) -> bool:
        """Send the rest of a broken upload, and return whether that succeeded."""
        try:
            status = self._target.find_upload(session)
            if status is None or status.offset > blob.size:
                return False
            self._send(blob, reader, status)
        except DockerCacheError as error:
            if isinstance(error, RateLimited) or error.code == ErrorCode.TOO_SLOW:
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
        buffer = self._context.resources.buffer()
        try:
            return read_blob(self._source, blob, buffer)
        except NotFound as error:
            if not blob.urls:
                raise
            if self._context.limits.copy_foreign_layers:
                return read_foreign(self._source, blob, buffer)
            detail = f"{error.detail} (a foreign layer, which its registry does not hold)"
            raise Invalid(error.system, "foreign-layer", detail) from error

    def check(self, blob: Descriptor) -> None:
        """Check that the target holds a blob after its upload.

        Raises:
            Unavailable: `not-verified` when it does not.
        """
        head = self._target.find_blob(blob.digest)
        if head is None or head.size not in {blob.size, None}:
            raise Unavailable(
                "registry",
                "not-verified",
                f"{self._target.session.subject(str(blob.digest))} is not there after its upload",
            )

    def read_back(self, blob: Descriptor) -> None:
        """Read a blob from the target and verify its digest.

        Raises:
            Invalid: `not-verified` when it is another.
        """
        check_blob(self._target, blob, self._context.resources.buffer())
