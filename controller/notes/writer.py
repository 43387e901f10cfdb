"""Writes the notes of copies in the background, some time after each copy was made.

No copy and no app waits for a note. Each note is written anew from time to time, since a registry may lose it
and the journal key may change.
"""

import asyncio
from typing import Protocol

import structlog

from controller.backoff import backoff
from controller.process import Process
from reconcile.errors import DockerCacheError, Unavailable
from reconcile.notes import CopyNote, note_of
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest
from reconcile.times import seconds_until

log = structlog.get_logger(scope="notes")

WRITE_AGAIN_AFTER = 7 * 86400.0
"""Seconds after which a note is written anew."""

REFUSED_FOR = 86400.0
"""Seconds for which a copy is skipped whose note the registry refused."""

PAUSE = 0.2
"""Seconds between two notes."""

_BATCH = 50
_MOST_REFUSALS = 5  # in a row; then the registry is taken to refuse every note
_REFUSED_PAUSE = 3600.0  # seconds, when the registry refuses every note
_FAILED_PAUSE = backoff(5.0, 300.0)
_SHORTEST_ROUND, _LONGEST_ROUND = 0.5, 30.0  # seconds until the next look for notes that are due


class WrittenNotes(Protocol):
    """The notes in the private registry."""

    async def write(self, note: CopyNote) -> None:
        """Write a note in place of an earlier one."""

    async def delete(self, guid: CacheGuid, digest: Digest) -> None:
        """Delete the notes beside a copy, if there are any."""


class NotedCopies(Protocol):
    """The records of which copies have notes."""

    async def list_due(
        self, *, made_before: float, noted_before: float, now: float, limit: int
    ) -> tuple[tuple[CachedImage, bool], ...]:
        """List copies whose notes are due, each with whether its source needs a login, as far as is known.

        Times are UTC seconds since 1970. A note is due where the copy was made before `made_before`, and was
        not written after `noted_before`.
        """

    async def mark_noted(self, cache_guid: CacheGuid, at: float) -> bool:
        """Save when the note of a copy was written; False when the record of the copy is gone."""


class NoteWriter:
    """Writes a note beside each copy, and writes it anew from time to time.

    Args:
        after: Seconds from the end of a copy until its note is due.
    """

    def __init__(self, notes: WrittenNotes, copies: NotedCopies, *, after: float, process: Process) -> None:
        self._notes, self._copies = notes, copies
        self._after, self._process = after, process
        self._refused: dict[CacheGuid, float] = {}
        self._failures = 0

    async def run(self) -> None:
        """Write notes forever."""
        while True:
            try:
                pause = await self._write_due()
            except DockerCacheError as error:  # of the store
                self._failures += 1
                pause = _FAILED_PAUSE(self._failures)
                log.info("failed-to-list-due-notes", error=str(error), retry_after_s=round(pause, 1))
            await asyncio.sleep(pause)

    async def _write_due(self) -> float:
        """Write the notes that are due, and return the seconds until the next look."""
        now, refusals = self._process.clock(), 0
        self._refused = {
            guid: until for guid, until in self._refused.items() if seconds_until(until, now) > 0
        }
        due = await self._copies.list_due(
            made_before=now - self._after,
            noted_before=now - WRITE_AGAIN_AFTER,
            now=now,
            limit=_BATCH + len(self._refused),
        )
        for image, needs_login in due:
            if image.cache_guid in self._refused:
                continue
            try:
                await self._write(image, needs_login=needs_login)
            except Unavailable as error:
                self._failures += 1
                return self._failed(image, error, _FAILED_PAUSE(self._failures))
            except DockerCacheError as error:
                self._refused[image.cache_guid] = now + REFUSED_FOR
                refusals += 1
                pause = self._failed(image, error, REFUSED_FOR)
                if refusals >= _MOST_REFUSALS:
                    return min(pause, _REFUSED_PAUSE)
            else:
                self._failures = refusals = 0
                self._process.metrics.copies.notes.labels(outcome="written").inc()
            await asyncio.sleep(PAUSE)
        return min(max(self._after, _SHORTEST_ROUND), _LONGEST_ROUND)

    async def _write(self, image: CachedImage, *, needs_login: bool) -> None:
        await self._notes.write(note_of(image, needs_login=needs_login))
        if not await self._copies.mark_noted(image.cache_guid, self._process.clock()):
            await self._notes.delete(image.cache_guid, image.digest)  # the copy was deleted meanwhile
        log.debug("wrote-note", cache_guid=image.cache_guid, source_image=str(image.source))

    def _failed(self, image: CachedImage, error: DockerCacheError, pause: float) -> float:
        self._process.metrics.copies.notes.labels(outcome="failed").inc()
        log.info(
            "failed-to-write-note",
            cache_guid=image.cache_guid,
            error=str(error),
            retry_after_s=round(pause, 1),
        )
        return pause
