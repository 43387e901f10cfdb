"""Knows which blobs of an image its source need not show: those that its trust domain has shown before."""

import threading
from collections.abc import Callable, Mapping

from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.repository import Repository
from reconcile.references import Digest
from reconcile.trust import BlobHolder, Reader


class Possession:
    """What one source has shown of one image; many threads use it.

    Args:
        source: Where the image is read.
        reader: Who reads it; None when nobody is bound to the copy who was not before.
        holders: Digest of a blob to the cached image of the reader's trust domain that holds it.
        owns_target: Whether nobody else has brought anything to the target until now.
    """

    def __init__(
        self,
        source: Repository,
        reader: Reader | None,
        holders: Mapping[Digest, BlobHolder],
        *,
        owns_target: Callable[[], bool],
    ) -> None:
        self._source, self._reader, self._holders = source, reader, holders
        self._owns_target = owns_target
        self._lock = threading.Lock()
        self._answers: dict[Digest, bool] = {}

    @property
    def scope(self) -> str:
        """Names the readers whose uploads may be waited for; see `reconcile.trust.may_join`."""
        return "" if self._reader is None else self._reader.scope

    def may_skip(self, blob: Descriptor) -> bool:
        """Whether a blob that lies in the target already need not be read at the source."""
        return self._owns_target() or self.is_shown(blob)

    def is_shown(self, blob: Descriptor) -> bool:
        """Whether a blob was shown; of one that was read with another login the source is asked, once."""
        if self._reader is None:
            return True
        holder = self._holders.get(blob.digest)
        if holder is not None and holder.is_proven:
            return True
        with self._lock:
            answer = self._answers.get(blob.digest)
        if answer is None:
            answer = holder is not None and self._source.serves_blob(blob)
            self.note(blob, is_shown=answer)
        return answer

    def note(self, blob: Descriptor, *, is_shown: bool = True) -> None:
        """Note that the source has shown every byte of a blob, or does not hold it."""
        with self._lock:
            self._answers[blob.digest] = is_shown
