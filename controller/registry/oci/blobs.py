"""Reads a blob in pieces, and withholds the last piece until size and digest are verified."""

import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from controller.registry.http.response import Response
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from reconcile.errors import ErrorCode, Invalid, Unavailable
from reconcile.references import Digest

_MOST_RESUMES = 3
_CHECKPOINT_EVERY = 64 * 1024 * 1024
"""Bytes between two checkpoints, which are states of the hash that an upload can resume from."""

BlobOpener = Callable[[int], Response]


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "_Hash": ...


class BlobReader:
    """A blob that is being read; use it in a `with` statement.

    Args:
        open_at: Opens the blob at an offset; a response with status 200 holds the whole blob.
        blob: The expected digest and size.
        buffer: Memory for the pieces, which are views of it.
        subject: Names the blob in messages.
        checkpoint_every: Bytes between two checkpoints.

    Attributes:
        resumes: How often reading was resumed after a lost connection.
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
        self._has_skipped = False
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
        """Yield the blob from an offset on; each piece is valid until the next one is asked for.

        A second call reads again from the last checkpoint before the offset. The last piece is
        withheld until size and digest are verified, so that a consumer that sends the pieces
        with a stated length never completes a wrong blob.

        Raises:
            Invalid: `size-mismatch` or `digest-mismatch`.
            Unavailable: `cut` when the body ends early and reading cannot be resumed.
        """
        size, resumed_at = self._blob.size, -1
        if self._offset and not self._offset == start == size:
            self._go_back(start)
        while self._offset < size:
            count = self._read(min(len(self._buffer), size - self._offset))
            if count == 0:
                if self._offset == resumed_at or self.resumes == _MOST_RESUMES:
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

    def _read(self, most: int) -> int:
        if self._response is None:
            return 0
        try:
            return self._response.read_into(self._buffer[:most])
        except Unavailable as error:
            if error.code == ErrorCode.TOO_SLOW:
                raise
            return 0  # what was read into the buffer before the failure is read again

    def _go_back(self, start: int) -> None:
        while self._checkpoints[-1][0] > start:
            self._checkpoints.pop()
        self._offset, kept = self._checkpoints[-1]
        self._hash = kept.copy()
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
        """Skip bytes that were read before, where the registry sends the whole blob; at most once."""
        if self._has_skipped:
            raise Unavailable(
                "registry", ErrorCode.CUT, f"{self._subject}: its registry does not send the rest alone"
            )
        self._has_skipped = True
        while count:
            read = self._read(min(len(self._buffer), count))
            if not read:
                raise Unavailable(
                    "registry", ErrorCode.CUT, f"{self._subject}: ended before the missing part"
                )
            count -= read

    def _check(self) -> None:
        found = Digest(self._blob.digest.algorithm, self._hash.hexdigest())
        if found != self._blob.digest:
            raise Invalid(
                "registry", ErrorCode.DIGEST_MISMATCH, f"{self._subject}: the bytes are those of {found}"
            )
        if self._response is not None and self._response.has_more():
            raise Invalid(
                "registry",
                ErrorCode.SIZE_MISMATCH,
                f"{self._subject}: longer than its {self._blob.size} bytes",
            )


def read_blob(repository: Repository, blob: Descriptor, buffer: memoryview) -> BlobReader:
    """Start to read a blob of a repository."""
    subject = repository.session.subject(str(blob.digest))
    return BlobReader(lambda offset: repository.open_blob(blob, offset), blob, buffer, subject=subject)
