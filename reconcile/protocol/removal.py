"""Decides the steps of a migration while its LRP is not desired, or may not be."""

from dataclasses import replace

from reconcile.instances import failure_of, is_any_running, running, without_container
from reconcile.lrps import DesiredLrp, Pull
from reconcile.migrations import Goal, Phase
from reconcile.protocol.bridging import follow_owner
from reconcile.protocol.case import LONGEST_RETRY, MAX_ROUNDS, SHORTEST_RETRY, Case, is_like, may_remove
from reconcile.reasons import Reason
from reconcile.steps import Close, DesireBridge, DesireOriginal, Enter, RemoveOriginal, RetireInstances, Step


def removing(case: Case) -> Step:
    """Find out whether the original was removed.

    Seen only when the answer to the removal was lost, or when the process died before or after it.
    """
    row, world = case.row, case.world
    lrp = world.lrp
    if lrp is None:
        # Its owner may have changed it after it was last read: Cloud Controller's sync finds that.
        known = replace(row, synced_by=world.now + case.limits.unknown)
        return replace(case, row=known).enter(Phase.REMOVED)
    if case.is_on_target(lrp):
        return _start(case, lrp)
    if not case.is_unknown:
        return _not_removed(case, lrp)
    left = row.unknown_until - world.now + SHORTEST_RETRY
    return _bridge_for_unknown(case) or case.wait(Reason.REMOVAL_UNCONFIRMED, left)


def _bridge_for_unknown(case: Case) -> Step | None:
    """Let a bridge serve what the app loses when the removal takes effect; None when there is no need."""
    row, world = case.row, case.world
    if not row.has_bridge:
        is_at_risk = world.may_bridge and is_any_running(world.instances)
        return Enter(replace(row, is_stopgap=True)) if is_at_risk else None
    if world.bridge is None:
        return DesireBridge(row, row.original.instances)
    return None if is_like(world.bridge, row.original) else follow_owner(case)


def _not_removed(case: Case, lrp: DesiredLrp) -> Step:
    row = replace(case.row, instance_guids=frozenset())  # their definition is still desired
    if row.way_back is not None:
        if lrp.tag.epoch != row.original.tag.epoch:  # it was removed, and its owner has desired it again
            return changed_by_owner(case, lrp)
        if not is_any_running(case.world.instances):
            return RemoveOriginal(row)
        is_off_copy = case.world.copy is not None and not case.is_on_copy(row.original)
        if is_off_copy:  # it was to leave its former copy for its source
            former = Pull(row.original.rootfs, row.original.credentials)
            return replace(case, row=replace(row, way_back=former)).enter(Phase.STARTING)
        # It is where it was: old instances may be among those that the row names, so none is taken for new.
        source = row.way_back
        original = replace(row.original, rootfs=source.rootfs, credentials=source.credentials)
        on_copy = replace(case.row, goal=Goal.CACHE, original=original, way_back=None, ended=None, detail="")
        return replace(case, row=on_copy).enter(Phase.STARTING)
    if not row.has_bridge:
        return Close(row, Reason.NOT_REMOVED)
    return replace(case, row=row).enter(Phase.BRIDGED)


def removed(case: Case) -> Step:
    """Desire the original again, once that starts instances of it or a bridge serves meanwhile."""
    row, world = case.row, case.world
    if world.lrp is not None:
        return _desired_by_somebody(case, world.lrp)
    seen = {each.instance_guid for each in world.instances} - row.instance_guids - {""}
    if seen:  # somebody else desired it meanwhile, and removed it again
        return Enter(replace(row, instance_guids=row.instance_guids | seen))
    first = _leave_to_owner(case) or _turn_round(case)
    if first is not None:
        return first
    at_rest = without_container(world.instances)
    if at_rest and world.now - row.retired_at > LONGEST_RETRY:  # a removal that raced a crash left them
        return RetireInstances(at_rest, migration=replace(row, retired_at=world.now))
    if not world.instances or case.waited > case.limits.missing:
        return DesireOriginal(row)
    if row.is_stopgap:
        return _with_stopgap(case)
    if not row.has_bridge and world.may_bridge:
        left = case.limits.stopgap - case.waited
        if left <= 0:
            return Enter(replace(row, is_stopgap=True))
        return case.wait(Reason.INSTANCES_STOPPING, left)
    return case.wait(Reason.INSTANCES_STOPPING, case.limits.missing - case.waited + SHORTEST_RETRY)


