"""Decides about many droplets as a look decides about one; operators read and order them here.

Droplets are listed once, with as few requests as there are pages. What is as it is to be, by its record,
costs nothing more; of the rest Cloud Controller is asked for what neither listing nor records tell, and not
for more than a plan is worth.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from controller.droplets.dependencies import DropletDependencies
from controller.droplets.droplets import Droplets
from controller.droplets.known import KnownDroplets
from controller.droplets.observe import DropletObserver
from controller.droplets.only_images import find_only_images
from controller.droplets.orders import DropletOrders
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplet_actions import DropletAction, Leave, ObservedDroplet
from reconcile.droplet_decisions import predict_droplet_action
from reconcile.droplet_plan import DecidedDroplet, DropletScope
from reconcile.droplet_ports import CloudControllerApi
from reconcile.droplet_texts import image_of_text
from reconcile.droplets import (
    Build,
    BuildGuid,
    Droplet,
    DropletGuid,
    DropletOrder,
    DropletPhase,
    DropletRecord,
    Package,
    PackageGuid,
)
from reconcile.errors import ErrorCode, Unavailable
from reconcile.lrps import AppGuid
from reconcile.migrations import Goal
from reconcile.reasons import Reason
from reconcile.selection import AppNames

MOST_APPS_ASKED = 500
"""Apps whose droplets are listed by the app; of more apps all droplets are listed."""

MOST_READS = 200
"""Single resources that a plan reads; droplets that would need more are named as not asked for."""


class SurveyedCloudController(CloudControllerApi, Protocol):
    """Cloud Controller, as far as operators ask for it."""

    def status(self) -> CloudControllerStatus:
        """Return how it has answered so far."""

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Read what apps are chosen by, all of Docker when no GUIDs are given."""


