"""The metrics of the BBS's event streams, and of the sweeps, which list the BBS."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from controller.metrics.families import Families, Open
from controller.metrics.registries import OTHER, RegistryNames
from reconcile.hosts import DOCKER_HUB
from reconcile.reasons import Reason
from reconcile.staging import IgnoreReason


class Stream(StrEnum):
    """The event streams of the BBS, as metrics name them."""

    TASKS = "tasks"
    LRP_INSTANCES = "lrp-instances"


class RunsFrom(StrEnum):
    """What an LRP runs from."""

    CACHE = "cache"
    SOURCE = "source"
    FORMER_REGISTRY = "former-registry"


REQUESTED = "requested"
"""The outcome of a staging task whose image is to be copied."""

_REFUSALS = (
    Reason.ALREADY_CACHED,
    Reason.DENIED,
    Reason.NOT_ALLOWED,
    Reason.OPTED_OUT,
    Reason.NOT_OPTED_IN,
)


class BbsMetrics:
    """The metrics of the event streams, the sweeps, the staging tasks and the Docker LRPs."""

    def __init__(self, families: Families) -> None:
        streams = {"stream": tuple(Stream)}
        self.events = families.counter("bbs_events", "BBS events that were read", streams)
        self.unknown_events = families.counter(
            "bbs_unknown_events", "BBS events of an unknown type, which were skipped"
        )
        self.broken_events = families.counter(
            "bbs_broken_events",
            "BBS events and LRPs in listings that could not be decoded, which were skipped",
        )
        self.subscriptions = families.counter(
            "bbs_subscriptions", "Times that both event streams of the BBS were opened"
        )
        self.stream_losses = families.counter(
            "bbs_stream_losses",
            "Times that the event streams ended or could not be opened, so that events may have been missed; "
            "the next sweep makes up for them",
        )
        self.stream_connected = families.gauge(
            "bbs_stream_connected", "1 while an event stream of the BBS is open", streams
        )
        self.sweeps = families.counter(
            "sweeps", "Listings of the BBS (sweeps)", {"outcome": ("done", "failed")}
        )
        self.sweep_duration = families.histogram(
            "sweep_duration_seconds",
            "Duration of one listing of the BBS, in seconds",
            (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.last_sweep = families.gauge(
            "sweep_last_success_timestamp_seconds",
            "When the BBS was last listed, in UTC seconds since 1970; 0 before the first time",
        )
        self.sweep_interval = families.gauge(
            "sweep_interval_seconds",
            "Seconds between two listings of the BBS, as configured; 0 before the first",
        )
        self.staging_tasks = families.counter(
            "staging_tasks",
            "Tasks of the staging domain that were examined: a copy was requested, or why not",
            {"outcome": (REQUESTED, *IgnoreReason, *_REFUSALS)},
        )
        self.docker_lrps = families.late_gauge(
            "docker_lrps",
            "Docker LRPs in the last listing of the BBS, by what they run from",
            {"runs_from": tuple(RunsFrom)},
        )
        self.source_lrps = families.late_gauge(
            "source_lrps",
            "LRPs in the last listing of the BBS that run from a source registry, and so break with it",
            {"registry": Open("source registries, see above")},
        )

    def show_lrps(self, counts: Mapping[RunsFrom, int]) -> None:
        """Show how many LRPs of a listing run from the cache, sources, and former private registries."""
        for runs_from, count in counts.items():
            self.docker_lrps.labels(runs_from).set(count)

    def show_sources(self, hosts: Mapping[str, int], names: RegistryNames) -> None:
        """Show how many LRPs of a listing run from each source registry.

        Args:
            hosts: Number of LRPs by the host in their rootfs URIs, which is empty for Docker Hub.
            names: The names of the registries that have a label of their own; any other counts as `OTHER`.
        """
        counts = Counter(dict.fromkeys((*names.sources, OTHER), 0))
        for host, count in hosts.items():
            counts[names.of(host or DOCKER_HUB)] += count
        for name, count in counts.items():
            self.source_lrps.labels(name).set(count)
