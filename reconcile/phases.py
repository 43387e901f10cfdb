"""Describes the phases of a migration for the documentation; the tests of `reconcile.protocol` check them."""

from collections.abc import Mapping
from dataclasses import dataclass

from reconcile.records import Phase


@dataclass(frozen=True, slots=True)
class PhaseDescription:
    """The description of one phase.

    Attributes:
        effect: What the daemon does after it has written the phase to the journal.
        completed_by: What the daemon observes when the next phase begins.
        undone_by: What happens to the app's own LRP when the phase cannot be completed.
        limit: How long the phase may take.
    """

    effect: str
    completed_by: str
    undone_by: str
    limit: str


PHASES: Mapping[Phase, PhaseDescription] = {
    Phase.PREPARED: PhaseDescription(
        "the private registry is asked whether it has the copy",
        "it has; if an instance of the app runs, bridging follows, otherwise removing",
        "the row is deleted",
        "one request",
    ),
    Phase.BRIDGING: PhaseDescription(
        "the bridge is desired: the same definition, another process GUID, the new rootfs",
        "as many instances of the bridge run as of the original, or as the owner wants if that is fewer",
        "the bridge is removed; the original was not touched",
        "bridge_timeout, or the second crash of an instance",
    ),
    Phase.BRIDGED: PhaseDescription(
        "none; routers learn the routes of the bridge",
        "route_propagation_delay has passed and the bridge still runs",
        "the bridge is removed; the original was not touched",
        "`route_propagation_delay`",
    ),
    Phase.REMOVING: PhaseDescription(
        "the original is removed",
        "the original is no longer desired",
        "if it is still desired, bridged follows again",
        "60 s if the response was lost",
    ),
    Phase.REMOVED: PhaseDescription(
        "the original is desired again with the new rootfs, once none of its instance rows is left",
        "the original is desired with the new rootfs",
        "if its owner desired it with the old rootfs, bridging follows again, three times at most",
        "instance rows are retired after 30 s, and not waited for after 120 s",
    ),
    Phase.STARTING: PhaseDescription(
        "instances from before the removal are retired",
        "all instances of the original run",
        "if its owner removed it, the bridge is removed; if its owner reverted it, as in removed",
        "start_timeout; then the bridge is removed as soon as it serves no more than the original",
    ),
    Phase.REMOVING_BRIDGE: PhaseDescription(
        "the bridge is removed",
        "the bridge is no longer desired and has no instance row left; the row is deleted",
        "if instances of the original stopped, starting follows again",
        "instance rows are retired after 30 s, and not waited for after 120 s",
    ),
}
