"""What all that goes wrong in a chaos run has in common: the environment, chance, and who watches."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from controller.admin.admin_client import AdminClient, open_client
from tests.daemon.chaos.timing import LOSS_LASTS
from tests.daemon.downtime import Downtime
from tests.daemon.environment import DaemonProcess, Environment
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
        end: When nothing goes wrong any more, by the monotonic clock.
    """

    env: Environment
    chance: random.Random
    invariants: Invariants
    downtime: Downtime
    daemon: DaemonProcess | None = None
    happened: Counter[str] = field(default_factory=Counter)
    lost_images: set[str] = field(default_factory=set)
    end: float = 0.0

    @property
    def seconds_left(self) -> float:
        """How long things may go wrong yet."""
        return max(0.0, self.end - time.monotonic())

    def choose_app(self) -> App | None:
        """Choose an app that is not down: an outage is to last as long as the daemon lets it."""
        apps = self.env.cloud.apps.values()
        started = [app for app in apps if app.is_started and not self.downtime.is_down(app)]
        return self.chance.choice(started) if started else None

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
