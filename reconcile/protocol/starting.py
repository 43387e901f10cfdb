"""Decides the steps of a migration after its LRP was desired again: it is on probation until it runs."""

from dataclasses import replace

from reconcile.instances import (
    failure_of,
    failure_of_pull,
    is_any_running,
    lack_of_room,
    needed,
    running,
    stale_instances,
    without_container,
)
from reconcile.lrps import ActualLrpState, DesiredLrp
from reconcile.migrations import Goal, Phase
from reconcile.protocol.case import (
    KEEPS_OLD_ROOTFS,
    LONGEST_RETRY,
    MAX_ROUNDS,
    SHORTEST_RETRY,
    Case,
    is_like,
    may_remove,
)
from reconcile.protocol.removal import changed_by_owner, stopgap_failure
from reconcile.reasons import Reason
from reconcile.start_failures import Blame
from reconcile.steps import (
    Close,
    DesireBridge,
    Enter,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    Step,
    TurnBack,
    UpdateBridge,
)


def starting(case: Case) -> Step:
    """Wait until the LRP runs from what it was desired from, or turn it back."""
    row, lrp = case.row, case.world.lrp
    if lrp is None:
        return _missing(case)
    if row.ended not in KEEPS_OLD_ROOTFS and not case.is_on_target(lrp):
        return changed_by_owner(case, lrp)
    if row.has_bridge:
        return _start_beside_bridge(case, lrp)
    return _start_alone(case, lrp)


def _missing(case: Case) -> Step:
    if case.may_be_ours:
        return case.enter(Phase.REMOVED)
    if case.row.has_bridge:
        return case.give_up(Reason.REMOVED_BY_OWNER)
    return Close(case.row, Reason.REMOVED_BY_OWNER)


def _start_alone(case: Case, lrp: DesiredLrp) -> Step:
    row, world = case.row, case.world
    if case.is_unknown:
        return case.wait(Reason.REMOVAL_UNCONFIRMED)
    if row.goal is Goal.CACHE:
        ended = _end_of_probation(case, lrp)
        if ended is not None:
            return ended
    elif not case.old_instances or is_any_running(world.instances, row.instance_guids):
        return Close(row, row.ended or case.success)
    if case.old_instances and world.may_bridge:
        left = case.limits.stopgap - case.waited
        if left <= 0:
            return Enter(replace(row, is_stopgap=True))
        return case.wait(Reason.STARTING, left)
    if stale_instances(world.instances, row.instance_guids) and case.waited > case.limits.stop:
        # Their stop was lost. They serve the app, which cannot have a bridge, so nothing is done to them.
        return Close(replace(row, instance_guids=frozenset()), Reason.WAITING_UNTIL_STOPPED)
    return case.wait(Reason.STARTING)


def _end_of_probation(case: Case, lrp: DesiredLrp) -> Step | None:
    """End a migration without a bridge, or turn it back; None while its instances have not said enough."""
    row, world = case.row, case.world
    if lrp.instances == 0:
        return Close(row, Reason.NO_INSTANCES)
    if is_any_running(world.instances, row.instance_guids):
        # What its owner desired may have an instance of what that desired before, whose stop was lost.
        is_by_owner = case.is_from_droplet(lrp)
        return Close(row, Reason.CHANGED_BY_CLOUD_CONTROLLER if is_by_owner else Reason.MIGRATED)
    if case.is_to_be_restored:
        return case.turn_back(None, ended=Reason.RESTORED)
    failure = None if case.old_instances else failure_of(world.instances)
    back = case.turn_back(failure)
    if back is not None:
        return back
    if failure is not None and failure.blame is Blame.APP:
        return Close(replace(row, detail=failure.detail), Reason.PROCESS_EXITED)
    if case.waited <= case.limits.start or case.old_instances:
        return None
    room = lack_of_room(world.instances)
    if room is not None:
        return Close(replace(row, detail=room.detail), Reason.NO_ROOM)
    return case.turn_back(None, ended=Reason.NOT_STARTED)


def _start_beside_bridge(case: Case, lrp: DesiredLrp) -> Step:
    return (
        _desire_again(case, lrp)
        or _leave_failing_source(case, lrp)
        or _leave_failing_former(case, lrp)
        or _tend_bridge(case, lrp)
        or case.retire_stale(lrp)
        or _failure_beside_bridge(case)
        or _restore_beside_bridge(case)
        or _serve(case, lrp)
    )


