"""The metrics of the requests to Cloud Controller, and of its droplets."""

from controller.metrics.families import Families
from controller.metrics.lrps import OF_DROPLETS
from reconcile.cloud_controller_status import ApiCall, ApiOutcome
from reconcile.droplets import DropletPhase
from reconcile.failure_kinds import FailureKind
from reconcile.reasons import Reason


class CloudControllerMetrics:
    """The requests to Cloud Controller; the gauges are exposed only where the config names its API."""

    def __init__(self, families: Families) -> None:
        self.requests = families.counter(
            "cloud_controller_requests",
            "Calls to Cloud Controller's API, by what was asked and how it ended; a call that was repeated "
            "counts each time",
            {"call": tuple(ApiCall), "outcome": tuple(ApiOutcome)},
        )
        self.requests_left = families.late_gauge(
            "cloud_controller_requests_left",
            "Requests to Cloud Controller that are left in the present hour, by the limit that it states or "
            "else the configured one",
        )
        self.last_success = families.late_gauge(
            "cloud_controller_last_success_timestamp_seconds",
            "When Cloud Controller last did what it was asked, in UTC seconds since 1970; 0 before the first",
        )
        self.failing_since = families.late_gauge(
            "cloud_controller_failing_since_timestamp_seconds",
            "Since when requests to Cloud Controller fail, in UTC seconds since 1970; 0 while they do not",
        )


class DropletMetrics:
    """The droplets of Cloud Controller."""

    def __init__(self, families: Families) -> None:
        self.builds = families.counter(
            "builds",
            "Builds of Cloud Controller that were followed after their staging tasks, by what became of them",
            {
                "outcome": (
                    "staged",
                    "not-cached",
                    "no-droplet",
                    "unanswered",
                    Reason.BUILD_FAILED,
                    Reason.BUILD_GONE,
                    FailureKind.INTERNAL_ERROR,
                )
            },
        )
        self.passes = families.counter(
            "droplet_passes",
            "Passes over one droplet of Cloud Controller, by the reason that the pass came to",
            {"reason": tuple(Reason)},
            [(reason,) for reason in Reason if reason in OF_DROPLETS],
        )
        self.pass_errors = families.counter(
            "droplet_pass_errors",
            "Passes over one droplet that failed and are repeated, by the kind of failure",
            {"kind": tuple(FailureKind)},
        )
        self.changes = families.counter(
            "droplet_changes",
            "Changes of a droplet's image that were sent to Cloud Controller: patched, restored, refused, or "
            "unanswered",
            {"outcome": ("patched", "restored", "refused", "unanswered")},
        )
        self.patch_seconds = families.histogram(
            "droplet_patch_seconds",
            "Seconds from the end of a staging task until its droplet named the copy, where that was in time",
            (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
        )
        self.listings = families.counter(
            "droplet_listings",
            "Listings of the droplets of Cloud Controller",
            {"outcome": ("done", "failed")},
        )
        self.by_phase = families.late_gauge(
            "droplets",
            "Droplets of Cloud Controller that are known, by what they name: patching, patched, restoring, "
            "restored, or left as they are",
            {"phase": tuple(DropletPhase)},
        )
        self.waiting = families.gauge(
            "droplets_waiting",
            "Droplets that a listing has found, and that wait for their turn to be looked at",
        )
