"""What a chaos run is asked for, besides its seed."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from tests.daemon.chaos.faults import CLOUD_CONTROLLER_FAULTS, INSTANCE_FAULTS, FaultName


class Database(StrEnum):
    """A kind of database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


LOSSES_OF_COPIES = frozenset(
    {FaultName.COPIES_DELETED, FaultName.REGISTRY_REPLACED, FaultName.DATABASE_RESTORED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked for.

    Attributes:
        apps: How many apps there are in the beginning.
        instances: How many daemons there are.
        database: What they keep their store in; on a server they share it, and a lock in Locket.
        operators: Whether operators call the daemon meanwhile.
        faults: What is lost and changed around the daemon; with any of `losses` cells pull for real.
    """

    apps: int = 10
    instances: int = 1
    database: Database = Database.SQLITE
    operators: bool = False
    faults: frozenset[FaultName] = frozenset()

    @property
    def losses(self) -> frozenset[FaultName]:
        """The faults that take away and change what a daemon answers for."""
        return self.faults - INSTANCE_FAULTS

    def of_round(self, seed: int) -> Self:
        """Leave the cells' login out of each other round in which droplets matter: with one they name no copies."""
        if self.has_cloud_controller and seed % 2:
            return replace(self, faults=self.faults - {FaultName.PASSWORD_CHANGED})
        return self

    @property
    def has_cloud_controller(self) -> bool:
        """Whether daemons know of Cloud Controller's API, and write into droplets."""
        return bool(self.faults & CLOUD_CONTROLLER_FAULTS)

    @property
    def loses_copies(self) -> bool:
        """Whether what is in the private registry may be gone at any moment."""
        return bool(self.faults & LOSSES_OF_COPIES)

    @property
    def reaches_all_droplets(self) -> bool:
        """Whether nothing but Cloud Controller keeps current droplets from naming copies in the end."""
        others = self.losses - CLOUD_CONTROLLER_FAULTS | (self.losses & {FaultName.DROPLETS_CHANGED})
        return self.has_cloud_controller and not self.operators and not others
