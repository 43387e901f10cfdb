"""The droplets of Cloud Controller as calls of operators reach them, and droplets that nobody changes."""

from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Protocol

from controller.admin.droplet_changes import DropletListener, OrderedDroplets
from reconcile.cloud_controller_status import CloudControllerStatus
from reconcile.droplet_plan import DecidedDroplet, DropletScope
from reconcile.droplets import DropletGuid, DropletOrder, DropletPhase, DropletRecord
from reconcile.lrps import AppGuid
from reconcile.reasons import Reason
from reconcile.selection import AppNames


class StoredDroplets(Protocol):
    """The records of droplets in the store."""

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        """List all records."""

    async def page_droplets(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        """List the next page of records after a droplet's GUID; an empty one after the last."""

    async def list_droplets_of_apps(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List the records of some apps, the newest of each app first."""

    async def count_droplets(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        """Count the records by phase and reason."""


class ReadCloudController(Protocol):
    """Cloud Controller, as far as it is read for operators."""

    def status(self) -> CloudControllerStatus:
        """Return how Cloud Controller has answered so far."""

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Read what apps are chosen by, all of Docker when no GUIDs are given."""


class AdminDroplets(Protocol):
    """The droplets of Cloud Controller."""

    @property
    def status(self) -> CloudControllerStatus | None:
        """How Cloud Controller has answered; None where none is configured."""

    @property
    def updates(self) -> bool:
        """Whether droplets are changed; otherwise they stay as they are."""

    @property
    def listed_at(self) -> float:
        """When all droplets were last listed, in UTC seconds since 1970; 0 when they never were."""

    @property
    def orders(self) -> OrderedDroplets:
        """What takes orders for single droplets."""

    async def list_records(self) -> tuple[DropletRecord, ...]:
        """List what is known of droplets, in whatever order; also where no Cloud Controller is configured."""

    async def page_records(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        """List the next page of what is known, after a droplet's GUID; an empty one after the last."""

    async def list_records_of(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List what is known of the droplets of some apps, the newest of each app first."""

    async def count_records(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        """Count the droplets that are known, by what was done about them and why."""

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Ask for the names of apps, of all of Docker when None; those that are not known are missing."""

    def decide_each(self, order: DropletOrder, scope: DropletScope) -> AsyncGenerator[DecidedDroplet, None]:
        """Decide about each staged droplet of Docker, the newest first, as if it had the order.

        Raises:
            DockerCacheError: Cloud Controller or the store does not answer; what was yielded before is right.
        """


class LeftDroplets:
    """Droplets that nobody changes: no Cloud Controller is configured, or it is only read.

    Args:
        records: What earlier runs may have recorded.
        cloud_controller: None where none is configured.
    """

    updates = False
    listed_at = 0.0

    def __init__(self, records: StoredDroplets, cloud_controller: ReadCloudController | None) -> None:
        self._records, self._cloud_controller = records, cloud_controller

    @property
    def status(self) -> CloudControllerStatus | None:
        """How Cloud Controller has answered; None where none is configured."""
        return None if self._cloud_controller is None else self._cloud_controller.status()

    @property
    def orders(self) -> "LeftDroplets":
        """What takes no order."""
        return self

    def place_order(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:  # noqa: ARG002 - a port
        """Refuse an order."""
        return False

    def withdraw_order(self, guid: DropletGuid) -> None:
        """End nothing: there is no order."""

    async def list_records(self) -> tuple[DropletRecord, ...]:
        """List what was known of droplets when they were changed."""
        return await self._records.list_droplets()

    async def page_records(self, after: DropletGuid | None) -> tuple[DropletRecord, ...]:
        """List the next page of what was known."""
        return await self._records.page_droplets(after)

    async def list_records_of(self, app_guids: Collection[AppGuid]) -> tuple[DropletRecord, ...]:
        """List what was known of the droplets of some apps."""
        return await self._records.list_droplets_of_apps(app_guids)

    async def count_records(self) -> Mapping[tuple[DropletPhase, Reason], int]:
        """Count the droplets that were known."""
        return await self._records.count_droplets()

    async def name_apps(self, app_guids: Collection[AppGuid] | None) -> Mapping[AppGuid, AppNames]:
        """Ask for the names of apps, where there is somebody to ask."""
        return {} if self._cloud_controller is None else await self._cloud_controller.name_apps(app_guids)

    async def decide_each(
        self,
        order: DropletOrder,  # noqa: ARG002 - a port
        scope: DropletScope,  # noqa: ARG002 - a port
    ) -> AsyncGenerator[DecidedDroplet, None]:
        """Decide about none."""
        nothing: tuple[DecidedDroplet, ...] = ()
        for decided in nothing:
            yield decided
