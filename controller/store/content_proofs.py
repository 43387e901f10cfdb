"""Keeps who has shown which content at which source, and what indexes lead to."""

from sqlalchemy import Connection

from controller.store import cached_images, pinned_copies, proofs
from controller.store.database import Database
from reconcile.copying_ports import TargetState
from reconcile.lrps import AppGuid
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, Digest, ImageReference
from reconcile.trust import ContentProof, Reader, ShownContent


class SqlContentProofs:
    """Implements ContentProofs in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._platforms = ""

    def use_platforms(self, platforms: str) -> None:
        """Take some platforms for those that are copied out of indexes."""
        self._platforms = platforms

    async def find_in_index(self, root_digest: Digest) -> Digest | None:
        """Find what an index that was read before leads to."""
        return await self._database.read(
            lambda connection: proofs.find_in_index(connection, root_digest, self._platforms)
        )

    async def save_index(self, root_digest: Digest, platform_digest: Digest) -> None:
        """Save what an index that was read leads to."""
        await self._database.write(
            lambda connection: proofs.save_index(connection, root_digest, self._platforms, platform_digest)
        )

    async def find_shown(self, platform_digest: Digest, reader: Reader) -> ShownContent:
        """Find what was shown of an image in a reader's trust domain."""
        return await self._database.read(lambda connection: proofs.find(connection, platform_digest, reader))

    async def find_pinned_copy(
        self, app_guid: AppGuid, source: ImageReference, reader: Reader
    ) -> CachedImage | None:
        """Find the finished copy of what a reference with a digest names, if the app may use it unasked."""
        return await self._database.read(
            lambda connection: pinned_copies.find(connection, app_guid, source, reader, self._platforms)
        )

    async def save_proof(self, proof: ContentProof) -> None:
        """Save that a source has shown an image."""
        await self._database.write(lambda connection: proofs.save(connection, proof))

    async def begin_copy(self, platform_digest: Digest, reader: Reader) -> tuple[CacheGuid, TargetState]:
        """Reserve a GUID for some content, unless one is, and save that a reader begins to copy it."""

        def begin(connection: Connection) -> tuple[CacheGuid, TargetState]:
            state = TargetState.EMPTY
            guid = cached_images.find_guid(connection, platform_digest)
            if guid is None:
                guid = cached_images.reserve(connection, platform_digest)
            elif proofs.has_only_own_attempts(connection, platform_digest, reader):
                state = TargetState.OWN
            else:
                state = TargetState.UNKNOWN
            proofs.add_attempt(connection, platform_digest, reader)
            return guid, state

        return await self._database.write(begin)
