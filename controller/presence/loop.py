"""Checks copies in the private registry on a schedule and on suspicion, and repairs incomplete ones.

Two checks in a row must find something missing before a copy counts as incomplete. An incomplete copy is then
checked again and again, until it is complete or its record is gone.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import structlog

from controller.backoff import backoff
from controller.presence.dependencies import PresenceDependencies
from controller.presence.repairs import Repairs
from controller.presence.schedule import MAX_REQUESTS_PER_SECOND, Intervals, Schedule
from controller.presence.slow_starts import SlowStarts
from controller.workqueue import WorkQueue
from reconcile.copying_ports import CheckDepth
from reconcile.errors import DockerCacheError
from reconcile.events import ActualLrpCrashed
from reconcile.lrps import ActualLrp, ProcessGuid
from reconcile.missing_copies import seen
from reconcile.records import CachedImage, CacheJob, CopyCheck, JobId
from reconcile.references import CacheGuid
from reconcile.start_failures import start_failure
from reconcile.times import age_of

log = structlog.get_logger(scope="presence")

CONFIRM_AFTER = 5.0
"""Seconds between the two looks of which both must find something missing."""

FOLLOW_UP = 30.0
"""Seconds between two looks at a copy that is incomplete; the next look is at once when a repair ends."""

LOOK_PAUSE = 20.0
"""Shortest seconds between two looks at one copy that suspicions ask for."""

LOOK_WITHIN = 60.0
"""Seconds that a look may take: after that the registry counts as one that does not answer."""

SLOW_CHECK_INTERVAL = 5.0
"""Seconds between two searches for instances that start slowly."""

UNANSWERED_PAUSE = backoff(2.0, 60.0)
"""Seconds until the next look, by how many looks in a row the registry has not answered."""

SYNC_INTERVAL = 10.0
"""Seconds between two comparisons of the schedule with the copies that are in use."""


class PresenceLoop:
    """Looks after the copies that LRPs run from.

    Args:
        dependencies: The systems and records that the loop works with.
        intervals: Times between two scheduled looks at one copy.
        confirm_after: See `CONFIRM_AFTER`.
        random_part: Gives numbers from 0 to 1, which spread looks over time.
    """

    def __init__(
        self,
        dependencies: PresenceDependencies,
        *,
        intervals: Intervals,
        confirm_after: float = CONFIRM_AFTER,
        random_part: Callable[[], float] = random.random,
    ) -> None:
        self._dependencies, self._confirm_after = dependencies, confirm_after
        self._registry, self._cache = dependencies.registry, dependencies.cache
        self._images, self._checks = dependencies.images, dependencies.checks
        self._uses, self._process = dependencies.uses, dependencies.process
        self._schedule = Schedule(intervals, random_part=random_part)
        self._random = random_part
        self._suspects: WorkQueue[CacheGuid] = WorkQueue()
        self._queued: set[CacheGuid] = set()  # in the queue, or being looked at
        self._depths: dict[CacheGuid, CheckDepth] = {}  # that suspicions ask for
        self._looked_at: dict[CacheGuid, float] = {}  # seconds of the monotonic clock
        self._seen_missing: set[CacheGuid] = set()  # by one look at least
        self._incomplete: dict[CacheGuid, CopyCheck] = {}  # by two looks, and saved
        self._unanswered = 0
        self.of_copies: list[Callable[[CacheGuid], None]] = []
        """Functions that are called with each copy about which a look has found something out."""
        self._slow_starts = SlowStarts(dependencies.process.monotonic)
        self.repairs = Repairs(dependencies)
        metrics = dependencies.process.metrics
        metrics.copies.incomplete.set_function(lambda: len(self._incomplete))
        metrics.copies.lost.set_function(lambda: self.lost)

    def close(self) -> None:
        """Stop all timers."""
        self._suspects.close()

    def note_instance(self, row: ActualLrp) -> None:
        """Note an instance that runs from a copy; one that finds no cell makes the copy suspect."""
        cache_guid = self._uses.copy_of(row.process_guid)
        self._slow_starts.note(row, cache_guid)
        if cache_guid is not None and row.placement_error:
            self.suspect(cache_guid, CheckDepth.MANIFEST)

    def note_gone_instance(self, row: ActualLrp) -> None:
        """Note that an instance is gone."""
        self._slow_starts.forget(row.instance_guid)

    def note_crash(self, crash: ActualLrpCrashed) -> None:
        """Look at the copy that a crashed instance ran from; at its blobs too after a failed pull."""
        cache_guid = self._uses.copy_of(crash.process_guid)
        if cache_guid is None:
            return
        failure = start_failure(crash.crash_reason)
        is_pull = failure is not None and failure.is_pull_failure
        self.suspect(cache_guid, CheckDepth.BYTES if is_pull else CheckDepth.MANIFEST)

    async def order(self, copy: CachedImage) -> CacheJob:
        """Have a copy sent again at once, since an operator asks for it."""
        return await self.repairs.order(copy)

    async def find(self, job_id: JobId) -> CacheJob | None:
        """Read one of the jobs that repair copies."""
        return await self.repairs.find(job_id)

    def check(self, cache_guid: CacheGuid) -> None:
        """Look at a copy and its blobs soon, since an operator has found that something is wrong with it."""
        self.suspect(cache_guid, CheckDepth.BYTES)

    def suspect(self, cache_guid: CacheGuid, depth: CheckDepth) -> None:
        """Look at a copy at once, or `LOOK_PAUSE` after the last look, as deep as any suspicion asks."""
        known = self._depths.get(cache_guid, depth)
        self._depths[cache_guid] = max(known, depth)
        if cache_guid not in self._queued:
            since = self._process.monotonic() - self._looked_at.get(cache_guid, -LOOK_PAUSE)
            self._queue_look(cache_guid, max(LOOK_PAUSE - since, 0.0))

    def repair_ended(self, cache_guid: CacheGuid) -> None:
        """Look for a copy whose repair has ended, however it ended."""
        self._depths[cache_guid] = CheckDepth.BYTES
        self._queue_look(cache_guid, 0.0)

    def _queue_look(self, cache_guid: CacheGuid, after: float) -> None:
        self._queued.add(cache_guid)
        self._suspects.add_later(cache_guid, after)

    @property
    def lost(self) -> int:
        """The number of copies of which something is missing that no known source can send."""
        return sum(bool(check.lost_since) for check in tuple(self._incomplete.values()))

    async def run(self) -> None:
        """Look after copies forever."""
        await self._recover()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_schedule(), name="presence-schedule")
            group.create_task(self._run_suspicions(), name="presence-suspicions")
            group.create_task(self._watch_slow_starts(), name="presence-slow-starts")

    async def _recover(self) -> None:
        """Queue the copies of which something was missing when an earlier run of the daemon ended."""
        for check in await self._list_checks():
            if check.missing_since:
                self._seen_missing.add(check.cache_guid)
                self._incomplete[check.cache_guid] = check
                self.suspect(check.cache_guid, CheckDepth.BYTES)

    async def _list_checks(self) -> tuple[CopyCheck, ...]:
        while True:
            try:
                return await self._checks.list_checks()
            except DockerCacheError as error:
                log.info("failed-to-list-checks", error=str(error))
                await asyncio.sleep(SYNC_INTERVAL)

    async def _run_schedule(self) -> None:
        synced_at = -SYNC_INTERVAL
        while True:
            now = self._process.monotonic()
            if now - synced_at >= SYNC_INTERVAL:
                await self._sync_schedule()
                synced_at = now
            look = self._schedule.next_look(self._process.clock())
            if look is None or look.wait > 0:
                await asyncio.sleep(SYNC_INTERVAL if look is None else min(look.wait, SYNC_INTERVAL))
                continue
            if look.cache_guid in self._seen_missing:  # the suspicions look at it anyway
                self._postpone(look.cache_guid)
                continue
            await self._look_on_schedule(look.cache_guid, look.depth)
            pause = UNANSWERED_PAUSE(self._unanswered) if self._unanswered else 0.0
            await asyncio.sleep(max(pause, self._schedule.pause_after(look.depth, self._process.clock())))

    async def _sync_schedule(self) -> None:
        in_use = self._uses.copies() | self._dependencies.named.copies()
        known = dict[CacheGuid, CopyCheck]()
        if self._schedule.has_new(in_use):
            known = {check.cache_guid: check for check in await self._list_checks()}
        self._schedule.follow(in_use, known, self._process.clock())
        for cache_guid in self._looked_at.keys() - in_use - self._queued:
            del self._looked_at[cache_guid]

    def _postpone(self, cache_guid: CacheGuid) -> None:
        now = self._process.clock()
        self._schedule.looked(CopyCheck(cache_guid, checked_at=now, blobs_checked_at=now), now)

    async def _look_on_schedule(self, cache_guid: CacheGuid, depth: CheckDepth) -> None:
        try:
            image = await self._find(cache_guid)
            missing = None if image is None else await self._look(image, depth)
        except DockerCacheError as error:
            log.debug("failed-to-look-for-copy", cache_guid=cache_guid, error=str(error))
            missing = None
        if missing is None:
            self._postpone(cache_guid)  # the registry did not tell: the schedule looks again later
        elif missing:
            self._postpone(cache_guid)
            self._seen_missing.add(cache_guid)
            if cache_guid not in self._queued:
                self._queue_look(cache_guid, self._confirm_after)
        else:
            await self._note(cache_guid, "", depth)

    async def _run_suspicions(self) -> None:
        while True:
            cache_guid = await self._suspects.take()
            try:
                seconds = await self._follow(cache_guid)
            except DockerCacheError as error:
                self._suspects.back_off(cache_guid)
                log.debug("failed-to-look-for-copy", cache_guid=cache_guid, error=str(error))
                continue
            except BaseException:
                self._suspects.back_off(cache_guid)
                raise
            if seconds is None:
                self._queued.discard(cache_guid)
                self._suspects.done(cache_guid)
            else:
                self._suspects.again(cache_guid, seconds)
            await asyncio.sleep(self._random() / MAX_REQUESTS_PER_SECOND)

    async def _watch_slow_starts(self) -> None:
        while True:
            await asyncio.sleep(SLOW_CHECK_INTERVAL)
            for cache_guid in self._slow_starts.take_slow():
                log.info(
                    "slow-start-from-copy", cache_guid=cache_guid, limit_s=round(self._slow_starts.limit)
                )
                self.suspect(cache_guid, CheckDepth.BYTES)

    async def _follow(self, cache_guid: CacheGuid) -> float | None:
        """Look at a copy that is suspect or incomplete, and return the seconds until the next look."""
        image = await self._find(cache_guid)
        if image is None:
            self._forget(cache_guid)
            return None
        is_followed = cache_guid in self._seen_missing
        depth = CheckDepth.BYTES if is_followed else self._depths.get(cache_guid, CheckDepth.MANIFEST)
        missing = await self._look(image, depth)
        if missing is None:
            return UNANSWERED_PAUSE(self._unanswered)
        if not missing:
            await self._note(cache_guid, "", depth)
            if self._depths.get(cache_guid, depth) > depth:  # meanwhile a suspicion asked for a deeper look
                return self._confirm_after
            self._forget(cache_guid)
            if depth is CheckDepth.BYTES:  # a pass may wait for the result
                self._queue_lrps(cache_guid)
            return None
        if cache_guid not in self._seen_missing:
            self._seen_missing.add(cache_guid)
            return self._confirm_after * (1 + self._random() / 2)
        check = await self._note(cache_guid, missing, depth)
        await self._repair(image, check)
        return FOLLOW_UP * (0.75 + self._random() / 2)

    async def _repair(self, image: CachedImage, check: CopyCheck) -> None:
        can_be_repaired = await self.repairs.advance(image)
        if can_be_repaired is not bool(check.lost_since):
            return
        lost_since = 0.0 if can_be_repaired else self._process.clock()
        changed = replace(check, lost_since=lost_since)
        await self._checks.save_check(changed)
        self._incomplete[image.cache_guid] = changed
        if lost_since:
            job = await self.repairs.find_job(image.cache_guid)
            log.error(
                "lost-copy",
                cache_image=str(self._cache.image(image.cache_guid)),
                missing=check.missing,
                lrps=len(self._uses.lrps_of(image.cache_guid)),
                error="" if job is None else job.failure,
            )
            self._queue_lrps(image.cache_guid)

    async def _find(self, cache_guid: CacheGuid) -> CachedImage | None:
        """Read the record of a copy; None when there is none, or the copy is in another registry."""
        image = await self._images.find_image(cache_guid)
        is_here = image is not None and (not image.registry or self._cache.is_at(image.registry))
        return image if is_here else None

    async def _look(self, image: CachedImage, depth: CheckDepth) -> str | None:
        """Look for a copy, and return what is missing of it; None when the registry did not tell."""
        target, outcomes = self._cache.image(image.cache_guid), self._process.metrics.copies.checks
        self._looked_at[image.cache_guid] = self._process.monotonic()
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                missing = await self._registry.find_missing(target, image.digest, depth)
        except (DockerCacheError, TimeoutError) as error:
            self._unanswered += 1
            outcomes.labels(outcome="unanswered").inc()
            write = log.info if self._unanswered == 1 else log.debug
            write("failed-to-look-for-copy", cache_image=str(target), error=str(error) or "no answer in time")
            return None
        self._unanswered = 0
        outcomes.labels(outcome="incomplete" if missing else "complete").inc()
        return missing

    async def _note(self, cache_guid: CacheGuid, missing: str, depth: CheckDepth) -> CopyCheck:
        """Save what a look has found, and log and queue the LRPs of the copy when that is new."""
        now = self._process.clock()
        before = await self._checks.find_check(cache_guid)
        check = seen(before, missing, now=now, with_blobs=depth >= CheckDepth.BLOBS)
        await self._checks.save_check(check)
        self._schedule_if_used(check, now)
        target = str(self._cache.image(cache_guid))
        if missing:
            self._incomplete[cache_guid] = check
            if missing != before.missing:
                lrps = len(self._uses.lrps_of(cache_guid))
                log.error("found-incomplete-copy", cache_image=target, missing=missing, lrps=lrps)
                self._queue_lrps(cache_guid)
        elif cache_guid in self._incomplete and not check.missing_since:
            since = self._incomplete[cache_guid].missing_since
            log.info("copy-is-complete-again", cache_image=target, after_s=round(age_of(since, now)))
        return check

    def _schedule_if_used(self, check: CopyCheck, now: float) -> None:
        if self._is_used(check.cache_guid):
            self._schedule.looked(check, now)

    def _forget(self, cache_guid: CacheGuid) -> None:
        self._seen_missing.discard(cache_guid)
        self._incomplete.pop(cache_guid, None)
        self._depths.pop(cache_guid, None)
        self.repairs.forget(cache_guid)
        if not self._is_used(cache_guid):
            self._looked_at.pop(cache_guid, None)

    def _is_used(self, cache_guid: CacheGuid) -> bool:
        return bool(self._uses.lrps_of(cache_guid)) or self._dependencies.named.names(cache_guid)

    def _queue_lrps(self, cache_guid: CacheGuid) -> None:
        lrps: frozenset[ProcessGuid] = self._uses.lrps_of(cache_guid)
        for process_guid in lrps:
            self._dependencies.queue.add(process_guid)
        for listener in self.of_copies:
            listener(cache_guid)
