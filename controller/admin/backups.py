"""Receives a backup from an operator, checks it, and lets the daemon restart on it."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from reconcile.errors import Conflict, Invalid

MAX_BACKUP = 64 << 30
"""Maximum number of bytes of a backup."""


class BackupReceiver:
    """Takes backups, one at a time.

    Args:
        database: The file of the store; None for one in memory.
        prepare: Checks a backup, and lays it beside the database under a stamp; returns the name that the
            replaced database gets. It blocks.
        restart: Lets the process begin anew; None where it does not.
    """

    def __init__(
        self,
        database: Path | None,
        prepare: Callable[[Path, str], Path],
        restart: Callable[[], None] | None,
    ) -> None:
        self._database, self._prepare, self._restart = database, prepare, restart
        self._receiving = asyncio.Lock()

    async def receive(self, parts: AsyncIterator[bytes]) -> Path:
        """Check a backup and restart on it; return the name that the replaced database gets.

        Raises:
            Invalid: It does not fit; nothing is changed.
            Conflict: Another one is being restored.
        """
        if self._database is None or self._restart is None:
            detail = (
                "this process has no database file that can be replaced; one on a server is restored by the "
                'tools of the server: see "Use a database server" in the documentation'
            )
            raise Invalid("admin", "no-database-file", detail)
        if self._receiving.locked():
            raise Conflict("admin", "restore-pending", "another backup is being restored: wait for its end")
        async with self._receiving:
            stamp = uuid.uuid4().hex[:12]
            upload = self._database.with_name(f"{self._database.name}.upload-{stamp}")
            try:
                await _save(parts, upload)
                replaced = await asyncio.to_thread(self._prepare, upload, stamp)
            finally:
                await asyncio.to_thread(upload.unlink, missing_ok=True)
            self._restart()
            return replaced


async def _save(parts: AsyncIterator[bytes], upload: Path) -> None:
    total = 0
    try:
        descriptor = await asyncio.to_thread(os.open, upload, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        file = os.fdopen(descriptor, "wb")
        try:
            async for part in parts:
                total += len(part)
                if total > MAX_BACKUP:
                    raise Invalid("admin", "backup-too-large", f"a backup has at most {MAX_BACKUP >> 30} GiB")
                await asyncio.to_thread(file.write, part)
        finally:
            with suppress(OSError):
                await asyncio.to_thread(file.close)
    except OSError as error:
        raise Invalid("store", "backup-path", f"cannot write {upload}: {error.strerror}") from error
