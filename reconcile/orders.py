"""Orders: what an operator asks of single LRPs, to be migrated now, and how."""

from dataclasses import dataclass

from reconcile.records import Goal, Strategy
from reconcile.references import Digest, Rootfs


@dataclass(frozen=True, slots=True)
class Order:
    """Migrate one LRP as a plan said, although the daemon by itself would wait or skip it.

    Failures from before the order do not count, later ones do: an order is one attempt.

    Attributes:
        goal: Whether the LRP goes to its cached image, or back to its source.
        since: When the order was given, UTC seconds since 1970.
        strategy: How the LRP must be migrated; None accepts either way.
        rootfs: What the LRP must still be desired from; None accepts any.
        to_rootfs: What its copy's URL must turn out to be; None accepts any.
        platform_digest: What its image must turn out to be; None accepts any.
        only_cached: Whether the order requests no copy and so concerns only LRPs that have one.
    """

    goal: Goal
    since: float
    strategy: Strategy | None = None
    rootfs: Rootfs | None = None
    to_rootfs: Rootfs | None = None
    platform_digest: Digest | None = None
    only_cached: bool = False
