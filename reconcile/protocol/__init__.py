"""The migration protocol: decides the next step of a migration from its journal row and the state of the BBS.

`reconcile.phases` shows the protocol at a glance. It is the same for both goals, the cached image and the
source. Each phase is written before its effect, every effect can be repeated, and a row holds all that is
needed to resume after a crash, or to undo.

An LRP that does not start from its copy is turned back: the same phases bring it to its source again.

An app that its owner removed before the daemon did is never desired again. One that its owner removed later
may be desired again, until its owner's next sync removes it.
Source: cloudfoundry/bbs handlers/desired_lrp_handlers.go. When an LRP is desired again while instance rows
are left over, it had no instance for 17 s (measured).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from reconcile.lrps import DesiredLrp, Pull
from reconcile.migrations import Migration, Phase
from reconcile.protocol.bridging import bridged, bridging, prepared
from reconcile.protocol.case import (
    LONGEST_RETRY,
    MAX_ROUNDS,
    SHORTEST_RETRY,
    Case,
    may_remove,
    may_remove_bridge,
)
from reconcile.protocol.draining import give_routes_back, is_drained, with_owners_routes
from reconcile.protocol.removal import removed, removing
from reconcile.protocol.starting import starting
from reconcile.protocol.unbridging import removing_bridge
from reconcile.reasons import Reason
from reconcile.steps import Enter, PhaseLimits, Step, World

__all__ = [
    "FAILURES",
    "LONGEST_RETRY",
    "MAX_ROUNDS",
    "SHORTEST_RETRY",
    "may_remove",
    "may_remove_bridge",
    "next_step",
    "row_of_removal",
]

FAILURES = frozenset(
    {
        Reason.BRIDGE_CRASHED,
        Reason.BRIDGE_TIMEOUT,
        Reason.NOT_HEALTHY,
        Reason.BBS_REFUSED_DEFINITION,
        Reason.NOT_PULLED,
        Reason.COPY_NOT_PULLED,
        Reason.NOT_STARTED,
    }
)
"""Ends of a migration that count for the circuit breaker, since other apps may fail in the same way."""


def next_step(row: Migration, world: World, *, target: Pull, limits: PhaseLimits) -> Step:
    """Decide the next step of an open migration; the same row and world give the same step.

    Args:
        row: The migration as it is in the journal.
        world: What was observed after the row was read.
        target: What the LRP is to run from.
        limits: How long phases may take.
    """
    noted = row.not_after(world.now, longest=limits.unknown)
    if noted != row:  # its times are those of a clock that was set back since
        return Enter(noted)
    seen = with_owners_routes(row, world)
    newest = _newest(row, seen)
    if newest != row.original:
        return Enter(replace(row, original=newest))
    case = Case(row, seen, target, limits, is_drained=is_drained(row, world.lrp))
    return give_routes_back(case, _DECIDE[row.phase](case))


def row_of_removal(row: Migration, world: World, limits: PhaseLimits) -> Migration:
    """Make the row that is written before the original is removed."""
    seen = with_owners_routes(row, world)
    return replace(
        row,
        phase=Phase.REMOVING,
        entered_at=world.now,
        original=row.original if seen.lrp is None else seen.lrp,
        unknown_until=world.now + limits.unknown,
        instance_guids=row.instance_guids | {each.instance_guid for each in world.instances} - {""},
    )


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


_DECIDE: Mapping[Phase, Callable[[Case], Step]] = {
    Phase.PREPARED: prepared,
    Phase.BRIDGING: bridging,
    Phase.BRIDGED: bridged,
    Phase.REMOVING: removing,
    Phase.REMOVED: removed,
    Phase.STARTING: starting,
    Phase.REMOVING_BRIDGE: removing_bridge,
}
