"""Desires what a journal in memory would lose when the process ends.

A durable journal needs none of this: its migrations continue after a restart.
"""

import asyncio
from contextlib import suppress

import structlog

from reconcile.apply import ActionPorts
from reconcile.errors import Conflict, DockerCacheError
from reconcile.lrps import Credentials
from reconcile.records import Migration, Phase

log = structlog.get_logger(scope="reconciler")

TIME_LIMIT = 4.0  # seconds
RETRY_PAUSE = 0.3  # seconds between two attempts


async def desire_removed_lrps(ports: ActionPorts, pull_credentials: Credentials | None) -> None:
    """Desire the LRPs of migrations that may have removed them, when no loop runs any more.

    From the cache, and also while instance rows of the removed definition are left: an index that stays
    empty until the next convergence is better than a definition that is lost.
    """
    if ports.journal.is_durable:
        return
    removed = [row for row in await ports.journal.list_migrations() if row.phase is not Phase.PREPARED]
    async with asyncio.TaskGroup() as group:
        for migration in removed:
            group.create_task(_desire(migration, ports, pull_credentials))


async def _desire(migration: Migration, ports: ActionPorts, pull_credentials: Credentials | None) -> None:
    lrp, rootfs = migration.original, ports.cache.rootfs(migration.cache_guid)
    problem = "out of time"
    with suppress(TimeoutError):
        async with asyncio.timeout(TIME_LIMIT):
            while True:
                try:
                    await ports.lrps.desire_lrp(lrp, rootfs, pull_credentials)
                except Conflict:
                    return  # it is desired already
                except DockerCacheError as error:
                    problem = str(error)
                    await asyncio.sleep(RETRY_PAUSE)
                else:
                    return
    log.error("failed-to-desire-removed-lrp", process_guid=lrp.process_guid, error=problem)
