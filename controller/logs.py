"""Writes log lines in the format of Diego's components: one JSON object per line on standard output.

Source: diego-release docs/022-logging-format.md, and lager v3 models.go for both forms: the one with RFC 3339
time names the level, the one with Unix time numbers it under another key.
"""

import contextlib
import json
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

import structlog

from controller.log_level import LEVELS, LogLevel
from controller.tracing import trace_id
from reconcile.foreign_text import cut

COMPONENT = "docker-cache"
MAX_VALUE = 16_384
"""Characters of one text in a line, in which a long traceback has its place."""
_LEVEL_NAMES = {"warning": "error", "critical": "fatal", "exception": "error"}


class TimeFormat(StrEnum):
    """How the time of a line is written, and with it its level."""

    RFC3339 = "rfc3339"
    UNIX_EPOCH = "unix-epoch"


class LagerShape:
    """Converts structlog's events to lager's keys."""

    def __init__(self, time_format: TimeFormat) -> None:
        self._time_format = time_format

    def __call__(
        self, _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Convert one event, as a processor of structlog does."""
        text, scope = event.pop("event"), event.pop("scope", None)
        level = _LEVEL_NAMES.get(method, method)
        data = {key.replace("_", "-"): _bounded(value) for key, value in sorted(event.items())}
        if trace := trace_id():
            data["trace-id"] = trace
        source = COMPONENT
        message = ".".join(part for part in (COMPONENT, scope, text) if part)
        now = datetime.now(UTC)
        if self._time_format is TimeFormat.UNIX_EPOCH:
            return {
                "timestamp": f"{int(now.timestamp())}.{now.microsecond * 1000:09d}",
                "source": source,
                "message": message,
                "log_level": LEVELS.index(level),
                "data": data,
            }
        return {
            "timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond * 1000:09d}Z",
            "level": level,
            "source": source,
            "message": message,
            "data": data,
        }


def with_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write an exception as lager does: its text as the error, unless that is given, and its traceback."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        event.setdefault("error", f"{type(error).__name__}: {error}")
        event["trace"] = "".join(traceback.format_exception(error)).rstrip()
    return event


def _bounded(value: object) -> object:
    return cut(value, MAX_VALUE) if isinstance(value, str) else value


def _as_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    line = json.dumps(event, default=str, ensure_ascii=False)
    # A terminal would obey what is not printable, such as a C1 control or an override of the direction.
    return line if line.isprintable() else "".join(map(_escaped, line))


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


class _Lines:
    """Writes lines, and drops those that cannot be written: a full disk must not end the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write one line."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = exception = critical = fatal = msg


def configure_logs(
    level: str, stream: TextIO | None = None, *, time_format: TimeFormat = TimeFormat.RFC3339
) -> LogLevel:
    """Send all log lines of a level and above to a stream, standard output by default.

    Returns:
        The level, which may be set anew while lines are written.
    """
    lowest = LogLevel(level)

    def drop_lower(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if lowest.leaves_out(_LEVEL_NAMES.get(method, method)):
            raise structlog.DropEvent
        return event

    structlog.configure(
        processors=[drop_lower, with_trace, LagerShape(time_format), _as_json],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=lambda *_: _Lines(stream or sys.stdout),
        cache_logger_on_first_use=True,
    )
    return lowest
