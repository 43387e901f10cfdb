"""What an operator asks of single LRPs: to be moved now, and how."""

from dataclasses import dataclass

from reconcile.images import Digest, Rootfs
from reconcile.records import Goal, Strategy


@dataclass(frozen=True, slots=True)
class Order:
    """Move one LRP, as a plan said, although the daemon by itself would wait or leave it alone.

    What failed before it was given counts no more, what fails afterwards does: an order is one try.

    Attributes:
        goal: To the cached image, or back to the source.
        since: When it was given, UTC seconds since 1970.
        strategy: How; None takes whichever is due.
        rootfs: What it must still be desired from; None takes any.
        to_rootfs: What it must turn out to be moved to; None takes any.
        platform_digest: What its image must have turned out to be; None takes any.
        only_cached: No copy is asked for.
    """

    goal: Goal
    since: float
    strategy: Strategy | None = None
    rootfs: Rootfs | None = None
    to_rootfs: Rootfs | None = None
    platform_digest: Digest | None = None
    only_cached: bool = False
