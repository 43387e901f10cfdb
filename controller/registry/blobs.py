"""Reads one blob piece by piece into one buffer, and lets its last piece go only if all of it is right."""

import hashlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from controller.registry.client import Repository
from controller.registry.manifests import Descriptor
from controller.registry.transport import Answer
from reconcile.errors import Invalid, Unavailable
from reconcile.images import Digest

_MOST_RESUMES = 3


class BlobReader:
    """A blob being read; leave it with `with`.

    Attributes:
        resumes: How often reading went on after a lost connection.
    """

    def __init__(self, repository: Repository, blob: Descriptor, buffer: memoryview) -> None:
        self._repository, self._blob, self._buffer = repository, blob, buffer
        self._subject = f"{repository.image.repository}@{blob.digest}"
        self._answer: Answer | None = repository.open_blob(blob) if blob.size else None
        self.resumes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            self._answer.close()

    def pieces(self) -> Iterator[memoryview]:
        """Give the blob once; each piece is valid until the next is asked for.

        The last piece is held back until size and digest were found right, so that whoever
        passes the pieces on with a stated length never completes a wrong blob.

        Raises:
            Invalid: `size-mismatch` or `digest-mismatch`.
            Unavailable: `cut` when the body ends early and cannot be read on.
        """
        digest = hashlib.new(self._blob.digest.algorithm)
        offset, resumed_at = 0, -1
        while offset < self._blob.size:
            count = self._read(min(len(self._buffer), self._blob.size - offset))
            if count == 0:
                if offset == resumed_at or self.resumes == _MOST_RESUMES:
                    raise Unavailable(
                        "registry", "cut", f"{self._subject}: ended after {offset} of {self._blob.size} bytes"
                    )
                resumed_at = offset
                self._reopen(offset)
                continue
            piece = self._buffer[:count]
            digest.update(piece)
            offset += count
            if offset < self._blob.size:
                yield piece
            else:
                self._check(digest.hexdigest())
                yield piece
        if not self._blob.size:
            self._check(digest.hexdigest())

    def _read(self, most: int) -> int:
        if self._answer is None:
            return 0
        try:
            return self._answer.read_into(self._buffer[:most])
        except Unavailable:
            return 0  # what was read into the buffer before it failed is read again

    def _reopen(self, offset: int) -> None:
        if self._answer is not None:
            self._answer.close()
        self._answer = None
        self.resumes += 1
        self._answer = self._repository.open_blob(self._blob, offset)

    def _check(self, hexdigest: str) -> None:
        found = Digest(self._blob.digest.algorithm, hexdigest)
        if found != self._blob.digest:
            raise Invalid("registry", "digest-mismatch", f"{self._subject}: the bytes are those of {found}")
        if self._answer is not None and self._answer.has_more():
            raise Invalid(
                "registry", "size-mismatch", f"{self._subject}: longer than its {self._blob.size} bytes"
            )
