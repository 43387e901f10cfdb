"""What a look at a droplet came to."""

from dataclasses import dataclass

from reconcile.droplets import DropletRecord
from reconcile.reasons import Reason


@dataclass(frozen=True, slots=True)
class DropletOutcome:
    """What a look at a droplet came to.

    Attributes:
        retry_after: Seconds until the droplet is looked at again; None when it waits for a change.
        record: The droplet's record as it was saved last; None when there is none.
        change: What was written into the droplet: "patched" or "restored"; empty for nothing.
    """

    reason: Reason
    detail: str = ""
    retry_after: float | None = None
    record: DropletRecord | None = None
    change: str = ""
