"""Describes the phases of a migration for the documentation; the tests of `reconcile.protocol` check them."""

from collections.abc import Mapping
from dataclasses import dataclass

from reconcile.migrations import Phase


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
        "the bridge is desired: the same definition, with another process GUID, the new rootfs and one "
        "metric tag more",
        "as many instances of the bridge run as of the original, or as the owner wants if that is fewer; one "
        "at least",
        "the bridge is removed, once the app serves no less without it; the original was not touched",
        "`bridge_timeout`, or the second crash of an instance",
    ),
    Phase.BRIDGED: PhaseDescription(
        "routers learn the routes of the bridge; then the routes of the original are removed, unless "
        "`drain_original` is false",
        "`route_propagation_delay`, then `drain_delay` have passed, and the bridge still runs",
        "the original gets its routes back; then as in bridging",
        "`route_propagation_delay` and `drain_delay`",
    ),
    Phase.REMOVING: PhaseDescription(
        "the original is removed",
        "the original is no longer desired",
        "if it is still desired, bridged follows again; until that is known, the bridge follows its owner",
        "60 s if the response was lost",
    ),
    Phase.REMOVED: PhaseDescription(
        "instance rows without a container are retired; after 1.5 s with other rows a stopgap is desired; "
        "then the original is desired again with the new rootfs",
        "the original is desired with the new rootfs",
        "if its owner desired it with the old rootfs, from its source or a former copy, or from its copy "
        "while it goes back to its source, bridging follows again, three times at most; if the stopgap "
        "cannot be pulled, the original is turned back",
        "until no row is left, or the stopgap serves, or 12 s have passed",
    ),
    Phase.STARTING: PhaseDescription(
        "none without a bridge; otherwise the bridge follows its owner, and instances from before the "
        "removal that still run are retired after 30 s",
        "without a bridge one instance of the original runs, with a bridge all that its owner wants",
        "the original is turned back: with its source as the new rootfs, removing follows, or bridging if "
        "some of its instances run; if that was a former copy that cannot be pulled either, it goes on to "
        "its source in the same way; if its owner removed it, the bridge is removed; if its owner reverted "
        "it, as in removed",
        "the first failed pull, or `start_timeout`; the bridge stays while it serves more than the original",
    ),
    Phase.REMOVING_BRIDGE: PhaseDescription(
        "the routes of the bridge are removed, all but those of `cf ssh`; `drain_delay` later the bridge is",
        "the bridge is no longer desired and has no instance row left; the row is deleted",
        "if instances of the original stopped, the bridge gets its routes back, and starting follows "
        "again; if cells cannot pull an original that was not removed yet, and the bridge serves more than "
        "it for `start_timeout`, bridging follows again, or removing on the way to the source",
        "instance rows are retired after 30 s, and not waited for after 120 s",
    ),
}
