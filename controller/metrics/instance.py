"""The metrics of one instance: its part in the leadership, config, certificates, database and event loop."""

import platform

from controller import __version__
from controller.metrics.families import Families, Open
from reconcile.errors import Conflict, DockerCacheError, Unavailable
from reconcile.failure_kinds import FailureKind

STORE_KINDS = (FailureKind.UNAVAILABLE, FailureKind.CONFLICT, FailureKind.OTHER)
"""What the database may have against a unit of work."""


class InstanceMetrics:
    """What each instance knows of itself, and the operators' decisions that the active one follows."""

    def __init__(self, every: Families, active: Families) -> None:
        build = every.gauge(
            "build_info",
            "1; the version of the program, and that of Python",
            {"version": (__version__,), "python": (platform.python_version(),)},
        )
        build.labels(__version__, platform.python_version()).set(1)
        self.ready = every.gauge(
            "ready", "1 while this instance is the active one and nothing keeps it from its work"
        )
        self.lock_held = every.gauge(
            "lock_held", "1 while this instance is the active one; the sum over all instances is 1"
        )
        self.lease_remaining = every.gauge(
            "lease_remaining_seconds",
            "Seconds for which this instance may act without a further renewal of its lock: 0 for a standby, "
            "infinite where it needs no lock",
        )
        self.leadership_term = every.gauge(
            "leadership_term",
            "How many times an instance has become active on the database of this one, when this one did; 0 "
            "for a standby",
        )
        self.certificate_end = every.late_gauge(
            "certificate_end_timestamp_seconds",
            "When the first certificate in a file ends, in UTC seconds since 1970, by the file's config key",
            {"file": Open("config keys of files with certificates")},
        )
        self.database_unavailable_since = every.gauge(
            "database_unavailable_since_timestamp_seconds",
            "Since when the database on a server has not done what it is asked, in UTC seconds since 1970; 0 "
            "while it does, and for a database in a file",
        )
        self.store_errors = every.counter(
            "store_errors",
            "Units of work that the database did not do; what it was unavailable for may succeed later",
            {"kind": STORE_KINDS},
        )
        self.other_stores = active.gauge(
            "other_stores",
            "Other stores with which daemons work on this BBS; while there are any, nothing there is changed",
        )
        self.paused = active.gauge(
            "paused", "1 while the daemon is paused: only what an operator orders is started"
        )
        self.pinned_apps = active.gauge("pinned_apps", "Apps that an operator pinned to their sources")

    def count_store_error(self, error: DockerCacheError) -> None:
        """Count a unit of work that the database did not do."""
        kind = FailureKind.OTHER
        if isinstance(error, Unavailable):
            kind = FailureKind.UNAVAILABLE
        elif isinstance(error, Conflict):
            kind = FailureKind.CONFLICT
        self.store_errors.labels(kind).inc()
