"""Decides the steps that take a bridge away: first its routes, then the bridge itself."""

from dataclasses import replace

from reconcile.instances import failure_of_pull, is_any_running, running
from reconcile.lrps import DesiredLrp
from reconcile.migrations import Goal, Phase
from reconcile.protocol.case import (
    KEEPS_OLD_ROOTFS,
    LONGEST_RETRY,
    SSH_ROUTE,
    TURNED_BACK,
    Case,
    is_like,
    may_remove,
    may_remove_bridge,
)
from reconcile.protocol.draining import kept_routes
from reconcile.reasons import Reason
from reconcile.steps import Close, Enter, RemoveBridge, RemoveOriginal, RetryLater, Step, UpdateBridge

_REMOVED = frozenset({Reason.MIGRATED, Reason.RESTORED, *KEEPS_OLD_ROOTFS})
"""Ends at which the original was desired again, and has just begun to serve, as one that was turned back."""


def removing_bridge(case: Case) -> Step:
    """Remove the bridge as soon as the app serves no less without it, and end the migration."""
    row, world = case.row, case.world
    was_removed = row.ended in _REMOVED or (row.is_turned_back and row.ended in TURNED_BACK)
    if world.lrp is None and was_removed and case.may_be_ours:
        return case.enter(Phase.REMOVED)
    if world.lrp is not None:
        if not was_removed and row.instance_guids and _is_as_before(case, world.lrp):
            if not case.old_instances or case.waited > case.limits.leftover:
                return Enter(replace(row, instance_guids=frozenset()))
        elif (retire := case.retire_stale(world.lrp)) is not None:
            return retire
    if world.bridge is not None:
        return _remove(case, world.bridge, was_removed=was_removed)
    if not world.bridge_instances or case.waited > case.limits.leftover + case.limits.routes:
        left = row.drain_sent_at + case.limits.unknown - world.now
        if row.drain_sent_at and left > 0 and world.lrp is not None and not was_removed:
            # An update that took its routes away may still take effect.
            return RetryLater(Reason.WAITING_FOR_ROUTES, min(left, LONGEST_RETRY))
        return _close(case)
    retire = case.retire(world.bridge_instances, Reason.REMOVING_BRIDGE)
    return retire or case.wait(Reason.REMOVING_BRIDGE)


def _close(case: Case) -> Step:
    """End the migration as it went, unless its owner has removed the LRP since, or desired it anew."""
    row, lrp = case.row, case.world.lrp
    ended = row.ended or case.success
    is_success = ended in {Reason.MIGRATED, Reason.RESTORED}
    if lrp is None:
        return Close(row, Reason.REMOVED_BY_OWNER if is_success else ended)
    if case.is_on_target(lrp):
        return Close(row, ended)
    left = replace(row, instance_guids=frozenset()) if _is_as_before(case, lrp) else row
    return Close(left, Reason.CHANGED_BY_CLOUD_CONTROLLER if is_success else ended)


def _is_as_before(case: Case, lrp: DesiredLrp) -> bool:
    """Whether an LRP is desired from what it ran from before, and that is not where it is to go.

    An old instance whose stop was lost runs what is desired then: stopping it would cost the app one. Until
    its stop has had time to arrive it counts for nothing, since it may be about to end.
    """
    return case.is_as_before(lrp) and not case.is_on_target(lrp)


def _remove(case: Case, bridge: DesiredLrp, *, was_removed: bool) -> Step:
    row, world = case.row, case.world
    if not may_remove_bridge(row, world, is_late=_is_late(case)):
        if was_removed and _may_start(case):
            return case.enter(Phase.STARTING, ended=row.ended if row.ended in KEEPS_OLD_ROOTFS else None)
        if row.drained_at:
            return Enter(replace(row, drained_at=0.0))
        if world.lrp is not None and not is_like(bridge, world.lrp):
            most = max(bridge.instances, world.lrp.instances)
            return UpdateBridge(row, replace(world.lrp, instances=most), Reason.NOT_HEALTHY_BRIDGE_KEPT)
        return _resume(case) or RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)
    if world.lrp is None:
        return RemoveBridge(row)
    left = max(row.entered_at if was_removed else 0.0, row.routed_at) + case.limits.routes - world.now
    if left > 0:
        return RetryLater(Reason.WAITING_FOR_ROUTES, left)
    return _drain(case, bridge) or RemoveBridge(row)


def _may_start(case: Case) -> bool:
    """Whether an LRP can be waited for, and is not what leads back to here at once."""
    lrp = case.world.lrp
    return lrp is None or case.is_on_target(lrp) or case.row.ended in KEEPS_OLD_ROOTFS


def _resume(case: Case) -> Step | None:
    """Go on with the migration, if the bridge serves after all, and its LRP would not; None otherwise.

    On the way back to the source the bridge is to serve for all. On the way to the copy it is enough that it
    serves more than the LRP, while cells cannot pull what that is desired from.
    """
    row, world = case.row, case.world
    if row.goal is Goal.CACHE:
        return _resume_on_the_way_to_copy(case) if _is_late(case) and case.is_bridge_ahead else None
    is_served = world.lrp is not None and running(world.bridge, world.bridge_instances) >= world.lrp.instances
    if not is_served or not _is_late(case):
        return None
    on_the_way = replace(row, ended=None)
    return replace(case, row=on_the_way).enter(
        Phase.BRIDGING, ended=Reason.NOT_PULLED if row.is_turned_back else None
    )


def _resume_on_the_way_to_copy(case: Case) -> Step | None:
    on_the_way = replace(case, row=replace(case.row, ended=None, detail=""))
    if case.is_to_be_restored:
        return _go_to_source(on_the_way)
    is_copy_failing = failure_of_pull(case.world.bridge_instances) is not None
    back = _go_to_source(on_the_way) if is_copy_failing else None
    return back or on_the_way.enter(Phase.BRIDGING)


def _go_to_source(case: Case) -> Step | None:
    """Bring an LRP to its source while its bridge serves, whatever that runs from; None if it cannot go.

    It has not left a former copy yet, and cells can pull neither that nor, perhaps, its new one.
    """
    world, lrp = case.world, case.world.lrp
    if lrp is None or world.way_to_source is None or case.is_on_source(lrp):
        return None
    row = replace(case.row, goal=Goal.SOURCE, original=lrp)
    return RemoveOriginal(row) if may_remove(row, world) else None


def _is_late(case: Case) -> bool:
    return case.row.ended is Reason.NOT_HEALTHY or case.waited_for_start > case.limits.start


def _drain(case: Case, bridge: DesiredLrp) -> Step | None:
    """Take the bridge's routes away, and let requests in flight end; None when that is done.

    Routers learn of a removal and the processes get SIGTERM at the same moment, so a process that ends at
    once would cut the requests that it serves (measured).
    """
    row, world = case.row, case.world
    if not is_any_running(world.bridge_instances):
        return None
    kept = kept_routes(bridge.routes)
    if kept != bridge.routes:
        return UpdateBridge(row, replace(bridge, routes=kept), Reason.DRAINING_BRIDGE)
    if row.drained_at == 0.0:
        if world.lrp is not None and not _has_app_routes(world.lrp):
            return None  # nobody sends it requests
        return Enter(replace(row, drained_at=world.now))
    left = row.drained_at + case.limits.drain - world.now
    return RetryLater(Reason.DRAINING_BRIDGE, left) if left > 0 else None


def _has_app_routes(lrp: DesiredLrp) -> bool:
    return any(key != SSH_ROUTE for key in lrp.routes)