def _desire_again(case: Case, lrp: DesiredLrp) -> Step | None:
    """Desire an LRP anew that is back on its source and has no instance row; None when it has one.

    It was desired beside rows whose pull has ended since: nothing but convergence would start its instances.
    """
    row, world = case.row, case.world
    is_served = is_any_running(world.bridge_instances)
    if not row.is_turned_back or world.instances or is_served or lrp.instances == 0:
        return None
    return RemoveOriginal(replace(row, original=lrp)) if case.waited > case.limits.stopgap else None


def _leave_failing_source(case: Case, lrp: DesiredLrp) -> Step | None:
    """Desire an LRP from its former copy after all, if cells cannot pull from its source; None if they can.

    Its owner was faster, and desired it from there.
    """
    row, world = case.row, case.world
    is_on_its_way = row.is_turned_back and lrp.rootfs != case.target.rootfs and row.rounds < MAX_ROUNDS
    failure = failure_of(world.instances)
    if not is_on_its_way or failure is None or not failure.is_pull_failure or is_any_running(world.instances):
        return None
    return RemoveOriginal(replace(row, original=lrp, rounds=row.rounds + 1))


def _leave_failing_former(case: Case, lrp: DesiredLrp) -> Step | None:
    """Desire an LRP from its source if cells cannot pull the former copy that it was turned back to.

    None if they can. What runs of it serves on until a bridge can stand in for that, if need be one from the
    source. Of an LRP that is desired from there already the bridge alone may be in need of it.
    """
    row, world, source, former = case.row, case.world, case.world.way_to_source, case.target.rootfs
    if not row.is_turned_back or row.renews_login or source is None or source.rootfs == former:
        return None
    if case.is_unknown or _serves_all(case, lrp):
        return None
    of_bridge = world.bridge_instances if world.bridge is not None and world.bridge.rootfs == former else ()
    if failure_of_pull((*(world.instances if lrp.rootfs == former else ()), *of_bridge)) is None:
        return None
    to_source = replace(row, way_back=source)
    if lrp.rootfs != former:
        return Enter(to_source)
    to_source = replace(to_source, original=lrp)
    if may_remove(to_source, world):
        return RemoveOriginal(to_source)
    return replace(case, row=to_source).enter(Phase.BRIDGING) if world.may_bridge else None


def _serves_all(case: Case, lrp: DesiredLrp) -> bool:
    return running(lrp, case.world.instances, case.row.instance_guids) >= lrp.instances


def _tend_bridge(case: Case, lrp: DesiredLrp) -> Step | None:
    """Let the bridge serve as it should; None when it does."""
    row, bridge = case.row, case.world.bridge
    if bridge is None:
        # The bridge of one that was turned back was one of the copy, and may be gone.
        may_stand_in = row.is_stopgap or row.is_turned_back
        return _desire_stopgap(case, lrp) if may_stand_in and case.old_instances else None
    is_of_copy = row.is_turned_back and not case.is_on_target(bridge)
    if is_of_copy and not is_any_running(case.world.bridge_instances):
        return RemoveBridge(row)
    if not is_like(bridge, lrp):
        most = max(lrp.instances, bridge.instances)
        return UpdateBridge(row, replace(lrp, instances=most), Reason.STARTING)
    return None


def _desire_stopgap(case: Case, lrp: DesiredLrp) -> Step | None:
    """Desire a stopgap again, once no row of the one before is left that would keep instances from starting.

    A removal that raced a crash leaves a row without a container, which nothing but convergence would delete.
    """
    row, world = case.row, case.world
    if not world.bridge_instances:
        return DesireBridge(row, lrp.instances + 1)
    at_rest = without_container(world.bridge_instances)
    if at_rest and world.now - row.retired_at > LONGEST_RETRY:
        return RetireInstances(at_rest, Reason.STARTING, replace(row, retired_at=world.now))
    return None


def _failure_beside_bridge(case: Case) -> Step | None:
    """Turn back an LRP that cells cannot start from its copy; its bridge may serve meanwhile."""
    row, world = case.row, case.world
    if row.ended is not None:
        return None
    is_of_source = _is_bridge_of_source(case)
    rows = world.instances if is_of_source else (*world.instances, *world.bridge_instances)
    crashed = [each for each in rows if each.state is ActualLrpState.CRASHED]
    return case.turn_back(failure_of(crashed)) or (None if is_of_source else stopgap_failure(case))


