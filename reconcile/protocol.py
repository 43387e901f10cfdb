"""The migration protocol: decides the next step of a migration from its journal row and the state of the BBS.

`reconcile.phases` shows the protocol at a glance. It is the same for both goals, the cached image and the
source. Each phase is written before its effect, every effect can be repeated, and a row holds all that is
needed to resume after a crash, or to undo.

An app that its owner removed before the daemon did is never desired again. One that its owner removed later
may be desired again, until its owner's next sync removes it.
Source: cloudfoundry/bbs handlers/desired_lrp_handlers.go. When an LRP is desired again while instance rows
are left over, it had no instance for 17 s (measured).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reconcile.instances import is_any_running, needed, running, stale_instances
from reconcile.lrps import ActualLrp, ActualLrpState, DesiredLrp, Pull
from reconcile.reasons import Reason
from reconcile.records import Goal, Migration, Phase, Strategy
from reconcile.steps import (
    Close,
    DesireBridge,
    DesireOriginal,
    Enter,
    PhaseLimits,
    RemoveBridge,
    RemoveOriginal,
    RetireInstances,
    RetryLater,
    Step,
    UpdateBridge,
    World,
)

MAX_ROUNDS = 3
"""Migrations of one LRP that somebody else may revert, before it is skipped."""

MAX_BRIDGE_CRASHES = 2
"""Crashes in a row of one of a bridge's instances, after which the migration is given up."""

SHORTEST_RETRY = 0.25
"""Seconds until the first retry of a wait; later retries are farther apart."""

LONGEST_RETRY = 5.0
"""Seconds between two retries of a wait at most."""


FAILURES = frozenset(
    {Reason.BRIDGE_CRASHED, Reason.BRIDGE_TIMEOUT, Reason.NOT_HEALTHY, Reason.BBS_REFUSED_DEFINITION}
)
"""Ends of a migration that count for the circuit breaker, since other apps may fail in the same way."""

_KEEPS_OLD_ROOTFS = frozenset({Reason.REVERTED_EXTERNALLY, Reason.BBS_REFUSED_DEFINITION})
"""Ends after which the LRP is desired from its old rootfs, although it was removed once."""

_KEEPS_BRIDGE = frozenset({Reason.MIGRATED, Reason.RESTORED, *_KEEPS_OLD_ROOTFS})
"""Ends at which the bridge must not be removed before the original serves."""


def next_step(row: Migration, world: World, *, target: Pull, limits: PhaseLimits) -> Step:
    """Decide the next step of an open migration; the same row and world give the same step.

    Args:
        row: The migration as it is in the journal.
        world: What was observed after the row was read.
        target: What the LRP is to run from.
        limits: How long phases may take.
    """
    newest = _newest(row, world)
    if newest != row.original:
        return Enter(replace(row, original=newest))
    decide = _DECIDE[row.phase]
    return decide(_Case(row, world, target, limits))


def may_remove(row: Migration, world: World) -> bool:
    """Whether the app loses no instance when the original is removed now."""
    if world.lrp is None or world.lrp.rootfs != row.original.rootfs:
        return False
    if row.strategy is Strategy.RECREATE:
        return not is_any_running(world.instances)
    return running(world.bridge, world.bridge_instances) >= needed(world.lrp, world.instances)


def may_remove_bridge(row: Migration, world: World) -> bool:
    """Whether the app loses no instance when the bridge is removed now."""
    if world.lrp is None or row.ended not in _KEEPS_BRIDGE:
        return True
    serving = running(world.lrp, world.instances, row.instance_guids)
    return serving >= min(world.lrp.instances, running(world.bridge, world.bridge_instances))


@dataclass(frozen=True, slots=True)
class _Case:
    row: Migration
    world: World
    target: Pull
    limits: PhaseLimits

    @property
    def waited(self) -> float:
        return self.world.now - (self.row.entered_at or self.row.started_at)

    @property
    def is_unknown(self) -> bool:
        return self.world.now < self.row.unknown_until

    @property
    def success(self) -> Reason:
        return Reason.MIGRATED if self.row.goal is Goal.CACHE else Reason.RESTORED

    def enter(self, phase: Phase, *, ended: Reason | None = None, rounds: int | None = None) -> Enter:
        row = replace(
            self.row,
            phase=phase,
            entered_at=self.world.now,
            ended=ended,
            rounds=self.row.rounds if rounds is None else rounds,
        )
        return Enter(row)

    def wait(self, reason: Reason, at_most: float = LONGEST_RETRY) -> RetryLater:
        return RetryLater(reason, min(at_most, LONGEST_RETRY, max(SHORTEST_RETRY, self.waited / 10)))

    def give_up(self, reason: Reason) -> Step:
        """End the migration: at once without a bridge, otherwise after the bridge is removed."""
        if self.row.strategy is Strategy.RECREATE:
            return Close(self.row, reason)
        return self.enter(Phase.REMOVING_BRIDGE, ended=reason)


