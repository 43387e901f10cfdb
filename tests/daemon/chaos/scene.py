"""What all that goes wrong in a chaos run has in common: the environment, chance, and who watches."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from controller.admin.admin_client import AdminClient, open_client
from tests.daemon.chaos.staged_texts import StagedTexts
from tests.daemon.chaos.timing import LOSS_LASTS
from tests.daemon.downtime import Downtime
from tests.daemon.environment import DaemonProcess, Environment, Registry
from tests.daemon.invariants import Invariants
from tests.simulators.cloud_controller import App


@dataclass
class Scene:
    """One run's environment with all that is known of it.

    Attributes:
        chance: Decides what goes wrong, from the seed.
        daemon: The one that was started last; None before the first.
        happened: What was done, and how often.
        lost_images: References of images that the source has lost.
        lost_copies: When the private registry last lost something of a copy, by the copy's repository.
        former_registries: Private registries whose place another one has taken.
        texts: What droplets were staged with.
        is_paused: Whether the daemon starts nothing by itself, since an operator wants to look first.
        end: When nothing goes wrong any more, by the monotonic clock.
    """

    env: Environment
    chance: random.Random
    invariants: Invariants
    downtime: Downtime
    daemon: DaemonProcess | None = None
    happened: Counter[str] = field(default_factory=Counter)
    lost_images: set[str] = field(default_factory=set)
    lost_copies: dict[str, float] = field(default_factory=dict)
    former_registries: list[Registry] = field(default_factory=list)
    texts: StagedTexts = field(init=False)
    is_paused: bool = False
    end: float = 0.0

    def __post_init__(self) -> None:
        self.texts = StagedTexts(self.env.cloud, self.is_copy)

    @property
    def seconds_left(self) -> float:
        """How long things may go wrong yet."""
        return max(0.0, self.end - time.monotonic())

    def choose_app(self) -> App | None:
        """Choose an app that is not down: an outage is to last as long as the daemon lets it."""
        apps = self.env.cloud.apps.values()
        started = [app for app in apps if app.is_started and not self.downtime.is_down(app)]
        return self.chance.choice(started) if started else None

    def is_copy(self, image: str | None) -> bool:
        """Whether the text of a droplet names a private registry."""
        return self.downtime.is_copy(f"docker://{image}")

    def is_hopeless(self, rootfs: str) -> bool:
        """Whether an operator must first let the daemon do something about a copy that was lost."""
        repository = rootfs.removeprefix("docker://").partition("/")[2].partition("#")[0]
        return self.is_paused and repository in self.lost_copies

    def note_lost_copy(self, repository: str) -> None:
        """Remember that something of a copy is gone that a droplet may name."""
        self.lost_copies[repository] = time.monotonic()

    def note_loss(self, what: str, name: str) -> None:
        """Remember that something was lost, and give apps that start the time until it is found out."""
        self.happened[what] += 1
        self.invariants.note(f"{what}: {name}")
        self.downtime.note_loss(LOSS_LASTS)

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[AdminClient]:
        """Call the daemon as an operator does, for a short time."""
        with self.invariants.operator_reading():
            async with asyncio.timeout(3.0), open_client(*self.env.admin) as client:
                yield client
