"""Keeps what LRPs ran from before their migration; logins are encrypted with the journal key, or not kept.

A rootfs may hold a login too, since its user may have written one in front of the host. Then the whole URI is
encrypted beside the login, and the column has the URI without it, from which cells pull the same.
"""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Connection, RowMapping, select, update

from controller.store.database import Database
from controller.store.tables import original_sources
from controller.store.upsert import insert_or_update
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
        await self._database.write(lambda connection: self._save(connection, original_source))

    def hide_logins(self, connection: Connection) -> None:
        """Hide the logins in rootfs that an earlier version wrote as they were."""
        with_login = select(original_sources).where(original_sources.c.rootfs.contains("@"))
        for row in connection.execute(with_login).mappings().all():
            rootfs, sealed = Rootfs(row["rootfs"]), row["credentials"]
            if rootfs.login and (sealed is None or self._is_open(sealed)):
                self._save(connection, replace(self._original_source(row), rootfs=rootfs))
            elif rootfs.login:  # what another key may still open is not overwritten
                found = original_sources.c.process_guid == row["process_guid"]
                plain = rootfs.without_login().uri
                connection.execute(update(original_sources).where(found).values(rootfs=plain))

    def _save(self, connection: Connection, original_source: OriginalSource) -> None:
        row = {
            "process_guid": original_source.process_guid,
            "cache_guid": original_source.cache_guid,
            "rootfs": original_source.rootfs.without_login().uri,
            "needs_credentials": original_source.needs_credentials,
            "credentials": self._sealed(original_source),
        }
        insert_or_update(connection, original_sources, [row])

    def _find(self, connection: Connection, process_guid: ProcessGuid) -> OriginalSource | None:
        return self._find_many(connection, (process_guid,)).get(process_guid)

    def _find_many(
        self, connection: Connection, process_guids: Collection[ProcessGuid]
    ) -> dict[ProcessGuid, OriginalSource]:
        wanted = select(original_sources).where(original_sources.c.process_guid.in_(process_guids))
        found = map(self._original_source, connection.execute(wanted).mappings())
        return {each.process_guid: each for each in found}

    def _original_source(self, row: RowMapping) -> OriginalSource:
        plain = Rootfs(row["rootfs"])
        rootfs, credentials = self._opened(row["credentials"], plain)
        return OriginalSource(
            ProcessGuid(row["process_guid"]),
            CacheGuid(row["cache_guid"]),
            rootfs,
            needs_credentials=row["needs_credentials"],
            credentials=credentials,
        )

    def _sealed(self, original_source: OriginalSource) -> bytes | None:
        """Encrypt the login, and a URI that holds one; None where there is nothing to hide, or no key."""
        login, uri = original_source.credentials, original_source.rootfs.uri
        if self._cipher is None or (login is None and not original_source.rootfs.login):
            return None
        pair = None if login is None else [login.username, login.password.value]
        content = {"login": pair, "rootfs": uri} if original_source.rootfs.login else pair
        return self._cipher.encrypt(json.dumps(content).encode())

    def _opened(self, sealed: bytes | None, plain: Rootfs) -> tuple[Rootfs, Credentials | None]:
        """Decrypt the rootfs and the login; the plain rootfs without a login where none of the keys fits."""
        content = None if sealed is None else self._decrypted(sealed)
        if content is None:
            return plain, None
        rootfs = Rootfs(content["rootfs"]) if isinstance(content, dict) else plain
        pair = content["login"] if isinstance(content, dict) else content
        return rootfs, None if pair is None else Credentials(pair[0], Secret(pair[1]))

    def _is_open(self, sealed: bytes) -> bool:
        return self._decrypted(sealed) is not None

    def _decrypted(self, sealed: bytes) -> Any:
        """Decrypt what only this program can have sealed; None where none of the keys fits."""
        if self._cipher is None:
            return None
        try:
            return json.loads(self._cipher.decrypt(sealed))
        except InvalidToken:
            return None
