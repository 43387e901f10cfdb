"""Notes every call that changes something in the log and in the store: caller, arguments and outcome."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from reconcile.errors import DockerCacheError
from reconcile.records import AuditEntry

log = structlog.get_logger(scope="admin")

MAX_ARGUMENT_CHARACTERS = 4096
"""Characters of a call's arguments that are kept."""

Arguments = Mapping[str, object]


class AuditLog(Protocol):
    """Keeps the entries."""

    async def add_entry(self, entry: AuditEntry) -> None:
        """Note what an operator did."""


class Audit:
    """Writes entries; when the store takes none, the log says so and has the entry."""

    def __init__(self, entries: AuditLog, *, clock: Callable[[], float] = time.time) -> None:
        self._entries, self._clock = entries, clock

    async def note(self, caller: str, call: str, arguments: Arguments, outcome: str) -> None:
        """Note one call; its arguments must not contain secrets."""
        text = json.dumps(arguments, sort_keys=True)
        if len(text) > MAX_ARGUMENT_CHARACTERS:
            text = json.dumps({"truncated": text[:MAX_ARGUMENT_CHARACTERS]})
        log.info("finished-call", caller=caller, call=call, arguments=text, outcome=outcome)
        entry = AuditEntry(self._clock(), caller, call, text, outcome)
        try:
            await self._entries.add_entry(entry)
        except DockerCacheError as error:
            log.exception("failed-to-save-audit-entry", call=call, caller=caller, error=str(error))
