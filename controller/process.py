"""What every loop knows of the process that it runs in."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.config_reloads import ConfigReloads, no_reloads
from controller.log_level import LogLevel
from controller.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Process:
    """The running process.

    Attributes:
        run_id: Unique to this run of the process.
        clock: Gives UTC seconds since 1970.
        monotonic: Gives seconds since some moment, unaffected by changes of the system's clock.
        log_level: Of its log lines.
        reloads: Whether its config file was taken when it was last read.
    """

    run_id: str
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    metrics: Metrics = field(default_factory=Metrics)
    log_level: LogLevel = field(default_factory=lambda: LogLevel("info"))
    reloads: ConfigReloads = field(default_factory=no_reloads)