def _newest(row: Migration, world: World) -> DesiredLrp:
    """Find the newest version of the definition that is, or was, desired from the old rootfs."""
    newest = row.original
    is_over = row.phase in {Phase.STARTING, Phase.REMOVING_BRIDGE}
    for seen in (world.lrp, *world.versions_in_events):
        if seen is None or seen.rootfs != newest.rootfs or is_over:
            continue
        if seen.tag.epoch == newest.tag.epoch and seen.tag.index > newest.tag.index:
            newest = seen
    return newest


def _prepared(case: _Case) -> Step:
    # Seen only after a crash. Nothing was done yet, so the LRP is decided about anew.
    return Close(case.row, Reason.REMOVED_BY_OWNER if case.world.lrp is None else Reason.CANCELLED)


def _check_owner(case: _Case) -> Step | None:
    """Decide about changes by the owner before the removal; None when there are none and the bridge works."""
    lrp, original = case.world.lrp, case.row.original
    if lrp is None:
        return case.give_up(Reason.REMOVED_BY_OWNER)
    if lrp.rootfs == case.target.rootfs:
        return case.enter(Phase.STARTING)
    if lrp.rootfs != original.rootfs or lrp.instances == 0:
        return case.give_up(Reason.INSTANCES_CHANGED)
    if lrp.tag.epoch != original.tag.epoch:  # its owner removed it and desired it again
        return Enter(replace(case.row, original=lrp))
    if any(_has_failed(each) for each in case.world.bridge_instances):
        return case.give_up(Reason.BRIDGE_CRASHED)
    return None


def _has_failed(instance: ActualLrp) -> bool:
    return instance.state is ActualLrpState.CRASHED or instance.crash_count >= MAX_BRIDGE_CRASHES


def _bridging(case: _Case) -> Step:
    changed = _check_owner(case)
    if changed is not None:
        return changed
    world, lrp = case.world, case.row.original
    if case.waited > case.limits.bridge:
        return case.give_up(Reason.BRIDGE_TIMEOUT)
    if world.bridge is None:
        return DesireBridge(case.row)
    if not _is_like(world.bridge, lrp):
        most = max(lrp.instances, world.bridge.instances)
        return UpdateBridge(case.row, replace(lrp, instances=most))
    if may_remove(case.row, world):
        return case.enter(Phase.BRIDGED)
    return case.wait(Reason.BRIDGING, case.limits.bridge - case.waited + SHORTEST_RETRY)


def _is_like(bridge: DesiredLrp, lrp: DesiredLrp) -> bool:
    return bridge.instances >= lrp.instances and bridge.routes == lrp.routes


def _bridged(case: _Case) -> Step:
    changed = _check_owner(case)
    if changed is not None:
        return changed
    world, lrp = case.world, case.row.original
    if world.bridge is None or not _is_like(world.bridge, lrp) or not may_remove(case.row, world):
        return case.enter(Phase.BRIDGING)
    if case.waited < case.limits.routes:
        return RetryLater(Reason.WAITING_FOR_ROUTES, case.limits.routes - case.waited)
    return RemoveOriginal(case.row)


def removing(row: Migration, world: World, limits: PhaseLimits) -> Migration:
    """Make the row that is written before the original is removed."""
    return replace(
        row,
        phase=Phase.REMOVING,
        entered_at=world.now,
        original=row.original if world.lrp is None else world.lrp,
        unknown_until=world.now + limits.unknown,
        instance_guids=row.instance_guids | {each.instance_guid for each in world.instances} - {""},
    )


def _removing(case: _Case) -> Step:
    # Seen only when the answer to the removal was lost, or when the process died before or after it.
    lrp = case.world.lrp
    if lrp is None:
        return case.enter(Phase.REMOVED)
    if lrp.rootfs == case.target.rootfs:
        return case.enter(Phase.STARTING)
    if case.is_unknown:
        left = case.row.unknown_until - case.world.now + SHORTEST_RETRY
        return case.wait(Reason.REMOVAL_UNCONFIRMED, left)
    return _not_removed(case)


def _not_removed(case: _Case) -> Step:
    row = replace(case.row, instance_guids=frozenset())  # their definition is still desired
    if row.strategy is Strategy.RECREATE:
        return Close(row, Reason.NOT_REMOVED)
    return replace(case, row=row).enter(Phase.BRIDGED)


