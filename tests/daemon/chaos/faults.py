"""What is lost or changed around the daemon in a chaos run, each by a fault that is switched on by its name."""

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tests.daemon.chaos.daemon_life import DaemonLife
from tests.daemon.chaos.database import DatabaseRestored
from tests.daemon.chaos.losses import CopiesDeleted, ImagesLost, LayersDeleted
from tests.daemon.chaos.password import PasswordChanged
from tests.daemon.chaos.private_registry import RegistryFull, RegistryReplaced
from tests.daemon.chaos.scene import Scene


class FaultName(StrEnum):
    """The name of a fault, and what it does."""

    COPIES_DELETED = "copies-deleted"
    """Somebody deletes copies from the private registry."""
    LAYERS_DELETED = "layers-deleted"
    """The private registry loses blobs of copies."""
    IMAGES_LOST = "images-lost"
    """The source loses images, for a while or until the end."""
    PASSWORD_CHANGED = "password-changed"
    """The cells get another login; the old one is valid until no LRP names it."""
    REGISTRY_REPLACED = "registry-replaced"
    """The private registry is replaced by an empty one; the old one stays, as a former one."""
    REGISTRY_FULL = "registry-full"
    """The private registry takes nothing more for a while."""
    DATABASE_RESTORED = "database-restored"
    """The database is restored from an older backup."""


ALL_FAULTS = frozenset(FaultName)


class Fault(Protocol):
    """Something that goes wrong again and again.

    Attributes:
        pause: Longest pause before it goes wrong, in seconds.
    """

    pause: float

    async def act(self) -> None:
        """Let it go wrong once."""

    def end(self) -> None:
        """Let nothing of it be wrong any more that only time or people would mend."""

    def unrest(self) -> list[str]:
        """Say what is not yet as it should be in the end."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What faults get.

    Attributes:
        life: The daemon's.
        opened: Closes what they open at the end of the run.
    """

    scene: Scene
    life: DaemonLife
    opened: ExitStack


_KINDS: Mapping[FaultName, Callable[[Surroundings, random.Random], Fault]] = {
    FaultName.COPIES_DELETED: lambda here, chance: CopiesDeleted(here.scene, chance),
    FaultName.LAYERS_DELETED: lambda here, chance: LayersDeleted(here.scene, chance),
    FaultName.IMAGES_LOST: lambda here, chance: ImagesLost(here.scene, chance),
    FaultName.PASSWORD_CHANGED: lambda here, chance: PasswordChanged(here.scene, chance, here.life),
    FaultName.REGISTRY_REPLACED: lambda here, chance: RegistryReplaced(
        here.scene, chance, here.life, here.opened
    ),
    FaultName.REGISTRY_FULL: lambda here, chance: RegistryFull(here.scene, chance),
    FaultName.DATABASE_RESTORED: lambda here, chance: DatabaseRestored(here.scene, chance, here.life),
}


@dataclass(frozen=True, slots=True)
class ChosenFault:
    """A fault with the chance that decides when it strikes: its own, so that faults do not move each other."""

    name: FaultName
    chance: random.Random
    fault: Fault


def make_faults(here: Surroundings, seed: int, names: frozenset[FaultName]) -> tuple[ChosenFault, ...]:
    """Make the faults that are switched on."""
    chosen = [(name, random.Random(f"{seed}/{name}")) for name in FaultName if name in names]
    return tuple(ChosenFault(name, chance, _KINDS[name](here, chance)) for name, chance in chosen)