def _leave_to_owner(case: Case) -> Step | None:
    """Wait for the owner of an LRP that was found missing after a restart; None when it may be desired."""
    row, world = case.row, case.world
    if row.run_id == world.run_id or not world.domain_is_fresh or row.has_bridge:
        return None
    # The process died between removal and desire. In a fresh domain the owner syncs and desires what
    # should exist, so an LRP that is still missing after a sync was stopped or deleted by its owner.
    # With a bridge the app is desired at once: if its owner deleted it, the owner's next sync removes it,
    # which is sooner than the end of this wait.
    left = case.limits.cloud_controller_sync - world.process_age
    if left > 0:
        return case.wait(Reason.WAITING_FOR_CLOUD_CONTROLLER, left + SHORTEST_RETRY)
    return Close(row, Reason.REMOVED_BY_OWNER)


def _turn_round(case: Case) -> Step | None:
    """Let an LRP that an operator wants on its source be desired from there, not from its copy first."""
    return case.turn_back(None, ended=Reason.RESTORED) if case.is_to_be_restored else None


def _with_stopgap(case: Case) -> Step:
    """Desire the original once the stopgap serves; old instances are still being stopped."""
    row, world = case.row, case.world
    if world.bridge is None:
        # One instance more than wanted, since one on the cell that pulls the old image may wait for it.
        return DesireBridge(row, row.original.instances + 1)
    if not case.is_on_target(world.bridge):  # it was turned back: the bridge runs from the copy
        return DesireOriginal(row)
    back = stopgap_failure(case)
    if back is not None:
        return back
    if running(world.bridge, world.bridge_instances) >= row.original.instances:
        return DesireOriginal(row)
    return case.wait(Reason.INSTANCES_STOPPING, case.limits.missing - case.waited + SHORTEST_RETRY)


def stopgap_failure(case: Case) -> Step | None:
    """Turn back an LRP whose stopgap cannot be started from the copy; None when that has not failed."""
    bridge = case.world.bridge_instances
    if not case.row.is_stopgap or is_any_running(bridge):
        return None
    return case.turn_back(failure_of(bridge))


def _desired_by_somebody(case: Case, lrp: DesiredLrp) -> Step:
    row = case.row
    if case.is_on_target(lrp):
        return _start(case, lrp)
    if lrp.tag.epoch != row.original.tag.epoch:
        return changed_by_owner(case, lrp)
    return case.wait(Reason.REMOVAL_UNCONFIRMED) if case.is_unknown else _not_removed(case, lrp)


def _start(case: Case, lrp: DesiredLrp) -> Step:
    """Wait until an LRP runs that is desired from where it is to go, by whomever.

    Without a bridge nothing could stand in for an instance that is taken for one from before.
    """
    if case.row.has_bridge and case.is_from_droplet(lrp):
        return case.start_from_droplet()
    return case.enter(Phase.STARTING)


def changed_by_owner(case: Case, lrp: DesiredLrp) -> Step:
    """Migrate the LRP that its owner desired again once more, or leave it as its owner desired it."""
    row = case.row
    is_on_copy_again = row.goal is Goal.SOURCE and case.is_on_copy(lrp)  # its droplet names that still
    names_copy = is_on_copy_again or case.is_on_former_copy(lrp)
    if row.is_turned_back and row.has_bridge and not names_copy:  # it is on its source, or on another
        return case.enter(Phase.REMOVING_BRIDGE)
    # Of one that ran from a copy before, its owner knows the source.
    is_as_before = case.is_as_before(lrp) or case.is_on_source(lrp) or names_copy
    # An instance whose stop was lost runs what is desired again: stopping it would cost the app one.
    left = replace(row, instance_guids=frozenset()) if is_as_before else row
    if not row.has_bridge:
        return Close(left, Reason.CHANGED_BY_CLOUD_CONTROLLER)
    # One that is turned back may have no round left for its way back, where its copy cannot be pulled.
    most = MAX_ROUNDS * 2 if row.is_turned_back else MAX_ROUNDS
    if is_as_before and row.rounds < most:
        again = replace(case.with_original(lrp), unknown_until=0.0)
        if row.is_turned_back and may_remove(again, case.world):  # its bridge need not be of its source
            return RemoveOriginal(replace(again, rounds=row.rounds + 1))
        return replace(case, row=again).enter(Phase.BRIDGING, rounds=row.rounds + 1)
    given_up = replace(replace(case, row=left).with_original(lrp), unknown_until=0.0)
    return replace(case, row=given_up).enter(Phase.STARTING, ended=Reason.REVERTED_EXTERNALLY)
