"""What this process remembers of droplets, which all its loops share."""

from dataclasses import dataclass, field

from controller.droplets.droplet_locks import DropletLocks
from controller.droplets.failing import FailingFormerCopies
from controller.droplets.index import DropletIndex
from controller.droplets.orders import DropletOrders
from controller.droplets.stagings import KnownStagings


@dataclass(frozen=True, slots=True)
class KnownDroplets:
    """What is remembered of droplets.

    Attributes:
        index: By app and by copy, and how far each has come.
        orders: What operators have ordered.
        stagings: Those that droplets are known to have come from.
        locks: Taken while a droplet's record may be written.
        failing: The copies in former registries that cells cannot pull.
    """

    index: DropletIndex = field(default_factory=DropletIndex)
    orders: DropletOrders = field(default_factory=DropletOrders)
    stagings: KnownStagings = field(default_factory=KnownStagings)
    locks: DropletLocks = field(default_factory=DropletLocks)
    failing: FailingFormerCopies = field(default_factory=FailingFormerCopies)
