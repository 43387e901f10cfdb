"""Ends this process some seconds after it should have ended by itself, and says what has held it up.

That may be a thread that a name server keeps waiting, or standard output that nobody reads. Platforms give
ten seconds; what is left undone then is as after a crash. Without its lock a process can change nothing any
more, and is needed as a standby.
"""

import os
import threading

import structlog

from controller.running_code import threads_text

log = structlog.get_logger(scope="daemon")

END_WITHIN = 9.5
"""Seconds after a signal, after the loss of the lock, or after the failure of a loop."""

SAY_WITHIN = 0.3
"""Seconds that the last line may take then."""

LOST_LOCK, HELD_UP = 1, 5
"""Exit statuses of a process that ends so."""


def limit_ending(status: int) -> None:
    """End this process after some time, if it has not ended by itself, and say what has held it up."""
    ending = threading.Timer(END_WITHIN, _end, (status,))
    ending.name, ending.daemon = "last-resort", True
    ending.start()


def _end(status: int) -> None:
    saying = threading.Thread(target=_say, name="last-words", daemon=True)
    saying.start()
    saying.join(SAY_WITHIN)
    os._exit(status)


def _say() -> None:
    log.error("ended-by-force", after_s=END_WITHIN, threads=threads_text())
