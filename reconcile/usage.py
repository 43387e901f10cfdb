"""Gathers what uses copies: LRPs, tasks, migrations, stagings and droplets.

One listing of the BBS is never proof that nothing else does: what the store remembers of LRPs is kept beside
it, so that the two can be compared.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconcile.bridges import is_bridge
from reconcile.droplets import DropletGuid, DropletRecord
from reconcile.errors import Invalid
from reconcile.hosts import canonical_host
from reconcile.lrps import AppGuid, ProcessGuid, SchedulingInfo, Task, TaskState
from reconcile.migrations import Migration
from reconcile.records import CachedImage, lrp_of_requester, requester_of_lrp, requester_of_task
from reconcile.references import CacheGuid, CacheRepositories, Rootfs, source_from_rootfs
from reconcile.times import LONGEST_WAIT

_GUID_OR_HEX = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{128}|[0-9a-f]{64}"
)
_NAMED = 3
"""Users of a copy that a text names."""

_ENDED_TASKS = frozenset({TaskState.COMPLETED, TaskState.RESOLVING})


class UseKind(StrEnum):
    """Why a copy counts as used."""

    LRP = "LRP"
    """It is desired from the copy."""
    STOPPED_LRP = "LRP without instances"
    """It is desired from the copy, with no instance."""
    BRIDGE = "bridge"
    TASK = "task"
    """It is pending or running, and its root file system is the copy."""
    MIGRATION = "migration of"
    """It leads to the copy, or away from it."""
    MIGRATED_LRP = "LRP that was migrated to it:"
    """It exists, and may go back to the copy."""
    STAGED_APP = "app that was staged for it:"
    """It exists, and its next start may need the copy."""
    STAGING = "staging"
    """It is under way, or has ended just now."""
    DROPLET = "droplet"
    """Its image is the copy, or may be: what Cloud Controller desires from it next needs the copy."""


@dataclass(frozen=True, slots=True)
class CopyUser:
    """Something that uses a copy."""

    kind: UseKind
    name: str

    def __str__(self) -> str:
        """Write it for people."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class CopyBinding:
    """A binding that led to a copy.

    Attributes:
        requester: See `CacheRequest`.
        source: The app's source reference.
        staged_at: Nanoseconds since 1970 by the BBS's clock.
    """

    requester: str
    app_guid: AppGuid
    source: str
    staged_at: int
    cache_guid: CacheGuid


@dataclass(frozen=True, slots=True)
class MigratedLrp:
    """An LRP that the store remembers to have been migrated to a copy.

    Attributes:
        rootfs: What it ran from before; None when that is not remembered.
    """

    process_guid: ProcessGuid
    cache_guid: CacheGuid
    rootfs: Rootfs | None = None