class SurveyedRecords(Protocol):
    """The records of droplets."""

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        """List all records."""

    async def page_droplets(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        """List the next page of records after a droplet's GUID; an empty one after the last."""

    async def list_droplets_of_apps(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List the records of some apps, the newest of each app first."""

    async def count_droplets(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        """Count the records by phase and reason."""


class DropletSurvey:
    """The droplets of Cloud Controller, as operators read and order them.

    Args:
        droplets: Carries out orders.
        dependencies: What decisions are made from.
        known: What is remembered of droplets.
        records: Those of droplets.
        api: Cloud Controller's.
    """

    updates = True

    def __init__(
        self,
        droplets: Droplets,
        dependencies: DropletDependencies,
        *,
        known: KnownDroplets,
        records: SurveyedRecords,
        api: SurveyedCloudController,
    ) -> None:
        self._droplets, self._dependencies, self._known = droplets, dependencies, known
        self._records, self._api = records, api
        self._cache = dependencies.rules.cache

    @property
    def status(self) -> CloudControllerStatus:
        """How Cloud Controller has answered."""
        return self._api.status()

    @property
    def listed_at(self) -> float:
        """When all droplets were last listed, in UTC seconds since 1970; 0 when they never were."""
        return self._droplets.status().listed_at

    @property
    def orders(self) -> Droplets:
        """What takes orders for single droplets."""
        return self._droplets

    async def list_records(self) -> tuple[DropletRecord, ...]:
        """List what is known of droplets."""
        return await self._records.list_droplets()

    async def page_records(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        """List the next page of what is known, after a droplet's GUID; an empty one after the last."""
        return await self._records.page_droplets(after)

    async def list_records_of(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List what is known of the droplets of some apps, the newest of each app first."""
        return await self._records.list_droplets_of_apps(app_guids)

    async def count_records(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        """Count the droplets that are known, by what was done about them and why."""
        return await self._records.count_droplets()

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Ask for the names of apps, of all of Docker when None."""
        return await self._api.name_apps(app_guids)

    async def decide_each(
        self, order: DropletOrder, scope: DropletScope
    ) -> AsyncGenerator[DecidedDroplet, None]:
        """Decide about each staged droplet of Docker, the newest first, as if it had the order.

        Raises:
            DockerCacheError: Cloud Controller or the store does not answer; what was yielded before is right.
        """
        listed = await self._list(scope.apps)
        records = {each.droplet_guid: each for each in await self._records.list_droplets()}
        looking = _Looking(self._dependencies, self._known, order, _FewReads(self._api))
        looking.observer.only_images = await find_only_images(listed, records)
        newest = dict[AppGuid, float]()
        for droplet in listed.values():
            newest[droplet.app_guid] = max(newest.get(droplet.app_guid, 0.0), droplet.created_at)
        for guid, droplet in listed.items():
            record = records.get(guid)
            decided = DecidedDroplet(
                guid,
                droplet.app_guid,
                droplet.image or "",
                Leave(Reason.RESTORED),
                names_copy=self._names_copy(droplet, record),
                is_newest=droplet.created_at >= newest[droplet.app_guid],
                is_pinned=self._dependencies.overrides.is_pinned(droplet.app_guid),
                record=record,
            )
            if scope.chooses(decided.app_guid, decided.original):
                yield await self._decide(decided, droplet, looking)

    async def _list(self, apps: frozenset[AppGuid] | None) -> dict[DropletGuid, Droplet]:
        if apps is not None and not apps:
            return {}
        asked = sorted(apps) if apps is not None and len(apps) <= MOST_APPS_ASKED else ()
        return {
            droplet.guid: droplet
            async for droplet in self._api.list_droplets(app_guids=asked)
            if apps is None or droplet.app_guid in apps
        }

    def _names_copy(self, droplet: Droplet, record: DropletRecord | None) -> bool:
        if record is not None and (record.may_name_copy or record.target == droplet.image):
            return True
        image = image_of_text(droplet.image)
        return image is not None and self._cache.owns(image)

    async def _decide(self, decided: DecidedDroplet, droplet: Droplet, looking: "_Looking") -> DecidedDroplet:
        record, is_back = decided.record, looking.order.goal is Goal.SOURCE
        if is_back and not decided.names_copy:
            return decided
        if not is_back and record is not None and self._is_settled(droplet, record):
            return replace(decided, action=Leave(Reason.DROPLET_PATCHED))
        action, observed = await looking.decide(droplet)
        if observed is None or observed.job is None or not observed.job.is_open:
            return replace(decided, action=action)
        return replace(decided, action=action, waits_for=observed.job.source)

    def _is_settled(self, droplet: Droplet, record: DropletRecord) -> bool:
        is_patched = record.phase is DropletPhase.PATCHED and record.reason is Reason.DROPLET_PATCHED
        return is_patched and record.target == droplet.image and self._cache.is_at(record.registry)


@dataclass(slots=True)
class _Looking:
    """Observes and decides as if each droplet had an order, which nobody sees."""

    dependencies: DropletDependencies
    known: KnownDroplets
    order: DropletOrder
    api: "_FewReads"
    observer: DropletObserver = field(init=False)
    _orders: DropletOrders = field(default_factory=DropletOrders)

    def __post_init__(self) -> None:
        known = replace(self.known, orders=self._orders)
        self.observer = DropletObserver(self.dependencies, known)

    async def decide(self, droplet: Droplet) -> tuple[DropletAction, ObservedDroplet | None]:
        """Decide about one droplet, past what would only be recorded."""
        self._orders.place(droplet.guid, self.order, _ignore)
        try:
            observed = await self.observer.observe(droplet.guid, self.api, listed=droplet)
        except Unavailable as error:
            if error.code != ErrorCode.NOT_ASKED:
                raise
            return Leave(Reason.CHECK_FAILED, error.detail), None
        finally:
            self._orders.withdraw(droplet.guid)
        observed, action = predict_droplet_action(observed, self.dependencies.rules)
        return action, observed


def _ignore(_guid: DropletGuid, _reason: Reason, _detail: str) -> None:
    """Hear of nothing."""


@dataclass(slots=True)
class _FewReads:
    """Cloud Controller, of which a plan reads few single resources, and changes none."""

    api: CloudControllerApi
    left: int = MOST_READS

    def _count(self) -> None:
        if not self.left:
            detail = f"a plan asks Cloud Controller for {MOST_READS} single resources at most"
            raise Unavailable("cloud-controller", ErrorCode.NOT_ASKED, detail, may_have_happened=False)
        self.left -= 1

    async def find_build(self, guid: BuildGuid) -> Build | None:
        """Read one build."""
        self._count()
        return await self.api.find_build(guid)

    async def find_droplet(self, guid: DropletGuid) -> Droplet | None:
        """Read one droplet."""
        self._count()
        return await self.api.find_droplet(guid)

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        """Read the droplet that an app is started from."""
        self._count()
        return await self.api.find_current_droplet(app_guid)

    async def find_package(self, guid: PackageGuid) -> Package | None:
        """Read one package."""
        self._count()
        return await self.api.find_package(guid)

    async def update_image(self, guid: DropletGuid, image: str) -> Droplet:  # noqa: ARG002 - a port
        """Refuse to change anything."""
        raise AssertionError("a plan changes nothing")

    def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        """List droplets."""
        return self.api.list_droplets(app_guids=app_guids)

    def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        """List builds."""
        return self.api.list_builds(app_guids)

    def background(self) -> Self:
        """Return itself: somebody waits for a plan."""
        return self
