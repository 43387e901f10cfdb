"""Makes an LRP, a droplet or a repair wait that asks again for a copy, although each job for it has ended.

Such a loop has a cause somewhere else, such as a private registry that keeps nothing. Whatever the cause is,
the registries must not pay for it. What a staging or an operator asks for never waits.
"""

from collections import OrderedDict
from collections.abc import Callable

from controller.backoff import backoff
from reconcile.lrps import AppGuid
from reconcile.records import CacheRequest, is_of_pass, repaired_by
from reconcile.references import ImageReference

REPEAT_PAUSE = backoff(2.0, 300.0)  # seconds, by the number of requests after the first
FORGET_AFTER = 900.0  # seconds without a request, after which the next one counts as the first
REMEMBERED = 10_000

_Key = tuple[AppGuid, ImageReference]


class RepeatedRequests:
    """How often the LRPs and droplets of an app have caused a job for one source in a row.

    Args:
        monotonic: Gives seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def pause(self, request: CacheRequest) -> float:
        """Count a request that causes a job, and return the seconds that the job must wait."""
        key = (request.app_guid, request.source)
        count, at = self._seen.pop(key, (0, 0.0))
        is_by_program = is_of_pass(request.requester) or repaired_by(request.requester) is not None
        if request.is_ordered or not is_by_program:
            return 0.0
        now = self._monotonic()
        count = 0 if now - at > FORGET_AFTER else count
        self._seen[key] = (count + 1, now)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return REPEAT_PAUSE(count) if count else 0.0