def _removed(case: _Case) -> Step:
    row, world = case.row, case.world
    lrp = world.lrp
    if lrp is not None:
        if lrp.rootfs == case.target.rootfs:
            return case.enter(Phase.STARTING)
        if lrp.tag.epoch == row.original.tag.epoch:
            if case.is_unknown:
                return case.wait(Reason.REMOVAL_UNCONFIRMED)
            return _not_removed(case)
        return _changed_by_owner(case, lrp)
    has_bridge = row.strategy is Strategy.BRIDGE
    if row.run_id != world.run_id and world.domain_is_fresh and not has_bridge:
        # The process died between removal and desire. In a fresh domain the owner syncs and desires what
        # should exist, so an LRP that is still missing after a sync was stopped or deleted by its owner.
        # With a bridge the app is desired at once: if its owner deleted it, the owner's next sync removes it,
        # which is sooner than the end of this wait.
        left = case.limits.cloud_controller_sync - world.process_age
        if left > 0:
            return case.wait(Reason.WAITING_FOR_CLOUD_CONTROLLER, left + SHORTEST_RETRY)
        return case.give_up(Reason.REMOVED_BY_OWNER)
    if not world.instances or case.waited > case.limits.leftover:
        return DesireOriginal(row)
    if case.waited > case.limits.stop:
        return RetireInstances(world.instances)
    return case.wait(Reason.INSTANCES_STOPPING)


def _changed_by_owner(case: _Case, lrp: DesiredLrp) -> Step:
    """Migrate the LRP that its owner desired again once more, or leave it as its owner desired it."""
    row = case.row
    if row.strategy is Strategy.RECREATE:
        # An instance whose stop was lost runs what is desired again: stopping it would cost the app one.
        is_as_before = lrp.rootfs == row.original.rootfs
        return Close(
            replace(row, instance_guids=frozenset()) if is_as_before else row,
            Reason.CHANGED_BY_CLOUD_CONTROLLER,
        )
    again = replace(case, row=replace(row, original=lrp, unknown_until=0.0))
    if lrp.rootfs != row.original.rootfs or row.rounds >= MAX_ROUNDS:
        return again.enter(Phase.STARTING, ended=Reason.REVERTED_EXTERNALLY)
    return again.enter(Phase.BRIDGING, rounds=row.rounds + 1)


def _starting(case: _Case) -> Step:
    row, world = case.row, case.world
    lrp = world.lrp
    if lrp is None:
        # A removal whose answer was lost may have removed what was desired again.
        return case.enter(Phase.REMOVED) if case.is_unknown else case.give_up(Reason.REMOVED_BY_OWNER)
    if row.ended not in _KEEPS_OLD_ROOTFS and lrp.rootfs != case.target.rootfs:
        return _changed_by_owner(case, lrp)
    ended = row.ended or case.success
    if row.strategy is Strategy.RECREATE:
        return case.wait(Reason.REMOVAL_UNCONFIRMED) if case.is_unknown else Close(row, ended)
    stale = stale_instances(world.instances, row.instance_guids)
    if stale:
        return RetireInstances(stale)
    serving = running(lrp, world.instances, row.instance_guids)
    if serving >= lrp.instances:
        return case.enter(Phase.REMOVING_BRIDGE, ended=ended)
    if case.waited <= case.limits.start:
        return case.wait(Reason.STARTING, case.limits.start - case.waited + SHORTEST_RETRY)
    if serving >= running(world.bridge, world.bridge_instances):  # the bridge does not serve more
        return case.enter(Phase.REMOVING_BRIDGE, ended=Reason.NOT_HEALTHY)
    return RetryLater(Reason.NOT_HEALTHY_BRIDGE_KEPT, LONGEST_RETRY)


def _removing_bridge(case: _Case) -> Step:
    row, world = case.row, case.world
    if world.lrp is None and case.is_unknown and row.ended in _KEEPS_BRIDGE:
        return case.enter(Phase.REMOVED)  # a removal whose answer was lost has taken effect
    stale = stale_instances(world.instances, row.instance_guids)
    if stale and world.lrp is not None:
        return RetireInstances(stale)
    if world.bridge is not None:
        if not may_remove_bridge(row, world):
            return case.enter(Phase.STARTING, ended=row.ended if row.ended in _KEEPS_OLD_ROOTFS else None)
        if row.ended in _KEEPS_BRIDGE and world.lrp is not None and case.waited < case.limits.routes:
            return RetryLater(Reason.WAITING_FOR_ROUTES, case.limits.routes - case.waited)
        return RemoveBridge(row)
    if not world.bridge_instances or case.waited > case.limits.leftover + case.limits.routes:
        return Close(row, row.ended or case.success)
    if case.waited > case.limits.stop + case.limits.routes:
        return RetireInstances(world.bridge_instances, Reason.REMOVING_BRIDGE)
    return case.wait(Reason.REMOVING_BRIDGE)


_DECIDE: Mapping[Phase, Callable[[_Case], Step]] = {
    Phase.PREPARED: _prepared,
    Phase.BRIDGING: _bridging,
    Phase.BRIDGED: _bridged,
    Phase.REMOVING: _removing,
    Phase.REMOVED: _removed,
    Phase.STARTING: _starting,
    Phase.REMOVING_BRIDGE: _removing_bridge,
}
