"""Takes the routes of the original away before it is removed, and gives them back on every other way out.

Routers learn of a removal at the moment in which the processes get SIGTERM, so a process that ends at once
cuts the requests that it serves (measured). A definition that the daemon drained must never be taken for what
the owner wants, or the bridge would lose its routes too, and the app would be desired again without any.

An update whose answer was lost may take effect later, on whatever is desired by then under the process GUID.
So once the update was sent, a definition without routes is read with its owner's routes, in every phase.
"""

from collections.abc import Mapping
from dataclasses import replace

from reconcile.instances import is_any_running, running
from reconcile.lrps import DesiredLrp
from reconcile.migrations import Migration, Phase
from reconcile.protocol.case import SSH_ROUTE, Case
from reconcile.reasons import Reason
from reconcile.steps import Enter, RemoveOriginal, RetryLater, Step, UpdateRoutes, World


def kept_routes(routes: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the routes that an LRP keeps while it is drained: those that lead to single instances."""
    return {key: route for key, route in routes.items() if key == SSH_ROUTE}


def is_drained(row: Migration, lrp: DesiredLrp | None) -> bool:
    """Whether the original lacks the routes that the daemon took away."""
    kept = kept_routes(row.original.routes)
    return bool(row.drain_sent_at) and lrp is not None and lrp.routes == kept != row.original.routes


def with_owners_routes(row: Migration, world: World) -> World:
    """Return what was observed, with the owner's routes in each version of the original that lacks them.

    From a drained version of the same definition only the number of instances is taken. If its owner changed
    more in the moment in which the daemon took the routes away, the LRP is desired again with the old
    annotation, by which Cloud Controller's sync sees that it must correct the rest.
    """
    if not row.drain_sent_at:
        return world
    versions = tuple(_with_routes(row, seen) for seen in world.versions_in_events)
    lrp = None if world.lrp is None else _with_routes(row, world.lrp)
    return replace(world, lrp=lrp, versions_in_events=versions)


def _with_routes(row: Migration, lrp: DesiredLrp) -> DesiredLrp:
    if not is_drained(row, lrp):
        return lrp
    if lrp.tag.epoch == row.original.tag.epoch:
        return replace(row.original, instances=lrp.instances, tag=lrp.tag)
    return replace(lrp, routes=row.original.routes)


def drain_original(case: Case) -> Step | None:
    """Take the routes of the original away, and let requests in flight end; None when that is done."""
    row, world = case.row, case.world
    lrp = row.original
    if not world.drains_original or not is_any_running(world.instances):
        return None
    kept = kept_routes(lrp.routes)
    if kept == lrp.routes:
        return None  # nobody sends it requests
    if running(world.bridge, world.bridge_instances) < lrp.instances:
        return None  # instances of its own may start yet, and routers should know them
    if not case.is_drained:
        return UpdateRoutes(
            replace(row, drain_sent_at=world.now, routed_at=0.0), kept, Reason.DRAINING_ORIGINAL
        )
    left = row.drain_sent_at + case.limits.drain - world.now
    return RetryLater(Reason.DRAINING_ORIGINAL, left) if left > 0 else None


def give_routes_back(case: Case, step: Step) -> Step:
    """Let the original have its routes again, unless the step leads to its removal."""
    row = case.row
    if not row.drain_sent_at:
        return step
    if row.routed_at == 0.0 and row.phase in {Phase.REMOVING, Phase.REMOVED}:
        return step  # the removal may be on its way
    if row.routed_at == 0.0 and row.phase is Phase.BRIDGED and isinstance(step, _STEPS_TO_REMOVAL):
        return step
    if case.is_drained:
        given = replace(row, routed_at=case.world.now)
        return UpdateRoutes(given, row.original.routes, Reason.WAITING_FOR_ROUTES)
    if row.routed_at == 0.0 and row.phase in {Phase.BRIDGING, Phase.BRIDGED}:
        return Enter(replace(row, routed_at=case.world.now))
    return step


_STEPS_TO_REMOVAL = (RemoveOriginal, RetryLater, UpdateRoutes)
