"""The names of our counters and durations, and how a scraper reads them.

Loops record here, adapters do not. Reasons are constants, so labels stay few.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from reconcile.errors import Invalid


class Metrics:
    """One process's numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "docker_cache_"
        self.events = Counter(f"{prefix}bbs_events", "Events read", ["stream"], registry=self.registry)
        self.unknown_events = Counter(
            f"{prefix}bbs_unknown_events", "Events of a type we do not know, skipped", registry=self.registry
        )
        self.broken_events = Counter(
            f"{prefix}bbs_broken_events", "Events that could not be decoded", registry=self.registry
        )
        self.subscriptions = Counter(
            f"{prefix}bbs_subscriptions", "Times both event streams were opened", registry=self.registry
        )
        self.sweeps = Counter(f"{prefix}sweeps", "Listings of the BBS", ["outcome"], registry=self.registry)
        self.sweep_seconds = Histogram(
            f"{prefix}sweep_seconds", "Time of one listing", registry=self.registry
        )
        self.staging_tasks = Counter(
            f"{prefix}staging_tasks", "Staging tasks looked at", ["outcome"], registry=self.registry
        )
        self.jobs = Counter(f"{prefix}jobs", "Runs of a cache job", ["outcome"], registry=self.registry)
        self.job_seconds = Histogram(
            f"{prefix}job_seconds",
            "Time of one run of a cache job",
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
            registry=self.registry,
        )
        self.transferred_bytes = Counter(
            f"{prefix}transferred_bytes", "Bytes moved between registries", registry=self.registry
        )
        self.passes = Counter(f"{prefix}passes", "Passes over one LRP", ["reason"], registry=self.registry)
        self.circuit_open = Gauge(
            f"{prefix}circuit_open",
            "Whether migrations have failed so often that none is begun",
            registry=self.registry,
        )
        self.paused = Gauge(
            f"{prefix}paused",
            "Whether an operator lets nothing be begun but what is asked for",
            registry=self.registry,
        )
        self.docker_lrps = Gauge(
            f"{prefix}docker_lrps",
            "Docker LRPs at the last listing",
            ["runs_from"],
            registry=self.registry,
        )


@contextmanager
def serve_metrics(metrics: Metrics, address: str) -> Iterator[None]:
    """Let a scraper read the numbers over HTTP at "host:port" for as long as the context lasts.

    Raises:
        Invalid: Nobody can listen there.
    """
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=metrics.registry)
    except (OSError, OverflowError) as error:
        raise Invalid(
            "config", "metrics-address", f"metrics_address: cannot listen on {address}: {error}"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
