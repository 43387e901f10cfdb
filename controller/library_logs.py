"""Writes what libraries and the interpreter have to say as log lines of ours, and not in shapes of theirs.

A library's errors are errors, its warnings are for whoever looks for a fault. What it says below that is left
out at each level, since nobody has read what libraries put into it.
"""

import logging
import sys
import threading
import types

import structlog

from reconcile.foreign_text import clean

log = structlog.get_logger(scope="process")


class LibraryLines(logging.Handler):
    """Writes the lines of libraries that use the standard library's `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; one that cannot be worded is written as it is."""
        try:
            text = clean(record.getMessage())
        except Exception:  # noqa: BLE001 - its values word themselves
            text = clean(str(record.msg))
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR:
            log.error("library-failed", logger_name=record.name, text=text, exc_info=error)
        else:
            log.debug("library-warned", logger_name=record.name, text=text, exc_info=error)


def capture_library_lines() -> None:
    """Take over the lines of libraries, warnings, and exceptions that nobody has caught."""
    root = logging.getLogger()
    root.handlers[:] = [LibraryLines()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    sys.unraisablehook = _ignored
    threading.excepthook = _thread_ended


def _crashed(_: type[BaseException], error: BaseException, __: types.TracebackType | None) -> None:
    log.fatal("crashed", exc_info=error)


def _ignored(what: "sys.UnraisableHookArgs") -> None:
    log.error("ignored-exception", text=clean(what.err_msg or "in a finalizer"), exc_info=what.exc_value)


def _thread_ended(what: threading.ExceptHookArgs) -> None:
    if what.exc_type is not SystemExit:
        log.error("thread-ended", thread=what.thread and what.thread.name, exc_info=what.exc_value)
