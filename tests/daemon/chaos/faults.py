"""What is lost or changed around the daemon in a chaos run, each by a fault that is switched on by its name."""

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from tests.daemon.chaos.cloud_controller_faults import (
    CloudControllerAnswersLost,
    CloudControllerAway,
    CloudControllerFails,
    CloudControllerScopes,
    CloudControllerSlow,
    DropletsChanged,
)
from tests.daemon.chaos.daemon_life import DaemonLife, Life
from tests.daemon.chaos.database import DatabaseRestored
from tests.daemon.chaos.instance_faults import (
    DatabaseAway,
    InstanceEnded,
    InstanceFrozen,
    LocketAnswersLost,
    LocketCutOff,
    LocketDown,
)
from tests.daemon.chaos.instances_life import InstancesLife
from tests.daemon.chaos.losses import CopiesDeleted, ImagesLost, LayersDeleted
from tests.daemon.chaos.password import PasswordChanged
from tests.daemon.chaos.private_registry import RegistryFull, RegistryReplaced
from tests.daemon.chaos.scene import Scene

L = TypeVar("L")


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
    CLOUD_CONTROLLER_FAILS = "cloud-controller-fails"
    """Cloud Controller's API and UAA refuse requests."""
    CLOUD_CONTROLLER_SLOW = "cloud-controller-slow"
    """Cloud Controller's API is slow, or never answers."""
    CLOUD_CONTROLLER_ANSWERS_LOST = "cloud-controller-answers-lost"
    """Cloud Controller's API writes into droplets, and does not say so."""
    CLOUD_CONTROLLER_AWAY = "cloud-controller-away"
    """Cloud Controller's API, or UAA, is gone for a while."""
    CLOUD_CONTROLLER_SCOPES = "cloud-controller-scopes"
    """A scope is taken away from the daemon for a while."""
    DROPLETS_CHANGED = "droplets-changed"
    """Others write into droplets, and let them go."""
    INSTANCE_FROZEN = "instance-frozen"
    """A daemon stands still, and goes on."""
    INSTANCE_ENDED = "instance-ended"
    """A daemon is ended with SIGTERM."""
    LOCKET_DOWN = "locket-down"
    """Servers of Locket are gone for a while."""
    LOCKET_ANSWERS_LOST = "locket-answers-lost"
    """Locket does what it is asked for, or not, and does not say so."""
    LOCKET_CUT_OFF = "locket-cut-off"
    """One machine does not reach Locket for a while."""
    DATABASE_AWAY = "database-away"
    """The server of the database is gone for a while."""


INSTANCE_FAULTS = frozenset(
    {
        FaultName.INSTANCE_FROZEN,
        FaultName.INSTANCE_ENDED,
        FaultName.LOCKET_DOWN,
        FaultName.LOCKET_ANSWERS_LOST,
        FaultName.LOCKET_CUT_OFF,
        FaultName.DATABASE_AWAY,
    }
)
"""Those that need several instances."""
CLOUD_CONTROLLER_FAULTS = frozenset(
    {
        FaultName.CLOUD_CONTROLLER_FAILS,
        FaultName.CLOUD_CONTROLLER_SLOW,
        FaultName.CLOUD_CONTROLLER_ANSWERS_LOST,
        FaultName.CLOUD_CONTROLLER_AWAY,
        FaultName.CLOUD_CONTROLLER_SCOPES,
        FaultName.DROPLETS_CHANGED,
    }
)
"""Those of a daemon that writes cached URLs into droplets."""
ALL_FAULTS = frozenset(FaultName) - INSTANCE_FAULTS
"""Those of one instance."""
SHARED_FAULTS = frozenset(FaultName) - {FaultName.DATABASE_RESTORED}
"""Those of several instances: no command of theirs restores a database on a server."""


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
        only_life: That of a daemon without others; None where there are others.
        instances: The life of several; None where there is one.
        opened: Closes what they open at the end of the run.
    """

    scene: Scene
    life: Life
    only_life: DaemonLife | None
    instances: InstancesLife | None
    opened: ExitStack


def _known(life: L | None) -> L:
    assert life is not None, "a fault that this number of instances does not have"
    return life


_KINDS: Mapping[FaultName, Callable[[Surroundings, random.Random], Fault]] = {
    FaultName.COPIES_DELETED: lambda here, chance: CopiesDeleted(here.scene, chance),
    FaultName.LAYERS_DELETED: lambda here, chance: LayersDeleted(here.scene, chance),
    FaultName.IMAGES_LOST: lambda here, chance: ImagesLost(here.scene, chance),
    FaultName.PASSWORD_CHANGED: lambda here, chance: PasswordChanged(here.scene, chance, here.life),
    FaultName.REGISTRY_REPLACED: lambda here, chance: RegistryReplaced(
        here.scene, chance, here.life, here.opened
    ),
    FaultName.REGISTRY_FULL: lambda here, chance: RegistryFull(here.scene, chance),
    FaultName.DATABASE_RESTORED: lambda here, chance: DatabaseRestored(
        here.scene, chance, _known(here.only_life)
    ),
    FaultName.CLOUD_CONTROLLER_FAILS: lambda here, chance: CloudControllerFails(here.scene, chance),
    FaultName.CLOUD_CONTROLLER_SLOW: lambda here, chance: CloudControllerSlow(here.scene, chance),
    FaultName.CLOUD_CONTROLLER_ANSWERS_LOST: lambda here, chance: CloudControllerAnswersLost(
        here.scene, chance
    ),
    FaultName.CLOUD_CONTROLLER_AWAY: lambda here, chance: CloudControllerAway(here.scene, chance),
    FaultName.CLOUD_CONTROLLER_SCOPES: lambda here, chance: CloudControllerScopes(here.scene, chance),
    FaultName.DROPLETS_CHANGED: lambda here, chance: DropletsChanged(here.scene, chance),
    FaultName.INSTANCE_FROZEN: lambda here, chance: InstanceFrozen(
        here.scene, chance, _known(here.instances)
    ),
    FaultName.INSTANCE_ENDED: lambda here, chance: InstanceEnded(here.scene, chance, _known(here.instances)),
    FaultName.LOCKET_DOWN: lambda here, chance: LocketDown(here.scene, chance, _known(here.instances)),
    FaultName.LOCKET_ANSWERS_LOST: lambda here, chance: LocketAnswersLost(
        here.scene, chance, _known(here.instances)
    ),
    FaultName.LOCKET_CUT_OFF: lambda here, chance: LocketCutOff(here.scene, chance, _known(here.instances)),
    FaultName.DATABASE_AWAY: lambda here, chance: DatabaseAway(here.scene, chance, _known(here.instances)),
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
