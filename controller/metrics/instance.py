"""The metrics of one instance: its part in the leadership, config, certificates, database and event loop."""

import platform
from enum import StrEnum
from typing import Protocol

from controller import __version__
from controller.metrics.families import Families, Open
from reconcile.errors import Conflict, DockerCacheError, Unavailable
from reconcile.failure_kinds import FailureKind


class SelfCheck(StrEnum):
    """What an instance looks at to tell whether it is well, as /health and metrics name it."""

    LEADERSHIP = "leadership"
    DATABASE = "database"
    BBS = "bbs"
    PRIVATE_REGISTRY_PULLS = "private-registry-pulls"
    PRIVATE_REGISTRY_PUSHES = "private-registry-pushes"
    SOURCE_REGISTRIES = "source-registries"
    CELLS = "cells"
    CIRCUIT_BREAKER = "circuit-breaker"
    COPIES = "copies"
    CERTIFICATES = "certificates"
    CLOUD_CONTROLLER = "cloud-controller"
    LOGGREGATOR_AGENT = "loggregator-agent"
    CONFIG = "config"
    OTHER_STORE = "other-store"
    EVENT_LOOP = "event-loop"


STORE_KINDS = (FailureKind.UNAVAILABLE, FailureKind.CONFLICT, FailureKind.OTHER)
"""What the database may have against a unit of work."""


class Reloads(Protocol):
    """How the last reading of the config has ended.

    Attributes:
        error: Why it was refused; empty when it was not.
        taken_at: When the config was read that the process runs with.
    """

    error: str
    taken_at: float


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
        self.unwell = every.gauge(
            "unwell",
            "1 while /health names a check, since what it looks at is not well",
            {"check": tuple(SelfCheck)},
        )
        self.event_loop_lag = every.gauge(
            "event_loop_lag_seconds",
            "Longest time within the last minute for which the event loop did one thing only",
        )
        self.config_last_reload_successful = every.gauge(
            "config_last_reload_successful",
            "0 when the config file was refused when it was last read again, so that the former config is in "
            "use; 1 otherwise",
        )
        self.config_last_reload = every.gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the config was read that the daemon runs with, in UTC seconds since 1970",
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
            "When the certificate in a file ends, or the last of several authorities, in UTC seconds since "
            "1970, by the file's config key",
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

    def show_reloads(self, reloads: Reloads) -> None:
        """Show whether the config was taken when it was last read."""
        self.config_last_reload_successful.set_function(lambda: not reloads.error)
        self.config_last_reload.set(reloads.taken_at)

    def count_store_error(self, error: DockerCacheError) -> None:
        """Count a unit of work that the database did not do."""
        kind = FailureKind.OTHER
        if isinstance(error, Unavailable):
            kind = FailureKind.UNAVAILABLE
        elif isinstance(error, Conflict):
            kind = FailureKind.CONFLICT
        self.store_errors.labels(kind).inc()
