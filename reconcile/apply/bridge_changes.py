"""Changes what serves an app during a migration: its bridge, and the routes of the original."""

from contextlib import suppress

from reconcile.actions import GiveRoutesBack, RemoveOrphanedBridge
from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.bridges import BRIDGE_DOMAIN, BRIDGE_DOMAIN_TTL, bridge_of
from reconcile.errors import Conflict, NotFound
from reconcile.lrps import Pull
from reconcile.protocol import LONGEST_RETRY, SHORTEST_RETRY
from reconcile.steps import DesireBridge, RemoveBridge, UpdateBridge, UpdateRoutes


async def change_bridge(
    step: DesireBridge | UpdateBridge | RemoveBridge, target: Pull, ports: ActionPorts
) -> Outcome:
    """Desire, update or remove the bridge of a migration."""
    row = step.migration
    bridge = bridge_of(row.process_guid)
    match step:
        case DesireBridge():
            await ports.bridges.upsert_domain(BRIDGE_DOMAIN, ttl=BRIDGE_DOMAIN_TTL)
            with suppress(Conflict):
                await ports.bridges.desire_another(
                    row.original, bridge, BRIDGE_DOMAIN, target, instances=step.instances
                )
        case UpdateBridge():
            with suppress(NotFound):
                await ports.bridges.update_from(bridge, step.definition)
        case RemoveBridge():
            with suppress(NotFound):
                await ports.lrps.remove_desired_lrp(bridge)
    return Outcome(step.reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)


async def update_routes(step: UpdateRoutes, ports: ActionPorts) -> Outcome:
    """Write the row, then update the routes of the original."""
    row = step.migration
    await ports.journal.save_migration(row)
    with suppress(NotFound):
        await ports.lrps.update_routes(row.process_guid, step.routes)
    return Outcome(step.reason, retry_after=SHORTEST_RETRY, rounds=row.rounds)


async def clear_orphaned_bridge(action: RemoveOrphanedBridge | GiveRoutesBack, ports: ActionPorts) -> Outcome:
    """Remove a bridge without an open migration, or give its app the routes that only the bridge has."""
    detail = ""
    with suppress(NotFound):
        if isinstance(action, RemoveOrphanedBridge):
            await ports.lrps.remove_desired_lrp(action.process_guid)
        else:
            detail = "gave the app itself its routes back"
            await ports.lrps.update_routes(action.process_guid, action.routes)
    return Outcome(action.reason, detail, retry_after=LONGEST_RETRY)
