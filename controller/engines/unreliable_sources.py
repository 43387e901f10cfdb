"""Remembers which sources broke uploads off lately, so that uploads from them can be cancelled.

Some registries cannot drop an upload that broke off within a request, such as the CNCF registry 2.8: there
its bytes stay for days. From such a source a request carries no more than was read before: none breaks off.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from reconcile.errors import DockerCacheError, ErrorCode
from reconcile.references import ImageReference

REMEMBERED_FOR = 3600.0  # seconds
REMEMBERED = 10_000

_OF_THE_REGISTRY = frozenset(
    {ErrorCode.CUT, ErrorCode.DIGEST_MISMATCH, ErrorCode.SIZE_MISMATCH, ErrorCode.TOO_SLOW}
)
"""Codes of errors for which the registry stands; others may be those of one image, and slow its owner."""


class UnreliableSources:
    """Registries and repositories whose blobs broke uploads off; many threads use it.

    Args:
        monotonic: Gives seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failed_at: OrderedDict[str, float] = OrderedDict()

    def add(self, source: ImageReference, error: DockerCacheError) -> None:
        """Remember that a blob of a source broke an upload off."""
        name = source.domain if error.code in _OF_THE_REGISTRY else source.repository
        with self._lock:
            self._failed_at[name] = self._monotonic()
            self._failed_at.move_to_end(name)
            if len(self._failed_at) > REMEMBERED:
                self._failed_at.popitem(last=False)

    def __contains__(self, source: ImageReference) -> bool:
        with self._lock:
            times = [self._failed_at.get(name) for name in (source.domain, source.repository)]
        return any(at is not None and self._monotonic() - at <= REMEMBERED_FOR for at in times)
