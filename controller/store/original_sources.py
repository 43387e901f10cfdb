"""Keeps what LRPs ran from before their migration; logins are encrypted with the journal key, or not kept."""

import json
from collections.abc import Collection

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.dialects.sqlite import insert

from controller.store.database import Database
from controller.store.tables import original_sources
from reconcile.lrps import Credentials, ProcessGuid, Secret
from reconcile.migrations import OriginalSource
from reconcile.references import CacheGuid, Rootfs


class SqlOriginalSources:
    """Implements OriginalSources in SQL.

    Args:
        database: Of the store.
        cipher: None where there is no journal key.
    """

    def __init__(self, database: Database, cipher: MultiFernet | None) -> None:
        self._database, self._cipher = database, cipher

    async def find_original_source(self, process_guid: ProcessGuid) -> OriginalSource | None:
        """Find what an LRP ran from; a login that none of the keys decrypts is left out."""
        return await self._database.read(lambda connection: self._find(connection, process_guid))

    async def list_original_sources(
        self, process_guids: Collection[ProcessGuid]
    ) -> dict[ProcessGuid, OriginalSource]:
        """Read what some hundred LRPs ran from, with one query."""
        wanted = tuple(process_guids)
        return await self._database.read(lambda connection: self._find_many(connection, wanted))

    async def save_original_source(self, original_source: OriginalSource) -> None:
        """Save an LRP's original source in place of an earlier one."""
        row = {
            "process_guid": original_source.process_guid,
            "cache_guid": original_source.cache_guid,
            "rootfs": original_source.rootfs.uri,
            "needs_credentials": original_source.needs_credentials,
            "credentials": self._sealed(original_source.credentials),
        }
        saved = (
            insert(original_sources)
            .values(row)
            .on_conflict_do_update(index_elements=[original_sources.c.process_guid], set_=row)
        )
        await self._database.write(lambda connection: connection.execute(saved))

    def _find(self, connection: Connection, process_guid: ProcessGuid) -> OriginalSource | None:
        return self._find_many(connection, (process_guid,)).get(process_guid)

    def _find_many(
        self, connection: Connection, process_guids: Collection[ProcessGuid]
    ) -> dict[ProcessGuid, OriginalSource]:
        wanted = select(original_sources).where(original_sources.c.process_guid.in_(process_guids))
        found = map(self._original_source, connection.execute(wanted).mappings())
        return {each.process_guid: each for each in found}

    def _original_source(self, row: RowMapping) -> OriginalSource:
        return OriginalSource(
            ProcessGuid(row["process_guid"]),
            CacheGuid(row["cache_guid"]),
            Rootfs(row["rootfs"]),
            needs_credentials=row["needs_credentials"],
            credentials=self._opened(row["credentials"]),
        )

    def _sealed(self, credentials: Credentials | None) -> bytes | None:
        if credentials is None or self._cipher is None:
            return None
        content = json.dumps([credentials.username, credentials.password.value])
        return self._cipher.encrypt(content.encode())

    def _opened(self, content: bytes | None) -> Credentials | None:
        if content is None or self._cipher is None:
            return None
        try:
            username, password = json.loads(self._cipher.decrypt(content))
        except InvalidToken:
            return None
        return Credentials(username, Secret(password))
