"""Holds what operators have asked of the running daemon: a pause, pinned apps, and orders for single LRPs.

The pause and the pins outlive the process. An order is a single attempt for an operator who waits for its
outcome, and ends with the process. One that was accepted for an LRP in flight stands when nobody waits any
more: nothing else says what is to follow the migration under way. A pause or a pin is saved and in force, or
neither, although the operator goes away meanwhile.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from controller.shielding import to_the_end
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.orders import Order
from reconcile.reasons import AppState, Reason

log = structlog.get_logger(scope="control")

_UNDER_WAY = frozenset({AppState.PENDING, AppState.MIGRATING})

OrderListener = Callable[[ProcessGuid, Reason, str], None]
"""Is called with process GUID, reason and detail after each pass over an LRP that has an order."""


class OperatorRecords(Protocol):
    """Where the pause and the pins are stored."""

    async def find_paused(self) -> bool | None:
        """Whether the daemon was paused; None when no pause and no resumption was ever saved."""

    async def save_paused(self, *, is_paused: bool) -> None:
        """Save whether the daemon is paused."""

    async def list_pins(self) -> frozenset[AppGuid]:
        """List the apps that are pinned to their sources."""

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        """Pin apps to their sources."""

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps be migrated again."""


def is_over(reason: Reason) -> bool:
    """Whether an order ends with a pass that came to this reason."""
    return reason.state not in _UNDER_WAY


class OperatorControl:
    """The overrides of operators, as passes and cache jobs see them."""

    def __init__(self, records: OperatorRecords) -> None:
        self._records = records
        self._is_paused = True
        self._was_paused: bool | None = None
        self._pinned: set[AppGuid] = set()
        self._orders: dict[ProcessGuid, tuple[Order, OrderListener | None]] = {}
        self.of_pins: list[Callable[[AppGuid], None]] = []
        """Are told of each app that was pinned or unpinned."""
        self.of_resumption: list[Callable[[], None]] = []
        """Are told of the end of a pause."""
        self.max_in_flight: int | None = None
        """How many LRPs may be migrated at a time while a plan is applied; None leaves it to the config."""

    async def load(self, *, start_paused: bool) -> None:
        """Read the pause and the pins; in a new store the config decides about the pause."""
        paused = await self._records.find_paused()
        if paused is None:
            await self._records.save_paused(is_paused=start_paused)
        self._is_paused = start_paused if paused is None else paused
        self._pinned = set(await self._records.list_pins())
        if self._is_paused:
            log.info("paused", reason="paused in an earlier run" if paused else "start_paused")

    async def load_for_orders_only(self) -> None:
        """Read the pins, and start only ordered work in this process, without saving a pause."""
        self._pinned = set(await self._records.list_pins())
        self._is_paused, self._was_paused = True, await self._records.find_paused() is True

    @property
    def was_paused(self) -> bool:
        """Whether an operator has paused the daemon, also where this process starts only ordered work."""
        return self._was_paused if self._was_paused is not None else self._is_paused

    @property
    def is_paused(self) -> bool:
        """Whether only ordered work is started."""
        return self._is_paused

    @property
    def pinned_apps(self) -> frozenset[AppGuid]:
        """The apps that stay on their sources."""
        return frozenset(self._pinned)

    async def pause(self) -> None:
        """Start no new work, also after a restart."""
        await to_the_end(self._pause())

    async def _pause(self) -> None:
        await self._records.save_paused(is_paused=True)
        self._is_paused = True
        log.info("paused", reason="operator")

    async def resume(self) -> None:
        """Start new work again."""
        await to_the_end(self._resume())

    async def _resume(self) -> None:
        await self._records.save_paused(is_paused=False)
        self._is_paused = False
        log.info("resumed")
        for listener in self.of_resumption:
            listener()

    def is_pinned(self, app_guid: AppGuid) -> bool:
        """Whether an app stays on its source because an operator has restored it."""
        return app_guid in self._pinned

    async def pin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps stay on their sources; an empty GUID would pin every LRP that names no app."""
        await to_the_end(self._pin(frozenset(app_guids) - {AppGuid("")}))

    async def _pin(self, apps: frozenset[AppGuid]) -> None:
        await self._records.pin(apps)
        changed = apps - self._pinned
        self._pinned |= apps
        self._report_pins(changed)

    async def unpin(self, app_guids: Iterable[AppGuid]) -> None:
        """Let apps be migrated again."""
        await to_the_end(self._unpin(frozenset(app_guids) & self._pinned))

    async def _unpin(self, apps: frozenset[AppGuid]) -> None:
        await self._records.unpin(apps)
        self._pinned -= apps
        self._report_pins(apps)

    def _report_pins(self, changed: Iterable[AppGuid]) -> None:
        for app_guid in changed:
            for listener in self.of_pins:
                listener(app_guid)

    def order_of(self, process_guid: ProcessGuid) -> Order | None:
        """Return the order for an LRP, until a pass has ended it; None when there is none."""
        order, _ = self._orders.get(process_guid, (None, None))
        return order

    def place_order(self, process_guid: ProcessGuid, order: Order, listener: OrderListener) -> bool:
        """Order something for an LRP; return False, and order nothing, while another order is waited for."""
        _, waiting = self._orders.get(process_guid, (None, None))
        if waiting is not None:
            return False
        self._orders[process_guid] = (order, listener)
        return True

    def withdraw_order(self, process_guid: ProcessGuid) -> None:
        """End an LRP's order, if it has one; a migration that was started continues."""
        self._orders.pop(process_guid, None)

    def leave_order(self, process_guid: ProcessGuid) -> None:
        """Let an LRP's order, if it has one, stand until it is over, although nobody waits any more."""
        order = self.order_of(process_guid)
        if order is not None:
            self._orders[process_guid] = (order, None)

    def report(self, process_guid: ProcessGuid, reason: Reason, detail: str) -> None:
        """Report the outcome of a pass to the listener of the LRP's order, which may end with it."""
        placed = self._orders.get(process_guid)
        if placed is None:
            return
        if is_over(reason):
            self.withdraw_order(process_guid)
        _, listener = placed
        if listener is not None:
            listener(process_guid, reason, detail)
