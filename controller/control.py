"""What operators have asked of the running daemon: a pause, apps that are held, and LRPs to be moved now.

The pause and the pins outlive the process; an order is one try, given by somebody who is watching,
and ends with the process.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.orders import Order
from reconcile.reasons import AppState, Reason
from reconcile.records import Goal

log = structlog.get_logger(scope="control")

_UNDER_WAY = frozenset({AppState.PENDING, AppState.MIGRATING})

Follower = Callable[[ProcessGuid, Reason, str], None]
"""Is told process GUID, reason and detail of each pass over an LRP that was ordered."""


class Operations(Protocol):
    """Where it is kept."""

    async def find_paused(self) -> bool | None:
        """Whether the daemon was paused; None when nobody ever said."""

    async def save_paused(self, *, is_paused: bool) -> None:
        """Keep whether the daemon is paused."""

    async def list_pins(self) -> frozenset[AppGuid]:
        """List the apps that stay on their sources."""

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps stay on their sources."""

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps be moved again."""


def is_over(reason: Reason) -> bool:
    """Whether an order is over with a pass that came to this."""
    return reason.state not in _UNDER_WAY


class Control:
    """The overrides of operators, as passes and cache jobs see them."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._is_paused = True
        self._was_paused: bool | None = None
        self._held: set[AppGuid] = set()
        self._orders: dict[ProcessGuid, Order] = {}
        self._followers: dict[ProcessGuid, Follower] = {}
        self.max_in_flight: int | None = None
        """How many LRPs may be moved at a time while somebody's orders are carried out."""

    async def load(self, *, start_paused: bool) -> None:
        """Take up what an earlier run was told; a store that is new begins as the config says."""
        paused = await self._operations.find_paused()
        if paused is None:
            await self._operations.save_paused(is_paused=start_paused)
        self._is_paused = start_paused if paused is None else paused
        self._held = set(await self._operations.list_pins())
        if self._is_paused:
            log.info("paused", reason="as it was left" if paused else "start_paused")

    async def load_for_orders_alone(self) -> None:
        """Begin nothing but what is ordered, for this process alone."""
        self._held = set(await self._operations.list_pins())
        self._is_paused, self._was_paused = True, await self._operations.find_paused() is True

    @property
    def was_paused(self) -> bool:
        """Whether an operator paused the daemon, whatever this process begins."""
        return self._was_paused if self._was_paused is not None else self._is_paused

    @property
    def is_paused(self) -> bool:
        """Nothing is begun but what an order asks for."""
        return self._is_paused

    @property
    def pinned_apps(self) -> frozenset[AppGuid]:
        """The apps that stay on their sources."""
        return frozenset(self._held)

    async def pause(self) -> None:
        """Begin nothing any more, also after a restart."""
        await self._operations.save_paused(is_paused=True)
        self._is_paused = True
        log.info("paused", reason="an operator asked for it")

    async def resume(self) -> None:
        """Go on."""
        await self._operations.save_paused(is_paused=False)
        self._is_paused = False
        log.info("resumed")

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source, where an operator put it back."""
        return app_guid in self._held

    async def prepare(self, goal: Goal, app_guids: Iterable[AppGuid]) -> None:
        """Hold apps that are to go back to their sources, and release those that are to be moved."""
        apps = frozenset(app_guids) - {AppGuid("")}
        if goal is Goal.SOURCE:
            await self._operations.pin(apps)
            self._held |= apps
        else:
            await self._operations.unpin(apps & self._held)
            self._held -= apps

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Give what was asked of an LRP, until a pass has come to its end."""
        return self._orders.get(process_guid)

    @property
    def orders(self) -> Mapping[ProcessGuid, Order]:
        """All orders that are not over."""
        return self._orders

    def place(self, process_guid: ProcessGuid, order: Order, follower: Follower) -> bool:
        """Ask for something, and tell whether that could be done: one operator at a time asks for an LRP."""
        if process_guid in self._orders:
            return False
        self._orders[process_guid], self._followers[process_guid] = order, follower
        return True

    def withdraw(self, process_guid: ProcessGuid) -> None:
        """Ask for nothing any more; a migration that was begun goes on to its end."""
        self._orders.pop(process_guid, None)
        self._followers.pop(process_guid, None)

    def report(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Tell what a pass came to, for an order that may be over with it."""
        follower = self._followers.get(process_guid)
        if follower is None:
            return
        if is_over(reason):
            self.withdraw(process_guid)
        follower(process_guid, reason, detail)
