"""What is known of Cloud Controller from the requests that were made to it, for operators."""

from dataclasses import dataclass
from enum import StrEnum


class ApiCall(StrEnum):
    """The calls that are made, as metrics name them."""

    FIND_BUILD = "find-build"
    FIND_DROPLET = "find-droplet"
    FIND_CURRENT_DROPLET = "find-current-droplet"
    FIND_PACKAGE = "find-package"
    UPDATE_IMAGE = "update-image"
    LIST_DROPLETS = "list-droplets"
    LIST_BUILDS = "list-builds"
    LIST_APPS = "list-apps"
    LIST_SPACES = "list-spaces"
    LIST_ORGANIZATIONS = "list-organizations"


class ApiOutcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    NOT_FOUND = "not-found"
    DENIED = "denied"
    INVALID = "invalid"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"
    NOT_ACTIVE = "not-active"


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