@dataclass(frozen=True, slots=True)
class RememberedUses:
    """What the store remembers of the use of copies."""

    staged: tuple[CopyBinding, ...] = ()
    migrated: tuple[MigratedLrp, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What uses copies, as of one moment.

    Attributes:
        at: When it was looked at, UTC seconds since 1970.
        users: Those of each copy that has any.
        unlisted: For each copy the LRPs that the store remembers to run from it, and that the BBS did not
            list: gone, or the listing is wrong.
        problem: Why nothing is known of copies without users; None when something is.
    """

    at: float
    users: Mapping[CacheGuid, tuple[CopyUser, ...]] = field(default_factory=dict)
    unlisted: Mapping[CacheGuid, frozenset[ProcessGuid]] = field(default_factory=dict)
    problem: Invalid | None = None

    def is_used(self, cache_guid: CacheGuid) -> bool:
        """Whether something uses a copy."""
        return cache_guid in self.users

    def lrps_of(self, cache_guid: CacheGuid) -> frozenset[ProcessGuid]:
        """Return the LRPs that are desired from a copy, or are being migrated to it or away from it."""
        return frozenset(
            ProcessGuid(user.name)
            for user in self.users.get(cache_guid, ())
            if user.kind in {UseKind.LRP, UseKind.STOPPED_LRP, UseKind.BRIDGE, UseKind.MIGRATION}
        )


class UsageSurvey:
    """Gathers what uses copies, from one record of a listing after another.

    Args:
        images: The copies that it is about.
        cache: The names of copies in the private registry.
        remembered: Of the store.
        pinned: Apps that stay on their sources; what they could go back to is not needed.
    """

    def __init__(
        self,
        images: Iterable[CachedImage],
        cache: CacheRepositories,
        remembered: RememberedUses,
        pinned: frozenset[AppGuid],
    ) -> None:
        self._pinned = pinned
        self._addresses = {host_of_registry(each.address) for each in (cache, *cache.former)}
        self._named: dict[str, set[CacheGuid]] = {}
        for image in images:
            self._addresses |= {host_of_registry(image.registry)} if image.registry else set()
            for name in (image.cache_guid.lower(), image.digest.hex):
                self._named.setdefault(name, set()).add(image.cache_guid)
        self._users: dict[CacheGuid, dict[CopyUser, None]] = {}
        self._migrated: dict[ProcessGuid, list[MigratedLrp]] = {}
        for lrp in remembered.migrated:
            self._migrated.setdefault(lrp.process_guid, []).append(lrp)
        self._staged = remembered.staged
        self._of_requester = {each.requester: each.cache_guid for each in remembered.staged}
        self._newest_of_app: dict[AppGuid, CopyBinding] = {}
        self._newest_of_source: dict[tuple[AppGuid, str], CopyBinding] = {}
        of_apps = [each for each in remembered.staged if each.app_guid]  # the others are operators'
        for each in sorted(of_apps, key=lambda one: one.staged_at):
            self._newest_of_app[each.app_guid] = each
            self._newest_of_source[each.app_guid, each.source] = each
        self._listed: set[ProcessGuid] = set()
        self._droplets: list[DropletRecord] = []

    def see_lrp(self, lrp: SchedulingInfo) -> None:
        """Take an LRP of any domain in."""
        migrated = self._migrated.get(lrp.process_guid, ())
        if migrated:
            self._listed.add(lrp.process_guid)
        kind = UseKind.LRP if lrp.instances else UseKind.STOPPED_LRP
        current = self._copies_in(lrp.rootfs)
        for guid in current:
            self._add(guid, UseKind.BRIDGE if is_bridge(lrp.process_guid) else kind, lrp.process_guid)
        if lrp.app_guid in self._pinned:
            return
        for each in migrated:
            if each.cache_guid not in current:
                self._add(each.cache_guid, UseKind.MIGRATED_LRP, lrp.process_guid)
        for cache_guid in self._staged_for(lrp, migrated):
            if cache_guid not in current:
                self._add(cache_guid, UseKind.STAGED_APP, lrp.app_guid)

    def _staged_for(self, lrp: SchedulingInfo, migrated: Iterable[MigratedLrp]) -> Iterable[CacheGuid]:
        """Name the copies that an LRP, or the next LRP of its app, would be migrated to."""
        own = self._of_requester.get(requester_of_lrp(lrp.process_guid))
        if own is not None:
            yield own
        newest = self._newest_of_app.get(lrp.app_guid)
        if newest is None:
            return
        yield newest.cache_guid
        for rootfs in (lrp.rootfs, *(each.rootfs for each in migrated)):
            source = None if rootfs is None else source_from_rootfs(rootfs)
            found = self._newest_of_source.get((lrp.app_guid, str(source)))
            if found is not None:
                yield found.cache_guid

    def see_task(self, task: Task) -> None:
        """Take a task of any domain in."""
        staged = self._of_requester.get(requester_of_task(task.task_guid))
        if staged is not None:
            self._add(staged, UseKind.STAGING, task.task_guid)
        if task.state not in _ENDED_TASKS:
            for guid in self._copies_in(task.rootfs):
                self._add(guid, UseKind.TASK, task.task_guid)

    def see_migration(self, migration: Migration) -> None:
        """Take an open migration in."""
        self._add(migration.cache_guid, UseKind.MIGRATION, migration.process_guid)

    def see_droplet_record(self, record: DropletRecord) -> None:
        """Take in what the store knows of a droplet."""
        self._droplets.append(record)

    def see_droplet(self, guid: DropletGuid, image: str) -> None:
        """Take in the image text of a droplet that Cloud Controller has, whoever wrote it."""
        for cache_guid in self._copies_named(image):
            self._add(cache_guid, UseKind.DROPLET, guid)

    def usage(self, at: float, *, grace: float, problem: Invalid | None = None) -> Usage:
        """Sum up what was taken in.

        Args:
            at: UTC seconds since 1970.
            grace: Seconds in which a staging that has ended must have led to an LRP.
            problem: See `Usage`.
        """
        for each in self._staged:
            if at - grace < each.staged_at / 1e9 <= at + LONGEST_WAIT:  # later by no clock that was right
                self._add(each.cache_guid, UseKind.STAGING, _requested_by(each))
        for record in self._droplets:
            if record.cache_guid is not None and record.needs_copy(at):
                self._add(record.cache_guid, UseKind.DROPLET, record.droplet_guid)
        unlisted: dict[CacheGuid, set[ProcessGuid]] = {}
        for process_guid in self._migrated.keys() - self._listed:
            for lrp in self._migrated[process_guid]:
                unlisted.setdefault(lrp.cache_guid, set()).add(process_guid)
        return Usage(
            at,
            {guid: tuple(users) for guid, users in self._users.items()},
            {guid: frozenset(lrps) for guid, lrps in unlisted.items()},
            problem,
        )

    def _copies_in(self, rootfs: Rootfs) -> frozenset[CacheGuid]:
        """Find the copies that a rootfs names: by tag or digest, with a login or without."""
        return self._copies_named(rootfs.uri)

    def _copies_named(self, text: str) -> frozenset[CacheGuid]:
        text = text.lower()
        if not any(address in text for address in self._addresses):
            return frozenset()
        found = (self._named.get(name, ()) for name in _GUID_OR_HEX.findall(text))
        return frozenset(guid for guids in found for guid in guids)

    def _add(self, cache_guid: CacheGuid, kind: UseKind, name: str) -> None:
        self._users.setdefault(cache_guid, {})[CopyUser(kind, name)] = None


def host_of_registry(address: str) -> str:
    """Return the host of an address without its port, which may be spelled in several ways."""
    host = canonical_host(address)
    return host.rpartition("]")[0] or host.partition(":")[0]


def _requested_by(staged: CopyBinding) -> str:
    return f"of app {staged.app_guid}" if staged.app_guid else lrp_of_requester(staged.requester)


def used_by(users: Iterable[CopyUser]) -> str:
    """Say in a few words what uses a copy."""
    given = [str(user) for user in users]
    more = f" and {len(given) - _NAMED} more" if len(given) > _NAMED else ""
    return f"used by {', '.join(given[:_NAMED])}{more}"
