"""What a chaos run is asked for, besides its seed."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from tests.daemon.chaos.faults import INSTANCE_FAULTS, FaultName


class Database(StrEnum):
    """A kind of database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked for.

    Attributes:
        apps: How many apps there are in the beginning.
        instances: How many daemons there are.
        database: What they keep their store in; on a server they share it, and a lock in Locket.
        operators: Whether operators call the daemon meanwhile.
        cloud_controller: Whether daemons know of Cloud Controller's API, and write into droplets.
        faults: What is lost and changed around the daemon; with any of `losses` cells pull for real.
    """

    apps: int = 10
    instances: int = 1
    database: Database = Database.SQLITE
    operators: bool = False
    cloud_controller: bool = True
    faults: frozenset[FaultName] = frozenset()

    @property
    def losses(self) -> frozenset[FaultName]:
        """The faults that take away and change what a daemon answers for."""
        return self.faults - INSTANCE_FAULTS

    def of_round(self, seed: int) -> Self:
        """Leave the cells' login out of every second round in which droplets matter: with one they name no copies."""
        if self.cloud_controller and seed % 2:
            return replace(self, faults=self.faults - {FaultName.PASSWORD_CHANGED})
        return self

    @property
    def reaches_all_droplets(self) -> bool:
        """Whether nothing keeps droplets from naming copies in the end: cells may need a login for those."""
        return FaultName.PASSWORD_CHANGED not in self.faults
