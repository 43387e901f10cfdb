"""Says once in each pause how many LRPs and copies wait for its end, as soon as all LRPs were looked at.

A line for each of them would say nothing more: `apps` and `jobs` list them.
"""

from collections.abc import Callable

import structlog

from controller.workqueue import WorkQueue
from reconcile.lrps import ProcessGuid
from reconcile.reasons import Reason

log = structlog.get_logger(scope="control")


class PauseReport:
    """Counts the LRPs that wait for the end of a pause.

    Args:
        queue: Of the passes.
        is_paused: Whether the daemon is paused now.
        count_copies: Counts the cache jobs that have not ended.
    """

    def __init__(
        self, queue: WorkQueue[ProcessGuid], is_paused: Callable[[], bool], count_copies: Callable[[], int]
    ) -> None:
        self._queue, self._is_paused, self._count_copies = queue, is_paused, count_copies
        self._waiting = set[ProcessGuid]()
        self._is_due = False
        self._has_said = False

    def note_sweep(self) -> None:
        """Note that all LRPs that run from their sources are queued."""
        if not self._is_paused():
            self._waiting.clear()
            self._has_said = False
        elif not self._has_said:
            self._is_due = True
            self._say_if_known()

    def note_pass(self, process_guid: ProcessGuid, reason: Reason) -> None:
        """Note what a pass came to, and that it is over."""
        if not self._is_paused():
            return
        if reason is Reason.PAUSED:
            self._waiting.add(process_guid)
        else:
            self._waiting.discard(process_guid)
        self._say_if_known()

    def note_resumption(self) -> None:
        """Begin anew with the next pause."""
        self._waiting.clear()
        self._is_due = self._has_said = False

    def _say_if_known(self) -> None:
        if not self._is_due or not self._queue.is_idle:
            return
        self._is_due, self._has_said = False, True
        log.info("waiting-for-resume", lrps=len(self._waiting), copies=self._count_copies())
        self._waiting.clear()