def _is_bridge_of_source(case: Case) -> bool:
    """Whether the bridge was to serve on the way back, on which the LRP was not removed after all."""
    bridge = case.world.bridge
    return bridge is not None and bridge.rootfs != case.target.rootfs


def _restore_beside_bridge(case: Case) -> Step | None:
    """Turn back an LRP that an operator wants on its source, while its bridge can serve in its place.

    Otherwise it is restored when its migration has ended: a bridge for the way back would be the second one.
    """
    if not case.is_to_be_restored or case.row.ended is not None or case.is_unknown:
        return None
    back = case.turn_back(None, ended=Reason.RESTORED)
    return back if isinstance(back, TurnBack) and back.migration.phase is Phase.STARTING else None


def _serve(case: Case, lrp: DesiredLrp) -> Step:
    row, world = case.row, case.world
    ended = row.ended or case.success
    serving = running(lrp, world.instances, row.instance_guids)
    if serving >= lrp.instances:
        if world.now < row.synced_by:
            return case.wait(Reason.WAITING_FOR_CLOUD_CONTROLLER, row.synced_by - world.now + SHORTEST_RETRY)
        return case.enter(Phase.REMOVING_BRIDGE, ended=ended)
    if case.old_instances:
        if world.bridge is None and world.bridge_instances:  # another bridge is desired when they are gone
            return case.wait(Reason.STARTING)
        if _has_no_way_back(case):
            return case.give_up(ended)
        return _leave_old_instances(case, lrp) or RetryLater(Reason.OLD_INSTANCES_LEFT, LONGEST_RETRY)
    if case.waited_for_start <= case.limits.start:
        return case.wait(Reason.STARTING, case.limits.start - case.waited_for_start + SHORTEST_RETRY)
    if serving < running(world.bridge, world.bridge_instances):
        return RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)
    return _end_of_time(case, serving)


def _leave_old_instances(case: Case, lrp: DesiredLrp) -> Step | None:
    """Leave an LRP on its copy with what runs of it; None while its bridge can stand in.

    What was taken for an instance from before may run from the copy all the same, where the owner desired the
    LRP, or where it was not removed on its way back.
    """
    row, world = case.row, case.world
    is_late = not case.is_unknown and case.waited_for_start > case.limits.start
    is_by_owner = case.is_from_droplet(lrp)
    if not is_late or not (is_by_owner or _is_bridge_of_source(case)):
        return None
    if needed(lrp, world.instances) <= running(world.bridge, world.bridge_instances):
        return None
    left = replace(case, row=replace(row, instance_guids=frozenset()))
    reason = Reason.CHANGED_BY_CLOUD_CONTROLLER if is_by_owner else Reason.WAITING_UNTIL_STOPPED
    return left.give_up(reason)


def _has_no_way_back(case: Case) -> bool:
    """Whether an LRP is back on its source, and neither it nor its bridge can be pulled from there.

    Old instances may serve, whose stops were lost. It may run from its copy again once this has ended.
    """
    row, world = case.row, case.world
    new = [each for each in world.instances if each.instance_guid not in row.instance_guids]
    failures = (failure_of(new), failure_of(world.bridge_instances))
    is_failing = all(each is not None and each.is_pull_failure for each in failures)
    is_late = case.waited_for_start > case.limits.start
    return row.is_turned_back and is_late and is_failing and not is_any_running(world.bridge_instances)


def _end_of_time(case: Case, serving: int) -> Step:
    """End a migration whose bridge serves no more than the LRP, which does not run as its owner wants."""
    failure = failure_of(case.world.instances) or lack_of_room(case.world.instances)
    is_own = failure is not None and failure.blame in {Blame.APP, Blame.ROOM}
    back = None if serving or is_own else case.turn_back(failure, ended=Reason.NOT_STARTED)
    if back is not None:
        return back
    if failure is not None and is_own and case.row.is_stopgap and not serving:
        is_room = failure.blame is Blame.ROOM
        return case.give_up(Reason.NO_ROOM if is_room else Reason.PROCESS_EXITED, failure)
    return case.give_up(Reason.NOT_HEALTHY, failure)
