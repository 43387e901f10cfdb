"""Remembers the instances of definitions that migrations have removed, within a transaction.

Only its GUID tells such an instance from a new one of the same LRP. It may be left over for long, where its
stop was lost, and a later process must not take it for one that serves from the new definition.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, func, select

from controller.store.database import Database
from controller.store.tables import stale_instances
from controller.store.upsert import insert_missing
from reconcile.lrps import ProcessGuid

MOST_INSTANCES = 50_000
"""Instances that are remembered, the latest."""


class SqlStaleInstances:
    """Lists the instances that are remembered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_stale(self) -> Mapping[ProcessGuid, frozenset[str]]:
        """List the instances of each LRP; the LRP whose migration has ended last comes last."""
        return await self._database.read(list_all)


def list_all(connection: Connection) -> Mapping[ProcessGuid, frozenset[str]]:
    """List the instances of each LRP; the LRP whose migration has ended last comes last."""
    wanted = select(stale_instances.c.process_guid, stale_instances.c.instance_guid)
    found = dict[ProcessGuid, set[str]]()
    for process_guid, instance_guid in connection.execute(wanted.order_by(stale_instances.c.number)):
        guids = found.pop(process_guid, set())
        found[ProcessGuid(process_guid)] = guids | {instance_guid}
    return {process_guid: frozenset(guids) for process_guid, guids in found.items()}


def save(connection: Connection, process_guid: ProcessGuid, instance_guids: Collection[str]) -> None:
    """Remember instances of an LRP, and forget the oldest of all beyond the kept number."""
    rows = [{"instance_guid": guid, "process_guid": process_guid} for guid in sorted(instance_guids)]
    if not rows:
        return
    insert_missing(connection, stale_instances, rows)
    newest = connection.scalar(select(func.max(stale_instances.c.number))) or 0
    connection.execute(delete(stale_instances).where(stale_instances.c.number <= newest - MOST_INSTANCES))
