"""What every loop knows of the process it runs in."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Process:
    """The running process.

    Attributes:
        run_id: Unique to this run of the process.
        clock: UTC seconds since 1970.
        monotonic: Seconds since some moment, whatever happens to the clock.
    """

    run_id: str
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    metrics: Metrics = field(default_factory=Metrics)
