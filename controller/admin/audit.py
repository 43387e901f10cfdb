"""Notes each thing that operators have the daemon do: who, what, and what came of it, in log and store."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from reconcile.errors import DockerCacheError
from reconcile.records import AuditEntry

log = structlog.get_logger(scope="admin")

MOST_CHARACTERS = 4096
"""Of arguments that are kept."""

Arguments = Mapping[str, object]


class Entries(Protocol):
    """Where entries are kept."""

    async def add_entry(self, entry: AuditEntry) -> None:
        """Note what an operator did."""


class Audit:
    """Writes entries; a store that takes none is told in the log, where the entry is as well."""

    def __init__(self, entries: Entries, *, clock: Callable[[], float] = time.time) -> None:
        self._entries, self._clock = entries, clock

    async def note(self, caller: str, call: str, arguments: Arguments, outcome: str) -> None:
        """Note one call; its arguments must hold no secret."""
        text = json.dumps(arguments, sort_keys=True)
        if len(text) > MOST_CHARACTERS:
            text = json.dumps({"cut": text[:MOST_CHARACTERS]})
        log.info("called", caller=caller, call=call, arguments=text, outcome=outcome)
        entry = AuditEntry(self._clock(), caller, call, text, outcome)
        try:
            await self._entries.add_entry(entry)
        except DockerCacheError as error:
            log.exception("failed-to-keep-audit", call=call, caller=caller, error=str(error))
