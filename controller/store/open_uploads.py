"""Keeps the uploads that were under way, encrypted with the journal key; without one nothing is kept."""

import json
from collections.abc import Iterable

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import delete, select

from controller.store.database import Database
from controller.store.tables import settings
from controller.store.upsert import insert_or_update
from reconcile.copying_ports import OpenUpload
from reconcile.errors import Invalid
from reconcile.references import parse_image_reference

MOST_KEPT = 500
"""Maximum number of uploads that are recorded; those that have lasted longest come first."""

_NAME = "open-uploads"


class SqlOpenUploads:
    """Keeps uploads in one row.

    Args:
        database: Of the store.
        cipher: None where there is no journal key.
    """

    def __init__(self, database: Database, cipher: MultiFernet | None) -> None:
        self._database, self._cipher = database, cipher

    async def save_uploads(self, uploads: Iterable[OpenUpload]) -> None:
        """Keep uploads in place of the earlier ones."""
        rows = [[str(each.target), each.url] for each in uploads][:MOST_KEPT]
        if self._cipher is None or not rows:
            dropped = delete(settings).where(settings.c.name == _NAME)
            await self._database.write(lambda connection: connection.execute(dropped))
            return
        row = {"name": _NAME, "value": self._cipher.encrypt(json.dumps(rows).encode()).decode()}
        await self._database.write(lambda connection: insert_or_update(connection, settings, [row]))

    async def list_uploads(self) -> tuple[OpenUpload, ...]:
        """List what was kept; nothing where none of the keys decrypts it."""
        chosen = select(settings.c.value).where(settings.c.name == _NAME)
        value: str | None = await self._database.read(lambda connection: connection.scalar(chosen))
        if value is None or self._cipher is None:
            return ()
        try:
            rows = json.loads(self._cipher.decrypt(value.encode()))
            return tuple(OpenUpload(parse_image_reference(target), url) for target, url in rows)
        except (InvalidToken, ValueError, Invalid):
            return ()
