"""What a chaos run is asked for, besides its seed."""

from dataclasses import dataclass

from tests.daemon.chaos.faults import FaultName


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked for.

    Attributes:
        apps: How many apps there are in the beginning.
        operators: Whether operators call the daemon meanwhile.
        faults: What is lost and changed around the daemon; with any of them cells pull for real.
    """

    apps: int = 10
    operators: bool = False
    faults: frozenset[FaultName] = frozenset()
