"""What is known of Cloud Controller from the requests that were made to it, for operators."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CloudControllerStatus:
    """How Cloud Controller has answered.

    Moments are UTC seconds since 1970.

    Attributes:
        address: URL of its API.
        reachable_since: Since when requests succeed; None while they do not, or before the first one.
        failing_since: Since when they fail; None while they do not.
        last_success: When the last one succeeded; None before.
        error: Of the last request, while they fail.
        missing_scopes: What the client's token lacks; empty before the first token too.
        requests_left: How many requests are left in the present window of the budget, at most.
        window_ends_at: When that window ends.
    """

    address: str
    reachable_since: float | None = None
    failing_since: float | None = None
    last_success: float | None = None
    error: str = ""
    missing_scopes: tuple[str, ...] = ()
    requests_left: int = 0
    window_ends_at: float = 0.0
