"""Reads a blob in pieces, and withholds its last piece until its size and digest are verified."""

import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from controller.registry.http.response import Response
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.references import Digest

_MAX_RESUMES = 3
_CHECKPOINT_EVERY = 64 * 1024 * 1024
"""Bytes between two checkpoints: saved states of the hash, from which the blob can be read again."""

BlobOpener = Callable[[int], Response]


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "_Hash": ...


class BlobReader:
    """A blob that is being read; use it in a `with` statement.

    Args:
        open_at: Opens the blob at an offset; a response with status 200 holds the whole blob.
        blob: The descriptor with the expected digest and size.
        buffer: The memory that the pieces are read into.
        subject: The name of the blob in messages.
        checkpoint_every: Bytes between two checkpoints.

    Attributes:
        resumes: How often the blob was opened again, after a lost connection or to read a part again.
    """

    def __init__(
        self,
        open_at: BlobOpener,
        blob: Descriptor,
        buffer: memoryview,
        *,
        subject: str = "",
        checkpoint_every: int = _CHECKPOINT_EVERY,
    ) -> None:
        self._checkpoint_every = checkpoint_every
        self._open_at, self._blob, self._buffer = open_at, blob, buffer
        self._subject = subject or str(blob.digest)
        self._hash: _Hash = hashlib.new(blob.digest.algorithm)
        self._checkpoints: list[tuple[int, _Hash]] = [(0, self._hash.copy())]
        self._offset = 0
        self._has_reread_start = False
        self.resumes = 0
        self._response: Response | None = open_at(0) if blob.size else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.close()

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        """Yield the bytes of the blob from an offset on; the next piece overwrites the previous one.

        A second call reads again from the last checkpoint before the offset. The last piece is
        yielded only after size and digest have been verified. So an upload with a stated length
        never completes when the blob is wrong.

        Raises:
            Invalid: `size-mismatch` or `digest-mismatch`.
            Unavailable: `cut` when the response ends early and reading cannot be resumed.
        """
        size, resumed_at = self._blob.size, -1
        if self._offset and not self._offset == start == size:
            self._go_back(start)
        while self._offset < size:
            count = self._read(min(len(self._buffer), size - self._offset))
            if count == 0:
                if self._offset == resumed_at or self.resumes >= _MAX_RESUMES:
                    raise Unavailable(
                        "registry",
                        ErrorCode.CUT,
                        f"{self._subject}: ended after {self._offset} of {size} bytes",
                    )
                resumed_at = self._offset
                self._reopen()
                continue
            piece = self._buffer[:count]
            self._hash.update(piece)
            skipped = max(start - self._offset, 0)
            self._offset += count
            if self._offset == size:
                self._check()
            elif self._offset - self._checkpoints[-1][0] >= self._checkpoint_every:
                self._checkpoints.append((self._offset, self._hash.copy()))
            if skipped < count:
                yield piece[skipped:] if skipped else piece
        if start == size:
            self._check()

    def _read(self, limit: int) -> int:
        if self._response is None:
            return 0
        try:
            return self._response.read_into(self._buffer[:limit])
        except Unavailable as error:
            if error.code == ErrorCode.TOO_SLOW:
                raise
            return 0  # the bytes that arrived before the failure are read again

    def _go_back(self, start: int) -> None:
        while self._checkpoints[-1][0] > start:
            self._checkpoints.pop()
        self._offset, saved_hash = self._checkpoints[-1]
        self._hash = saved_hash.copy()
        self._reopen()

    def _reopen(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None
        self.resumes += 1
        self._response = self._open_at(self._offset)
        if self._offset and self._response.status == 200:
            self._skip(self._offset)

    def _skip(self, count: int) -> None:
        """Skip the bytes that were read before, if the registry sends the whole blob; at most once."""
        if self._has_reread_start:
            raise Unavailable(
                "registry", ErrorCode.CUT, f"{self._subject}: its registry does not send the rest alone"
            )
        self._has_reread_start = True
        while count:
            read = self._read(min(len(self._buffer), count))
            if not read:
                raise Unavailable(
                    "registry", ErrorCode.CUT, f"{self._subject}: ended before the byte to resume at"
                )
            count -= read

    def _check(self) -> None:
        actual = Digest(self._blob.digest.algorithm, self._hash.hexdigest())
        if actual != self._blob.digest:
            raise Invalid(
                "registry", ErrorCode.DIGEST_MISMATCH, f"{self._subject}: the bytes are those of {actual}"
            )
        if self._response is not None and self._response.has_more():
            raise Invalid(
                "registry",
                ErrorCode.SIZE_MISMATCH,
                f"{self._subject}: longer than its {self._blob.size} bytes",
            )


def read_blob(repository: Repository, blob: Descriptor, buffer: memoryview) -> BlobReader:
    """Open a blob of a repository, and return its reader."""
    subject = repository.session.subject(str(blob.digest))
    return BlobReader(lambda offset: repository.open_blob(blob, offset), blob, buffer, subject=subject)
