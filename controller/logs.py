"""Writes log lines in the format of Diego's components: one JSON object per line on standard output.

Source: diego-release docs/022-logging-format.md and lager v3 (RFC 3339 form).
"""

import contextlib
import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

COMPONENT = "docker-cache"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR, "fatal": logging.CRITICAL}
MAX_VALUE = 16_384
"""Characters of one text in a line, in which a long traceback has its place."""
_LEVEL_NAMES = {"warning": "error", "critical": "fatal", "exception": "error"}


def lager_shape(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Convert structlog's event to the keys timestamp, level, source, message and data."""
    message = event.pop("event")
    scope = event.pop("scope", None)
    now = datetime.now(UTC)
    data = {key.replace("_", "-"): _bounded(value) for key, value in sorted(event.items())}
    return {
        "timestamp": f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond * 1000:09d}Z",
        "level": _LEVEL_NAMES.get(method, method),
        "source": COMPONENT,
        "message": ".".join(part for part in (COMPONENT, scope, message) if part),
        "data": data,
    }


def _bounded(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_VALUE:
        return f"{value[:MAX_VALUE]}…"
    return value


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


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send all log lines of a level and above to a stream, standard output by default."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, lager_shape, _as_json],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(stream or sys.stdout),
        cache_logger_on_first_use=True,
    )
