"""What the reconciliation of droplets needs from Cloud Controller and the store, as small protocols.

Every method raises the errors of `reconcile.errors`; a `find_` method returns None for what does not exist.
Cloud Controller also hides what a client may not read: to such a client it does not exist.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol, Self

from reconcile.droplets import (
    Build,
    BuildGuid,
    Droplet,
    DropletGuid,
    DropletRecord,
    Package,
    PackageGuid,
)
from reconcile.lrps import AppGuid
from reconcile.references import CacheGuid


class CloudControllerApi(Protocol):
    """The API of Cloud Controller.

    Raises:
        LeaseLost: Another instance may be active: nothing was sent.
        Unavailable: It does not answer, or is not to be asked now; `retry_after` where a time is known.
        Denied: The client lacks a scope, or its secret is wrong.
        Invalid: The request or the answer is wrong.
    """

    async def find_build(self, guid: BuildGuid) -> Build | None:
        """Read one build; it may have been deleted since."""

    async def find_droplet(self, guid: DropletGuid) -> Droplet | None:
        """Read one droplet."""

    async def find_current_droplet(self, app_guid: AppGuid) -> Droplet | None:
        """Read the droplet that an app is started from; None when it has none, or there is no such app."""

    async def find_package(self, guid: PackageGuid) -> Package | None:
        """Read one package."""

    async def update_image(self, guid: DropletGuid, image: str) -> Droplet:
        """Write the image text of a droplet, which must be staged and of Docker; it is not checked.

        Raises:
            NotFound: There is no such droplet.
            Unavailable: Also for a droplet in any other state; `may_have_happened` where it may be written.
        """

    def list_droplets(self, *, app_guids: Collection[AppGuid] = ()) -> AsyncIterator[Droplet]:
        """List the staged droplets of Docker, of some apps or of all, the newest first, page by page."""

    def list_builds(self, app_guids: Collection[AppGuid]) -> AsyncIterator[Build]:
        """List the builds of some apps, the newest first, page by page."""

    def background(self) -> Self:
        """Return the same API, whose requests wait for the background's share of the budget."""


class DropletRecords(Protocol):
    """The records of droplets."""

    async def find_droplet(self, guid: DropletGuid) -> DropletRecord | None:
        """Read one droplet's record."""

    async def save_droplet(self, record: DropletRecord) -> None:
        """Save one droplet's record, in place of an earlier one."""

    async def list_droplets_of_app(self, app_guid: AppGuid) -> tuple[DropletRecord, ...]:
        """List the records of an app, the newest first."""

    async def list_droplets_of_copy(self, cache_guid: CacheGuid) -> tuple[DropletRecord, ...]:
        """List the records with a copy in whatever phase, the newest first."""

    async def list_droplets(self) -> tuple[DropletRecord, ...]:
        """List all records, by the droplet's GUID."""

    async def forget_droplets(self, guids: Sequence[DropletGuid]) -> None:
        """Delete the records of some droplets."""
