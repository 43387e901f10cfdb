"""Adopts what runs from copies that the store does not know, by the notes beside these copies.

Only what is unknown is adopted: no record that is there is changed. Where no note can be believed, the
packages of the apps whose droplets name the copy say what they ran from. Where Cloud Controller does not
know it either, the GUID of a copy is reserved for its content, so that the next staging of the image finds
the copy that is there.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace

import structlog

from controller.notes.dependencies import AdoptedCopy, AdoptionDependencies, AdoptionStatus
from controller.notes.droplet_sources import AppSource
from reconcile.bridges import is_bridge
from reconcile.canary import LRP_IMAGE, TASK_IMAGE
from reconcile.errors import Conflict, DockerCacheError, ErrorCode, Invalid
from reconcile.hosts import DOCKER_HUB
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.migrations import OriginalSource
from reconcile.notes import CopyNote
from reconcile.records import CachedImage
from reconcile.references import (
    CacheGuid,
    Digest,
    ImageReference,
    Rootfs,
    rootfs_from_image_text,
    source_from_rootfs,
)

log = structlog.get_logger(scope="notes")

AT_A_TIME = 8
"""Copies that are looked at at the same time."""

_Users = Mapping[ProcessGuid, AppGuid]
"""LRPs, each with its app."""

_CANARIES = frozenset({LRP_IMAGE, TASK_IMAGE})


class Adoption:
    """Adopts copies; one rebuild runs at a time."""

    def __init__(self, dependencies: AdoptionDependencies) -> None:
        self._to = dependencies
        self._running = asyncio.Lock()

    async def adopt_all(
        self, *, accepts_unsealed: bool
    ) -> AsyncGenerator[tuple[AdoptedCopy, int, int], None]:
        """Adopt what is unknown, and yield what became of each copy, with how many are done of how many.

        Args:
            accepts_unsealed: Whether notes are believed that no key confirms.

        Raises:
            Conflict: `rebuild-runs`: another one runs.
            Invalid: `unreadable-lrps`: some LRPs could not be read, when all others are done.
        """
        if self._running.locked():
            raise Conflict("admin", "rebuild-runs", "another rebuild runs: wait for its end")
        async with self._running:
            users, unreadable = await self._list_users()
            known = {image.cache_guid: image for image in await self._to.images.list_images()}
            guids = sorted({*users, *await self._listed(), *await self._named()} - _CANARIES)
            for start in range(0, len(guids), AT_A_TIME):
                batch = guids[start : start + AT_A_TIME]
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(
                            self._adopt(
                                guid, known.get(guid), users.get(guid), accepts_unsealed=accepts_unsealed
                            )
                        )
                        for guid in batch
                    ]
                done = start + len(batch)
                for guid, task in zip(batch, tasks, strict=True):
                    adopted = task.result()
                    if adopted is not None:
                        for process_guid in users.get(guid, ()):  # also those whose source was known already
                            self._to.queue(process_guid)
                        yield self._reported(adopted), done, len(guids)
            if unreadable:
                raise Invalid(
                    "bbs",
                    ErrorCode.UNREADABLE_LRPS,
                    f"{unreadable} LRPs cannot be read: what they run from is not known",
                )

    def _reported(self, adopted: AdoptedCopy) -> AdoptedCopy:
        fields = {
            "cache_guid": adopted.cache_guid,
            "source_image": None if adopted.source is None else str(adopted.source),
            "lrps": len(adopted.process_guids),
            "detail": adopted.detail,
        }
        match adopted.status:
            case AdoptionStatus.ADOPTED:
                log.info("adopted-copy", **fields)
            case AdoptionStatus.RESERVED:
                log.info("reserved-copy", **fields)
            case AdoptionStatus.UNKNOWN:
                log.error("copy-stays-unknown", **fields)
        return adopted

    async def _list_users(self) -> tuple[dict[CacheGuid, dict[ProcessGuid, AppGuid]], int]:
        """List the LRPs by the copy that they run from, and count those that cannot be read."""
        users: dict[CacheGuid, dict[ProcessGuid, AppGuid]] = {}
        scan = self._to.bbs.list_scheduling_infos("", docker_only=True)
        async for info in scan:
            image = source_from_rootfs(info.rootfs)
            guid = None if image is None else self._to.cache.guid_of(image)
            if guid is None:
                continue
            of_copy = users.setdefault(guid, {})
            if info.domain in self._to.domains and not is_bridge(info.process_guid):
                of_copy[info.process_guid] = info.app_guid
        return users, scan.skipped

    async def _listed(self) -> tuple[CacheGuid, ...]:
        """List what the private registry has, where it says so."""
        try:
            return await self._to.notes.list_copies()
        except DockerCacheError as error:
            log.info("failed-to-list-copies", error=str(error), detail="only what runs is adopted")
            return ()

    async def _named(self) -> tuple[CacheGuid, ...]:
        """List what droplets name, where Cloud Controller says so."""
        try:
            return await self._to.droplets.list_copies()
        except DockerCacheError as error:
            log.info("failed-to-list-droplets", error=str(error), detail="only notes and records are used")
            return ()

    async def _adopt(
        self,
        guid: CacheGuid,
        known: CachedImage | None,
        users: _Users | None,
        *,
        accepts_unsealed: bool,
    ) -> AdoptedCopy | None:
        """Adopt one copy; None when there is nothing to say of it."""
        try:
            if known is not None:
                return await self._adopt_sources(known, users or {})
            return await self._adopt_unknown(guid, users, accepts_unsealed=accepts_unsealed)
        except DockerCacheError as error:
            return AdoptedCopy(guid, AdoptionStatus.UNKNOWN, detail=str(error))

    async def _adopt_sources(self, image: CachedImage, users: _Users) -> AdoptedCopy | None:
        """Save the sources of LRPs that run from a copy that is known, where they are not."""
        needs_login = await self._to.records.needs_login(image)
        adopted = await self._save_sources(image.cache_guid, image.source, users, needs_login=needs_login)
        if not adopted:
            return None
        row = AdoptedCopy(image.cache_guid, AdoptionStatus.ADOPTED, image.source, "", adopted)
        return _with_login_note(row, needs_login=needs_login)

    async def _adopt_unknown(
        self, guid: CacheGuid, users: _Users | None, *, accepts_unsealed: bool
    ) -> AdoptedCopy | None:
        is_used = users is not None
        digest = await self._to.notes.find_digest(guid)
        if digest is None:
            missing = AdoptedCopy(
                guid, AdoptionStatus.UNKNOWN, detail="the private registry does not have it"
            )
            return missing if is_used else None
        note, problem = await self._believed_note(guid, digest, accepts_unsealed=accepts_unsealed)
        if note is None:
            return await self._adopt_by_droplets(guid, digest, users, problem)
        image = self._image_of(note, digest)
        kept_as = await self._to.records.adopt(image, await self._to.notes.list_blobs(guid, digest))
        adopted = await self._save_sources(guid, note.source, users or {}, needs_login=note.needs_login)
        row = AdoptedCopy(guid, AdoptionStatus.ADOPTED, note.source, "", adopted)
        if kept_as != guid:
            return _replaced(row, kept_as)
        return _with_login_note(row, needs_login=note.needs_login and bool(adopted))

    async def _adopt_by_droplets(
        self, guid: CacheGuid, digest: Digest, users: _Users | None, problem: str
    ) -> AdoptedCopy:
        """Adopt a copy without a note by what the apps were pushed from whose droplets name it.

        Each LRP gets what its own app was pushed from. One whose app has no such droplet gets what most of
        them were pushed from, as it would by a note.
        """
        try:
            sources = await self._to.droplets.find(guid)
        except DockerCacheError as error:
            sources, problem = {}, f"{problem}; Cloud Controller does not know what was pushed: {error}"
        if not sources:
            if users is not None:
                return await self._reserve(guid, digest, problem)
            return AdoptedCopy(guid, AdoptionStatus.UNKNOWN, detail=f"no LRP runs from it, and {problem}")
        ((source, _),) = Counter(each.source for each in sources.values()).most_common(1)
        blobs = await self._to.notes.list_blobs(guid, digest)
        needs_login = all(each.needs_login for each in sources.values() if each.source == source)
        note = CopyNote(
            cache_guid=guid,
            source=source,
            root_digest=digest,
            platform_digest=digest,
            digest=digest,
            size=sum(blobs.values()),
            created_at=self._to.clock(),
            needs_login=needs_login,
        )
        kept_as = await self._to.records.adopt(self._image_of(note, digest), blobs)
        most, lrps = AppSource(source, needs_login), dict[AppSource, list[ProcessGuid]]()
        for process_guid, app_guid in (users or {}).items():
            lrps.setdefault(sources.get(app_guid, most), []).append(process_guid)
        adopted, lacks_login = list[ProcessGuid](), False
        for each, of_source in lrps.items():
            saved = await self._save_sources(guid, each.source, of_source, needs_login=each.needs_login)
            adopted += saved
            lacks_login |= each.needs_login and bool(saved)
        row = AdoptedCopy(guid, AdoptionStatus.ADOPTED, source, "", tuple(sorted(adopted)))
        if kept_as != guid:
            return _replaced(row, kept_as)
        return _with_login_note(row, needs_login=lacks_login)

    async def _believed_note(
        self, guid: CacheGuid, digest: Digest, *, accepts_unsealed: bool
    ) -> tuple[CopyNote | None, str]:
        """Find the note of a copy; without one that can be believed, say why."""
        try:
            note = await self._to.notes.find(guid, digest)
        except Invalid as error:
            return None, f"the note beside it cannot be used: {error.detail}"
        if note is None:
            return None, "no note lies beside it"
        if self._to.own(note.source):
            return None, f"the note beside it names {note.source} as its source, which is a copy itself"
        if self._to.notes.has_keys and not note.is_sealed and not accepts_unsealed:
            return None, (
                "the note beside it is not sealed with a key of journal_key_file: anybody may have written "
                "it (--accept-unsealed believes it)"
            )
        return note, ""

    async def _reserve(self, guid: CacheGuid, digest: Digest, problem: str) -> AdoptedCopy:
        try:
            reserved = await self._to.records.reserve(guid, digest)
        except Conflict as error:
            return AdoptedCopy(guid, AdoptionStatus.UNKNOWN, detail=f"{problem}; {error.detail}")
        if reserved != guid:
            detail = f"{problem}; its content has the copy {reserved} now"
            return AdoptedCopy(guid, AdoptionStatus.UNKNOWN, detail=detail)
        detail = f"{problem}; the next staging of its image finds the copy"
        return AdoptedCopy(guid, AdoptionStatus.RESERVED, detail=detail)

    def _image_of(self, note: CopyNote, digest: Digest) -> CachedImage:
        """Make the record of a copy; it is read back before another app is migrated to it.

        Of a note that no key confirms, what the copy's own digest does not show is not believed: else other
        apps would get content that only the note calls theirs.
        """
        now = self._to.clock()
        made_at = min(note.created_at, now)
        return CachedImage(
            cache_guid=note.cache_guid,
            source=note.source,
            root_digest=note.root_digest if note.is_sealed else digest,
            platform_digest=note.platform_digest if note.is_sealed else digest,
            digest=digest,
            size=note.size,
            created_at=made_at,
            verified_at=made_at,
            needs_verification_since=now,
            registry=self._to.cache.address,
        )

    async def _save_sources(
        self, guid: CacheGuid, source: ImageReference, users: Iterable[ProcessGuid], *, needs_login: bool
    ) -> tuple[ProcessGuid, ...]:
        """Save the source of each LRP that has none, and return these LRPs."""
        adopted, lrps = list[ProcessGuid](), list(users)
        for start in range(0, len(lrps), 200):
            batch = lrps[start : start + 200]
            known = await self._to.original_sources.list_original_sources(batch)
            adopted += [process_guid for process_guid in batch if process_guid not in known]
        for process_guid in adopted:
            await self._to.original_sources.save_original_source(
                OriginalSource(
                    process_guid,
                    guid,
                    source_rootfs(source),
                    needs_credentials=needs_login,
                    credentials=None,
                )
            )
        return tuple(adopted)


def source_rootfs(source: ImageReference) -> Rootfs:
    """Write the rootfs from which Cloud Controller desires an image; it names Docker Hub by no host."""
    return rootfs_from_image_text(str(source).removeprefix(f"{DOCKER_HUB}/"))


def _replaced(row: AdoptedCopy, kept_as: CacheGuid) -> AdoptedCopy:
    detail = f"its content has the copy {kept_as} now: restore its LRPs, to migrate them to that one"
    return replace(row, status=AdoptionStatus.UNKNOWN, detail=detail)


def _with_login_note(row: AdoptedCopy, *, needs_login: bool) -> AdoptedCopy:
    if not needs_login:
        return row
    detail = (
        "the login for its source is not known, so its LRPs cannot be restored until they are pushed again"
    )
    return replace(row, detail=detail)
