"""Asks Cloud Controller which staging an app is started from, seldom and never for long.

What it says is good for some seconds. While it does not answer it is not asked again for a while, and nobody
waits for it: then the source registry is asked, as without a Cloud Controller. So it is when thousands of
apps are to be asked for at once, as after a lost event stream, since the requests must do for stagings too.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Protocol

import structlog

from reconcile.current_stagings import CurrentStaging
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import Build, BuildGuid, Droplet, DropletGuid, DropletRecord, task_of_build
from reconcile.errors import Denied, DockerCacheError, Unavailable
from reconcile.lrps import AppGuid
from reconcile.records import requester_of_task
from reconcile.references import ImageReference

log = structlog.get_logger(scope="current-stagings")

ANSWER_WITHIN = 5.0
"""Seconds that one app's staging may take to be found."""

GOOD_FOR = 20.0
"""Seconds for which an answer is good."""

NOT_AGAIN_FOR = 30.0
"""Seconds for which it is not asked when it did not answer, and names no time itself."""

NEVER_AGAIN_FOR = 300.0
"""Seconds for which it is not asked when it refused."""

AT_A_TIME = 4
"""Apps that are asked for at the same time."""

AT_ONCE = 50
"""Apps that are asked for without a pause; each costs two requests at most."""

EVERY = 10.0
"""Seconds after which one more app may be asked for."""

REMEMBERED = 10_000
"""Answers that are remembered, the latest."""

MOST_BUILDS = 100
"""Builds of an app that are looked through; Cloud Controller keeps no more."""


class StagingApi(Protocol):
    """Cloud Controller, as far as it knows what apps are started from."""

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        """Read the droplet that an app is started from."""

    def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        """List the builds of some apps, the newest first."""


class StagedDroplets(Protocol):
    """The records of droplets."""

    async def find_droplet(self, guid: DropletGuid) -> DropletRecord | None:
        """Read one droplet's record."""


class CurrentStagings:
    """The stagings that apps are started from.

    Args:
        api: Its requests do not wait for the background's share of the budget: an app may wait for them.
        records: Save a request where a droplet's build is known.
        monotonic: Gives seconds that only grow.
    """

    def __init__(self, api: StagingApi, records: StagedDroplets, *, monotonic: Callable[[], float]) -> None:
        self._api, self._records, self._monotonic = api, records, monotonic
        self._known: OrderedDict[AppGuid, tuple[float, CurrentStaging | None]] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._silent_until = self._all_asked_at = 0.0

    async def find_current_staging(self, app_guid: AppGuid) -> CurrentStaging | None:
        """Read the staging that an app is started from; None when nobody says."""
        async with self._slots:
            at, staging = self._known.get(app_guid, (None, None))
            now = self._monotonic()
            if at is not None and now - at < GOOD_FOR:
                return staging
            if now < self._silent_until or not self._take_turn(now):
                return None
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    staging = await self._ask(app_guid)
            except TimeoutError:
                self._be_silent(NOT_AGAIN_FOR, f"no answer within {ANSWER_WITHIN:g} s")
                return None
            except DockerCacheError as error:
                self._be_silent(_pause_after(error), str(error))
                return None
        self._remember(app_guid, staging)
        return staging

    async def find_current_stagings(self, app_guids: Collection[AppGuid]) -> Mapping[AppGuid, CurrentStaging]:
        """Read the stagings that some apps are started from; without those of which nobody says."""
        async with asyncio.TaskGroup() as group:
            tasks = {guid: group.create_task(self.find_current_staging(guid)) for guid in sorted(app_guids)}
        found = {guid: task.result() for guid, task in tasks.items()}
        return {guid: staging for guid, staging in found.items() if staging is not None}

    def _take_turn(self, now: float) -> bool:
        all_asked_at = max(self._all_asked_at, now) + EVERY
        if all_asked_at - now > AT_ONCE * EVERY:
            return False
        self._all_asked_at = all_asked_at
        return True

    async def _ask(self, app_guid: AppGuid) -> CurrentStaging | None:
        droplet = await self._api.find_current_droplet(app_guid)
        if droplet is None or not droplet.is_docker:
            return None
        record = await self._records.find_droplet(droplet.guid)
        build_guid = None if record is None else record.build_guid
        if build_guid is None:
            build_guid = await self._find_build(app_guid, droplet)
        return CurrentStaging(
            _source_of(droplet, record),
            "" if build_guid is None else requester_of_task(task_of_build(build_guid)),
            droplet.created_at,
        )

    async def _find_build(self, app_guid: AppGuid, droplet: Droplet) -> BuildGuid | None:
        looked_at = 0
        async for build in self._api.list_builds([app_guid]):
            if build.droplet_guid == droplet.guid:
                return build.guid
            looked_at += 1
            if looked_at >= MOST_BUILDS:
                break
        return None

    def _remember(self, app_guid: AppGuid, staging: CurrentStaging | None) -> None:
        self._known.pop(app_guid, None)
        self._known[app_guid] = self._monotonic(), staging
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _be_silent(self, seconds: float, error: str) -> None:
        self._silent_until = self._monotonic() + seconds
        log.info("failed-to-find-staging", error=error, retry_after_s=round(seconds, 1))


def _source_of(droplet: Droplet, record: DropletRecord | None) -> ImageReference | None:
    """Name what was staged: what the droplet names now, or named before this program changed it."""
    text = droplet.image
    if record is not None and text == record.target:
        text = record.original
    return image_of_text(text)


def _pause_after(error: DockerCacheError) -> float:
    if isinstance(error, Unavailable):
        return max(NOT_AGAIN_FOR, error.retry_after or 0.0)
    return NEVER_AGAIN_FOR if isinstance(error, Denied) else NOT_AGAIN_FOR
