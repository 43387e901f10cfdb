"""Decides the steps of a migration before its LRP is removed: its bridge is desired and waited for."""

from dataclasses import replace

from reconcile.instances import failure_of, is_any_running, met_pull_failure, without_container
from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp
from reconcile.migrations import Goal, Phase
from reconcile.protocol.case import LONGEST_RETRY, SHORTEST_RETRY, Case, is_like, may_remove
from reconcile.protocol.draining import drain_original
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
    UpdateBridge,
)

MAX_BRIDGE_CRASHES = 2
"""Crashes in a row of one of a bridge's instances, after which the migration is given up."""


def prepared(case: Case) -> Step:
    """End a migration that was only prepared: nothing was done yet, so the LRP is decided about anew."""
    return Close(case.row, Reason.REMOVED_BY_OWNER if case.world.lrp is None else Reason.CANCELLED)


def bridging(case: Case) -> Step:
    """Wait until the bridge serves as many instances as the app has."""
    changed = _check_owner(case)
    if changed is not None:
        return changed
    world, lrp = case.world, case.row.original
    if case.waited > case.limits.bridge:
        return case.give_up(Reason.BRIDGE_TIMEOUT, failure_of(world.bridge_instances))
    if world.bridge is None:
        return _wait_for_other_bridge(case) or DesireBridge(case.row, lrp.instances)
    if not case.is_on_target(world.bridge) and not _serves_with_other_login(case):
        if not is_any_running(world.bridge_instances):
            return RemoveBridge(case.row)  # it was turned back, and has a bridge from the copy
        return _bridged_by_copy(case) or case.wait(
            Reason.BRIDGING, case.limits.bridge - case.waited + SHORTEST_RETRY
        )
    if not is_like(world.bridge, lrp):
        return follow_owner(case)
    if may_remove(case.row, world):
        is_of_copy = case.row.goal is Goal.CACHE
        met = met_pull_failure(world.bridge_instances) if is_of_copy else None
        return replace(case.enter(Phase.BRIDGED), failure=met)
    return case.wait(Reason.BRIDGING, case.limits.bridge - case.waited + SHORTEST_RETRY)


def _bridged_by_copy(case: Case) -> Step | None:
    """Let a bridge from the copy serve for an LRP that leaves a former copy for its source; else None.

    Such a bridge was desired while the migration still led to the copy. A migration that was turned back
    needs a bridge from the source, since its LRP did not start from the copy.
    """
    row, world = case.row, case.world
    if row.goal is Goal.CACHE or row.is_turned_back or world.bridge is None:
        return None
    if not is_like(world.bridge, row.original):
        return follow_owner(case)
    return case.enter(Phase.BRIDGED) if may_remove(row, world) else None


def _wait_for_other_bridge(case: Case) -> Step | None:
    """Wait until the instances of the bridge from the copy are gone, after its LRP was turned back.

    They failed because of the copy, and the BBS starts none of the next bridge while they are there. None
    when none is left.
    """
    row, world = case.row, case.world
    if not row.is_turned_back or not world.bridge_instances:
        return None
    at_rest = without_container(world.bridge_instances)
    if at_rest and world.now - row.retired_at > LONGEST_RETRY:
        return RetireInstances(at_rest, Reason.BRIDGING, replace(row, retired_at=world.now))
    return case.wait(Reason.BRIDGING)


def _serves_with_other_login(case: Case) -> bool:
    """Whether a bridge from the same copy runs; its login may have been changed since it was desired."""
    return case.row.renews_login and is_any_running(case.world.bridge_instances)


def bridged(case: Case) -> Step:
    """Let routers learn of the bridge, then remove the original."""
    changed = _check_owner(case)
    if changed is not None:
        return changed
    world, lrp = case.world, case.row.original
    if world.bridge is None or not is_like(world.bridge, lrp) or not may_remove(case.row, world):
        return case.enter(Phase.BRIDGING)
    if case.waited < case.limits.routes:
        return RetryLater(Reason.WAITING_FOR_ROUTES, case.limits.routes - case.waited)
    return drain_original(case) or RemoveOriginal(case.row)


def follow_owner(case: Case) -> Step:
    """Give the bridge the routes that the owner wants, and at least as many instances."""
    lrp, bridge = case.row.original, case.world.bridge
    most = lrp.instances if bridge is None else max(lrp.instances, bridge.instances)
    return UpdateBridge(case.row, replace(lrp, instances=most))


def _check_owner(case: Case) -> Step | None:
    """Decide about changes before the removal; None when there are none and the bridge works."""
    lrp, original = case.world.lrp, case.row.original
    if lrp is None:
        return case.give_up(Reason.REMOVED_BY_OWNER)
    if case.is_on_target(lrp):
        return _desired_by_owner(case, lrp)
    is_as_wanted = lrp.rootfs == original.rootfs or case.is_on_source(lrp) or case.is_on_former_copy(lrp)
    if not is_as_wanted or lrp.instances == 0:
        return case.give_up(Reason.INSTANCES_CHANGED)
    if lrp.tag.epoch != original.tag.epoch:  # its owner removed it and desired it again
        return Enter(case.with_original(lrp))
    if case.is_to_be_restored and case.row.goal is Goal.CACHE:
        return case.give_up(Reason.CANCELLED)
    bridge = case.world.bridge
    is_ours = case.is_on_target(bridge) if bridge is not None else not case.row.is_turned_back
    if is_ours and any(_has_failed(each, case) for each in case.world.bridge_instances):
        return _give_up_crashed(case)
    return None


def _desired_by_owner(case: Case, lrp: DesiredLrp) -> Step:
    """Wait until an LRP runs that its owner has desired from its copy: its droplet names that by now.

    Without a bridge nothing was done yet, and the next pass looks after it as after every LRP on its copy.
    """
    row, world = case.row, case.world
    if row.goal is Goal.CACHE and not row.renews_login and lrp.tag.epoch != row.original.tag.epoch:
        if world.bridge is None and not world.bridge_instances:
            return case.give_up(Reason.CHANGED_BY_CLOUD_CONTROLLER)
        return case.start_from_droplet()
    return case.enter(Phase.STARTING)


def _runs(instance: ActualLrp) -> bool:
    return instance.state is ActualLrpState.RUNNING


def _give_up_crashed(case: Case) -> Step:
    """Give up a migration whose bridge crashed; a registry that cells cannot reach says nothing of a copy."""
    failure = failure_of(case.world.bridge_instances)
    is_unreachable = failure is not None and failure.blame is Blame.REGISTRY
    if is_unreachable and case.row.goal is Goal.CACHE:
        return case.give_up(Reason.NOT_PULLED, failure)
    return case.give_up(Reason.BRIDGE_CRASHED, failure)


def _has_failed(instance: ActualLrp, case: Case) -> bool:
    if _runs(instance) and (case.row.goal is Goal.SOURCE or case.is_bridge_ahead):
        return False  # it runs now, although it crashed before, and the LRP itself cannot be started
    return instance.state is ActualLrpState.CRASHED or instance.crash_count >= MAX_BRIDGE_CRASHES
