"""Records long uploads in the database, and cancels those that a crash has left in the private registry."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog

from reconcile.copying_ports import OpenUpload
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="abandoned-uploads")

LOOK_INTERVAL = 10.0
"""Seconds after which the uploads that are under way are compared with the recorded ones again."""


class UploadingEngine(Protocol):
    """The engine, as far as it uploads."""

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while and are not done."""

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        """Cancel an upload that an earlier process has left; return whether the registry has dropped it."""


class UploadRecords(Protocol):
    """The records of uploads in the store."""

    async def list_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that were saved last."""

    async def save_uploads(self, uploads: Iterable[OpenUpload]) -> None:
        """Save uploads in place of those that were saved before."""


class AbandonedUploads:
    """Cancels the uploads of an earlier process at the start, and records its own for the next process.

    Short uploads are not recorded, so most copies cost no write to the database.
    """

    def __init__(self, engine: UploadingEngine, records: UploadRecords) -> None:
        self._engine, self._records = engine, records
        self._saved: frozenset[OpenUpload] = frozenset()

    async def run(self) -> None:
        """Cancel the uploads that an earlier process left, and then record uploads at an interval forever."""
        await self._cancel_left_uploads()
        while True:
            await self.look()
            await asyncio.sleep(LOOK_INTERVAL)

    async def _cancel_left_uploads(self) -> None:
        try:
            left = await self._records.list_uploads()
        except DockerCacheError as error:
            log.info("failed-to-list-uploads", error=str(error))
            return
        self._saved = frozenset(left)
        for upload in left:
            is_dropped = await self._engine.cancel_upload(upload)
            log.info("cancelled-upload", cache_image=str(upload.target), dropped=is_dropped)

    async def look(self) -> None:
        """Save which long uploads are under way, unless the same ones are saved already."""
        uploads = self._engine.list_long_uploads()
        if frozenset(uploads) == self._saved:
            return
        try:
            await self._records.save_uploads(uploads)
        except DockerCacheError as error:
            log.info("failed-to-save-uploads", error=str(error))
            return
        self._saved = frozenset(uploads)
