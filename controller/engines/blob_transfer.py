"""Brings blobs into the target repository: finds, mounts or uploads them, in this order of preference.

What is found or mounted was shown by the source before, in its trust domain, or is read there now.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from controller.engines.cell_rules import BlobChecks, CheckedBlob
from controller.engines.copy_context import CopyContext
from controller.engines.proven_blobs import BlobKey
from controller.engines.reading_back import check_blob
from controller.engines.single_flight import BlobUpload, Key
from controller.registry.http.urls import Url
from controller.registry.oci.blob_probes import why_not_readable
from controller.registry.oci.blobs import BlobReader, read_blob
from controller.registry.oci.foreign_layers import read_foreign
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.results import Repeatable, UploadStatus, UploadTooLarge
from controller.registry.oci.upload_parts import PartedUpload
from controller.threads import Stopped
from reconcile.answers import RegistryCall
from reconcile.copying_ports import TargetState
from reconcile.errors import DockerCacheError, ErrorCode, Invalid, NotFound, RateLimited, Unavailable, Verdict
from reconcile.references import Digest

# After these errors the upload session still holds the bytes that it received, so the upload can be resumed.
_RESUMABLE = frozenset(
    {ErrorCode.CONNECTION, ErrorCode.TIMEOUT, ErrorCode.TOKEN_EXPIRED, ErrorCode.UPLOAD_FAILED}
)
# After these errors the blob is copied again from its start, once.
_RESTARTABLE = _RESUMABLE | {
    ErrorCode.CUT,
    ErrorCode.DIGEST_MISMATCH,
    ErrorCode.SIZE_MISMATCH,
    ErrorCode.BLOB_UPLOAD_INVALID,
    ErrorCode.BLOB_UPLOAD_UNKNOWN,
    ErrorCode.DIGEST_INVALID,
}

_MOST_RESTARTS = 1
_MOST_LOST_UPLOADS = 3
"""Uploads of one blob that a registry may lose, as one with several instances behind a balancer does."""

MOST_LOOKS = 5
"""How often something is looked for that was just written, with growing pauses: some registries need them."""

# After these errors nothing is gained by another attempt.
_FINAL = frozenset({ErrorCode.TOO_SLOW, ErrorCode.CANNOT_RUN_ON_CELLS})


@dataclass(frozen=True, slots=True)
class _Upload:
    """One upload of a blob: what other copies see of it, and where the registry had it, the newest last."""

    shared: BlobUpload
    sessions: list[Url] = field(default_factory=list)


class BlobTransfer:
    """Transfers the blobs of one copy; its methods block and may be called from many threads."""

    def __init__(self, context: CopyContext, checks: BlobChecks, state: TargetState) -> None:
        self._checks, self._state = checks, state
        self._source, self._target = context.source, context.target
        self._meter, self._context = context.meter, context
        self._possession = context.possession
        self._mounted = set[Digest]()

    def ensure_blob(self, blob: Descriptor, mount_from: str | None, *, may_exist: bool) -> bool:
        """Make sure that the target repository holds a blob, and return whether it had to be added.

        Args:
            blob: The blob.
            mount_from: Another repository of the registry that holds the blob, in the trust domain of the
                source; None when none is known.
            may_exist: Whether the target repository may hold the blob already, and is asked first.
        """
        if mount_from is None:
            mount_from = self._context.resources.single_flight.find(self._key_of(blob))
            if mount_from is not None:  # somebody with the same login has just read it
                self._possession.note(blob)
        is_damaged = False
        if may_exist and self.is_held(blob):
            if self._can_rely_on(blob):
                self._skip(blob)
                return False
            is_damaged = True
        session: Url | None = None
        is_elsewhere = mount_from is not None and mount_from != self._target.image.path
        if mount_from is not None and is_elsewhere and not is_damaged and self._possession.is_shown(blob):
            is_mounted, session = self._mount(blob, mount_from)
            if is_mounted and self._can_rely_on(blob):
                self._meter.add_mounted(blob.size)
                return True
            is_damaged = is_mounted
        if is_damaged:
            self._send_again(blob)
        else:
            self._upload_or_join(blob, session, tried=mount_from)
        self._context.resources.proven.add(self._key(blob))
        return True

    def _key(self, blob: Descriptor) -> BlobKey:
        return self._target.image.domain, blob.digest

    def _key_of(self, blob: Descriptor) -> Key:
        return self._target.image.domain, self._possession.scope, blob.digest, blob.size

    def _skip(self, blob: Descriptor) -> None:
        """Leave a blob that is in the target as it is; its source shows it, if it has not before."""
        if self._possession.may_skip(blob):
            self._meter.add_skipped(blob.size)
            return
        with self._open(blob) as reader:
            for piece in reader.pieces():
                self._meter.add_transferred(len(piece))
        self._possession.note(blob)

    def _can_rely_on(self, blob: Descriptor) -> bool:
        """Whether a blob that the registry says it has can be read; each is read once in a while."""
        proven = self._context.resources.proven
        match self._state:
            case TargetState.CORRUPT:
                can = self._is_whole(blob)
            case TargetState.DAMAGED:
                can = not why_not_readable(self._target, blob)
            case _:
                can = self._key(blob) in proven or not why_not_readable(self._target, blob)
        (proven.add if can else proven.discard)(self._key(blob))
        return can

    def _is_whole(self, blob: Descriptor) -> bool:
        try:
            self.read_back(blob)
        except Invalid:
            return False
        return True

    def _send_again(self, blob: Descriptor) -> None:
        """Upload a blob that the registry says it has and does not give.

        Raises:
            Invalid: `not-repaired`: the registry keeps the bytes that it had.
        """
        self._meter.add_retries()
        self.upload(blob)
        why = why_not_readable(self._target, blob)
        if why or (self._state is TargetState.CORRUPT and not self._is_whole(blob)):
            raise Invalid(
                "registry",
                ErrorCode.NOT_REPAIRED,
                f"{self._target.session.subject(str(blob.digest))} was sent again, and the private registry "
                f"keeps what it had ({why or 'other bytes'}): remove this blob's file there, and restart it",
            )

    def _upload_or_join(self, blob: Descriptor, session: Url | None, *, tried: str | None) -> None:
        """Upload a blob, or mount it from where another copy uploads it at the moment."""
        single_flight, key = self._context.resources.single_flight, self._key_of(blob)
        shared, own_path = BlobUpload(), self._target.image.path
        uploaded_by_other = single_flight.join(key, shared, self._context.cancellation, tried=tried)
        if uploaded_by_other is not None:
            is_mounted, new_session = (
                (self.is_held(blob), None)  # it may be long ago
                if uploaded_by_other == own_path
                else self._mount(blob, uploaded_by_other)
            )
            if session is not None and (is_mounted or new_session is not None):
                self._target.uploads.cancel(session)  # of the first mount; nothing was sent to it
                session = None
            if is_mounted:
                self._meter.add_mounted(blob.size)
            else:
                self.upload(blob, new_session or session)
            return
        uploaded_to = None
        try:
            self.upload(blob, session, shared)
            uploaded_to = own_path
        finally:
            single_flight.finish(key, shared, uploaded_to)

    def _mount(self, blob: Descriptor, mount_from: str) -> tuple[bool, Url | None]:
        """Try to mount a blob from another repository of the registry.

        Returns:
            Whether the blob was mounted; and if not, the upload session that the registry started
            instead, or None when it started none.
        """
        try:
            session = self._target.uploads.mount(blob.digest, mount_from)
        except RateLimited:
            raise
        except DockerCacheError:
            return False, None  # an upload needs no permission to read the other repository
        if session is None:
            self._mounted.add(blob.digest)
        return session is None, session

    def upload(self, blob: Descriptor, session: Url | None = None, shared: BlobUpload | None = None) -> None:
        """Copy a blob's bytes; a broken upload is resumed once, and failing that started again.

        Args:
            blob: What to copy.
            session: An upload that the registry has started instead of mounting the blob.
            shared: Shows other copies how far it has come.
        """
        shared = shared or BlobUpload()
        for restarts in itertools.count():
            try:
                self._upload_once(blob, session, shared)
            except DockerCacheError as error:
                if not self._may_restart(error, restarts, is_of_mount=session is not None):
                    raise
            else:
                return
            self._meter.add_retries()
            session = None
            # Perhaps only the response was lost; but what is there may have been brought by somebody else.
            if self._possession.may_skip(blob) and self.is_held(blob):
                return

    def _may_restart(self, error: DockerCacheError, restarts: int, *, is_of_mount: bool) -> bool:
        """Whether a blob may be uploaded again, after an error and a number of failed uploads before it."""
        if isinstance(error, RateLimited) or error.code in _FINAL:
            return False
        if isinstance(error, UploadTooLarge):
            part_sizes = self._context.resources.part_sizes
            return part_sizes.lower(self._target.image.domain, error.length, self._target.uploads.least_chunk)
        if error.verdict is Verdict.OTHER_WAY and is_of_mount:
            return True
        is_lost = error.verdict is Verdict.OTHER_WAY and isinstance(error, Unavailable)
        if is_lost and error.code not in _RESUMABLE and restarts < _MOST_LOST_UPLOADS:
            self._target.session.pause(restarts + 1)
            return True
        return error.code in _RESTARTABLE and restarts < _MOST_RESTARTS

    def _most_at_once(self) -> int | None:
        """Return how many bytes a request may have; None when a blob goes in one request."""
        resources, least = self._context.resources, self._target.uploads.least_chunk
        most = resources.part_sizes.most(self._target.image.domain, least)
        if self._source.image not in resources.unreliable:
            return most
        return max(min(self._context.limits.buffer, most or self._context.limits.buffer), least)

    def _upload_once(self, blob: Descriptor, session: Url | None, shared: BlobUpload) -> None:
        # The upload session is started while the blob is opened at its source.
        upload_starters = self._context.resources.upload_starters
        future = upload_starters.submit(lambda: session or self._target.uploads.start(blob.digest))
        call = RegistryCall.UPLOAD_BLOB if session is None else RegistryCall.UPLOAD_AFTER_MOUNT
        upload = _Upload(shared)
        try:
            open_uploads = self._context.resources.open_uploads
            with self._open(blob) as reader, open_uploads.watching(self._target.image, upload.sessions):
                upload.sessions.append(future.result())
                checked = CheckedBlob(self._checks, blob)
                try:
                    self._send(checked, reader, UploadStatus(upload.sessions[0], 0, call), upload)
                except Unavailable as error:
                    if error.code not in _RESUMABLE or not self._resume(checked, reader, upload):
                        raise
                    self._meter.add_retries()
        except BaseException:
            self._cancel(future, upload.sessions)
            raise

    def _cancel(self, future: Future[Url], sessions: list[Url]) -> None:
        """Cancel an upload that failed, so that the registry does not keep its bytes."""
        with suppress(DockerCacheError, Stopped, CancelledError):
            self._target.uploads.cancel(sessions[-1] if sessions else future.result())

    def _resume(self, checked: CheckedBlob, reader: BlobReader, upload: _Upload) -> bool:
        """Resume a broken upload, and return whether that succeeded."""
        try:
            status = self._target.uploads.find(upload.sessions[-1])
            if status is None or status.offset > checked.blob.size:
                return False
            upload.sessions.append(status.session)
            self._send(checked, reader, status, upload)
        except DockerCacheError as error:
            if isinstance(error, RateLimited) or error.code in _FINAL:
                raise
            return False
        return True

    def _send(self, checked: CheckedBlob, reader: BlobReader, status: UploadStatus, upload: _Upload) -> None:
        resumes_before, transferred = reader.resumes, 0

        def read_from(offset: int) -> Iterator[memoryview]:
            """Read the blob from an offset, also again when the upload was redirected."""
            nonlocal transferred
            self._meter.correct_transferred(offset - transferred)
            transferred = offset
            try:
                for piece in checked.over(reader.pieces(offset), offset):
                    transferred += len(piece)
                    upload.shared.moved += len(piece)
                    self._meter.add_transferred(len(piece))
                    if transferred == checked.blob.size:  # the last piece is given when all are verified
                        self._possession.note(checked.blob)
                    yield piece
            except DockerCacheError as error:
                self._context.resources.unreliable.add(self._source.image, error)
                raise

        most = self._most_at_once()
        try:
            if most is None:
                pieces = Repeatable(partial(read_from, status.offset))
                self._target.uploads.upload(
                    status.session, checked.blob, pieces, offset=status.offset, call=status.call
                )
            else:
                PartedUpload(
                    self._target.uploads, checked.blob, most=most, moved=upload.sessions.append
                ).send(status, read_from)
        except BaseException:
            self._meter.correct_transferred(-transferred)
            raise
        finally:
            self._meter.add_retries(reader.resumes - resumes_before)

    def _open(self, blob: Descriptor) -> BlobReader:
        buffer = self._context.resources.buffer()
        try:
            return read_blob(self._source, blob, buffer)
        except NotFound as error:
            if not blob.urls:
                raise
            if self._context.limits.copy_foreign_layers:
                return read_foreign(self._source, blob, buffer)
            detail = f"{error.detail} (a layer with URLs, which the source registry does not hold)"
            raise Invalid(error.system, "foreign-layer", detail) from error

    def is_held(self, blob: Descriptor) -> bool:
        """Whether the target says that it holds a blob; where its length is another one, a byte is read."""
        head = self._target.find_blob(blob.digest)
        if head is None:
            return False
        # A proxy may state a length of its own for every HEAD request.
        return head.size in {blob.size, None} or not why_not_readable(self._target, blob)

    def check(self, blob: Descriptor) -> None:
        """Check that the target holds a blob that was added, and look for it for a while.

        A blob that was mounted and is not there is sent.

        Raises:
            Unavailable: `not-verified` when the target does not hold it, or holds it with another size.
        """
        for attempt in range(1, MOST_LOOKS + 1):
            if self.is_held(blob):
                return
            if blob.digest in self._mounted:
                self._mounted.discard(blob.digest)
                self._meter.add_retries()
                self.upload(blob)
            elif attempt < MOST_LOOKS:
                self._target.session.pause(attempt)
        raise Unavailable(
            "registry",
            ErrorCode.NOT_VERIFIED,
            f"{self._target.session.subject(str(blob.digest))} is not in the registry after its upload",
        )

    def read_back(self, blob: Descriptor) -> None:
        """Read a blob from the target and verify its digest.

        Raises:
            Invalid: `not-verified` when the digest is another, or the blob is missing.
        """
        check_blob(self._target, blob, self._context.resources.buffer())
