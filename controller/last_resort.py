"""Ends this process some seconds after it should have ended by itself, and says what has held it up.

That may be a thread that a name server keeps waiting, standard output that nobody reads, or a library that
holds the interpreter's lock: then no Python runs, and the system ends the process. Platforms give ten
seconds; what is left undone then is as after a crash. Without its lock a process can change nothing any more,
and is needed as a standby.
"""

import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

import structlog

from controller.running_code import threads_text

log = structlog.get_logger(scope="daemon")

END_WITHIN = 9.5
"""Seconds within which the process ends after a signal, the loss of the lock, or a failure."""

SAY_WITHIN = 0.3
"""Seconds that the last line may take then."""

DUMP_WITHIN = 15.0
"""Seconds after which, where no Python can run, stacks are written and the process is ended with status 1.
So many that Python comes first on a busy machine, or in a process that was stopped meanwhile."""

KILL_WITHIN = 20.0
"""Seconds after which SIGALRM ends the process, where nobody reads the standard error that stacks are written
to; process 1 of a container is not ended by it."""

THREAD = "last-resort"
"""The name of the thread that ends the process."""

STANDARD_ERROR = 2
"""Descriptor of standard error: stacks are written to it without Python."""

LOST_LOCK, HELD_UP = 1, 5
"""Exit statuses of a process that ends so."""


def limit_ending(status: int) -> None:
    """End this process after some time, if it has not ended by itself, and say what has held it up.

    The first limit is the one that counts. It raises nothing, so that whoever ends the process goes on.
    """
    _limit_by_system()
    if any(each.name == THREAD for each in threading.enumerate()):
        return
    ending = threading.Timer(END_WITHIN, _end, (status,))
    ending.name, ending.daemon = THREAD, True
    with suppress(RuntimeError):  # no thread can be started
        ending.start()


def begin_anew() -> NoReturn:
    """Execute this program again in this process, which then has no limit."""
    signal.setitimer(signal.ITIMER_REAL, 0.0)  # else it outlives what is executed
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the same process, with a clean state


def _limit_by_system() -> None:
    if 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= KILL_WITHIN:
        return  # an earlier limit is the one that counts
    signal.setitimer(signal.ITIMER_REAL, KILL_WITHIN)
    with suppress(RuntimeError):  # no thread can be started
        faulthandler.dump_traceback_later(DUMP_WITHIN, exit=True, file=STANDARD_ERROR)


def _end(status: int) -> None:
    try:
        saying = threading.Thread(target=_say, name="last-words", daemon=True)
        saying.start()
        saying.join(SAY_WITHIN)
    finally:
        os._exit(status)


def _say() -> None:
    log.error("ended-by-force", after_s=END_WITHIN, threads=threads_text())
