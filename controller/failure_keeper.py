"""Keeps the failures of migrations in the store, so that they count in a later process too."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

import structlog

from controller.backoff import backoff
from reconcile.circuit_breaker import FailureRecord, Scope
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="failures")

_PAUSE = backoff(1.0, 60.0)
"""Pauses between failed attempts to save."""


class KeptFailures(Protocol):
    """The store, as far as it keeps failures."""

    async def list_failures(self) -> tuple[FailureRecord, ...]:
        """List the failures in a row that are kept, the latest failure last."""

    async def save_failures(self, changed: Sequence[FailureRecord], ended: Collection[Scope]) -> None:
        """Save the failures that have changed, and delete those that ended."""


class CountedFailures(Protocol):
    """What counts the failures."""

    @property
    def records(self) -> tuple[FailureRecord, ...]:
        """The failures in a row so far, the latest failure last."""

    @property
    def changed(self) -> asyncio.Event:
        """Is set when failures may have changed."""

    def restore(self, records: Sequence[FailureRecord]) -> None:
        """Count failures of an earlier process."""


class FailureKeeper:
    """Reads the failures when the process starts, and saves what has changed since."""

    def __init__(self, failures: CountedFailures, store: KeptFailures) -> None:
        self._failures, self._store = failures, store
        self._saved: dict[Scope, FailureRecord] = {}

    async def load(self) -> None:
        """Count what an earlier process, or another instance, has left."""
        kept = await self._store.list_failures()
        self._saved = {record.scope: record for record in kept}
        self._failures.restore(kept)

    async def run(self) -> None:
        """Save forever what has changed; while the store takes nothing, the latest waits."""
        failed = 0
        while True:
            await self._failures.changed.wait()
            try:
                await self.save()
            except DockerCacheError as error:
                failed += 1
                pause = _PAUSE(failed)
                log.info("failed-to-save-failures", error=str(error), retry_after_s=round(pause, 1))
                await asyncio.sleep(pause)
            else:
                failed = 0

    async def save(self) -> None:
        """Save what has changed."""
        self._failures.changed.clear()
        now = {record.scope: record for record in self._failures.records}
        changed = [record for scope, record in now.items() if self._saved.get(scope) != record]
        ended = [scope for scope in self._saved if scope not in now]
        if changed or ended:
            try:
                await self._store.save_failures(changed, ended)
            except DockerCacheError:
                self._failures.changed.set()
                raise
        self._saved = now
