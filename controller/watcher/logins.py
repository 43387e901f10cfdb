"""Finds the LRPs that run from copies with another login than the configured one.

The light listing of a sweep has no logins, so full sweeps list the definitions too, in batches: when a
process begins, since the config changes only then, and when a pause ends. Passes see what others change.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import structlog

from controller.watcher.dependencies import WatcherDependencies
from controller.workqueue import Priority
from reconcile.lrps import ProcessGuid

log = structlog.get_logger(scope="watcher")

BATCH = 250
"""LRPs that the BBS is asked for in one request."""


async def queue_other_logins(dependencies: WatcherDependencies, from_cache: Iterable[ProcessGuid]) -> None:
    """Queue the LRPs whose login is not the configured one."""
    count, login = 0, dependencies.rules.pull_credentials
    for guids in _batches(sorted(from_cache)):
        async for lrp in dependencies.bbs.list_desired_lrps("", guids):
            if lrp.credentials != login and dependencies.copy_of(lrp.rootfs) is not None:
                count += 1
                dependencies.queue.add(lrp.process_guid, Priority.ROUTINE)
    if count:
        log.info("found-other-logins", lrps=count)


def _batches(guids: Iterable[ProcessGuid]) -> Iterator[tuple[ProcessGuid, ...]]:
    left = iter(guids)
    while batch := tuple(islice(left, BATCH)):
        yield batch
