"""Lets everything go wrong at once around the daemon's process, from one seed, and watches the apps.

The daemon is killed, the BBS restarts, loses events and answers, cells lose stops, crash instances and cannot
pull, and owners push, scale, re-route, restart, stop and delete their apps meanwhile. Faults that are switched
on by name take away and change what the daemon answers for.
"""

from tests.daemon.chaos.faults import (
    ALL_FAULTS,
    CLOUD_CONTROLLER_FAULTS,
    INSTANCE_FAULTS,
    SHARED_FAULTS,
    FaultName,
)
from tests.daemon.chaos.report import Report
from tests.daemon.chaos.run import run_round
from tests.daemon.chaos.settings import Database, Settings

__all__ = [
    "ALL_FAULTS",
    "CLOUD_CONTROLLER_FAULTS",
    "INSTANCE_FAULTS",
    "SHARED_FAULTS",
    "Database",
    "FaultName",
    "Report",
    "Settings",
    "run_round",
]
