"""Desires what a journal in memory would lose when the process ends.

A durable journal needs none of this: its migrations continue after a restart.
"""

import asyncio
from contextlib import suppress

import structlog

from controller.tracing import tracing
from reconcile.apply import ActionPorts
from reconcile.errors import Conflict, DockerCacheError
from reconcile.lrps import Credentials, Pull
from reconcile.migrations import Goal, Migration, Phase

log = structlog.get_logger(scope="reconciler")

TIME_LIMIT = 4.0  # seconds
RETRY_PAUSE = 0.3  # seconds between two attempts


async def desire_removed_lrps(ports: ActionPorts, pull_credentials: Credentials | None) -> None:
    """Desire the LRPs of migrations that may have removed them, when no loop runs any more.

    From what they are migrated to, and also while instance rows of the removed definition are left: an index
    that stays empty until the next convergence is better than a definition that is lost.
    """
    if ports.journal.is_durable:
        return
    removed = [row for row in await ports.journal.list_migrations() if row.phase is not Phase.PREPARED]
    async with asyncio.TaskGroup() as group:
        for migration in removed:
            group.create_task(_desire_traced(migration, ports, pull_credentials))


async def _desire_traced(
    migration: Migration, ports: ActionPorts, pull_credentials: Credentials | None
) -> None:
    with tracing():
        await _desire(migration, ports, pull_credentials)


async def _desire(migration: Migration, ports: ActionPorts, pull_credentials: Credentials | None) -> None:
    lrp, problem = migration.original, "out of time"
    with suppress(TimeoutError):
        async with asyncio.timeout(TIME_LIMIT):
            while True:
                try:
                    target = await _target_of(migration, ports, pull_credentials)
                    await ports.lrps.desire_lrp(lrp, target.rootfs, target.credentials)
                except Conflict:
                    return  # it is desired already
                except DockerCacheError as error:
                    problem = str(error)
                    await asyncio.sleep(RETRY_PAUSE)
                else:
                    return
    log.error("failed-to-desire-removed-lrp", process_guid=lrp.process_guid, error=problem)


async def _target_of(migration: Migration, ports: ActionPorts, pull_credentials: Credentials | None) -> Pull:
    """Find what an LRP is migrated to: its copy, or its source where it goes back there."""
    if migration.way_back is not None:
        return migration.way_back
    if migration.goal is Goal.CACHE:
        return Pull(ports.cache.rootfs(migration.cache_guid), pull_credentials)
    source = await ports.original_sources.find_original_source(migration.process_guid)
    if source is None:  # its record was deleted meanwhile: as it was before
        return Pull(migration.original.rootfs, migration.original.credentials)
    return Pull(source.rootfs, source.credentials)
