"""Lets everything go wrong at once around the daemon's process, from one seed, and watches the apps.

The daemon is killed, the BBS restarts, loses events and answers, cells lose stops, crash instances and cannot
pull, and owners push, scale, re-route, restart, stop and delete their apps meanwhile.
"""

from tests.daemon.chaos.report import Report
from tests.daemon.chaos.run import run_round

__all__ = ["Report", "run_round"]
