"""Lists the copies whose notes are due, and saves what a rebuild finds out about copies."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from sqlalchemy import Connection, func, not_, select

from controller.store import cached_images, tables
from controller.store.database import Database
from controller.store.upsert import insert_or_update
from reconcile.records import CachedImage, CopyCheck, is_of_app
from reconcile.references import CacheGuid, Digest, Rootfs, source_from_rootfs

_checks, _jobs, _bindings = tables.copy_checks, tables.jobs, tables.bindings


class SqlCopyNotes:
    """Implements what the writer of notes and a rebuild need, in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_due(
        self, *, made_before: float, noted_before: float, now: float, limit: int
    ) -> tuple[tuple[CachedImage, bool], ...]:
        """List copies whose notes were never written, or were written long ago, the oldest notes first.

        Returns:
            Each with whether no app is known to have pulled its source without a login.
        """
        noted_at = func.coalesce(_checks.c.noted_at, 0.0)
        due = (
            select(tables.images.c.cache_guid)
            .outerjoin(_checks, _checks.c.cache_guid == tables.images.c.cache_guid)
            .where(
                not_(tables.images.c.created_at.between(made_before, now)),  # nor by a clock that was ahead
                not_(noted_at.between(noted_before, now)),
            )
            .order_by(noted_at, tables.images.c.created_at)
            .limit(limit)
        )

        def read(connection: Connection) -> tuple[tuple[CachedImage, bool], ...]:
            guids = [CacheGuid(guid) for guid in connection.scalars(due)]
            found = cached_images.find_many(connection, guids)
            return tuple((found[guid], not _is_public(connection, found[guid])) for guid in guids)

        return await self._database.read(read)

    async def mark_noted(self, cache_guid: CacheGuid, at: float) -> bool:
        """Save when the note of a copy was written; False when the record of the copy is gone."""

        def mark(connection: Connection) -> bool:
            if cached_images.find(connection, cache_guid) is None:
                return False
            row = asdict(CopyCheck(cache_guid, noted_at=at))
            insert_or_update(connection, _checks, [row], changed=["noted_at"])
            return True

        return await self._database.write(mark)

    async def needs_login(self, image: CachedImage) -> bool:
        """Whether no app is known to have pulled the source of a copy without a login."""
        return not await self._database.read(lambda connection: _is_public(connection, image))

    async def adopt(self, image: CachedImage, blobs: Iterable[Digest]) -> CacheGuid:
        """Save a copy that the store does not know; return the GUID that its content is known by.

        Nothing is saved when that is another one: the content has a copy already.

        Raises:
            Conflict: `guid-of-other-content`: the GUID is that of another content.
        """
        held = dict(blobs) if isinstance(blobs, Mapping) else tuple(blobs)

        def save(connection: Connection) -> CacheGuid:
            guid = cached_images.reserve_for(connection, image.cache_guid, image.platform_digest)
            if guid == image.cache_guid and cached_images.find(connection, guid) is None:
                cached_images.keep(connection, image, held)
            return guid

        return await self._database.write(save)

    async def reserve(self, cache_guid: CacheGuid, platform_digest: Digest) -> CacheGuid:
        """Reserve the GUID of a copy whose source is not known, so that the next staging finds the copy.

        Raises:
            Conflict: `guid-of-other-content`: the GUID is that of another content.
        """
        return await self._database.write(
            lambda connection: cached_images.reserve_for(connection, cache_guid, platform_digest)
        )


def _is_public(connection: Connection, image: CachedImage) -> bool:
    """Whether a staging or an LRP of some app has brought no login for the source of a copy."""
    requesters = connection.scalars(
        select(_bindings.c.requester)
        .join(_jobs, _jobs.c.job_id == _bindings.c.job_id)
        .where(
            _jobs.c.cache_guid == image.cache_guid,
            _jobs.c.source == str(image.source),
            _jobs.c.needs_credentials.is_(False),
        )
    )
    if any(map(is_of_app, requesters)):
        return True
    originals = tables.original_sources
    # An LRP that was migrated from one private registry to the next is bound to a job for the content alone.
    rootfs = connection.scalars(
        select(originals.c.rootfs).where(
            originals.c.cache_guid == image.cache_guid, originals.c.needs_credentials.is_(False)
        )
    )
    return any(source_from_rootfs(Rootfs(each)) == image.source.canonical() for each in rootfs)
