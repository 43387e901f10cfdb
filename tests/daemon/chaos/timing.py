"""How fast everything goes in a chaos run: waits of minutes last seconds, all in the same ratio."""

from dataclasses import dataclass

from tests.daemon.downtime import Patience

PROOF_WITHIN = 15.0
"""Seconds for which the way to the private registry is left alone, so that a canary may show that it is open."""
REST = 120.0
"""Seconds in which all must have come to rest when nothing goes wrong any more."""

PLANS = 4
"""Plans in a row by which an operator asks for what failed before."""

REST_AFTER_PLAN = 30.0
"""Seconds in which all must have come to rest after such a plan; otherwise another one follows."""

SOON = 20.0
"""Seconds in which droplets mostly name their copies without anybody's help."""

SCALE = 20.0
"""By what the waits of BBS, cells, Cloud Controller and daemon are divided."""
ROUND = 30.0 / SCALE
"""Seconds between two convergences, between two syncs, until a crashed instance is restarted."""
LIMITS = {
    "stopgap": 0.3,
    "missing": 0.6 * ROUND,
    "stop": ROUND,
    "unknown": 2 * ROUND,
    "leftover": 4 * ROUND,
    "cloud_controller_sync": 6 * ROUND,
}
"""Fields of the daemon's `PhaseLimits`. The stopgap is not as short: it only spares containers."""
START_DELAYS = (0.1, 0.5, 1.0)
"""Seconds from the end of a pull to RUNNING: long enough for a daemon to meet apps that start."""
STAGING = 0.7
START_TIMEOUT = 4.0
BRIDGE_TIMEOUT = 5.0
COMMUNICATION_TIMEOUT = 1.0
SWEEP = 1.0
EVICTION_GRACE = 2.0
REQUESTS_PER_HOUR = 200_000
"""Of the daemon to Cloud Controller: droplets are listed in each sweep, and changed all the time."""
COPY_CHECK = 2.0
BLOB_CHECK = 10.0
WATCHING = {
    "copy_check_interval": f"{COPY_CHECK}s",
    "blob_check_interval": f"{BLOB_CHECK}s",
    "copy_notes_after": "0s",
}
"""The config with which the daemon watches what it answers for."""
NOTICED_WITHIN = 10.0 + BLOB_CHECK + 15.0 + 10.0
"""Seconds after which the daemon must know what was lost, which it asks for at a rate that is no setting.

It sees that a copy is used, its turn comes, all copies before it are looked for, and it is looked for once more.
"""
LOSS_LASTS = 2 * COPY_CHECK
"""Seconds after a loss in which apps that start may meet it."""

PATIENCE = Patience(
    # Old rows, a convergence, a start, and the passes on a busy machine.
    down=LIMITS["missing"] + ROUND + START_DELAYS[-1] + 2.0,
    hanging=START_TIMEOUT,
    call=COMMUNICATION_TIMEOUT + 1.5,
    kill=ROUND,
    scaling=2 * ROUND + 1.0,
    claim=3.0,
    loss=COPY_CHECK + 2 * ROUND + 2.0,
    # Three crashes, the passes, the removal and the start.
    another_copy=LIMITS["missing"] + 2.0,
)


@dataclass(frozen=True, slots=True)
class FaultPauses:
    """Longest pauses between what goes wrong, in seconds."""

    kills: float
    disturbances: float
    cache_cuts: float
    source_cuts: float


INSTANCE_KILLS = 10.0
"""The longest pause between kills of several instances: a lock must run out after most of them."""
REACHED_WITHIN = 30.0
"""Seconds in which most apps reach their copies, when nothing goes wrong."""
RARER_CUTS = 3.0
"""By what pauses between cuts are longer with faults: these take away what apps run from, so apps must get there."""
FAULT_PAUSES = (
    FaultPauses(2.0, 0.3, 6.0, 8.0),
    FaultPauses(8.0, 0.6, 6.0, 8.0),
    FaultPauses(30.0, 1.5, 4.0, 16.0),
)
"""Of seeds, in turn: a daemon that is killed again and again moves little, and loses what canaries have shown."""
