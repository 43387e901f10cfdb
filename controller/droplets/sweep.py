"""Lists the droplets at an interval, to find what no event has reported.

A listing shows each droplet as it was a while ago. So it only says which droplets are to be looked at anew,
and why others stay as they are; nothing is written into a droplet because of it.
"""

import asyncio
import time
import zlib
from collections.abc import Collection, Mapping

import structlog

from controller.backoff import exact_backoff
from controller.droplets.dependencies import DropletDependencies
from controller.droplets.known import KnownDroplets
from controller.droplets.observe import DropletObserver, build_of_requester
from controller.droplets.only_images import find_only_images
from controller.droplets.reconciler import DropletReconciler
from controller.droplets.stagings import KnownStaging
from controller.workqueue import Priority
from reconcile.droplet_actions import Leave, ObservedDroplet
from reconcile.droplet_decisions import decide_droplet
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import Droplet, DropletGuid, DropletPhase, DropletRecord
from reconcile.errors import DockerCacheError
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.references import CacheGuid
from reconcile.times import is_recent

log = structlog.get_logger(scope="droplets")

FIRST_PAUSE = 5.0  # seconds between a request and its listing, or a failure and the next; doubles each time
RECHECK_INTERVAL = 3600.0  # seconds in which each droplet that was left is looked at once at least
GONE_RECHECK_INTERVAL = 86_400.0  # the same of droplets that listings do not show
NEW_FOR = 3600.0  # seconds after a droplet was made in which its app may wait for it, as of one just staged
_CLOCKS_DIFFER_BY = 60.0  # seconds, between Cloud Controller and this machine
MOST_GONE = 50
"""Maximum number of droplets missing in a listing that are asked for one by one: a client that may read
nothing any more sees an empty listing."""
_UNLIKELY_TO_CHANGE = frozenset(
    {
        Reason.DENIED,
        Reason.NOT_ALLOWED,
        Reason.OPTED_OUT,
        Reason.NOT_OPTED_IN,
        Reason.NOT_CACHEABLE,
        Reason.NO_APP_GUID,
        Reason.IMAGE_CHANGED_EXTERNALLY,
        Reason.ALREADY_CACHED,
    }
)
"""Why droplets stay as they are whatever happens; only another config, or their owners, change that."""

_UNTIL_COPY_IS_READY = frozenset(
    {Reason.COPY_NEEDS_VERIFICATION, Reason.COPY_INCOMPLETE, Reason.COPY_LOST, Reason.COPY_CORRUPT}
)
"""Why droplets stay as they are until their copies are as they should be, which may be soon."""

_GONE = frozenset({Reason.DROPLET_GONE, Reason.DROPLET_NOT_STAGED})


