"""Reads one blob piece by piece into one buffer, and lets its last piece go only if all of it is right."""

import hashlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from controller.registry.answers import Answer
from controller.registry.manifests import Descriptor
from controller.registry.repository import Repository
from reconcile.errors import Invalid, Unavailable
from reconcile.images import Digest

_MOST_RESUMES = 3
_MARK_EVERY = 64 * 1024 * 1024
"""Bytes between two states of the hash that are kept, to go back to when an upload goes on."""

Open = Callable[[int], Answer]


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "_Hash": ...


class BlobReader:
    """A blob being read; leave it with `with`.

    Args:
        open_at: Opens the blob at an offset; an answer of status 200 is the whole blob.
        blob: What it must turn out to be.
        buffer: All pieces are views of it.
        subject: What is read, for messages.
        mark_every: Bytes between two places that reading can go back to.

    Attributes:
        resumes: How often reading went on after a lost connection.
    """

    def __init__(
        self,
        open_at: Open,
        blob: Descriptor,
        buffer: memoryview,
        *,
        subject: str = "",
        mark_every: int = _MARK_EVERY,
    ) -> None:
        self._mark_every = mark_every
        self._open_at, self._blob, self._buffer = open_at, blob, buffer
        self._subject = subject or str(blob.digest)
        self._hash: _Hash = hashlib.new(blob.digest.algorithm)
        self._marks: list[tuple[int, _Hash]] = [(0, self._hash.copy())]
        self._offset = 0
        self._has_skipped = False
        self.resumes = 0
        self._answer: Answer | None = open_at(0) if blob.size else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            self._answer.close()

    def pieces(self, start: int = 0) -> Iterator[memoryview]:
        """Give the blob from a byte on; each piece is valid until the next is asked for.

        Asked again, it reads anew what lies behind the last kept state of the hash. The last
        piece is held back until size and digest were found right, so that whoever passes the
        pieces on with a stated length never completes a wrong blob.

        Raises:
            Invalid: `size-mismatch` or `digest-mismatch`.
            Unavailable: `cut` when the body ends early and cannot be read on.
        """
        size, resumed_at = self._blob.size, -1
        if self._offset and not self._offset == start == size:
            self._go_back(start)
        while self._offset < size:
            count = self._read(min(len(self._buffer), size - self._offset))
            if count == 0:
                if self._offset == resumed_at or self.resumes == _MOST_RESUMES:
                    raise Unavailable(
                        "registry", "cut", f"{self._subject}: ended after {self._offset} of {size} bytes"
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
            elif self._offset - self._marks[-1][0] >= self._mark_every:
                self._marks.append((self._offset, self._hash.copy()))
            if skipped < count:
                yield piece[skipped:] if skipped else piece
        if start == size:
            self._check()

    def _read(self, most: int) -> int:
        if self._answer is None:
            return 0
        try:
            return self._answer.read_into(self._buffer[:most])
        except Unavailable as error:
            if error.code == "too-slow":
                raise
            return 0  # what was read into the buffer before it failed is read again

    def _go_back(self, start: int) -> None:
        while self._marks[-1][0] > start:
            self._marks.pop()
        self._offset, kept = self._marks[-1]
        self._hash = kept.copy()
        self._reopen()

    def _reopen(self) -> None:
        if self._answer is not None:
            self._answer.close()
        self._answer = None
        self.resumes += 1
        self._answer = self._open_at(self._offset)
        if self._offset and self._answer.status == 200:
            self._skip(self._offset)

    def _skip(self, count: int) -> None:
        """Pass over what is known of a blob that is sent whole; once, since that may be a lot."""
        if self._has_skipped:
            raise Unavailable("registry", "cut", f"{self._subject}: its registry cannot send the rest alone")
        self._has_skipped = True
        while count:
            read = self._read(min(len(self._buffer), count))
            if not read:
                raise Unavailable("registry", "cut", f"{self._subject}: ended before what was missing")
            count -= read

    def _check(self) -> None:
        found = Digest(self._blob.digest.algorithm, self._hash.hexdigest())
        if found != self._blob.digest:
            raise Invalid("registry", "digest-mismatch", f"{self._subject}: the bytes are those of {found}")
        if self._answer is not None and self._answer.has_more():
            raise Invalid(
                "registry", "size-mismatch", f"{self._subject}: longer than its {self._blob.size} bytes"
            )


def read_blob(repository: Repository, blob: Descriptor, buffer: memoryview) -> BlobReader:
    """Begin to read a blob of a repository."""
    subject = repository.session.subject(str(blob.digest))
    return BlobReader(lambda offset: repository.open_blob(blob, offset), blob, buffer, subject=subject)
