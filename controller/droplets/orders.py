"""Holds what operators have ordered for single droplets, until a look at the droplet has ended the order.

An order ends with the process: it is one attempt for an operator who waits for its outcome.
"""

from collections.abc import Callable

from controller.control import is_over
from reconcile.droplets import DropletGuid, DropletOrder
from reconcile.reasons import Reason

DropletListener = Callable[[DropletGuid, Reason, str], None]
"""Is called with droplet GUID, reason and detail after each look at a droplet that has an order."""


class DropletOrders:
    """The orders for droplets."""

    def __init__(self) -> None:
        self._orders: dict[DropletGuid, tuple[DropletOrder, DropletListener | None]] = {}

    def order_of(self, guid: DropletGuid) -> DropletOrder | None:
        """Return the order for a droplet; None when there is none or it has ended."""
        order, _ = self._orders.get(guid, (None, None))
        return order

    def place(self, guid: DropletGuid, order: DropletOrder, listener: DropletListener) -> bool:
        """Order something for a droplet; return False, and order nothing, while another is waited for."""
        _, waiting = self._orders.get(guid, (None, None))
        if waiting is not None:
            return False
        self._orders[guid] = (order, listener)
        return True

    def withdraw(self, guid: DropletGuid) -> None:
        """End a droplet's order, if it has one; a request that was sent is not taken back."""
        self._orders.pop(guid, None)

    def report(self, guid: DropletGuid, order: DropletOrder | None, reason: Reason, detail: str) -> None:
        """Report the outcome of a look to the order that it has observed, not to one placed since."""
        placed, listener = self._orders.get(guid, (None, None))
        if placed is None or placed is not order:
            return
        if is_over(reason):
            self.withdraw(guid)
        if listener is not None:
            listener(guid, reason, detail)
