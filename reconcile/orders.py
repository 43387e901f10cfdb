"""Orders: an operator's requests to migrate single LRPs now."""

from dataclasses import dataclass

from reconcile.migrations import Goal, Migration, Strategy
from reconcile.references import Digest, Rootfs


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's request to migrate one LRP now, even where the daemon would otherwise wait or skip it.

    An order is one attempt: failures from before it do not count, later ones do.

    Attributes:
        goal: Whether the LRP is migrated to its cached image, or back to its source.
        since: When the order was given, UTC seconds since 1970.
        strategy: The strategy that the plan named; None accepts any.
        rootfs: The rootfs that the plan showed and that the LRP must still have; None accepts any.
        to_rootfs: The rootfs that the plan named as the target of the migration; None accepts any.
        platform_digest: The platform digest that the plan named for the image; None accepts any.
        only_cached: Whether the order covers only an LRP that has a copy, and requests no copy.
    """

    goal: Goal
    since: float
    strategy: Strategy | None = None
    rootfs: Rootfs | None = None
    to_rootfs: Rootfs | None = None
    platform_digest: Digest | None = None
    only_cached: bool = False

    def outlasts(self, ended: Migration) -> bool:
        """Whether the order is still to be carried out after a migration has ended.

        So it is when the migration led the other way when the order was given, or was turned round because of
        it.
        """
        if self.goal is Goal.CACHE:
            return ended.is_restore
        return ended.goal is Goal.CACHE or ended.is_turned_back
