"""Raises the limit of open files to what the config needs: connections are files.

A process may raise its own limit up to the one that its platform sets.
"""

import resource

import structlog

from controller.admin.server import MAX_CONNECTIONS
from controller.bounded_server import MOST_CONNECTIONS
from controller.config import Config
from controller.registry.http.idle_connections import MOST_IDLE
from controller.wiring import slots_of

log = structlog.get_logger(scope="daemon")

_POOLS = 5
"""Pools of connections to registries: of copies, notes, canaries, the probe and the cells' view."""

_PER_BLOB = 3
"""A connection to the source, one to the private registry, and one while a token is fetched."""

_OTHERS = 256
"""The store, the BBS, Cloud Controller, credential helpers and what libraries open."""


def needed_files(config: Config) -> int:
    """Return how many files the daemon may have open at the same time with a config."""
    copies = slots_of(config).total * (config.max_blobs_per_copy + 1) * _PER_BLOB
    served = MAX_CONNECTIONS + 2 * 2 * MOST_CONNECTIONS  # of the metrics, and of the health check
    return copies + _POOLS * MOST_IDLE + served + _OTHERS


def raise_limit(config: Config) -> None:
    """Raise the limit of open files to what a config needs, and log where the platform does not allow it."""
    needed = needed_files(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.error("open-files-limit-too-low", limit=allowed, needed=needed)
