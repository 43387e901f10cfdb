"""Defines the metrics of the process, and serves them to a scraper.

Loops record metrics, adapters do not. Label values are constants, so that there are few of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from reconcile.errors import Invalid


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "docker_cache_"
        self.events = Counter(
            f"{prefix}bbs_events",
            "Events that were read from the BBS, by stream",
            ["stream"],
            registry=self.registry,
        )
        self.unknown_events = Counter(
            f"{prefix}bbs_unknown_events",
            "Events of an unknown type, which were skipped",
            registry=self.registry,
        )
        self.broken_events = Counter(
            f"{prefix}bbs_broken_events",
            "Events that could not be decoded, which were skipped",
            registry=self.registry,
        )
        self.subscriptions = Counter(
            f"{prefix}bbs_subscriptions",
            "Number of times that both event streams were opened",
            registry=self.registry,
        )
        self.sweeps = Counter(
            f"{prefix}sweeps",
            "Sweeps: listings of all LRPs of the BBS, by outcome",
            ["outcome"],
            registry=self.registry,
        )
        self.sweep_seconds = Histogram(
            f"{prefix}sweep_seconds", "Duration of a sweep", registry=self.registry
        )
        self.staging_tasks = Counter(
            f"{prefix}staging_tasks",
            "Staging tasks that were seen, by what came of them",
            ["outcome"],
            registry=self.registry,
        )
        self.jobs = Counter(
            f"{prefix}jobs", "Runs of cache jobs, by outcome", ["outcome"], registry=self.registry
        )
        self.job_seconds = Histogram(
            f"{prefix}job_seconds",
            "Duration of a run of a cache job",
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
            registry=self.registry,
        )
        self.transferred_bytes = Counter(
            f"{prefix}transferred_bytes",
            "Bytes of images that were transferred to the private registry",
            registry=self.registry,
        )
        self.passes = Counter(
            f"{prefix}passes",
            "Passes over LRPs, by the reason of their outcome",
            ["reason"],
            registry=self.registry,
        )
        self.circuit_open = Gauge(
            f"{prefix}circuit_open",
            "Whether the circuit breaker is open, so that no migration is started",
            registry=self.registry,
        )
        self.paused = Gauge(
            f"{prefix}paused",
            "Whether an operator paused the daemon, so that it starts no new work",
            registry=self.registry,
        )
        self.docker_lrps = Gauge(
            f"{prefix}docker_lrps",
            "Docker LRPs that the last sweep found, by what they run from",
            ["runs_from"],
            registry=self.registry,
        )


@contextmanager
def serve_metrics(metrics: Metrics, address: str) -> Iterator[None]:
    """Serve the metrics over HTTP at "host:port" until the block ends.

    Raises:
        Invalid: The address cannot be listened on.
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