class DropletSweep:
    """Lists the droplets, and has those looked at of which something is to be changed.

    Args:
        dependencies: What it works with.
        interval: Seconds between two listings.
        known: Is told of each droplet, and which builds droplets came from.
        observer: Observes the droplets as they were listed.
        reconciler: Looks at those that are to be changed.
    """

    def __init__(
        self,
        dependencies: DropletDependencies,
        *,
        interval: float,
        known: KnownDroplets,
        observer: DropletObserver,
        reconciler: DropletReconciler,
    ) -> None:
        self._dependencies, self._interval = dependencies, interval
        self._observer, self._reconciler = observer, reconciler
        self._index, self._stagings, self._locks = known.index, known.stagings, known.locks
        self._unrecorded: dict[DropletGuid, str | None] = {}
        """The image texts of droplets of which there is nothing to be recorded."""
        self._requested = asyncio.Event()
        self._pause = exact_backoff(min(FIRST_PAUSE, interval), interval)
        self._in_a_row = 0
        self._is_full_due = True
        self._shares = max(1, round(RECHECK_INTERVAL / interval))
        self._gone_shares = max(1, round(GONE_RECHECK_INTERVAL / interval))
        self._listings = dependencies.process.metrics.droplets.listings
        self.count = 0
        """Number of listings that succeeded."""
        self.ended_at = 0.0
        """When the last one ended that succeeded, in UTC seconds since 1970; 0 when there was none."""

    def request(self, *, is_full: bool) -> None:
        """List as soon as possible; a full listing has all droplets looked at that may name copies by now."""
        self._is_full_due = self._is_full_due or is_full
        self._requested.set()

    async def run(self) -> None:
        """List at once, and then at the interval forever."""
        while True:
            is_full, self._is_full_due = self._is_full_due, False
            try:
                await self._sweep(is_full=is_full)
            except DockerCacheError as error:
                self._is_full_due = self._is_full_due or is_full
                self._in_a_row += 1
                seconds = self._pause(self._in_a_row)
                self._listings.labels(outcome="failed").inc()
                log.info("failed-to-list-droplets", error=str(error), retry_after_s=round(seconds, 1))
                await asyncio.sleep(seconds)
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait until the next listing is due."""
        try:
            async with asyncio.timeout(self._interval):
                await self._requested.wait()
        except TimeoutError:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        await asyncio.sleep(self._pause(self._in_a_row))

    async def _sweep(self, *, is_full: bool) -> None:
        started = time.monotonic()
        self._requested.clear()
        dependencies = self._dependencies
        api = dependencies.api.background()
        records = {each.droplet_guid: each for each in await dependencies.records.list_droplets()}
        listed: dict[DropletGuid, Droplet] = {}
        async for droplet in api.list_droplets():
            listed[droplet.guid] = droplet
            self._index.put(droplet.guid, droplet.app_guid)
            self._note_if_new(droplet)
        self._observer.only_images = await find_only_images(listed, records)
        usable = await self._list_usable_copies()
        due = [
            droplet
            for guid, droplet in listed.items()
            if not self._is_settled(droplet, records.get(guid), usable, is_full=is_full)
        ]
        await self._find_builds(due, records, api)
        queued = 0
        for droplet in due:
            try:
                queued += await self._look(droplet, records.get(droplet.guid), api)
            except DockerCacheError:
                raise
            except Exception:  # what is wrong with one droplet must not keep others from being found
                log.exception("failed-to-look-at-droplet", droplet_guid=droplet.guid)
        queued += self._queue_gone(records, listed.keys())
        for guid in self._unrecorded.keys() - listed.keys():
            del self._unrecorded[guid]
        self.count += 1
        self.ended_at = dependencies.process.clock()
        self._listings.labels(outcome="done").inc()
        (log.info if is_full else log.debug)(
            "listed-droplets",
            droplets=len(listed),
            patched=self._index.count(DropletPhase.PATCHED),
            queued=queued,
            duration_s=round(time.monotonic() - started, 3),
        )

    def _note_if_new(self, droplet: Droplet) -> None:
        """Note a droplet as new whose staging may have ended unseen, as while no daemon ran."""
        process = self._dependencies.process
        if is_recent(droplet.created_at, process.clock() + _CLOCKS_DIFFER_BY, NEW_FOR + _CLOCKS_DIFFER_BY):
            self._stagings.note_new(droplet.guid, process.monotonic())

    async def _list_usable_copies(self) -> frozenset[CacheGuid]:
        """List the copies in the present private registry of which nothing is known to be missing."""
        cache = self._dependencies.rules.cache
        return frozenset(
            image.cache_guid
            for image in await self._dependencies.images.list_images()
            if not image.missing_since and (not image.registry or cache.is_at(image.registry))
        )

    def _is_settled(
        self, droplet: Droplet, record: DropletRecord | None, usable: Collection[CacheGuid], *, is_full: bool
    ) -> bool:
        """Whether a droplet is as it is to be, by what is known without another look at it."""
        if record is None:
            is_known = self._unrecorded.get(droplet.guid, droplet) == droplet.image
            return is_known and not is_full and not self._is_due(droplet.guid)
        dependencies = self._dependencies
        goes_back = dependencies.mode.is_restoring or dependencies.overrides.is_pinned(record.app_guid)
        if record.phase is DropletPhase.PATCHED and record.target == droplet.image and not goes_back:
            is_usable = record.cache_guid in usable and dependencies.rules.cache.is_at(record.registry)
            return is_usable and record.reason is Reason.DROPLET_PATCHED
        is_left = record.phase in {DropletPhase.LEFT, DropletPhase.RESTORED}
        if not is_left or record.original != droplet.image:
            return False
        if record.reason in _UNTIL_COPY_IS_READY or (is_full and record.reason not in _UNLIKELY_TO_CHANGE):
            return False
        return not self._is_due(droplet.guid)

    def _is_due(self, guid: DropletGuid) -> bool:
        """Whether it is the turn of a droplet of which nothing seems to have changed."""
        return _share(guid, self._shares) == self.count % self._shares

    async def _find_builds(
        self,
        droplets: Collection[Droplet],
        records: Mapping[DropletGuid, DropletRecord],
        api: CloudControllerApi,
    ) -> None:
        """Find the build of each droplet whose record names none, for apps whose stagings were observed."""
        wanted = dict[DropletGuid, AppGuid]()
        for droplet in droplets:
            record, image = records.get(droplet.guid), image_of_text(droplet.image)
            is_known = record is not None and (record.build_guid is not None or record.may_name_copy)
            if is_known or image is None or not self._stagings.may_be_found(droplet.guid):
                continue
            binding = await self._dependencies.bindings.find_newest_binding(droplet.app_guid, image)
            if binding is not None and build_of_requester(binding.requester) is not None:
                wanted[droplet.guid] = droplet.app_guid
        if not wanted:
            return
        async for build in api.list_builds(sorted(set(wanted.values()))):
            if build.droplet_guid is not None and wanted.pop(build.droplet_guid, None) is not None:
                self._stagings.put(build.droplet_guid, KnownStaging(build.guid))
        for guid in wanted:
            self._stagings.put_unknown(guid)

    async def _look(self, droplet: Droplet, before: DropletRecord | None, api: CloudControllerApi) -> bool:
        """Record why a droplet stays as it is, or have it looked at anew; return whether it is."""
        with self._reconciler.looking_at(droplet.guid):
            observed = await self._observer.observe(droplet.guid, api, listed=droplet)
            if observed.record != before:  # it was looked at since it was listed
                return False
            action = decide_droplet(observed, self._dependencies.rules)
            if not isinstance(action, Leave):
                self._reconciler.look_at(droplet.guid, self._reconciler.priority_of(droplet.guid))
                return True
            await self._leave(observed, droplet, action)
            return False

    async def _leave(self, observed: ObservedDroplet, droplet: Droplet, leave: Leave) -> None:
        """Record why a droplet stays as it is, unless somebody else records something of it."""
        guid = droplet.guid
        if self._locks.is_locked(guid):
            return
        async with self._locks.lock(guid):
            if await self._dependencies.records.find_droplet(guid) != observed.record:
                return
            outcome = await self._reconciler.changes.leave(observed, leave)
        self._reconciler.note_obstacle(guid, outcome.reason)
        if outcome.record is None:
            self._unrecorded[guid] = droplet.image
        before = observed.record
        if before is None or before.phase is not DropletPhase.PATCHED or outcome.reason is before.reason:
            return
        log.info(  # it named its copy, so this is logged as if it had been looked at alone
            "reconciled-droplet",
            droplet_guid=guid,
            app_guid=droplet.app_guid,
            reason=outcome.reason,
            detail=outcome.detail,
            cache_image=before.target,
        )

    def _queue_gone(
        self, records: Mapping[DropletGuid, DropletRecord], listed: Collection[DropletGuid]
    ) -> int:
        """Have droplets looked at that have a record, and that Cloud Controller does not show any more."""
        share = self.count % self._gone_shares
        gone = [
            record
            for guid, record in records.items()
            if guid not in listed and (record.reason not in _GONE or _share(guid, self._gone_shares) == share)
        ]
        gone.sort(key=lambda each: (each.reason in _GONE, each.updated_at))
        for record in gone[:MOST_GONE]:
            self._reconciler.look_at(record.droplet_guid, Priority.ROUTINE)
        return len(gone[:MOST_GONE])


def _share(guid: DropletGuid, shares: int) -> int:
    return zlib.crc32(guid.encode()) % shares
