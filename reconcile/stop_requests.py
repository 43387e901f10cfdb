"""Remembers which instances were asked to stop, so that none is asked again before its stop can have arrived.

The BBS sends the stop to the cell while it answers a retire request, and emits a removed event before that,
although the row is still there. Who retires on such events storms the cell.
Source: cloudfoundry/bbs controllers/actual_lrp_lifecycle_controller.go.
"""

from collections import OrderedDict
from dataclasses import dataclass

from reconcile.lrps import ActualLrp

REMEMBERED = 10_000


@dataclass(slots=True)
class _Request:
    sent_at: float
    is_announced: bool = False


class StopRequests:
    """The instances that were retired lately.

    A row without an instance GUID has no container, and is not remembered: the BBS deletes it at once.
    """

    def __init__(self) -> None:
        self._requests: OrderedDict[str, _Request] = OrderedDict()

    def is_due(self, row: ActualLrp, now: float, *, repeat_after: float) -> bool:
        """Whether an instance may be retired now: it was not, or so long ago that the stop was lost.

        Args:
            row: The instance, as it was observed.
            now: UTC seconds since 1970.
            repeat_after: Seconds in which a stop takes effect.
        """
        request = self._requests.get(row.instance_guid)
        return request is None or not 0 <= now - request.sent_at < repeat_after

    def note(self, row: ActualLrp, now: float) -> None:
        """Note that an instance is about to be retired."""
        if not row.instance_guid:
            return
        self._requests[row.instance_guid] = _Request(now)
        self._requests.move_to_end(row.instance_guid)
        if len(self._requests) > REMEMBERED:
            self._requests.popitem(last=False)

    def note_gone(self, row: ActualLrp) -> None:
        """Note that there was nothing to retire any more."""
        self._requests.pop(row.instance_guid, None)

    def is_announcement(self, row: ActualLrp) -> bool:
        """Whether a removed event only announces a stop that was requested here; true once for each."""
        request = self._requests.get(row.instance_guid)
        if request is None or request.is_announced:
            return False
        request.is_announced = True
        return True
