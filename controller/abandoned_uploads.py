"""Keeps which uploads are under way, and cancels those that a crash has left in the private registry."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog

from reconcile.copying_ports import OpenUpload
from reconcile.errors import DockerCacheError

log = structlog.get_logger(scope="abandoned-uploads")

LOOK_INTERVAL = 10.0
"""Seconds between two looks at what is under way."""


class UploadingEngine(Protocol):
    """The engine, as far as it uploads."""

    def list_long_uploads(self) -> tuple[OpenUpload, ...]:
        """List the uploads that have lasted for a while and are not done."""

    async def cancel_upload(self, upload: OpenUpload) -> bool:
        """Cancel an upload that an earlier process has left; return whether the registry has dropped it."""


class UploadRecords(Protocol):
    """The uploads that the store keeps."""

    async def list_uploads(self) -> tuple[OpenUpload, ...]:
        """List what was kept."""

    async def save_uploads(self, uploads: Iterable[OpenUpload]) -> None:
        """Keep uploads in place of the earlier ones."""


class AbandonedUploads:
    """Cancels at its start what an earlier process left, and keeps what a later one may have to cancel.

    Short uploads are not kept, so a copy costs no write to the database.
    """

    def __init__(self, engine: UploadingEngine, records: UploadRecords) -> None:
        self._engine, self._records = engine, records
        self._kept: frozenset[OpenUpload] = frozenset()

    async def run(self) -> None:
        """Cancel what was left, and then look at an interval forever."""
        await self._cancel_what_was_left()
        while True:
            await self.look()
            await asyncio.sleep(LOOK_INTERVAL)

    async def _cancel_what_was_left(self) -> None:
        try:
            left = await self._records.list_uploads()
        except DockerCacheError as error:
            log.info("failed-to-list-uploads", error=str(error))
            return
        self._kept = frozenset(left)
        for upload in left:
            is_dropped = await self._engine.cancel_upload(upload)
            log.info("cancelled-upload", cache_image=str(upload.target), dropped=is_dropped)

    async def look(self) -> None:
        """Keep what is under way, if it is not what was kept before."""
        uploads = self._engine.list_long_uploads()
        if frozenset(uploads) == self._kept:
            return
        try:
            await self._records.save_uploads(uploads)
        except DockerCacheError as error:
            log.info("failed-to-save-uploads", error=str(error))
            return
        self._kept = frozenset(uploads)
