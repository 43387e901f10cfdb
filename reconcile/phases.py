"""The phases of a migration at a glance: what is done in each, what completes it, what undoes it.

For people; that the protocol is so is what its tests say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from reconcile.records import Phase


@dataclass(frozen=True, slots=True)
class Rule:
    """One phase, for people.

    Attributes:
        effect: What is done in it, once its row is written.
        completed_by: What the world looks like when the next phase begins.
        undone_by: How the app's own LRP gets on when it cannot be completed.
        limit: How long it may take.
    """

    effect: str
    completed_by: str
    undone_by: str
    limit: str


PHASES: Mapping[Phase, Rule] = {
    Phase.PREPARED: Rule(
        "the copy is asked for in the private registry once more",
        "it is there; an instance runs: bridging, else removing",
        "the row is deleted",
        "a request",
    ),
    Phase.BRIDGING: Rule(
        "the bridge is desired: the same definition, another process GUID, the new rootfs",
        "as many of its instances run as of the original, or as its owner wants if that is fewer",
        "the bridge is removed; the original was not touched",
        "bridge_timeout, or its second crash",
    ),
    Phase.BRIDGED: Rule(
        "nothing: routers learn of the bridge",
        "route_propagation_delay has passed and the bridge still runs",
        "the bridge is removed; the original was not touched",
        "route_propagation_delay",
    ),
    Phase.REMOVING: Rule(
        "the original is removed",
        "it is not desired any more",
        "while it is still desired: back to bridged",
        "60 s for an answer that was lost",
    ),
    Phase.REMOVED: Rule(
        "it is desired again, with the new rootfs, once no instance row is left",
        "it is desired with the new rootfs",
        "its owner desired it from the old one: back to bridged, three times at most",
        "rows are retired after 30 s, no longer waited for after 120 s",
    ),
    Phase.STARTING: Rule(
        "rows that name an instance from before the removal are retired",
        "all its instances run",
        "its owner removed it: so is the bridge; put back: as in removed",
        "start_timeout; then the bridge goes as soon as it adds nothing",
    ),
    Phase.REMOVING_BRIDGE: Rule(
        "the bridge is removed",
        "it is not desired any more and no row of it is left; the row is deleted",
        "the original's instances went away: back to starting",
        "rows are retired after 30 s, no longer waited for after 120 s",
    ),
}
