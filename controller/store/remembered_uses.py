"""Reads what the store remembers of the use of copies."""

from sqlalchemy import Connection, select

from controller.store.tables import bindings, jobs, lrps, original_sources
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.references import CacheGuid, Rootfs
from reconcile.usage import CopyBinding, MigratedLrp, RememberedUses


def read(connection: Connection) -> RememberedUses:
    """Read the bindings that led to copies, and the LRPs that were migrated to copies."""
    return RememberedUses(_staged(connection), _migrated(connection))


def _staged(connection: Connection) -> tuple[CopyBinding, ...]:
    wanted = (
        select(
            bindings.c.requester,
            bindings.c.app_guid,
            bindings.c.source,
            bindings.c.staged_at,
            jobs.c.cache_guid,
        )
        .join_from(bindings, jobs, bindings.c.job_id == jobs.c.job_id)
        .where(jobs.c.cache_guid.is_not(None))
        .order_by(bindings.c.number)
    )
    return tuple(
        CopyBinding(requester, AppGuid(app_guid), source, staged_at, CacheGuid(cache_guid))
        for requester, app_guid, source, staged_at, cache_guid in connection.execute(wanted)
    )


def _migrated(connection: Connection) -> tuple[MigratedLrp, ...]:
    sources = select(
        original_sources.c.process_guid, original_sources.c.cache_guid, original_sources.c.rootfs
    )
    records = select(lrps.c.process_guid, lrps.c.cache_guid).where(lrps.c.cache_guid.is_not(None))
    found = {
        (process_guid, cache_guid): MigratedLrp(
            ProcessGuid(process_guid), CacheGuid(cache_guid), Rootfs(rootfs)
        )
        for process_guid, cache_guid, rootfs in connection.execute(sources)
    }
    for process_guid, cache_guid in connection.execute(records):
        lrp = MigratedLrp(ProcessGuid(process_guid), CacheGuid(cache_guid))
        found.setdefault((process_guid, cache_guid), lrp)
    return tuple(found.values())
